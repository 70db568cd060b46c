#include "row_kernels.h"

#include <algorithm>
#include <limits>

// One copy of each kernel per x86-64 level, chosen at load time; empty where the compiler cannot (CMakeLists.txt asks
// it).
#ifdef FAN_HAVE_TARGET_CLONES
#define FAN_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FAN_CLONES
#endif

namespace fan::cpu {
namespace {

// Rows worked on together, so that their accumulators hide the latency of the additions: 4 x 3 of 16 registers.
constexpr int kRowBlock = 4;
// Rows added to the sums at a time, which then are read and written that much less often.
constexpr int kSumBlock = 8;

template <typename A>
FAN_INLINE A sum_lanes(const Vec<A>& value) {
  if constexpr (kLanes<A> == 4) {
    return (value[0] + value[2]) + (value[1] + value[3]);
  } else {
    return ((value[0] + value[4]) + (value[2] + value[6])) + ((value[1] + value[5]) + (value[3] + value[7]));
  }
}

template <typename T, int kRows, int kVectors>
FAN_INLINE void dot_block(const T* const* rows, int64_t dim, const Accumulator<T>* const* vectors,
                          Accumulator<T>* const* dots, int64_t at) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  Vec<A> sums[kRows][kVectors] = {};
  Vec<A> x, w[kVectors];
  int64_t d = 0;
  for (; d + step <= dim; d += step) {
    for (int k = 0; k < kVectors; ++k) load(w[k], vectors[k] + d);
    for (int i = 0; i < kRows; ++i) {
      load(x, rows[i] + d);
      for (int k = 0; k < kVectors; ++k) sums[i][k] += x * w[k];
    }
  }
  if (d < dim) {
    for (int k = 0; k < kVectors; ++k) load_tail(w[k], vectors[k] + d, dim - d);
    for (int i = 0; i < kRows; ++i) {
      load_tail(x, rows[i] + d, dim - d);
      for (int k = 0; k < kVectors; ++k) sums[i][k] += x * w[k];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int k = 0; k < kVectors; ++k) dots[k][at + i] = sum_lanes<A>(sums[i][k]);
  }
}

template <typename T, int kVectors>
FAN_INLINE void all_dots(const T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* vectors,
                         Accumulator<T>* const* dots) {
  int64_t i = 0;
  for (; i + kRowBlock <= n; i += kRowBlock) dot_block<T, kRowBlock, kVectors>(rows + i, dim, vectors, dots, i);
  for (; i < n; ++i) dot_block<T, 1, kVectors>(rows + i, dim, vectors, dots, i);
}

template <typename T, int kRows, int kSums, int kWidth>
FAN_INLINE void add_columns(const T* const* rows, const Accumulator<T> (&weights)[kSums][kRows],
                            Accumulator<T>* const* sums, int64_t d) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  Vec<A> x, totals[kSums][kWidth];
  for (int k = 0; k < kSums; ++k) {
    for (int w = 0; w < kWidth; ++w) load(totals[k][w], sums[k] + d + w * step);
  }
  for (int i = 0; i < kRows; ++i) {
    for (int w = 0; w < kWidth; ++w) {
      load(x, rows[i] + d + w * step);
      for (int k = 0; k < kSums; ++k) totals[k][w] += x * weights[k][i];
    }
  }
  for (int k = 0; k < kSums; ++k) {
    for (int w = 0; w < kWidth; ++w) store(sums[k] + d + w * step, totals[k][w]);
  }
}

template <typename T, int kRows, int kSums>
FAN_INLINE void add_block(const T* const* rows, int64_t dim, const Accumulator<T>* const* weights,
                          Accumulator<T>* const* sums, int64_t at) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>, line = 64 / sizeof(T);
  A w[kSums][kRows];
  for (int k = 0; k < kSums; ++k) {
    for (int i = 0; i < kRows; ++i) w[k][i] = weights[k][at + i];
  }
  int64_t d = 0;
  for (; d + line <= dim; d += line) add_columns<T, kRows, kSums, line / step>(rows, w, sums, d);
  for (; d + step <= dim; d += step) add_columns<T, kRows, kSums, 1>(rows, w, sums, d);
  if (d < dim) {
    Vec<A> x, totals[kSums];
    for (int k = 0; k < kSums; ++k) load_tail(totals[k], sums[k] + d, dim - d);
    for (int i = 0; i < kRows; ++i) {
      load_tail(x, rows[i] + d, dim - d);
      for (int k = 0; k < kSums; ++k) totals[k] += x * w[k][i];
    }
    for (int k = 0; k < kSums; ++k) store_tail(sums[k] + d, totals[k], dim - d);
  }
}

