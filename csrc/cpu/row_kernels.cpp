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

// Vectors of one row that are worked on together, and rows that are added to sums together.
constexpr int kBlock = 4;
// While a row is read, the next one is asked for into the first-level cache, this many further on into the second.
constexpr int64_t kAhead = 4;
constexpr int64_t kCacheLine = 64;

template <typename A>
FAN_INLINE A sum_lanes(const Vec<A>& value) {
  const HalfVec<A> two = lower_half<A>(value) + upper_half<A>(value);
  if constexpr (kLanes<A> == 4) {
    return two[0] + two[1];
  } else {
    return (two[0] + two[2]) + (two[1] + two[3]);
  }
}

// Asks for the cache line so many elements further on; nothing comes of it where there is no memory. Locality as
// __builtin_prefetch has it: 3 is the first-level cache, 2 the second.
template <int kLocality, typename T>
FAN_INLINE void prefetch(const T* from, int64_t ahead) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from) + ahead * sizeof(T)), 0,
                     kLocality);
}

// The same columns of the rows behind, of kBlock vectors.
template <typename T>
FAN_INLINE void fetch_next(const T* from, int64_t frame_stride) {
  constexpr int64_t line = kCacheLine / sizeof(T), block = kBlock * kLanes<Accumulator<T>>;
  for (int64_t d = 0; d < block; d += line) {
    prefetch<3>(from + d, frame_stride);
    prefetch<2>(from + d, kAhead * frame_stride);
  }
}

// The products of one row with some vectors. One row at a time: several side by side, each a stream from memory, go at
// half the pace on some processors. Each product is taken in several sums, so that additions need not wait for each
// other.
template <typename T, int kVectors>
struct Products {
  using A = Accumulator<T>;
  static constexpr int64_t step = kLanes<A>;
  static constexpr int kSums = kVectors == 3 ? 2 : 4;  // with what is loaded they fill 16 registers
  Vec<A> sums[kVectors][kSums] = {};

  template <int kWidth>
  FAN_INLINE void add(const T* row, const A* const (&vectors)[kVectors], int64_t d) {
    Vec<A> x, y;
    for (int w = 0; w < kWidth; ++w) {
      load(x, row + d + w * step);
      for (int k = 0; k < kVectors; ++k) {
        load(y, vectors[k] + d + w * step);
        sums[k][w % kSums] += x * y;
      }
    }
  }

  // Adds the columns from d on, which are no whole block, and writes the products.
  FAN_INLINE void finish(const T* row, const A* const (&vectors)[kVectors], int64_t d, int64_t dim,
                         A* const (&dots)[kVectors], int64_t at) {
    for (; d + step <= dim; d += step) add<1>(row, vectors, d);
    if (d < dim) {
      Vec<A> x, y;
      load_tail(x, row + d, dim - d);
      for (int k = 0; k < kVectors; ++k) {
        load_tail(y, vectors[k] + d, dim - d);
        sums[k][0] += x * y;
      }
    }
    for (int k = 0; k < kVectors; ++k) {
      for (int j = 1; j < kSums; ++j) sums[k][0] += sums[k][j];
      dots[k][at] = sum_lanes<A>(sums[k][0]);
    }
  }
};

template <typename T, int kVectors>
FAN_INLINE void all_dots(const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride,
                         const Accumulator<T>* const* vectors, Accumulator<T>* const* dots) {
  using A = Accumulator<T>;
  constexpr int64_t block = kBlock * kLanes<A>;
  const A* of[kVectors];
  A* to[kVectors];
  std::copy_n(vectors, kVectors, of);
  std::copy_n(dots, kVectors, to);
  for (int64_t i = 0; i < n; ++i) {
    Products<T, kVectors> products;
    int64_t d = 0;
    for (; d + block <= dim; d += block) {
      fetch_next(rows[i] + d, frame_stride);
      products.template add<kBlock>(rows[i], of, d);
    }
    products.finish(rows[i], of, d, dim, to, i);
  }
}

