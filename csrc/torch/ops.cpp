// The dispatcher operators: their schemas, and tensors to plain pointers for the kernels of either backend.
// fan_ext/functional.py wraps them, fan_ext/operators.py gives them their derivative.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <tuple>
#include <vector>

#include "../cpu/frame_attention.h"
#include "../types.h"
#include "arguments.h"
#include "tensors.h"
#ifdef FAN_EXT_HAVE_CUDA
#include "../cuda/frame_attention.h"

// torch's own. Weak, as a torch without CUDA lacks it, and still loads this library.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
#endif

namespace fan {
namespace {

// On threads of torch's own pool.
class Cpu {
 public:
  Cpu(const Tensor&, const Shape& shape, const OptionalTensor& offsets) {
    if (offsets) check_offsets(*offsets, shape.total_frames);
  }
  template <typename... Arguments>
  void forward(const Arguments&... arguments) {
    cpu::frame_attention_forward(arguments..., threads());
  }
  template <typename... Arguments>
  void backward(const Arguments&... arguments) {
    cpu::frame_attention_backward(arguments..., threads());
  }

 private:
  static cpu::Threads threads() {
    const auto parallel_for = [](int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                                 void* context) {
      torch::stable::parallel_for(begin, end, grain, [&](int64_t from, int64_t to) { body(from, to, context); });
    };
    return {parallel_for, torch::stable::get_num_threads()};
  }
};

#ifdef FAN_EXT_HAVE_CUDA
// On the current stream, without waiting for the device.
class Cuda {
 public:
  Cuda(const Tensor& features, const Shape& shape, const OptionalTensor&)
      : place_(features), guard_(place_.device_index) {
    // A row's columns are counted in 32 bits, everything else in 64.
    constexpr int64_t kMaxDim = std::numeric_limits<int>::max() / 16;
    if (shape.dim > kMaxDim) fail("features has ", shape.dim, " columns, expected at most ", kMaxDim, " on CUDA");
  }
  template <typename... Arguments>
  void forward(const Arguments&... arguments) {
    cuda::frame_attention_forward(arguments..., queue());
  }
  template <typename... Arguments>
  void backward(const Arguments&... arguments) {
    cuda::frame_attention_backward(arguments..., queue());
  }

 private:
  cuda::Queue queue() {
    // Not Stream::nativeHandle(), which torch has from 2.13 on only.
    if (aoti_torch_get_current_cuda_stream == nullptr) fail("torch was built without CUDA");
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(place_.device_index, &stream));
    const auto allocate = [](int64_t bytes, void* context) {
      Cuda& self = *static_cast<Cuda*>(context);
      self.memory_.push_back(empty(self.place_, {bytes}, ScalarType::Byte));
      return self.memory_.back().mutable_data_ptr();
    };
    return {place_.device_index, stream, allocate, this};
  }

  Place place_;
  torch::stable::accelerator::DeviceGuard guard_;
  // Of torch's allocator. Freed when the operator returns, used again by later work on the same stream only.
  std::vector<Tensor> memory_;
};
#endif

// Calls body with a value of the native type of the features.
template <typename Body>
void with_type(ScalarType type, const Body& body) {
  if (type == ScalarType::Float) body(float{});
  if (type == ScalarType::Double) body(double{});
  if (type == ScalarType::Half) body(Half{});
  if (type == ScalarType::BFloat16) body(BFloat16{});
}

template <typename T>
constexpr ScalarType kAccumulator = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;

// Null for a tensor that is absent or not wanted.
template <typename T>
const T* input(const OptionalTensor& tensor) {
  return tensor ? static_cast<const T*>(tensor->const_data_ptr()) : nullptr;
}
template <typename T>
T* output(Tensor& tensor, bool wanted = true) {
  return wanted ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

// As they are: of the features' type or the accumulation type.
template <typename T>
Parameter<T> parameter(const OptionalTensor& tensor) {
  return {input<void>(tensor), tensor && tensor->scalar_type() != kAccumulator<T>};
}
template <typename T>
Gradient<T> gradient(Tensor& tensor, bool wanted = true) {
  return {output<void>(tensor, wanted), tensor.scalar_type() != kAccumulator<T>};
}

template <typename T>
Clips<T> make_clips(const Shape& shape, const Tensor& features, const OptionalTensor& mask,
                    const OptionalTensor& offsets) {
  Clips<T> clips{};
  clips.features = static_cast<const T*>(features.const_data_ptr());
  clips.clip_stride = shape.packed ? 0 : features.stride(0);
  clips.frame_stride = features.stride(shape.packed ? 0 : 1);
  clips.mask = input<bool>(mask);
  clips.offsets = input<void>(offsets);
  clips.short_offsets = offsets && offsets->scalar_type() == ScalarType::Int;
  clips.clips = shape.clips;
  clips.frames = shape.frames;
  clips.total_frames = shape.total_frames;
  clips.dim = shape.dim;
  return clips;
}

using FiveTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Backend>
FiveTensors forward(const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                    const OptionalTensor& self_bias, const OptionalTensor& relation_bias, const OptionalTensor& mask,
                    const OptionalTensor& offsets, std::optional<int64_t> max_frames, bool return_weights) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames);
  const OptionalTensor q0 = dense(self_weight), q1 = dense(relation_weight), b0 = dense(self_bias),
                       b1 = dense(relation_bias), present = dense(mask), starts = dense(offsets);
  Backend backend(features, shape, starts);
  const Tensor rows = with_adjacent_rows(features);

