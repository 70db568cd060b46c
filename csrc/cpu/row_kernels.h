// The loops over features that frame attention is made of. Each reads or writes every element of its rows once.
//
// T is the features' type (float, double, Half, BFloat16), A its accumulation type. `rows` points at the rows of the
// frames that take part, each `dim` elements. All pointers are unaligned. Compiled for several instruction sets, the
// best of which is chosen when the library is loaded.
#pragma once

#include <cstdint>

#include "simd.h"

namespace fan::cpu {

// Where rows may have to come from memory, frame_stride tells how many elements it is there from one to the next: those
// further on are asked for meanwhile.

// dots[k][i] = rows[i] . vectors[k], k < count <= 3
template <typename T>
void row_dots(const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride, const Accumulator<T>* const* vectors,
              int count, Accumulator<T>* const* dots);

// sums[k] += sum_i weights[k][i] * rows[i], k < count <= 2. frame_stride is 0 where the rows are in a cache.
template <typename T>
void weighted_sums(const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride,
                   const Accumulator<T>* const* weights, int count, Accumulator<T>* const* sums);

// Both at once: dots[k][i] = next[i] . vectors[k], k < 3, and sums[k] += sum_i weights[k][i] * rows[i], k < 2. While
// the one waits for memory, the other works on rows that are in a cache. Each has the bits that it has on its own.
// Returns how many of the n rows it has done: in both the first so many.
template <typename T>
int64_t dots_and_sums(const T* const* next, const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride,
                      const Accumulator<T>* const* vectors, Accumulator<T>* const* dots,
                      const Accumulator<T>* const* weights, Accumulator<T>* const* sums);

// Numbers of frames come and go in whole vectors: the arrays of the two functions below hold padded<A>(n) of them.
template <typename A>
constexpr int64_t padded(int64_t n) {
  return (n + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// The sigmoids' product, normalised: softmax(logsigmoid(s) + logsigmoid(z)), z null for softmax(logsigmoid(s)).
// s is minus infinity behind the n-th, z anything but NaN.
template <typename A>
void normalised_sigmoids(const A* s, const A* z, int64_t n, A* weights);

// to[i] = sigmoid(from[i]), or sigmoid(-from[i])
template <typename A>
void sigmoids(const A* from, int64_t n, bool negated, A* to);

// rows[i] = sum_k weights[k][i] * vectors[k], k < count, count 2 or 4
template <typename T>
void combine(T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights,
             const Accumulator<T>* const* vectors, int count);

// A row to the accumulation type, and back, rounding to nearest.
template <typename T>
void widen_row(const T* from, int64_t dim, Accumulator<T>* to);
template <typename T>
void round_row(const Accumulator<T>* from, int64_t dim, T* to);

}  // namespace fan::cpu
