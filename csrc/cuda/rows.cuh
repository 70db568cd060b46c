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
  int pitch;       // between rows in shared memory: dim, and zeros up to a multiple of 16 bytes
  int copy_bytes;  // see Layout
  T* shared;       // copies of the first in_shared rows
  int64_t in_shared;

  // capacity: the rows that fit in shared memory. A clip longer than announced keeps whole steps there.
  Rows() = default;
  __device__ __forceinline__ Rows(const Clips<T>& clips, const Clip<T>& part, unsigned char* team_memory,
                                  const Layout& layout, int64_t capacity)
      : clip(part),
        stride(clips.frame_stride),
        dim(clips.dim),
        pitch(round_up(clips.dim, kWidth<T>)),
        copy_bytes(layout.copy_bytes),
        shared(reinterpret_cast<T*>(team_memory + layout.rows_at)),
        in_shared(clip.length <= capacity ? clip.length : capacity / kRowsPerStep * kRowsPerStep) {}

  template <bool kShared>
  __device__ __forceinline__ const T* row(int64_t i) const {
    return kShared ? shared + i * pitch : clip.features + i * stride;
  }
};

// The part of clip b that this block of a team has to do with.
template <typename T, typename Team>
__device__ __forceinline__ Clip<T> clip_of_team(const Clips<T>& clips, int64_t b, const Team& team) {
  const Clip<T> clip = find_clip(clips, b);
  return part_of(clip, clips.frame_stride, team.block, rows_of_part(clip.length, team.blocks));
}

template <int kBytes>
__device__ __forceinline__ void copy_pieces(void* to, const void* from, int bytes, int lane) {
#pragma unroll 2
  for (int at = lane * kBytes; at + kBytes <= bytes; at += kWarpSize * kBytes) {
    copy_async<kBytes>(static_cast<unsigned char*>(to) + at, static_cast<const unsigned char*>(from) + at);
  }
}

// Starts copying the rows of a step that have a place in shared memory, in pieces as wide as their starts allow; what
// these leave of a row, and rows of odd numbers of half-precision features, element by element.
template <typename T>
__device__ __forceinline__ void copy_step(const Rows<T>& rows, int64_t first, int lane) {
  const int bytes = rows.dim * static_cast<int>(sizeof(T));
  const int width = rows.copy_bytes;
  // All at once: a copy would wait for the mask of its row.
  unsigned wanted = 0;
#pragma unroll
  for (int j = 0; j < kRowsPerStep; ++j) {
    if (first + j < rows.in_shared && rows.clip.present(first + j)) wanted |= 1u << j;
  }
#pragma unroll 1
  for (int j = 0; j < kRowsPerStep; ++j) {
    if ((wanted >> j & 1u) == 0) continue;
    T* const to = rows.shared + (first + j) * rows.pitch;
    const T* const from = rows.clip.features + (first + j) * rows.stride;
    if (width == 16) {
      copy_pieces<16>(to, from, bytes, lane);
    } else if (width == 8) {
      copy_pieces<8>(to, from, bytes, lane);
    } else if (sizeof(T) < 8 && width == 4) {
      copy_pieces<4>(to, from, bytes, lane);
    }
    const int copied = width < 4 ? 0 : bytes / width * width / static_cast<int>(sizeof(T));
#pragma unroll 4
    for (int d = copied + lane; d < rows.pitch; d += kWarpSize) to[d] = d < rows.dim ? from[d] : T{};
  }
}

// x[j] = the columns from d on of row first + j * step, or zeros where not wanted(j).
template <bool kShared, int kBatch, typename T, typename Wanted>
__device__ __forceinline__ void load_rows(Packed<T> (&x)[kBatch], const Rows<T>& rows, int64_t first, int step, int d,
                                          const Wanted& wanted) {
  const int count = rows.dim - d;
  const bool whole = kShared || (rows.copy_bytes == 16 && count >= kWidth<T>);
#pragma unroll
  for (int j = 0; j < kBatch; ++j) {
    x[j].bits = uint4{0, 0, 0, 0};
    const T* const from = rows.template row<kShared>(first + j * step) + d;
    if (whole && wanted(j)) x[j].bits = *reinterpret_cast<const uint4*>(from);
  }
  if constexpr (!kShared) {
    if (whole) return;
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const T* const from = rows.template row<false>(first + j * step) + d;
#pragma unroll
      for (int e = 0; e < kWidth<T>; ++e) {
        if (e < count && wanted(j)) x[j].at[e] = from[e];
      }
    }
  }
}

// write(i, dots) with dots[k] = row i . vector k for the first `used` of K vectors, for each present row of a step.
// vector(k, d) is what vector k has from column d on.
template <bool kShared, int K, typename T, typename Vector, typename Write>
__device__ __forceinline__ void dot_step(const Rows<T>& rows, int64_t first, int lane, int used, const Vector& vector,
                                         const Write& write) {
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
    Packed<T> packed[kRowsPerStep];
    load_rows<kShared>(packed, rows, first, 1, d, [&](int j) { return present[j]; });
    Values<A, W> x[kRowsPerStep];
#pragma unroll
    for (int j = 0; j < kRowsPerStep; ++j) x[j] = widen(packed[j]);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (k >= used) break;
      const Values<A, W> q = vector(k, d);
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
template <int K, typename T, typename Team, typename Vector, typename Write>
__device__ __forceinline__ void dot_rows(const Rows<T>& rows, const Team& team, int used, const Vector& vector,
                                         const Write& write) {
  const int64_t stride = team.warps * kRowsPerStep;
  int64_t first = team.warp * kRowsPerStep;
  for (int ahead = 0; ahead < kStepsAhead; ++ahead) {
    copy_step(rows, first + ahead * stride, team.lane);
    commit_copies();
  }
  for (; first < rows.in_shared; first += stride) {
    copy_step(rows, first + kStepsAhead * stride, team.lane);
    commit_copies();
    wait_copies<kStepsAhead>();
    __syncwarp();  // a lane reads what others have copied
    dot_step<true, K>(rows, first, team.lane, used, vector, write);
  }
  for (; first < rows.clip.length; first += stride) {
    dot_step<false, K>(rows, first, team.lane, used, vector, write);
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
template <bool kShared, int kBatch, typename T, typename Wanted, typename Body>
__device__ __forceinline__ void for_each_row_of(const Rows<T>& rows, int64_t begin, int64_t end, const Columns& columns,
                                                int d, const Wanted& wanted, const Body& body) {
  for (int64_t i = begin + columns.group; i < end; i += kBatch * columns.groups) {
    Packed<T> x[kBatch];
    load_rows<kShared>(x, rows, i, columns.groups, d, [&](int j) {
      const int64_t row = i + j * columns.groups;
      return row < end && wanted(row);
    });
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int64_t row = i + j * columns.groups;
      if (row < end) body(row, widen(x[j]));
    }
  }
}

template <int kSharedBatch, int kBatch, typename T, typename Wanted, typename Body>
__device__ __forceinline__ void for_each_row(const Rows<T>& rows, int64_t begin, int64_t end, const Columns& columns,
                                             int d, const Wanted& wanted, const Body& body) {
  const int64_t split = clamp(rows.in_shared, begin, end);
  if constexpr (kSharedBatch > 0) for_each_row_of<true, kSharedBatch>(rows, begin, split, columns, d, wanted, body);
  for_each_row_of<false, kBatch>(rows, split, end, columns, d, wanted, body);
}

}  // namespace fan::cuda
