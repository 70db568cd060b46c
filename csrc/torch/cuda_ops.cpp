// The operators on CUDA: tensors to plain device pointers, on the current stream, without waiting for the device.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>

#include "../cuda/frame_attention.h"
#include "arguments.h"
#include "tensors.h"

// torch's own. Weak, as a torch without CUDA lacks it, and still loads this library.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

namespace fan {
namespace {

using torch::stable::accelerator::DeviceGuard;

// Not Stream::nativeHandle(), which torch has from 2.13 on only.
void* current_stream(int device) {
  if (aoti_torch_get_current_cuda_stream == nullptr) fail("torch was built without CUDA");
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

template <typename T>
cuda::Clips<T> make_clips(const Shape& shape, const Tensor& features, const OptionalTensor& mask,
                          const OptionalTensor& offsets) {
  // A row's columns are counted in 32 bits, everything else in 64.
  if (shape.dim > std::numeric_limits<int>::max() / 16) {
    fail("features has ", shape.dim, " columns, expected at most ", std::numeric_limits<int>::max() / 16, " on CUDA");
  }
  cuda::Clips<T> clips{};
  clips.features = static_cast<const T*>(features.const_data_ptr());
  clips.clip_stride = shape.packed ? 0 : features.stride(0);
  clips.frame_stride = features.stride(shape.packed ? 0 : 1);
  clips.mask = input<bool>(mask);
  clips.offsets = input<void>(offsets);
  clips.short_offsets = offsets && offsets->scalar_type() == ScalarType::Int;
  clips.clips = shape.clips;
  clips.frames = shape.frames;
  clips.total_frames = shape.total_frames;
  clips.dim = static_cast<int>(shape.dim);
  return clips;
}

// As it is: of the features' type or the accumulation type.
template <typename T>
cuda::Parameter<T> parameter(const OptionalTensor& tensor, ScalarType accumulator) {
  return {input<void>(tensor), tensor && tensor->scalar_type() != accumulator};
}

template <typename T>
cuda::Gradient<T> gradient(Tensor& tensor, bool wanted, ScalarType accumulator) {
  return {output<void>(tensor, wanted), tensor.scalar_type() != accumulator};
}

// Calls body with a value of the native type of the features.
template <typename Body>
void with_type(ScalarType type, const Body& body) {
  if (type == ScalarType::Float) body(float{});
  if (type == ScalarType::Double) body(double{});
  if (type == ScalarType::Half) body(cuda::Half{});
  if (type == ScalarType::BFloat16) body(cuda::BFloat16{});
}

// Of torch's allocator. Freed when the operator returns, used again by later work on the same stream only.
OptionalTensor allocate_workspace(const cuda::Plan& plan, const Tensor& features, ScalarType type) {
  if (plan.workspace == 0) return std::nullopt;
  return empty(features, {plan.workspace}, type);
}

FiveTensors forward(const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                    const OptionalTensor& self_bias, const OptionalTensor& relation_bias, const OptionalTensor& mask,
                    const OptionalTensor& offsets, std::optional<int64_t> max_frames, bool return_weights) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames);
  const int device = static_cast<int>(features.get_device_index());
  const DeviceGuard guard(device);

  const ScalarType accumulator = accumulator_type(features.scalar_type());
  const bool relation = relation_weight.has_value();
  ForwardResults results(features, shape, relation, return_weights);

  const Tensor rows = with_adjacent_rows(features);
  const OptionalTensor q0 = dense(self_weight), q1 = dense(relation_weight), b0 = dense(self_bias),
                       b1 = dense(relation_bias), present = dense(mask), starts = dense(offsets);
  with_type(features.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using A = cuda::Accumulator<T>;
    const auto clips = make_clips<T>(shape, rows, present, starts);
    const cuda::Parameters<T> parameters{parameter<T>(q0, accumulator), parameter<T>(q1, accumulator),
                                         parameter<T>(b0, accumulator), parameter<T>(b1, accumulator)};
    cuda::ForwardOutputs<T> outputs{output<T>(results.out),
                                    output<A>(results.logits),
                                    output<A>(results.alpha, return_weights),
                                    output<A>(results.beta, return_weights && relation),
                                    output<A>(results.final, return_weights),
                                    nullptr};
    const cuda::Plan plan = cuda::make_plan(
        cuda::request_forward(clips, parameters, outputs, max_frames.value_or(-1), cuda::use_device(device)));
    OptionalTensor workspace = allocate_workspace(plan, features, accumulator);
    if (workspace) cuda::set_workspace(outputs, output<A>(*workspace));
    cuda::frame_attention_forward<T>(clips, parameters, outputs, plan, current_stream(device));
  });
  return results.all();
}