template <typename T, int kSums>
FAN_INLINE void all_sums(const T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights,
                         Accumulator<T>* const* sums) {
  int64_t i = 0;
  for (; i + kSumBlock <= n; i += kSumBlock) add_block<T, kSumBlock, kSums>(rows + i, dim, weights, sums, i);
  for (; i + 2 <= n; i += 2) add_block<T, 2, kSums>(rows + i, dim, weights, sums, i);
  if (i < n) add_block<T, 1, kSums>(rows + i, dim, weights, sums, i);
}

template <typename T, int kRows>
FAN_INLINE void dot_and_add_block(const T* const* next, const T* const* rows, int64_t dim,
                                  const Accumulator<T>* const* vectors, Accumulator<T>* const* dots,
                                  const Accumulator<T>* const* weights, Accumulator<T>* const* sums, int64_t at) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  // Copies, since a store to the sums might change what the arguments point to.
  const T *ahead[kRows], *here[kRows];
  A share[2][kRows];
  for (int i = 0; i < kRows; ++i) {
    ahead[i] = next[i];
    here[i] = rows[i];
    for (int k = 0; k < 2; ++k) share[k][i] = weights[k][at + i];
  }
  const A *const v0 = vectors[0], *const v1 = vectors[1], *const v2 = vectors[2];
  A *const sum0 = sums[0], *const sum1 = sums[1];
  Vec<A> products[kRows][3] = {};
  Vec<A> x, w[3], totals[2];
  int64_t d = 0;
  for (; d + step <= dim; d += step) {
    load(w[0], v0 + d);
    load(w[1], v1 + d);
    load(w[2], v2 + d);
    for (int i = 0; i < kRows; ++i) {
      load(x, ahead[i] + d);
      for (int k = 0; k < 3; ++k) products[i][k] += x * w[k];
    }
    load(totals[0], sum0 + d);
    load(totals[1], sum1 + d);
    for (int i = 0; i < kRows; ++i) {
      load(x, here[i] + d);
      for (int k = 0; k < 2; ++k) totals[k] += x * share[k][i];
    }
    store(sum0 + d, totals[0]);
    store(sum1 + d, totals[1]);
  }
  if (d < dim) {
    load_tail(w[0], v0 + d, dim - d);
    load_tail(w[1], v1 + d, dim - d);
    load_tail(w[2], v2 + d, dim - d);
    for (int i = 0; i < kRows; ++i) {
      load_tail(x, ahead[i] + d, dim - d);
      for (int k = 0; k < 3; ++k) products[i][k] += x * w[k];
    }
    load_tail(totals[0], sum0 + d, dim - d);
    load_tail(totals[1], sum1 + d, dim - d);
    for (int i = 0; i < kRows; ++i) {
      load_tail(x, here[i] + d, dim - d);
      for (int k = 0; k < 2; ++k) totals[k] += x * share[k][i];
    }
    store_tail(sum0 + d, totals[0], dim - d);
    store_tail(sum1 + d, totals[1], dim - d);
  }
  for (int i = 0; i < kRows; ++i) {
    for (int k = 0; k < 3; ++k) dots[k][at + i] = sum_lanes<A>(products[i][k]);
  }
}

template <typename T>
FAN_INLINE void all_dots_and_sums(const T* const* next, const T* const* rows, int64_t n, int64_t dim,
                                  const Accumulator<T>* const* vectors, Accumulator<T>* const* dots,
                                  const Accumulator<T>* const* weights, Accumulator<T>* const* sums) {
  int64_t i = 0;
  for (; i + kRowBlock <= n; i += kRowBlock) {
    dot_and_add_block<T, kRowBlock>(next + i, rows + i, dim, vectors, dots, weights, sums, i);
  }
  for (; i < n; ++i) dot_and_add_block<T, 1>(next + i, rows + i, dim, vectors, dots, weights, sums, i);
}