template <typename T, int kRows, int kSums, int kWidth>
FAN_INLINE void add_columns(const T* const* rows, const Vec<Accumulator<T>> (&weights)[kSums][kRows],
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

// The columns from d on of kRows rows. Asks for what lies `ahead` elements further on, unless that is 0.
template <typename T, int kRows, int kSums>
FAN_INLINE void add_rows(const T* const* rows, int64_t d, int64_t dim, int64_t ahead,
                         const Vec<Accumulator<T>> (&weights)[kSums][kRows], Accumulator<T>* const* sums) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  for (; d + 2 * step <= dim; d += 2 * step) {
    if (ahead != 0) {
      for (int i = 0; i < kRows; ++i) prefetch<2>(rows[i] + d, ahead);
    }
    add_columns<T, kRows, kSums, 2>(rows, weights, sums, d);
  }
  for (; d + step <= dim; d += step) add_columns<T, kRows, kSums, 1>(rows, weights, sums, d);
  if (d < dim) {
    Vec<A> x, totals[kSums];
    for (int k = 0; k < kSums; ++k) load_tail(totals[k], sums[k] + d, dim - d);
    for (int i = 0; i < kRows; ++i) {
      load_tail(x, rows[i] + d, dim - d);
      for (int k = 0; k < kSums; ++k) totals[k] += x * weights[k][i];
    }
    for (int k = 0; k < kSums; ++k) store_tail(sums[k] + d, totals[k], dim - d);
  }
}

// The weights of kRows rows from the i-th on, each in all lanes.
template <typename A, int kRows, int kSums>
FAN_INLINE void take(const A* const* weights, int64_t i, Vec<A> (&to)[kSums][kRows]) {
  for (int k = 0; k < kSums; ++k) {
    for (int row = 0; row < kRows; ++row) to[k][row] = Vec<A>{} + weights[k][i + row];
  }
}

template <typename T, int kRows, int kSums>
FAN_INLINE void add_block(const T* const* rows, int64_t i, int64_t dim, int64_t ahead,
                          const Accumulator<T>* const* weights, Accumulator<T>* const* sums) {
  Vec<Accumulator<T>> w[kSums][kRows];
  take<Accumulator<T>>(weights, i, w);
  add_rows<T, kRows, kSums>(rows + i, 0, dim, ahead, w, sums);
}

template <typename T, int kSums>
FAN_INLINE void all_sums(const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride,
                         const Accumulator<T>* const* weights, Accumulator<T>* const* sums) {
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    add_block<T, kBlock, kSums>(rows, i, dim, kBlock * frame_stride, weights, sums);
  }
  if (n - i == 3) add_block<T, 3, kSums>(rows, i, dim, 0, weights, sums);
  if (n - i == 2) add_block<T, 2, kSums>(rows, i, dim, 0, weights, sums);
  if (n - i == 1) add_block<T, 1, kSums>(rows, i, dim, 0, weights, sums);
}

// While one row comes from memory, kBlock rows are added in as many of the columns, so that after kBlock rows all
// columns have been.
template <typename T>
FAN_INLINE int64_t all_dots_and_sums(const T* const* next, const T* const* rows, int64_t n, int64_t dim,
                                     int64_t frame_stride, const Accumulator<T>* const* vectors,
                                     Accumulator<T>* const* dots, const Accumulator<T>* const* weights,
                                     Accumulator<T>* const* sums) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>, block = kBlock * step;
  // Copies, since a store to the sums might change what the arguments point to.
  const A* const of[] = {vectors[0], vectors[1], vectors[2]};
  A* const to[] = {dots[0], dots[1], dots[2]};
  A* const totals[] = {sums[0], sums[1]};
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    const T* here[kBlock];
    Vec<A> w[2][kBlock];
    std::copy_n(rows + i, kBlock, here);
    take<A>(weights, i, w);
    int64_t column = 0;
    for (int64_t k = i; k < i + kBlock; ++k) {
      const T* const row = next[k];
      Products<T, 3> products;
      int64_t d = 0;
      for (; d + block <= dim; d += block, column += step) {
        fetch_next(row + d, frame_stride);
        products.template add<kBlock>(row, of, d);
        add_columns<T, kBlock, 2, 1>(here, w, totals, column);
      }
      products.finish(row, of, d, dim, to, k);
    }
    add_rows<T, kBlock, 2>(here, column, dim, 0, w, totals);
  }
  return i;
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