FiveTensors backward(const Tensor& grad_out, const OptionalTensor& grad_alpha, const OptionalTensor& grad_beta,
                     const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                     const OptionalTensor& mask, const OptionalTensor& offsets, std::optional<int64_t> max_frames,
                     const Tensor& out, const Tensor& logits, bool features_need_grad, const OptionalTensor& self_bias,
                     const OptionalTensor& relation_bias) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames);
  check_backward(shape, features, relation_weight, grad_out, grad_alpha, grad_beta, out, logits);
  const int device = static_cast<int>(features.get_device_index());
  const DeviceGuard guard(device);

  const ScalarType type = features.scalar_type(), accumulator = accumulator_type(type);
  const bool relation = relation_weight.has_value();
  const auto empty_gradient = [&](const OptionalTensor& of, int64_t size) {
    return empty(features, {size}, of ? of->scalar_type() : accumulator);
  };
  Tensor d_features = empty_feature_gradient(features, shape, features_need_grad),
         d_q0 = empty_gradient(self_weight, shape.dim),
         d_q1 = empty_gradient(relation_weight, relation ? 2 * shape.dim : 0), d_b0 = empty_gradient(self_bias, 1),
         d_b1 = empty_gradient(relation_bias, relation ? 1 : 0);

  const Tensor rows = with_adjacent_rows(features), d_out = dense(grad_out), forward_out = dense(out),
               saved = dense(logits);
  const OptionalTensor q0 = dense(self_weight), q1 = dense(relation_weight), d_alpha = dense(grad_alpha),
                       d_beta = dense(grad_beta), present = dense(mask), starts = dense(offsets);
  with_type(type, [&](auto tag) {
    using T = decltype(tag);
    using A = cuda::Accumulator<T>;
    const auto clips = make_clips<T>(shape, rows, present, starts);
    const cuda::Parameters<T> parameters{parameter<T>(q0, accumulator), parameter<T>(q1, accumulator), {}, {}};
    const cuda::BackwardInputs<T> inputs{static_cast<const T*>(d_out.const_data_ptr()), input<A>(d_alpha),
                                         input<A>(d_beta), static_cast<const T*>(forward_out.const_data_ptr()),
                                         static_cast<const A*>(saved.const_data_ptr())};
    cuda::BackwardOutputs<T> outputs{output<T>(d_features, features_need_grad),
                                     nullptr,
                                     nullptr,
                                     nullptr,
                                     gradient<T>(d_q0, true, accumulator),
                                     gradient<T>(d_q1, relation, accumulator),
                                     gradient<T>(d_b0, true, accumulator),
                                     gradient<T>(d_b1, relation, accumulator)};
    const cuda::Plan plan = cuda::make_plan(
        cuda::request_backward(clips, parameters, inputs, outputs, max_frames.value_or(-1), cuda::use_device(device)));
    OptionalTensor workspace = allocate_workspace(plan, features, accumulator);
    cuda::set_workspace(outputs, output<A>(*workspace), plan, shape.dim, relation);
    cuda::frame_attention_backward<T>(clips, parameters, inputs, outputs, plan, current_stream(device));
  });
  return {d_features, d_q0, d_q1, d_b0, d_b1};
}

}  // namespace
}  // namespace fan

STABLE_TORCH_LIBRARY_IMPL(fan_ext, CUDA, library) {
  library.impl("frame_attention_forward", TORCH_BOX(&fan::forward));
  library.impl("frame_attention_backward", TORCH_BOX(&fan::backward));
}