template <typename A>
FAN_INLINE Vec<A> negative_part(const Vec<A>& x) {
  return x > 0 ? Vec<A>{} : x;  // NaN stays
}

// sigmoid(x) = exp(min(x, 0)) / (1 + exp(-|x|)); the largest exponent is taken out first, so that no sum underflows.
template <typename A>
FAN_INLINE void normalise(const A* s, const A* z, int64_t n, A* weights) {
  constexpr int64_t step = kLanes<A>, flush = 32 * step;
  Vec<A> x, y = {}, largest_of_lane = Vec<A>{} - std::numeric_limits<A>::infinity();
  for (int64_t i = 0; i < n; i += step) {
    load(x, s + i);
    if (z != nullptr) load(y, z + i);
    const Vec<A> exponent = negative_part<A>(x) + negative_part<A>(y);
    largest_of_lane = exponent > largest_of_lane ? exponent : largest_of_lane;  // never NaN
  }
  A largest = largest_of_lane[0];
  for (int64_t lane = 1; lane < step; ++lane) largest = std::max(largest, largest_of_lane[lane]);
  // The total in double, like that of thousands of frames wants it, but a few vectors at a time before.
  double total = 0;
  Vec<A> some = {};
  for (int64_t i = 0; i < n; i += step) {
    load(x, s + i);
    Vec<A> exponent = negative_part<A>(x);
    Vec<A> denominator = 1 + exp_of_nonpositive(x > 0 ? -x : x);
    if (z != nullptr) {
      load(y, z + i);
      exponent += negative_part<A>(y);
      denominator *= 1 + exp_of_nonpositive(y > 0 ? -y : y);
    }
    const Vec<A> value = exp_of_nonpositive(exponent - largest) / denominator;
    store(weights + i, value);
    some += value;
    if (i % flush == flush - step || i + step >= n) {
      total += sum_lanes<A>(some);
      some = Vec<A>{};
    }
  }
  for (int64_t i = 0; i < n; i += step) {
    load(x, weights + i);
    store(weights + i, x / static_cast<A>(total));
  }
}

template <typename A>
FAN_INLINE void all_sigmoids(const A* from, int64_t n, bool negated, A* to) {
  Vec<A> x;
  for (int64_t i = 0; i < n; i += kLanes<A>) {
    load(x, from + i);
    if (negated) x = -x;
    const Vec<A> e = exp_of_nonpositive(x > 0 ? -x : x);
    store(to + i, (x > 0 ? Vec<A>{} + 1 : e) / (1 + e));
  }
}

template <typename T, int kTerms, int kWidth>
FAN_INLINE void combine_columns(T* const* rows, int64_t n, int64_t d, const Accumulator<T>* const* weights,
                                const Accumulator<T>* const* vectors) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  Vec<A> terms[kTerms][kWidth];
  for (int k = 0; k < kTerms; ++k) {
    for (int w = 0; w < kWidth; ++w) load(terms[k][w], vectors[k] + d + w * step);
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int w = 0; w < kWidth; ++w) {
      Vec<A> value = terms[0][w] * weights[0][i];
      for (int k = 1; k < kTerms; ++k) value += terms[k][w] * weights[k][i];
      store(rows[i] + d + w * step, value);
    }
  }
}

template <typename T, int kTerms>
FAN_INLINE void combine_all(T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights,
                            const Accumulator<T>* const* vectors) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  int64_t d = 0;
  for (; d + 2 * step <= dim; d += 2 * step) combine_columns<T, kTerms, 2>(rows, n, d, weights, vectors);
  for (; d + step <= dim; d += step) combine_columns<T, kTerms, 1>(rows, n, d, weights, vectors);
  if (d < dim) {
    Vec<A> terms[kTerms];
    for (int k = 0; k < kTerms; ++k) load_tail(terms[k], vectors[k] + d, dim - d);
    for (int64_t i = 0; i < n; ++i) {
      Vec<A> value = terms[0] * weights[0][i];
      for (int k = 1; k < kTerms; ++k) value += terms[k] * weights[k][i];
      store_tail(rows[i] + d, value, dim - d);
    }
  }
}

