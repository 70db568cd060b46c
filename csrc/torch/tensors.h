// What every backend does around its kernels: lay out the arguments, allocate the results.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "arguments.h"

namespace fan {

// A contiguous tensor of the given type; the tensor itself where it already is one.
inline Tensor as_type(const Tensor& tensor, ScalarType type) {
  const Tensor converted = tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
  return converted.is_contiguous() ? converted : torch::stable::contiguous(converted);
}

inline OptionalTensor as_type(const OptionalTensor& tensor, ScalarType type) {
  return tensor ? OptionalTensor(as_type(*tensor, type)) : std::nullopt;
}

// Rows are read where they lie if the elements of each are adjacent.
inline Tensor with_adjacent_rows(const Tensor& features) {
  const int64_t last = features.dim() - 1;
  return features.stride(last) == 1 || features.size(last) == 1 ? features : torch::stable::contiguous(features);
}

// Null for a tensor that is absent or not wanted.
template <typename A>
const A* input(const OptionalTensor& tensor) {
  return tensor ? static_cast<const A*>(tensor->const_data_ptr()) : nullptr;
}

template <typename A>
A* output(Tensor& tensor, bool wanted = true) {
  return wanted ? static_cast<A*>(tensor.mutable_data_ptr()) : nullptr;
}

using FiveTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Uninitialised results, as the schemas in ops.cpp describe them.
struct ForwardResults {
  Tensor out, logits, alpha, beta, final;

  ForwardResults(const Tensor& features, const Shape& shape, bool relation, bool return_weights) {
    const ScalarType accumulator = accumulator_type(features.scalar_type());
    const auto per_frame = [&](bool wanted) {
      if (!wanted) return torch::stable::new_empty(features, {0}, accumulator);
      return shape.packed ? torch::stable::new_empty(features, {shape.total_frames}, accumulator)
                          : torch::stable::new_empty(features, {shape.clips, shape.frames}, accumulator);
    };
    out = torch::stable::new_empty(features, {shape.clips, relation ? 2 * shape.dim : shape.dim});
    logits = torch::stable::new_empty(features, {relation ? 3 : 1, shape.total_frames}, accumulator);
    alpha = per_frame(return_weights);
    beta = per_frame(return_weights && relation);
    final = per_frame(return_weights);
  }
  FiveTensors all() const { return {out, logits, alpha, beta, final}; }
};

struct BackwardResults {
  Tensor features, self_weight, relation_weight, self_bias, relation_bias;

  BackwardResults(const Tensor& given, const Shape& shape, bool relation, bool features_need_grad) {
    const ScalarType accumulator = accumulator_type(given.scalar_type());
    features = !features_need_grad ? torch::stable::new_empty(given, {0})
               : shape.packed      ? torch::stable::new_empty(given, {shape.total_frames, shape.dim})
                                   : torch::stable::new_empty(given, {shape.clips, shape.frames, shape.dim});
    self_weight = torch::stable::new_empty(given, {shape.dim}, accumulator);
    relation_weight = torch::stable::new_empty(given, {relation ? 2 * shape.dim : 0}, accumulator);
    self_bias = torch::stable::new_empty(given, {1}, accumulator);
    relation_bias = torch::stable::new_empty(given, {relation ? 1 : 0}, accumulator);
  }
  FiveTensors all() const { return {features, self_weight, relation_weight, self_bias, relation_bias}; }
};

}  // namespace fan