  const Place place(features);
  const ScalarType type = features.scalar_type(), accumulator = accumulator_type(type);
  const bool relation = relation_weight.has_value();
  const auto per_frame = [&](bool wanted) {
    return !wanted        ? empty(place, {0}, accumulator)
           : shape.packed ? empty(place, {shape.total_frames}, accumulator)
                          : empty(place, {shape.clips, shape.frames}, accumulator);
  };
  Tensor out = empty(place, {shape.clips, relation ? 2 * shape.dim : shape.dim}, type),
         saved = empty(place, {saved_arrays(relation), shape.total_frames}, accumulator),
         alpha = per_frame(return_weights), beta = per_frame(return_weights && relation),
         final = per_frame(return_weights);
  with_type(type, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const Parameters<T> parameters{parameter<T>(q0), parameter<T>(q1), parameter<T>(b0), parameter<T>(b1)};
    const ForwardOutputs<T> outputs{output<T>(out), output<A>(saved), output<A>(alpha, return_weights),
                                    output<A>(beta, return_weights && relation), output<A>(final, return_weights)};
    backend.forward(make_clips<T>(shape, rows, present, starts), parameters, outputs);
  });
  return {out, saved, alpha, beta, final};
}

template <typename Backend>
FiveTensors backward(const Tensor& grad_out, const OptionalTensor& grad_alpha, const OptionalTensor& grad_beta,
                     const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                     const OptionalTensor& mask, const OptionalTensor& offsets, std::optional<int64_t> max_frames,
                     const Tensor& out, const Tensor& saved, bool features_need_grad, const OptionalTensor& self_bias,
                     const OptionalTensor& relation_bias) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames);
  check_backward(shape, features, relation_weight, grad_out, grad_alpha, grad_beta, out, saved);
  const OptionalTensor q0 = dense(self_weight), q1 = dense(relation_weight), d_alpha = dense(grad_alpha),
                       d_beta = dense(grad_beta), present = dense(mask), starts = dense(offsets);
  Backend backend(features, shape, starts);
  const Tensor rows = with_adjacent_rows(features), d_out = dense(grad_out), forward_out = dense(out),
               forward_saved = dense(saved);

  const Place place(features);
  const ScalarType type = features.scalar_type();
  const bool relation = relation_weight.has_value();
  const auto empty_gradient = [&](const OptionalTensor& of, int64_t size) {
    return empty(place, {size}, of ? of->scalar_type() : accumulator_type(type));
  };
  Tensor d_features = !features_need_grad ? empty(place, {0}, type)
                      : shape.packed      ? empty(place, {shape.total_frames, shape.dim}, type)
                                          : empty(place, {shape.clips, shape.frames, shape.dim}, type),
         d_q0 = empty_gradient(self_weight, shape.dim),
         d_q1 = empty_gradient(relation_weight, relation ? 2 * shape.dim : 0), d_b0 = empty_gradient(self_bias, 1),
         d_b1 = empty_gradient(relation_bias, relation ? 1 : 0);
  with_type(type, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const Parameters<T> parameters{parameter<T>(q0), parameter<T>(q1), {}, {}};
    const BackwardInputs<T> inputs{static_cast<const T*>(d_out.const_data_ptr()), input<A>(d_alpha), input<A>(d_beta),
                                   static_cast<const T*>(forward_out.const_data_ptr()),
                                   static_cast<const A*>(forward_saved.const_data_ptr())};
    const BackwardOutputs<T> outputs{output<T>(d_features, features_need_grad), gradient<T>(d_q0),
                                     gradient<T>(d_q1, relation), gradient<T>(d_b0), gradient<T>(d_b1, relation)};
    backend.backward(make_clips<T>(shape, rows, present, starts), parameters, inputs, outputs);
  });
  return {d_features, d_q0, d_q1, d_b0, d_b1};
}

}  // namespace
}  // namespace fan

// Frames are (B, N), or (T,) with offsets. saved is what the backward pass needs, of shape (5 or 2, B * N or T); see
// Saved in csrc/types.h. alpha, beta and final have the shape of the frames with return_weights, else (0,); so has beta
// without relation_weight.
STABLE_TORCH_LIBRARY(fan_ext, library) {
  library.def(
      "frame_attention_forward(Tensor features, Tensor self_weight, Tensor? relation_weight, Tensor? self_bias, "
      "Tensor? relation_bias, Tensor? mask, Tensor? offsets, SymInt? max_frames, bool return_weights) "
      "-> (Tensor out, Tensor saved, Tensor alpha, Tensor beta, Tensor final)");
  // Gradients come in the type of what they are the gradients of, those of biases that are not given in the
  // accumulation type. Without relation_weight its gradient and its bias's have shape (0,); grad_features has it unless
  // features_need_grad.
  library.def(
      "frame_attention_backward(Tensor grad_out, Tensor? grad_alpha, Tensor? grad_beta, Tensor features, "
      "Tensor self_weight, Tensor? relation_weight, Tensor? mask, Tensor? offsets, SymInt? max_frames, Tensor out, "
      "Tensor saved, bool features_need_grad, Tensor? self_bias=None, Tensor? relation_bias=None) "
      "-> (Tensor grad_features, Tensor grad_self_weight, Tensor grad_relation_weight, Tensor grad_self_bias, "
      "Tensor grad_relation_bias)");
}

STABLE_TORCH_LIBRARY_IMPL(fan_ext, CPU, library) {
  library.impl("frame_attention_forward", TORCH_BOX(&fan::forward<fan::Cpu>));
  library.impl("frame_attention_backward", TORCH_BOX(&fan::backward<fan::Cpu>));
}

#ifdef FAN_EXT_HAVE_CUDA
STABLE_TORCH_LIBRARY_IMPL(fan_ext, CUDA, library) {
  library.impl("frame_attention_forward", TORCH_BOX(&fan::forward<fan::Cuda>));
  library.impl("frame_attention_backward", TORCH_BOX(&fan::backward<fan::Cuda>));
}
#endif
