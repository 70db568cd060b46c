// Weights of frames from their logits.
#pragma once

#include <cmath>

#include "team.cuh"

namespace fan::cuda {

__device__ __forceinline__ float exponential(float x) {
  return expf(x);
}
__device__ __forceinline__ double exponential(double x) {
  return exp(x);
}

template <typename A>
__device__ __forceinline__ A magnitude(A x) {
  return x < A(0) ? -x : x;
}

template <typename A>
__device__ __forceinline__ A sigmoid(A x) {
  const A e = exponential(-magnitude(x));
  return (x < A(0) ? e : A(1)) / (A(1) + e);
}

// min(x, 0). Of a NaN 0: see weight().
template <typename A>
__device__ __forceinline__ A below_zero(A x) {
  return x < A(0) ? x : A(0);
}

// The normalised product of a frame's sigmoids: softmax(logsigmoid(s) + logsigmoid(z)), or softmax(logsigmoid(s)).
// sigmoid(x) = exp(min(x, 0)) / (1 + exp(-|x|)); the largest exponent is taken out first, so that no sum underflows.
template <typename A>
struct Softmax {
  A largest;
  A total;

  static __device__ __forceinline__ A exponent(A s) { return below_zero(s); }
  static __device__ __forceinline__ A exponent(A s, A z) { return below_zero(s) + below_zero(z); }

  // Not normalised. The denominators make a NaN of a NaN.
  __device__ __forceinline__ A weight(A s) const {
    return exponential(exponent(s) - largest) / (A(1) + exponential(-magnitude(s)));
  }
  __device__ __forceinline__ A weight(A s, A z) const {
    return exponential(exponent(s, z) - largest) /
           ((A(1) + exponential(-magnitude(s))) * (A(1) + exponential(-magnitude(z))));
  }
};

template <typename A>
__device__ __forceinline__ A lowest() {
  return -A(HUGE_VAL);
}

}  // namespace fan::cuda
