// Weights of frames from their logits.
#pragma once

#include <cmath>

#include "lanes.cuh"

namespace fan::cuda {

__device__ __forceinline__ float exponential(float x) {
  return expf(x);
}
__device__ __forceinline__ double exponential(double x) {
  return exp(x);
}

// exp(-|x|)
template <typename A>
__device__ __forceinline__ A decay(A x) {
  return exponential(x < A(0) ? x : -x);
}

template <typename A>
__device__ __forceinline__ A sigmoid(A x) {
  const A e = decay(x);
  return (x < A(0) ? e : A(1)) / (A(1) + e);
}

// The product of a frame's sigmoids, as exp(exponent) * factor: sigmoid(x) = exp(min(x, 0)) / (1 + exp(-|x|)).
template <typename A>
struct Weight {
  A exponent;  // of a NaN 0: the factor makes a NaN of it
  A factor;

  __device__ __forceinline__ explicit Weight(A s) : exponent(s < A(0) ? s : A(0)), factor(A(1) / (A(1) + decay(s))) {}
  __device__ __forceinline__ Weight(A s, A z) : Weight(s) {
    exponent += z < A(0) ? z : A(0);
    factor /= A(1) + decay(z);
  }
};

// softmax(logsigmoid(s) + logsigmoid(z)) over frames: the weights' sum, and that of their products with a value each.
// The largest exponent is taken out, so that nothing underflows.
template <typename A>
struct Softmax {
  A largest = -A(HUGE_VAL);
  A total = 0;
  A sum = 0;

  // Over the frames of a team, of whom each thread has some: add(softmax) adds those.
  template <typename Team, typename Each>
  static __device__ __forceinline__ Softmax over(Team& team, const Each& add) {
    Softmax own;
    add(own);
    A values[3] = {own.largest, own.total, own.sum};
    team.reduce(values, Merge());
    return {values[0], values[1], values[2]};
  }
  // Of one frame for each of so many adjacent lanes.
  __device__ __forceinline__ void merge_lanes(int lanes) {
    A values[3] = {largest, total, sum};
    reduce_lanes(values, lanes, Merge());
    *this = {values[0], values[1], values[2]};
  }

  __device__ __forceinline__ void add(const Weight<A>& weight, A value = 0) {
    add(Softmax{weight.exponent, weight.factor, weight.factor * value});
  }
  __device__ __forceinline__ void add(const Softmax& other) {
    A values[3] = {largest, total, sum};
    Merge()(values, {other.largest, other.total, other.sum});
    *this = {values[0], values[1], values[2]};
  }

  // Turns sums relative to one largest exponent into sums relative to another one, at least as large.
  static __device__ __forceinline__ A rescale(A from, A to) { return from == to ? A(1) : exponential(from - to); }

  __device__ __forceinline__ A relative(const Weight<A>& weight) const {
    return exponential(weight.exponent - largest) * weight.factor;
  }
  __device__ __forceinline__ A normalised(const Weight<A>& weight) const { return relative(weight) / total; }

 private:
  struct Merge {
    __device__ __forceinline__ void operator()(A (&mine)[3], const A (&others)[3]) const {
      // The same for both lanes of an exchange, to the last bit.
      const bool swap = mine[0] < others[0];
      const A most = swap ? others[0] : mine[0], least = swap ? mine[0] : others[0];
      const A scale = rescale(least, most);
#pragma unroll
      for (int k = 1; k < 3; ++k) {
        mine[k] = (swap ? others[k] : mine[k]) + scale * (swap ? mine[k] : others[k]);
      }
      mine[0] = most;
    }
  };
};

}  // namespace fan::cuda
