// Dot products of a clip's rows, by warps; and the split of a row's columns among a team's threads.
#pragma once

#include "team.cuh"

namespace fan::cuda {

// Steps of rows that a warp has under way to shared memory while it computes another.
constexpr int kStepsAhead = 3;

// Blocks that must fit on a multiprocessor together, by their registers: two with 128 a thread; one, with all it needs,
// in double, and where shared memory is used up anyway.
template <typename T, Scope kScope>
inline constexpr int kMinBlocks = sizeof(T) == 8 || kScope == Scope::kCluster ? 1 : 2;

// The rows of a clip, or of this block's part of it.
template <typename T>
struct Rows {
  Clip<T> clip;
  int64_t stride;  // between rows in global memory
  int dim;
  T* shared;  // copies of the first in_shared rows, without gaps
  int64_t in_shared;

  // capacity: the rows that fit in shared memory. A clip longer than announced keeps whole steps there.
  Rows() = default;
  template <typename Team>
  __device__ __forceinline__ Rows(const Clips<T>& clips, int64_t b, const Team& team, int64_t capacity)
      : clip(part_of(find_clip(clips, b), clips.frame_stride, team.block, team.blocks)),
        stride(clips.frame_stride),
        dim(clips.dim),
        shared(reinterpret_cast<T*>(team.memory())),
        in_shared(clip.length <= capacity ? clip.length : capacity / kRowsPerStep * kRowsPerStep) {}

  template <bool kShared>
  __device__ __forceinline__ const T* row(int64_t i) const {
    return kShared ? shared + i * dim : clip.features + i * stride;
  }
};

// Starts copying the rows of a step that have a place in shared memory. A lane copies just what it reads in dot_step.
template <typename T>
__device__ __forceinline__ void copy_step(const Rows<T>& rows, int64_t first, int lane) {
  for (int64_t i = first; i < first + kRowsPerStep && i < rows.in_shared; ++i) {
    if (!rows.clip.present(i)) continue;
#pragma unroll 2
    for (int d = lane * kWidth<T>; d < rows.dim; d += kWarpSize * kWidth<T>) {
      copy_async(rows.shared + i * rows.dim + d, rows.clip.features + i * rows.stride + d);
    }
  }
}

// write(i, dots) with dots[k] = row i . vectors[k] for the first `used` vectors, for each present row of a step.
template <bool kVector, bool kShared, typename T, typename U, int K, typename Write>
__device__ __forceinline__ void dot_step(const Rows<T>& rows, int64_t first, int lane, const U* const (&vectors)[K],
                                         int used, const Write& write) {
  using A = Accumulator<T>;
  constexpr int W = kWidth<T>;
  bool present[kRowsPerStep];
  A dots[kRowsPerStep][K];
#pragma unroll
  for (int j = 0; j < kRowsPerStep; ++j) {
    present[j] = first + j < rows.clip.length && rows.clip.present(first + j);
#pragma unroll
    for (int k = 0; k < K; ++k) dots[j][k] = A(0);
  }
  for (int d = lane * W; d < rows.dim; d += kWarpSize * W) {
    const int count = rows.dim - d;
    Values<A, W> x[kRowsPerStep];
#pragma unroll
    for (int j = 0; j < kRowsPerStep; ++j) {
      x[j] = present[j] ? load<kVector, W>(rows.template row<kShared>(first + j) + d, count) : zeros<A, W>();
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (k >= used) break;
      const Values<A, W> q = load<kVector, W>(vectors[k] + d, count);
#pragma unroll
      for (int j = 0; j < kRowsPerStep; ++j) {
#pragma unroll
        for (int e = 0; e < W; ++e) dots[j][k] += q.at[e] * x[j].at[e];
      }
    }
  }
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (int j = 0; j < kRowsPerStep; ++j) {
#pragma unroll
      for (int k = 0; k < K; ++k) dots[j][k] += __shfl_xor_sync(0xffffffffu, dots[j][k], distance);
    }
  }
#pragma unroll
  for (int j = 0; j < kRowsPerStep; ++j) {
    if (lane == j && present[j]) write(first + j, dots[j]);
  }
}

// The same for all rows of the clip, shared among the team's warps. Rows with a place in shared memory are left there.
template <bool kVector, typename T, typename Team, typename U, int K, typename Write>
__device__ __forceinline__ void dot_rows(const Rows<T>& rows, const Team& team, const U* const (&vectors)[K], int used,
                                         const Write& write) {
  const int64_t stride = team.warps * kRowsPerStep;
  int64_t first = team.warp * kRowsPerStep;
  if constexpr (kVector) {
    for (int ahead = 0; ahead < kStepsAhead; ++ahead) {
      copy_step(rows, first + ahead * stride, team.lane);
      commit_copies();
    }
    for (; first < rows.in_shared; first += stride) {
      copy_step(rows, first + kStepsAhead * stride, team.lane);
      commit_copies();
      wait_copies<kStepsAhead>();
      dot_step<kVector, true>(rows, first, team.lane, vectors, used, write);
    }
  }
  for (; first < rows.clip.length; first += stride) {
    dot_step<kVector, false>(rows, first, team.lane, vectors, used, write);
  }
}

// A thread takes kWidth adjacent columns. Where a team has more threads than a row has such pieces, groups of threads
// take the rows in turn; where it has fewer, its threads take several pieces one after the other.
struct Columns {
  int pieces;  // of a row
  int step;    // pieces taken at a time
  int groups;  // row groups
  int first;   // piece of this thread
  int group;   // of this thread; not below groups: the thread has no part in it

  __device__ __forceinline__ Columns(int dim, int width, int rank, int size) {
    pieces = (dim + width - 1) / width;
    step = pieces < size ? pieces : size;
    groups = size / step;
    first = rank % step;
    group = rank / step;
  }
};

// body(i, values) for the rows begin, begin + groups, ... below end, from begin + group on; wanted(i) false: zeros,
// nothing is read. kBatch rows are loaded at a time.
template <bool kVector, bool kShared, int kBatch, typename T, typename Wanted, typename Body>
__device__ __forceinline__ void for_each_row(const Rows<T>& rows, int64_t begin, int64_t end, const Columns& columns,
                                             int d, const Wanted& wanted, const Body& body) {
  constexpr int W = kWidth<T>;
  for (int64_t i = begin + columns.group; i < end; i += kBatch * columns.groups) {
    Values<Accumulator<T>, W> x[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int64_t row = i + j * columns.groups;
      x[j] = row < end && wanted(row) ? load<kVector, W>(rows.template row<kShared>(row) + d, rows.dim - d)
                                      : zeros<Accumulator<T>, W>();
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int64_t row = i + j * columns.groups;
      if (row < end) body(row, x[j]);
    }
  }
}

template <bool kVector, int kBatch, typename T, typename Wanted, typename Body>
__device__ __forceinline__ void for_each_row(const Rows<T>& rows, int64_t begin, int64_t end, const Columns& columns,
                                             int d, const Wanted& wanted, const Body& body) {
  if constexpr (kVector) {
    const int64_t split = clamp(rows.in_shared, begin, end);
    for_each_row<kVector, true, kBatch>(rows, begin, split, columns, d, wanted, body);
    begin = split;
  }
  for_each_row<kVector, false, kBatch>(rows, begin, end, columns, d, wanted, body);
}

}  // namespace fan::cuda
