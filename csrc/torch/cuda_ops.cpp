// The operators on CUDA: tensors to plain device pointers, on the current stream, without waiting for the device.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <tuple>

#include "../cuda/frame_attention.h"
#include "arguments.h"
#include "conversions.h"

namespace fan {
namespace {

using torch::stable::accelerator::DeviceGuard;
using torch::stable::accelerator::getCurrentStream;

// Null for a tensor that is absent or not wanted.
template <typename A>
const A* input(const OptionalTensor& tensor) {
  return tensor ? static_cast<const A*>(tensor->const_data_ptr()) : nullptr;
}

template <typename A>
A* output(Tensor& tensor, bool wanted = true) {
  return wanted ? static_cast<A*>(tensor.mutable_data_ptr()) : nullptr;
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
  clips.offsets = input<int64_t>(offsets);
  clips.clips = shape.clips;
  clips.frames = shape.frames;
  clips.total_frames = shape.total_frames;
  clips.dim = static_cast<int>(shape.dim);
  return clips;
}

// Calls body with a value of the native type of the features.
template <typename Body>
void with_type(ScalarType type, const Body& body) {
  if (type == ScalarType::Float) body(float{});
  if (type == ScalarType::Double) body(double{});
  if (type == ScalarType::Half) body(cuda::Half{});
  if (type == ScalarType::BFloat16) body(cuda::BFloat16{});
}

using FiveTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

FiveTensors forward(const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                    const OptionalTensor& self_bias, const OptionalTensor& relation_bias, const OptionalTensor& mask,
                    const OptionalTensor& offsets, std::optional<int64_t> max_frames, bool return_weights) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames);
  const int device = static_cast<int>(features.get_device_index());
  const DeviceGuard guard(device);

  const ScalarType accumulator = accumulator_type(features.scalar_type());
  const bool relation = relation_weight.has_value();
  Tensor out = torch::stable::new_empty(features, {shape.clips, relation ? 2 * shape.dim : shape.dim});
  Tensor logits = torch::stable::new_empty(features, {relation ? 3 : 1, shape.total_frames}, accumulator);
  const auto per_frame = [&](bool wanted) {
    if (!wanted) return torch::stable::new_empty(features, {0}, accumulator);
    return shape.packed ? torch::stable::new_empty(features, {shape.total_frames}, accumulator)
                        : torch::stable::new_empty(features, {shape.clips, shape.frames}, accumulator);
  };
  Tensor alpha = per_frame(return_weights);
  Tensor beta = per_frame(return_weights && relation);
  Tensor final_weight = per_frame(return_weights);

  const Tensor rows = with_adjacent_rows(features);
  const Tensor q0 = as_type(self_weight, accumulator);
  const OptionalTensor q1 = as_type(relation_weight, accumulator), b0 = as_type(self_bias, accumulator),
                       b1 = as_type(relation_bias, accumulator), present = as_type(mask, ScalarType::Bool),
                       starts = as_type(offsets, ScalarType::Long);
  with_type(features.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using A = cuda::Accumulator<T>;
    const auto clips = make_clips<T>(shape, rows, present, starts);
    const cuda::Parameters<A> parameters{static_cast<const A*>(q0.const_data_ptr()), input<A>(q1), input<A>(b0),
                                         input<A>(b1)};
    const cuda::ForwardOutputs<T> outputs{output<T>(out), output<A>(logits), output<A>(alpha, return_weights),
                                          output<A>(beta, return_weights && relation),
                                          output<A>(final_weight, return_weights)};
    const cuda::Plan plan =
        cuda::plan_forward(clips, parameters, outputs, max_frames.value_or(-1), cuda::use_device(device));
    cuda::frame_attention_forward<T>(clips, parameters, outputs, plan, getCurrentStream(device).nativeHandle());
  });
  return {out, logits, alpha, beta, final_weight};
}

FiveTensors backward(const Tensor& grad_out, const OptionalTensor& grad_alpha, const OptionalTensor& grad_beta,
                     const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                     const OptionalTensor& mask, const OptionalTensor& offsets, std::optional<int64_t> max_frames,
                     const Tensor& out, const Tensor& logits, bool features_need_grad) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, std::nullopt, std::nullopt, mask, offsets, max_frames);
  check_backward(shape, features, relation_weight, grad_out, grad_alpha, grad_beta, out, logits);
  const int device = static_cast<int>(features.get_device_index());
  const DeviceGuard guard(device);

  const ScalarType type = features.scalar_type(), accumulator = accumulator_type(type);
  const bool relation = relation_weight.has_value();
  Tensor grad_features = !features_need_grad ? torch::stable::new_empty(features, {0})
                         : shape.packed ? torch::stable::new_empty(features, {shape.total_frames, shape.dim})
                                        : torch::stable::new_empty(features, {shape.clips, shape.frames, shape.dim});
  Tensor grad_q0 = torch::stable::new_empty(features, {shape.dim}, accumulator);
  Tensor grad_q1 = torch::stable::new_empty(features, {relation ? 2 * shape.dim : 0}, accumulator);
  Tensor grad_b0 = torch::stable::new_empty(features, {1}, accumulator);
  Tensor grad_b1 = torch::stable::new_empty(features, {relation ? 1 : 0}, accumulator);

  const Tensor rows = with_adjacent_rows(features);
  const Tensor q0 = as_type(self_weight, accumulator), d_out = as_type(grad_out, type), result = as_type(out, type),
               saved = as_type(logits, accumulator);
  const OptionalTensor q1 = as_type(relation_weight, accumulator), d_alpha = as_type(grad_alpha, accumulator),
                       d_beta = as_type(grad_beta, accumulator), present = as_type(mask, ScalarType::Bool),
                       starts = as_type(offsets, ScalarType::Long);
  with_type(type, [&](auto tag) {
    using T = decltype(tag);
    using A = cuda::Accumulator<T>;
    const auto clips = make_clips<T>(shape, rows, present, starts);
    const cuda::Parameters<A> parameters{static_cast<const A*>(q0.const_data_ptr()), input<A>(q1), nullptr, nullptr};
    const cuda::BackwardInputs<T> inputs{static_cast<const T*>(d_out.const_data_ptr()), input<A>(d_alpha),
                                         input<A>(d_beta), static_cast<const T*>(result.const_data_ptr()),
                                         static_cast<const A*>(saved.const_data_ptr())};
    cuda::BackwardOutputs<T> outputs{output<T>(grad_features, features_need_grad),
                                     nullptr,
                                     nullptr,
                                     output<A>(grad_q0),
                                     output<A>(grad_q1, relation),
                                     output<A>(grad_b0),
                                     output<A>(grad_b1, relation)};
    const cuda::Plan plan =
        cuda::plan_backward(clips, parameters, inputs, outputs, max_frames.value_or(-1), cuda::use_device(device));
    // Freed when this returns, used again by later work on the same stream only.
    Tensor workspace = torch::stable::new_empty(
        features, {cuda::workspace_size(plan, shape.dim, relation, shape.total_frames)}, accumulator);
    cuda::set_workspace(outputs, output<A>(workspace), plan, shape.dim, relation);
    cuda::frame_attention_backward<T>(clips, parameters, inputs, outputs, plan,
                                      getCurrentStream(device).nativeHandle());
  });
  return {grad_features, grad_q0, grad_q1, grad_b0, grad_b1};
}

}  // namespace
}  // namespace fan

STABLE_TORCH_LIBRARY_IMPL(fan_ext, CUDA, library) {
  library.impl("frame_attention_forward", TORCH_BOX(&fan::forward));
  library.impl("frame_attention_backward", TORCH_BOX(&fan::backward));
}
