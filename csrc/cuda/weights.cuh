// Weights of frames from their logits.
#pragma once

#include <cmath>

#include "clips.cuh"

namespace fan::cuda {

FAN_DEVICE float exponential(float x) {
  return expf(x);
}
FAN_DEVICE double exponential(double x) {
  return exp(x);
}

// exp(-|x|)
template <typename A>
FAN_DEVICE A decay(A x) {
  return exponential(x < A(0) ? x : -x);
}

template <typename A>
FAN_DEVICE A sigmoid(A x) {
  const A e = decay(x);
  return (x < A(0) ? e : A(1)) / (A(1) + e);
}

// The product of a frame's sigmoids, as exp(exponent) * factor: sigmoid(x) = exp(min(x, 0)) / (1 + exp(-|x|)).
template <typename A>
struct Weight {
  A exponent;  // of a NaN 0: the factor makes a NaN of it
  A factor;

  FAN_DEVICE explicit Weight(A s) : exponent(s < A(0) ? s : A(0)), factor(A(1) / (A(1) + decay(s))) {}
  FAN_DEVICE Weight(A s, A z) : Weight(s) {
    exponent += z < A(0) ? z : A(0);
    factor /= A(1) + decay(z);
  }
};

// softmax(logsigmoid(s) + logsigmoid(z)) over frames: the weights' sum, and that of their products with a value each.
// The largest exponent is taken out, so that nothing underflows.
template <typename A>
struct Softmax {
  A at[3] = {-A(HUGE_VAL), 0, 0};

  FAN_DEVICE A largest() const { return at[0]; }
  FAN_DEVICE A total() const { return at[1]; }
  FAN_DEVICE A sum() const { return at[2]; }

  struct Merge {
    // The same for both sides of an exchange, to the last bit.
    FAN_DEVICE void operator()(A (&mine)[3], const A (&others)[3]) const {
      const bool swap = mine[0] < others[0];
      const A most = swap ? others[0] : mine[0], scale = rescale(swap ? mine[0] : others[0], most);
      for (int k = 1; k < 3; ++k) {
        mine[k] = (swap ? others[k] : mine[k]) + scale * (swap ? mine[k] : others[k]);
      }
      mine[0] = most;
    }
  };
  // Turns sums relative to one largest exponent into sums relative to another one, at least as large.
  static FAN_DEVICE A rescale(A from, A to) { return from == to ? A(1) : exponential(from - to); }

  FAN_DEVICE void add(const Softmax& other) { Merge()(at, other.at); }
  FAN_DEVICE void add(const Weight<A>& weight, A value = 0) {
    Merge()(at, {weight.exponent, weight.factor, weight.factor * value});
  }
  // Over so many items that a team shares: add(i, softmax) adds the i-th.
  template <typename Team, typename AddItem>
  static FAN_DEVICE Softmax over(Team& team, int64_t count, const AddItem& add) {
    Softmax own;
    for (int64_t i = team.rank; i < count; i += team.size) add(i, own);
    // Of lanes the largest exponent first: an exponential each, in place of one for each exchange.
    A largest[1] = {own.at[0]};
    reduce_lanes(largest, team.lanes, Largest());
    const A scale = rescale(own.at[0], largest[0]);
    A sums[2] = {scale * own.at[1], scale * own.at[2]};
    reduce_lanes(sums, team.lanes, Add());
    own = {{largest[0], sums[0], sums[1]}};
    team.reduce_warps(own.at, Merge());
    return own;
  }

  FAN_DEVICE A normalised(const Weight<A>& weight) const {
    return exponential(weight.exponent - at[0]) * weight.factor / at[1];
  }
};

}  // namespace fan::cuda
