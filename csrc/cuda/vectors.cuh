// Rows of features and parameters in pieces of 16 bytes of the features' type, widened to the accumulation type.
#pragma once

#include "device.cuh"

namespace fan::cuda {

// Features in 16 bytes.
template <typename T>
inline constexpr int kWidth = 16 / sizeof(T);

template <typename A, int N>
struct Values {
  A at[N];
};

template <typename A, int N>
__device__ __forceinline__ Values<A, N> zeros() {
  Values<A, N> result;
#pragma unroll
  for (int k = 0; k < N; ++k) result.at[k] = A(0);
  return result;
}

// 16 bytes as they lie in memory.
template <typename U>
union Packed {
  uint4 bits;
  U at[kWidth<U>];
  __device__ __forceinline__ Packed() {}
};

template <typename U>
__device__ __forceinline__ Values<Accumulator<U>, kWidth<U>> widen(Packed<U> packed) {
  Values<Accumulator<U>, kWidth<U>> result;
#pragma unroll
  for (int k = 0; k < kWidth<U>; ++k) result.at[k] = widen(packed.at[k]);
  return result;
}

// from is a multiple of 16 bytes.
template <int N, typename U>
__device__ __forceinline__ Values<Accumulator<U>, N> load_vector(const U* from) {
  Values<Accumulator<U>, N> result;
  constexpr int kPerPiece = 16 / sizeof(U);
#pragma unroll
  for (int piece = 0; piece < N / kPerPiece; ++piece) {
    Packed<U> packed;
    packed.bits = reinterpret_cast<const uint4*>(from)[piece];
#pragma unroll
    for (int k = 0; k < kPerPiece; ++k) result.at[piece * kPerPiece + k] = widen(packed.at[k]);
  }
  return result;
}

// The elements from count on are zero.
template <int N, typename U>
__device__ __forceinline__ Values<Accumulator<U>, N> load_elements(const U* from, int count) {
  Values<Accumulator<U>, N> result;
#pragma unroll
  for (int k = 0; k < N; ++k) result.at[k] = k < count ? widen(from[k]) : Accumulator<U>(0);
  return result;
}

// aligned: as load_vector asks, and all N elements exist.
template <int N, typename U>
__device__ __forceinline__ Values<Accumulator<U>, N> load(const U* from, int count, bool aligned) {
  return aligned ? load_vector<N>(from) : load_elements<N>(from, count);
}

template <int N, typename T>
__device__ __forceinline__ Values<Accumulator<T>, N> load(const Parameter<T>& from, int at, int count, bool aligned) {
  using A = Accumulator<T>;
  using U = Narrow<T>;
  if constexpr (!std::is_same_v<A, U>) {
    if (from.narrow) {
      const U* const elements = static_cast<const U*>(from.data) + at;
      if constexpr (std::is_same_v<U, T>) {
        return load<N>(elements, count, aligned);
      } else {  // float for double, in vectors half as long
        Values<A, N> result;
#pragma unroll
        for (int k = 0; k < N; ++k) result.at[k] = k < count ? elements[k] : A(0);
        return result;
      }
    }
  }
  return load<N>(static_cast<const A*>(from.data) + at, count, aligned);
}

// Of one element, or 0.
template <typename T>
__device__ __forceinline__ Accumulator<T> value_of(const Parameter<T>& parameter) {
  using A = Accumulator<T>;
  if (parameter.data == nullptr) return A(0);
  return parameter.narrow ? A(widen(*static_cast<const Narrow<T>*>(parameter.data)))
                          : *static_cast<const A*>(parameter.data);
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
template <int N, typename U>
__device__ __forceinline__ void store(U* to, Values<Accumulator<U>, N> values, int count, bool aligned) {
  if (aligned) {
    constexpr int kPerPiece = 16 / sizeof(U);
#pragma unroll
    for (int piece = 0; piece < N / kPerPiece; ++piece) {
      Packed<U> packed;
#pragma unroll
      for (int k = 0; k < kPerPiece; ++k) packed.at[k] = narrow<U>(values.at[piece * kPerPiece + k]);
      store_vector(to + piece * kPerPiece, packed.bits);
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (k < count) to[k] = narrow<U>(values.at[k]);
    }
  }
}

template <typename A, int N>
__device__ __forceinline__ void add_product(Values<A, N>& sum, A scale, Values<A, N> x) {
#pragma unroll
  for (int k = 0; k < N; ++k) sum.at[k] += scale * x.at[k];
}

}  // namespace fan::cuda