template <typename From, typename To>
FAN_INLINE void convert(const From* from, int64_t dim, To* to) {
  using A = Accumulator<From>;
  Vec<A> x;
  int64_t d = 0;
  for (; d + kLanes<A> <= dim; d += kLanes<A>) {
    load(x, from + d);
    store(to + d, x);
  }
  if (d < dim) {
    load_tail(x, from + d, dim - d);
    store_tail(to + d, x, dim - d);
  }
}

}  // namespace

// Clones are made of plain functions only, hence one specialisation per type; the templates above are inlined into
// each.
#define FAN_DEFINE_ROW_KERNELS(T)                                                                                      \
  template <>                                                                                                          \
  FAN_CLONES void row_dots<T>(const T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* vectors,      \
                              int count, Accumulator<T>* const* dots) {                                                \
    if (count == 1) all_dots<T, 1>(rows, n, dim, vectors, dots);                                                       \
    if (count == 2) all_dots<T, 2>(rows, n, dim, vectors, dots);                                                       \
    if (count == 3) all_dots<T, 3>(rows, n, dim, vectors, dots);                                                       \
  }                                                                                                                    \
  template <>                                                                                                          \
  FAN_CLONES void weighted_sums<T>(const T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights, \
                                   int count, Accumulator<T>* const* sums) {                                           \
    if (count == 1) all_sums<T, 1>(rows, n, dim, weights, sums);                                                       \
    if (count == 2) all_sums<T, 2>(rows, n, dim, weights, sums);                                                       \
  }                                                                                                                    \
  template <>                                                                                                          \
  FAN_CLONES void dots_and_sums<T>(const T* const* next, const T* const* rows, int64_t n, int64_t dim,                 \
                                   const Accumulator<T>* const* vectors, Accumulator<T>* const* dots,                  \
                                   const Accumulator<T>* const* weights, Accumulator<T>* const* sums) {                \
    all_dots_and_sums<T>(next, rows, n, dim, vectors, dots, weights, sums);                                            \
  }                                                                                                                    \
  template <>                                                                                                          \
  FAN_CLONES void combine<T>(T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights,             \
                             const Accumulator<T>* const* vectors, int count) {                                        \
    if (count == 2) combine_all<T, 2>(rows, n, dim, weights, vectors);                                                 \
    if (count == 4) combine_all<T, 4>(rows, n, dim, weights, vectors);                                                 \
  }                                                                                                                    \
  template <>                                                                                                          \
  FAN_CLONES void widen_row<T>(const T* from, int64_t dim, Accumulator<T>* to) {                                       \
    convert(from, dim, to);                                                                                            \
  }                                                                                                                    \
  template <>                                                                                                          \
  FAN_CLONES void round_row<T>(const Accumulator<T>* from, int64_t dim, T* to) {                                       \
    convert(from, dim, to);                                                                                            \
  }

#define FAN_DEFINE_FRAME_KERNELS(A)                                                       \
  template <>                                                                             \
  FAN_CLONES void normalised_sigmoids<A>(const A* s, const A* z, int64_t n, A* weights) { \
    normalise<A>(s, z, n, weights);                                                       \
  }                                                                                       \
  template <>                                                                             \
  FAN_CLONES void sigmoids<A>(const A* from, int64_t n, bool negated, A* to) {            \
    all_sigmoids<A>(from, n, negated, to);                                                \
  }

FAN_DEFINE_FRAME_KERNELS(float)
FAN_DEFINE_FRAME_KERNELS(double)
FAN_DEFINE_ROW_KERNELS(float)
FAN_DEFINE_ROW_KERNELS(double)
FAN_DEFINE_ROW_KERNELS(Half)
FAN_DEFINE_ROW_KERNELS(BFloat16)

}  // namespace fan::cpu
