// Tensors of torch's stable ABI, laid out and allocated.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <initializer_list>

#include "arguments.h"

// Torch before 2.13 has it by another name, and then it does not tell what failed.
#ifndef STABLE_TORCH_ERROR_CODE_CHECK
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace fan {

// Contiguous; the tensor itself where it already is.
inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline OptionalTensor dense(const OptionalTensor& tensor) {
  return tensor ? OptionalTensor(dense(*tensor)) : std::nullopt;
}

// Rows are read where they lie if the elements of each are adjacent.
inline Tensor with_adjacent_rows(const Tensor& features) {
  const int64_t last = features.dim() - 1;
  return features.stride(last) == 1 || features.size(last) == 1 ? features : torch::stable::contiguous(features);
}

// Where a tensor is.
struct Place {
  int32_t device_type, device_index;

  explicit Place(const Tensor& tensor) {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &device_type));
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor.get(), &device_index));
  }
};

// An uninitialised contiguous tensor, past the dispatcher that stable::new_empty goes through: a call makes five.
inline Tensor empty(const Place& place, std::initializer_list<int64_t> sizes, ScalarType type) {
  int64_t strides[3];
  int64_t stride = 1;
  for (size_t k = sizes.size(); k-- > 0;) {
    strides[k] = stride;
    stride *= std::max<int64_t>(sizes.begin()[k], 1);
  }
  AtenTensorHandle result;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.begin(), strides,
                               torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)), place.device_type,
                               place.device_index, &result));
  return Tensor(result);
}

}  // namespace fan
