// What every backend does to tensors before it takes their pointers.
#pragma once

#include <torch/csrc/stable/ops.h>

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

}  // namespace fan