template <typename T, int kTerms>
FAN_INLINE void combine_all(T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights,
                            const Accumulator<T>* const* vectors) {
  using A = Accumulator<T>;
  constexpr int64_t step = kLanes<A>;
  const A* of[kTerms];
  std::copy_n(vectors, kTerms, of);
  for (int64_t i = 0; i < n; ++i) {
    T* const row = rows[i];
    Vec<A> w[kTerms][1], x, value;
    take<A>(weights, i, w);
    int64_t d = 0;
    for (; d + step <= dim; d += step) {
      value = Vec<A>{};
      for (int k = 0; k < kTerms; ++k) {
        load(x, of[k] + d);
        value += x * w[k][0];
      }
      store(row + d, value);
    }
    if (d < dim) {
      value = Vec<A>{};
      for (int k = 0; k < kTerms; ++k) {
        load_tail(x, of[k] + d, dim - d);
        value += x * w[k][0];
      }
      store_tail(row + d, value, dim - d);
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
#define FAN_DEFINE_ROW_KERNELS(T)                                                                                  \
  template <>                                                                                                      \
  FAN_CLONES void row_dots<T>(const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride,                  \
                              const Accumulator<T>* const* vectors, int count, Accumulator<T>* const* dots) {      \
    if (count == 1) all_dots<T, 1>(rows, n, dim, frame_stride, vectors, dots);                                     \
    if (count == 2) all_dots<T, 2>(rows, n, dim, frame_stride, vectors, dots);                                     \
    if (count == 3) all_dots<T, 3>(rows, n, dim, frame_stride, vectors, dots);                                     \
  }                                                                                                                \
  template <>                                                                                                      \
  FAN_CLONES void weighted_sums<T>(const T* const* rows, int64_t n, int64_t dim, int64_t frame_stride,             \
                                   const Accumulator<T>* const* weights, int count, Accumulator<T>* const* sums) { \
    if (count == 1) all_sums<T, 1>(rows, n, dim, frame_stride, weights, sums);                                     \
    if (count == 2) all_sums<T, 2>(rows, n, dim, frame_stride, weights, sums);                                     \
  }                                                                                                                \
  template <>                                                                                                      \
  FAN_CLONES int64_t dots_and_sums<T>(const T* const* next, const T* const* rows, int64_t n, int64_t dim,          \
                                      int64_t frame_stride, const Accumulator<T>* const* vectors,                  \
                                      Accumulator<T>* const* dots, const Accumulator<T>* const* weights,           \
                                      Accumulator<T>* const* sums) {                                               \
    return all_dots_and_sums<T>(next, rows, n, dim, frame_stride, vectors, dots, weights, sums);                   \
  }                                                                                                                \
  template <>                                                                                                      \
  FAN_CLONES void combine<T>(T* const* rows, int64_t n, int64_t dim, const Accumulator<T>* const* weights,         \
                             const Accumulator<T>* const* vectors, int count) {                                    \
    if (count == 2) combine_all<T, 2>(rows, n, dim, weights, vectors);                                             \
    if (count == 4) combine_all<T, 4>(rows, n, dim, weights, vectors);                                             \
  }                                                                                                                \
  template <>                                                                                                      \
  FAN_CLONES void widen_row<T>(const T* from, int64_t dim, Accumulator<T>* to) {                                   \
    convert(from, dim, to);                                                                                        \
  }                                                                                                                \
  template <>                                                                                                      \
  FAN_CLONES void round_row<T>(const Accumulator<T>* from, int64_t dim, T* to) {                                   \
    convert(from, dim, to);                                                                                        \
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
