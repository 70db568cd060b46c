// What every backend does around its kernels: lay out the arguments, allocate the results.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <initializer_list>
#include <tuple>

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

// And of the given type.
inline Tensor as_type(const Tensor& tensor, ScalarType type) {
  return dense(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
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

inline Tensor empty(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType type) {
  return empty(Place(like), sizes, type);
}

using FiveTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Uninitialised results, as the schemas in ops.cpp describe them.
struct ForwardResults {
  Tensor out, logits, alpha, beta, final;

  ForwardResults(const Tensor& features, const Shape& shape, bool relation, bool return_weights) {
    const Place place(features);
    const ScalarType accumulator = accumulator_type(features.scalar_type());
    const auto per_frame = [&](bool wanted) {
      if (!wanted) return empty(place, {0}, accumulator);
      return shape.packed ? empty(place, {shape.total_frames}, accumulator)
                          : empty(place, {shape.clips, shape.frames}, accumulator);
    };
    out = empty(place, {shape.clips, relation ? 2 * shape.dim : shape.dim}, features.scalar_type());
    logits = empty(place, {relation ? 3 : 1, shape.total_frames}, accumulator);
    alpha = per_frame(return_weights);
    beta = per_frame(return_weights && relation);
    final = per_frame(return_weights);
  }
  FiveTensors all() const { return {out, logits, alpha, beta, final}; }
};

inline Tensor empty_feature_gradient(const Tensor& features, const Shape& shape, bool needed) {
  const ScalarType type = features.scalar_type();
  return !needed        ? empty(features, {0}, type)
         : shape.packed ? empty(features, {shape.total_frames, shape.dim}, type)
                        : empty(features, {shape.clips, shape.frames, shape.dim}, type);
}

// Of a backend that knows the accumulation type only.
struct BackwardResults {
  Tensor features, self_weight, relation_weight, self_bias, relation_bias;

  BackwardResults(const Tensor& given, const Shape& shape, bool relation, bool features_need_grad) {
    const ScalarType accumulator = accumulator_type(given.scalar_type());
    features = empty_feature_gradient(given, shape, features_need_grad);
    self_weight = empty(given, {shape.dim}, accumulator);
    relation_weight = empty(given, {relation ? 2 * shape.dim : 0}, accumulator);
    self_bias = empty(given, {1}, accumulator);
    relation_bias = empty(given, {relation ? 1 : 0}, accumulator);
  }
  // Each in the type of the parameter it is the gradient of.
  FiveTensors all(const Tensor& of_self_weight, const OptionalTensor& of_relation_weight,
                  const OptionalTensor& of_self_bias, const OptionalTensor& of_relation_bias) const {
    return {features, as_type(self_weight, of_self_weight.scalar_type()), like(relation_weight, of_relation_weight),
            like(self_bias, of_self_bias), like(relation_bias, of_relation_bias)};
  }

 private:
  static Tensor like(const Tensor& gradient, const OptionalTensor& parameter) {
    return parameter ? as_type(gradient, parameter->scalar_type()) : gradient;
  }
};

}  // namespace fan
