#include "arguments.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "../types.h"

namespace fan {
namespace {

std::string device_of(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  return (tensor.is_cuda() ? "cuda:" : "another device, index ") + text_of(tensor.get_device_index());
}

using Sizes = std::initializer_list<int64_t>;

template <typename Range>
std::string shape_text(const Range& sizes) {
  std::string text = "(";
  for (auto size = sizes.begin(); size != sizes.end(); ++size) {
    text += (size == sizes.begin() ? "" : ", ") + text_of(*size);
  }
  return text + (sizes.size() == 1 ? ",)" : ")");
}

void check_shape(const char* name, const Tensor& tensor, Sizes wanted, const Tensor& features) {
  const auto sizes = tensor.sizes();
  if (!std::equal(sizes.begin(), sizes.end(), wanted.begin(), wanted.end())) {
    fail(name, " has shape ", shape_of(tensor), ", expected ", shape_text(wanted), " for features of shape ",
         shape_of(features));
  }
}

void check_device(const char* name, const Tensor& tensor, const Tensor& features) {
  const bool same = features.is_cpu() ? tensor.is_cpu()
                                      : tensor.is_cuda() == features.is_cuda() &&
                                            tensor.get_device_index() == features.get_device_index();
  if (!same) fail(name, " is on ", device_of(tensor), ", expected ", device_of(features), " like features");
}

void check_parameter(const char* name, const Tensor& tensor, const Tensor& features) {
  check_device(name, tensor, features);
  const ScalarType type = tensor.scalar_type();
  if (type != features.scalar_type() && type != ScalarType::Float) {
    fail(name, " has dtype ", name_of(type), ", expected ", name_of(features.scalar_type()),
         " like features, or float32");
  }
}

void check_bias(const char* name, const OptionalTensor& bias, const Tensor& features) {
  if (!bias) return;
  check_parameter(name, *bias, features);
  if (bias->numel() != 1) fail(name, " has shape ", shape_of(*bias), ", expected one element");
}

void check_dtype(const char* name, const Tensor& tensor, ScalarType wanted) {
  if (tensor.scalar_type() != wanted) {
    fail(name, " has dtype ", name_of(tensor.scalar_type()), ", expected ", name_of(wanted));
  }
}

}  // namespace

std::string shape_of(const Tensor& tensor) {
  return shape_text(tensor.sizes());
}

const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Byte:
      return "uint8";
    default:
      return "another type";
  }
}

ScalarType accumulator_type(ScalarType features) {
  return features == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Shape check_forward(const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                    const OptionalTensor& self_bias, const OptionalTensor& relation_bias, const OptionalTensor& mask,
                    const OptionalTensor& offsets, const std::optional<int64_t>& max_frames) {
  const ScalarType type = features.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double && type != ScalarType::Half &&
      type != ScalarType::BFloat16) {
    fail("features has dtype ", name_of(type), ", expected float32, float64, float16 or bfloat16");
  }
  const bool packed = offsets.has_value();
  if (features.dim() != (packed ? 2 : 3)) {
    fail("features has shape ", shape_of(features), ", expected ",
         packed ? "(T, D) with offsets" : "(B, N, D), (N, D), or (T, D) with offsets");
  }
  Shape shape{};
  shape.packed = packed;
  shape.dim = features.size(packed ? 1 : 2);
  shape.total_frames = packed ? features.size(0) : features.size(0) * features.size(1);
  if (shape.dim == 0) fail("features has shape ", shape_of(features), ", expected a last size of at least 1");

  if (packed) {
    if (mask) fail("mask and offsets are both given, expected one of them: packed clips have no absent frames");
    check_device("offsets", *offsets, features);
    if (offsets->scalar_type() != ScalarType::Long && offsets->scalar_type() != ScalarType::Int) {
      fail("offsets has dtype ", name_of(offsets->scalar_type()), ", expected int64 or int32");
    }
    if (offsets->dim() != 1 || offsets->size(0) < 1) {
      fail("offsets has shape ", shape_of(*offsets), ", expected (B + 1,), the first frame of each clip and the end");
    }
    shape.clips = offsets->size(0) - 1;
    if (max_frames && *max_frames < 0) fail("max_frames is ", *max_frames, ", expected 0 or more");
    shape.frames = max_frames.value_or(-1);
  } else {
    if (max_frames) fail("max_frames is given without offsets, expected it only for packed clips");
    shape.clips = features.size(0);
    shape.frames = features.size(1);
  }

  check_parameter("self_weight", self_weight, features);
  check_shape("self_weight", self_weight, {shape.dim}, features);
  check_bias("self_bias", self_bias, features);
  if (relation_weight) {
    check_parameter("relation_weight", *relation_weight, features);
    check_shape("relation_weight", *relation_weight, {2 * shape.dim}, features);
  } else if (relation_bias) {
    fail("relation_bias is given without relation_weight, expected both or neither");
  }
  check_bias("relation_bias", relation_bias, features);
  if (mask) {
    check_device("mask", *mask, features);
    check_dtype("mask", *mask, ScalarType::Bool);
    check_shape("mask", *mask, {shape.clips, shape.frames}, features);
  }
  return shape;
}

void check_backward(const Shape& shape, const Tensor& features, const OptionalTensor& relation_weight,
                    const Tensor& grad_out, const OptionalTensor& grad_alpha, const OptionalTensor& grad_beta,
                    const Tensor& out, const Tensor& saved) {
  const int64_t width = relation_weight ? 2 * shape.dim : shape.dim;
  for (const auto& [name, tensor] : {std::pair{"grad_out", &grad_out}, {"out", &out}}) {
    check_device(name, *tensor, features);
    check_dtype(name, *tensor, features.scalar_type());
    check_shape(name, *tensor, {shape.clips, width}, features);
  }
  const ScalarType accumulator = accumulator_type(features.scalar_type());
  if (grad_beta && !relation_weight) fail("grad_beta is given without relation_weight");
  for (const auto& [name, tensor] : {std::pair{"grad_alpha", &grad_alpha}, {"grad_beta", &grad_beta}}) {
    if (!*tensor) continue;
    check_device(name, **tensor, features);
    check_dtype(name, **tensor, accumulator);
    if (shape.packed) {
      check_shape(name, **tensor, {shape.total_frames}, features);
    } else {
      check_shape(name, **tensor, {shape.clips, shape.frames}, features);
    }
  }
  check_device("saved", saved, features);
  check_dtype("saved", saved, accumulator);
  check_shape("saved", saved, {saved_arrays(relation_weight.has_value()), shape.total_frames}, features);
}

void check_offsets(const Tensor& offsets, int64_t total_frames) {
  const int64_t clips = offsets.size(0) - 1;
  const void* const data = offsets.const_data_ptr();
  const bool is_short = offsets.scalar_type() == ScalarType::Int;
  const auto at = [&](int64_t b) -> int64_t {
    return is_short ? static_cast<const int32_t*>(data)[b] : static_cast<const int64_t*>(data)[b];
  };
  if (at(0) < 0) fail("offsets[0] is ", at(0), ", expected 0 or more");
  for (int64_t b = 0; b < clips; ++b) {
    if (at(b + 1) < at(b)) {
      fail("offsets[", b + 1, "] is ", at(b + 1), " after ", at(b), ", expected ascending values");
    }
  }
  if (at(clips) > total_frames) {
    fail("offsets[", clips, "] is ", at(clips), ", expected at most ", total_frames, ", the number of frames");
  }
}

}  // namespace fan
