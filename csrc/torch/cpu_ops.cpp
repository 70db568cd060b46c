// The operators on the CPU: tensors to plain pointers, threads from torch's own pool.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "../cpu/frame_attention.h"
#include "../cpu/row_kernels.h"
#include "arguments.h"
#include "tensors.h"

namespace fan {
namespace {

const Threads& torch_threads() {
  thread_local Threads threads;
  threads.parallel_for = [](int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                            void* context) {
    torch::stable::parallel_for(begin, end, grain, [&](int64_t from, int64_t to) { body(from, to, context); });
  };
  threads.count = torch::stable::get_num_threads();
  return threads;
}

template <typename T>
Clips<T> make_clips(const Shape& shape, const Tensor& features, const OptionalTensor& mask,
                    const OptionalTensor& offsets) {
  Clips<T> clips{};
  clips.features = static_cast<const T*>(features.const_data_ptr());
  clips.clip_stride = shape.packed ? 0 : features.stride(0);
  clips.frame_stride = features.stride(shape.packed ? 0 : 1);
  clips.mask = input<bool>(mask);
  clips.offsets = input<int64_t>(offsets);
  clips.clips = shape.clips;
  clips.frames = shape.frames;
  clips.total_frames = shape.total_frames;
  clips.dim = shape.dim;
  return clips;
}

// Calls body with a value of the native type of the features.
template <typename Body>
void with_type(ScalarType type, const Body& body) {
  if (type == ScalarType::Float) body(float{});
  if (type == ScalarType::Double) body(double{});
  if (type == ScalarType::Half) body(Half{});
  if (type == ScalarType::BFloat16) body(BFloat16{});
}

// As as_type(), past the dispatcher for 16-bit parameters: four calls of it cost more than a short clip.
Tensor widened(const Tensor& parameter, ScalarType accumulator) {
  const ScalarType type = parameter.scalar_type();
  if ((type != ScalarType::Half && type != ScalarType::BFloat16) || !parameter.is_contiguous()) {
    return as_type(parameter, accumulator);
  }
  Tensor result = empty(parameter, {parameter.numel()}, accumulator);
  with_type(type, [&](auto tag) {
    using T = decltype(tag);
    widen_row<T>(static_cast<const T*>(parameter.const_data_ptr()), parameter.numel(),
                 static_cast<Accumulator<T>*>(result.mutable_data_ptr()));
  });
  return result;
}

OptionalTensor widened(const OptionalTensor& parameter, ScalarType accumulator) {
  return parameter ? OptionalTensor(widened(*parameter, accumulator)) : std::nullopt;
}

FiveTensors forward(const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                    const OptionalTensor& self_bias, const OptionalTensor& relation_bias, const OptionalTensor& mask,
                    const OptionalTensor& offsets, std::optional<int64_t> max_frames, bool return_weights) {
  const Shape shape =
      check_forward(features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames);
  const OptionalTensor starts = as_type(offsets, ScalarType::Long);
  if (starts) check_offsets(input<int64_t>(starts), shape.clips, shape.total_frames, max_frames);

  const ScalarType accumulator = accumulator_type(features.scalar_type());
  const bool relation = relation_weight.has_value();
  ForwardResults results(features, shape, relation, return_weights);

  const Tensor rows = with_adjacent_rows(features);
  const Tensor q0 = widened(self_weight, accumulator);
  const OptionalTensor q1 = widened(relation_weight, accumulator), b0 = widened(self_bias, accumulator),
                       b1 = widened(relation_bias, accumulator), present = as_type(mask, ScalarType::Bool);
  with_type(features.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    Parameters<A> parameters{static_cast<const A*>(q0.const_data_ptr()), input<A>(q1), A(0), A(0)};
    if (b0) parameters.self_bias = *input<A>(b0);
    if (b1) parameters.relation_bias = *input<A>(b1);
    const ForwardOutputs<T> outputs{
        output<T>(results.out), output<A>(results.logits), output<A>(results.alpha, return_weights),
        output<A>(results.beta, return_weights && relation), output<A>(results.final, return_weights)};
    frame_attention_forward<T>(make_clips<T>(shape, rows, present, starts), parameters, outputs, torch_threads());
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
  const OptionalTensor starts = as_type(offsets, ScalarType::Long);
  if (starts) check_offsets(input<int64_t>(starts), shape.clips, shape.total_frames, max_frames);

  const ScalarType type = features.scalar_type(), accumulator = accumulator_type(type);
  const bool relation = relation_weight.has_value();
  BackwardResults results(features, shape, relation, features_need_grad);

  const Tensor rows = with_adjacent_rows(features);
  const Tensor q0 = widened(self_weight, accumulator), d_out = as_type(grad_out, type),
               forward_out = as_type(out, type), saved = as_type(logits, accumulator);
  const OptionalTensor q1 = widened(relation_weight, accumulator), d_alpha = as_type(grad_alpha, accumulator),
                       d_beta = as_type(grad_beta, accumulator), present = as_type(mask, ScalarType::Bool);
  with_type(type, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const Parameters<A> parameters{static_cast<const A*>(q0.const_data_ptr()), input<A>(q1), A(0), A(0)};
    const BackwardInputs<T> inputs{static_cast<const T*>(d_out.const_data_ptr()), input<A>(d_alpha), input<A>(d_beta),
                                   static_cast<const T*>(forward_out.const_data_ptr()),
                                   static_cast<const A*>(saved.const_data_ptr())};
    const BackwardOutputs<T> outputs{output<T>(results.features, features_need_grad), output<A>(results.self_weight),
                                     output<A>(results.relation_weight, relation), output<A>(results.self_bias),
                                     output<A>(results.relation_bias, relation)};
    frame_attention_backward<T>(make_clips<T>(shape, rows, present, starts), parameters, inputs, outputs,
                                torch_threads());
  });
  return results.all(self_weight, relation_weight, self_bias, relation_bias);
}

}  // namespace
}  // namespace fan

STABLE_TORCH_LIBRARY_IMPL(fan_ext, CPU, library) {
  library.impl("frame_attention_forward", TORCH_BOX(&fan::forward));
  library.impl("frame_attention_backward", TORCH_BOX(&fan::backward));
}
