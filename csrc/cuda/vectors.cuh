// Rows of features and parameters in pieces of 16 bytes of the features' type, widened to the accumulation type.
#pragma once

#include "device.cuh"

namespace fan::cuda {

// Features in 16 bytes.
template <typename T>
inline constexpr int kWidth = 16 / sizeof(T);

// A piece, or some of its elements where its row ends; the others are zero. aligned: from is a multiple of 16 bytes.
template <typename U>
__device__ __forceinline__ uint4 load_piece(const U* from, int count, bool aligned) {
  if (aligned && count >= kWidth<U>) return *reinterpret_cast<const uint4*>(from);
  U elements[kWidth<U>];
#pragma unroll
  for (int k = 0; k < kWidth<U>; ++k) elements[k] = k < count ? from[k] : U{};
  return pack(elements);
}

// N elements of any type that is accumulated in A.
template <int N, typename U>
__device__ __forceinline__ Values<Accumulator<U>, N> load(const U* from, int count, bool aligned) {
  Values<Accumulator<U>, N> result;
#pragma unroll
  for (int at = 0; at < N; at += kWidth<U>) {
    const auto part = widen<U>(load_piece(from + at, count - at, aligned));
#pragma unroll
    for (int k = 0; k < kWidth<U>; ++k) result.at[at + k] = part.at[k];
  }
  return result;
}

template <typename T>
__device__ __forceinline__ Values<Accumulator<T>, kWidth<T>> load(const Parameter<T>& from, int64_t at, int count,
                                                                  bool aligned) {
  using A = Accumulator<T>;
  using U = Narrow<T>;
  constexpr int W = kWidth<T>;
  if constexpr (std::is_same_v<T, double>) {
    if (from.narrow) {
      const U* const elements = static_cast<const U*>(from.data) + at;
      return {{count > 0 ? A(elements[0]) : A(0), count > 1 ? A(elements[1]) : A(0)}};
    }
  } else if constexpr (!std::is_same_v<A, U>) {
    if (from.narrow) return load<W>(static_cast<const U*>(from.data) + at, count, aligned);
  }
  return load<W>(static_cast<const A*>(from.data) + at, count, aligned);
}

// Of one element, or 0.
template <typename T>
__device__ __forceinline__ Accumulator<T> value_of(const Parameter<T>& parameter) {
  if (parameter.data == nullptr) return 0;
  return parameter.narrow ? widen(*static_cast<const Narrow<T>*>(parameter.data))
                          : *static_cast<const Accumulator<T>*>(parameter.data);
}

template <typename T>
__device__ __forceinline__ void store(const Gradient<T>& to, int64_t at, Accumulator<T> value) {
  if (to.narrow) {
    static_cast<Narrow<T>*>(to.data)[at] = narrow<Narrow<T>>(value);
  } else {
    static_cast<Accumulator<T>*>(to.data)[at] = value;
  }
}

// to is in global memory.
template <typename T>
__device__ __forceinline__ void store(T* to, const Values<Accumulator<T>, kWidth<T>>& values, int count, bool aligned) {
  if (aligned) {
    store_piece(to, narrow<T>(values));
  } else {
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      if (k < count) to[k] = narrow<T>(values.at[k]);
    }
  }
}

template <typename A, int N>
__device__ __forceinline__ void add_product(Values<A, N>& sum, A scale, const Values<A, N>& x) {
#pragma unroll
  for (int k = 0; k < N; ++k) sum.at[k] += scale * x.at[k];
}

template <typename A, int N>
__device__ __forceinline__ void add_dot(A& sum, const Values<A, N>& q, const Values<A, N>& x) {
#pragma unroll
  for (int k = 0; k < N; ++k) sum += q.at[k] * x.at[k];
}

// Vectors that all rows are multiplied with, in shared memory, zeros behind their end. 16 bytes of each piece lie side
// by side: lanes that read adjacent pieces do not meet in a bank.
template <typename T>
class Vectors {
 public:
  using A = Accumulator<T>;

  __device__ __forceinline__ Vectors(A* memory, int pieces) : memory_(memory), pieces_(pieces) {}

  __device__ __forceinline__ void put(int vector, int piece, const Values<A, kWidth<T>>& values) const {
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) at(vector, k / kPart, piece)[k % kPart] = values.at[k];
  }
  __device__ __forceinline__ Values<A, kWidth<T>> get(int vector, int piece) const {
    Values<A, kWidth<T>> result;
#pragma unroll
    for (int part = 0; part < kWidth<T> / kPart; ++part) {
      const auto values = *reinterpret_cast<const Values<A, kPart>*>(at(vector, part, piece));
#pragma unroll
      for (int k = 0; k < kPart; ++k) result.at[part * kPart + k] = values.at[k];
    }
    return result;
  }

 private:
  static constexpr int kPart = 16 / sizeof(A);

  __device__ __forceinline__ A* at(int vector, int part, int piece) const {
    return memory_ + ((vector * (kWidth<T> / kPart) + part) * pieces_ + piece) * kPart;
  }

  A* memory_;
  int pieces_;
};

}  // namespace fan::cuda
