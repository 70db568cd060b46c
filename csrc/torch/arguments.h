// The checks every backend makes before any work. A message names the argument, what came and what is wanted.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace fan {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// No streams: where the compiler's C++ library is not the one torch was built with (seen: GCC 13 with torch 2.11), a
// number put into one ends the process.
inline std::string text_of(const std::string& text) {
  return text;
}
inline std::string text_of(int64_t number) {
  return std::to_string(number);
}

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw std::runtime_error((std::string("fan_ext.frame_attention: ") + ... + text_of(parts)));
}

std::string shape_of(const Tensor& tensor);
const char* name_of(ScalarType type);

// float64 for float64 features, else float32.
ScalarType accumulator_type(ScalarType features);

// What the features' shape says, after all arguments have been checked against it.
struct Shape {
  bool packed;
  int64_t clips;         // B
  int64_t frames;        // N when dense, max_frames or -1 when packed
  int64_t total_frames;  // B * N, or T when packed
  int64_t dim;           // D
};

Shape check_forward(const Tensor& features, const Tensor& self_weight, const OptionalTensor& relation_weight,
                    const OptionalTensor& self_bias, const OptionalTensor& relation_bias, const OptionalTensor& mask,
                    const OptionalTensor& offsets, const std::optional<int64_t>& max_frames);

void check_backward(const Shape& shape, const Tensor& features, const OptionalTensor& relation_weight,
                    const Tensor& grad_out, const OptionalTensor& grad_alpha, const OptionalTensor& grad_beta,
                    const Tensor& out, const Tensor& saved);

// The values of contiguous offsets, which only a CPU can look at without waiting for the device.
void check_offsets(const Tensor& offsets, int64_t total_frames);

}  // namespace fan
