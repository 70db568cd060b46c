// The rows of features that a block has in its shared memory: how they come there, and their dot products.
#pragma once

#include "team.cuh"
#include "vectors.cuh"

namespace fan::cuda {

// Steps of rows that a warp has under way to shared memory while it computes another.
constexpr int kStepsAhead = 3;

// Some columns of some frames' features. A row has whole pieces in shared memory, zeros behind its end; an absent
// frame's has zeros only.
template <typename T>
struct Rows {
  Clip<T> frames;
  int64_t stride;  // between rows in global memory
  int first_column, columns, pieces;
  int lanes, copy_bytes;  // see Layout
  T* shared;

  __device__ __forceinline__ Rows(const Clips<T>& clips, const Clip<T>& frames, const Layout& layout,
                                  int first_column = 0)
      : frames(frames),
        stride(clips.frame_stride),
        first_column(first_column),
        columns(static_cast<int>(clamp(clips.dim - first_column, 0, layout.columns))),
        pieces((columns + kWidth<T> - 1) / kWidth<T>),
        lanes(layout.lanes),
        copy_bytes(layout.copy_bytes),
        shared(area<T>(layout, kRows)) {}

  __device__ __forceinline__ uint4& piece(int row, int number) const {
    return reinterpret_cast<uint4*>(shared)[row * pieces + number];
  }
};

template <int kBytes>
__device__ __forceinline__ int copy_pieces(void* to, const void* from, int bytes, int lane, int lanes) {
  for (int at = lane * kBytes; at + kBytes <= bytes; at += lanes * kBytes) {
    copy_async<kBytes>(static_cast<unsigned char*>(to) + at, static_cast<const unsigned char*>(from) + at);
  }
  return bytes / kBytes * kBytes;
}

// Starts copying a row, in pieces as wide as its start allows; what these leave of it goes element by element.
template <typename T>
__device__ __forceinline__ void copy_row(const Rows<T>& rows, int row, int lane) {
  T* const to = rows.shared + row * rows.pieces * kWidth<T>;
  const T* const from = rows.frames.features + row * rows.stride + rows.first_column;
  const int bytes = rows.columns * static_cast<int>(sizeof(T));
  int copied = 0;
  if (rows.copy_bytes == 16) {
    copied = copy_pieces<16>(to, from, bytes, lane, rows.lanes);
  } else if (rows.copy_bytes == 8) {
    copied = copy_pieces<8>(to, from, bytes, lane, rows.lanes);
  } else if (sizeof(T) < 8 && rows.copy_bytes == 4) {
    copied = copy_pieces<4>(to, from, bytes, lane, rows.lanes);
  }
  for (int d = copied / sizeof(T) + lane; d < rows.pieces * kWidth<T>; d += rows.lanes) {
    to[d] = d < rows.columns ? from[d] : T{};
  }
}

// The same for the rows of a step that these lanes share, but for absent ones.
template <typename T>
__device__ __forceinline__ void copy_step(const Rows<T>& rows, int first, int lane) {
  // All at once: a copy would wait for the mask of its row.
  unsigned wanted = 0;
#pragma unroll
  for (int j = 0; j < kRowsPerStep; ++j) {
    if (first + j < rows.frames.length && rows.frames.present(first + j)) wanted |= 1u << j;
  }
#pragma unroll 1
  for (int j = 0; j < kRowsPerStep && first + j < rows.frames.length; ++j) {
    if (wanted >> j & 1u) {
      copy_row(rows, first + j, lane);
    } else {
      for (int p = lane; p < rows.pieces; p += rows.lanes) rows.piece(first + j, p) = uint4{0, 0, 0, 0};
    }
  }
}

// Copies the rows and calls write(i, dots) with their dot products: dots[k] = row i . vector k. fill() is to put the
// vectors where they are read from. The rows are there for all threads after the next barrier.
template <int K, typename T, typename Team, typename Fill, typename Write>
__device__ __forceinline__ void dot_rows(const Rows<T>& rows, const Team& team, const Vectors<T>& vectors,
                                         const Fill& fill, const Write& write) {
  using A = Accumulator<T>;
  const int lane = team.lane % rows.lanes;
  const int per_step = kWarpSize / rows.lanes * kRowsPerStep, stride = team.warps * per_step;
  const int n = static_cast<int>(rows.frames.length);
  int first = team.warp * per_step + team.lane / rows.lanes * kRowsPerStep;
  for (int ahead = 0; ahead < kStepsAhead; ++ahead) {
    copy_step(rows, first + ahead * stride, lane);
    commit_copies();
  }
  fill();
  __syncthreads();
  for (int at = team.warp * per_step; at < n; at += stride, first += stride) {
    copy_step(rows, first + kStepsAhead * stride, lane);
    commit_copies();
    wait_copies<kStepsAhead>();
    __syncwarp();  // a lane reads what others have copied
    A dots[kRowsPerStep][K] = {};
    for (int p = lane; p < rows.pieces; p += rows.lanes) {
      Values<A, kWidth<T>> x[kRowsPerStep];
#pragma unroll
      for (int j = 0; j < kRowsPerStep; ++j) {
        x[j] = widen<T>(first + j < n ? rows.piece(first + j, p) : uint4{0, 0, 0, 0});
      }
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto q = vectors.get(k, p);
#pragma unroll
        for (int j = 0; j < kRowsPerStep; ++j) add_dot(dots[j][k], q, x[j]);
      }
    }
    sum_over_lanes(dots, rows.lanes);
    if (lane < kRowsPerStep && first + lane < n) write(first + lane, dots[0]);
  }
}

// Copies the rows for all threads, with no work meanwhile.
template <typename T, typename Team>
__device__ __forceinline__ void copy_rows(const Rows<T>& rows, const Team& team) {
  const int per_step = kWarpSize / rows.lanes * kRowsPerStep;
  const int first = team.warp * per_step + team.lane / rows.lanes * kRowsPerStep;
  for (int at = first; at < rows.frames.length; at += team.warps * per_step) {
    copy_step(rows, at, team.lane % rows.lanes);
  }
  commit_copies();
  wait_copies<0>();
  __syncthreads();
}

// body(rows, first) for what of a part fits in shared memory at a time: rows from frame `first` of it on.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_tile(const Clips<T>& clips, const Clip<T>& part, const Layout& layout,
                                              const Body& body) {
  for (int column = 0; column < clips.dim; column += layout.columns) {
    for (int first = 0; first < part.length; first += layout.rows) {
      if (column > 0 || first > 0) __syncthreads();  // all are done with the one before
      body(Rows<T>(clips, slice(part, clips.frame_stride, first, layout.rows), layout, column), first);
    }
  }
}

// A thread takes a piece of each row. Where a block has more threads than a row has pieces, groups of threads take the
// rows in turn; where it has fewer, its threads take several pieces one after the other, in rounds.
struct Columns {
  int step;    // pieces taken at a time
  int groups;  // row groups
  int first;   // piece of this thread
  int group;   // of this thread; not below groups: the thread has no part in it

  __device__ __forceinline__ Columns(int pieces, int rank, int size, bool one_group = false)
      : step(pieces < size ? pieces : size),
        groups(one_group ? 1 : size / step),
        first(rank % step),
        group(rank / step) {}
};

}  // namespace fan::cuda
