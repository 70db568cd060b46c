// The rows of features that a block has in its shared memory: how they come there, and their dot products.
#pragma once

#include "clips.cuh"

namespace fan::cuda {

// Steps of rows that a warp has under way to shared memory while it computes another.
constexpr int kStepsAhead = 3;

// Some columns of the features of a block's frames, of some of them at a time. A row has whole pieces in shared memory,
// zeros behind its end; an absent frame's has zeros only.
template <typename T>
struct Rows {
  const Clip<T>& frames;
  int first, count;  // of the frames
  int first_column, columns, pieces;
  int64_t stride;         // between rows in global memory
  int lanes, copy_bytes;  // see Layout
  T* shared;

  FAN_DEVICE Rows(const Call<T>& call, const Clip<T>& frames, int first, int first_column)
      : frames(frames),
        first(first),
        count(static_cast<int>(clamp(frames.length - first, 0, call.layout.rows))),
        first_column(first_column),
        columns(static_cast<int>(clamp(call.clips.dim - first_column, 0, call.layout.columns))),
        pieces((columns + kWidth<T> - 1) / kWidth<T>),
        stride(call.clips.frame_stride),
        lanes(call.layout.lanes),
        copy_bytes(call.layout.copy_bytes),
        shared(area<T>(call.layout, kRows)) {}

  FAN_DEVICE uint4& piece(int row, int number) const { return reinterpret_cast<uint4*>(shared)[row * pieces + number]; }
};

template <typename T>
inline constexpr int kRowsPerStep = rows_per_step(sizeof(T));

// Starts copying a row whose start is a multiple of so many bytes; what these leave of it goes element by element.
template <int kBytes, typename T>
FAN_DEVICE void copy_row(const Rows<T>& rows, const T* from, int row, int lane) {
  T* const to = rows.shared + row * rows.pieces * kWidth<T>;
  int copied = 0;
  if constexpr (kBytes >= 4 && kBytes >= static_cast<int>(sizeof(T))) {
    constexpr int kElements = kBytes / sizeof(T);
    copied = rows.columns / kElements * kElements;
    for (int d = lane * kElements; d < copied; d += rows.lanes * kElements) copy_async<kBytes>(to + d, from + d);
  }
  for (int d = copied + lane; d < rows.pieces * kWidth<T>; d += rows.lanes) to[d] = d < rows.columns ? from[d] : T{};
}

// Starts copying the rows of a step, in pieces as wide as their starts allow. Absent ones are zeros.
template <typename T>
FAN_DEVICE void copy_step(const Rows<T>& rows, int first, int lane) {
  constexpr int R = kRowsPerStep<T>;
  const int left = rows.count - first;
  if (left <= 0) return;
  unsigned wanted = left < R ? (1u << left) - 1 : (1u << R) - 1;
  if (rows.frames.mask != nullptr) {  // of all at once: a copy would wait for the mask of its row
    for (int j = 0; j < R; ++j) {
      if (j < left && !rows.frames.mask[rows.first + first + j]) wanted &= ~(1u << j);
    }
  }
  const T* from = rows.frames.features + (rows.first + first) * rows.stride + rows.first_column;
  if (wanted == (1u << R) - 1 && rows.copy_bytes == 16 && rows.columns % kWidth<T> == 0) {
#pragma unroll 1
    for (int p = lane; p < rows.pieces; p += rows.lanes) {
      const T* piece = from + p * kWidth<T>;
      uint4* to = &rows.piece(first, p);
      for (int j = 0; j < R; ++j, piece += rows.stride, to += rows.pieces) copy_async<16>(to, piece);
    }
    return;
  }
#pragma unroll 1
  for (int j = 0; j < R; ++j, from += rows.stride) {
    if ((wanted >> j & 1u) == 0) {
      for (int p = lane; j < left && p < rows.pieces; p += rows.lanes) rows.piece(first + j, p) = uint4{0, 0, 0, 0};
    } else if (rows.copy_bytes == 16) {
      copy_row<16>(rows, from, first + j, lane);
    } else if (rows.copy_bytes == 8) {
      copy_row<8>(rows, from, first + j, lane);
    } else if (rows.copy_bytes == 4) {
      copy_row<4>(rows, from, first + j, lane);
    } else {
      copy_row<2>(rows, from, first + j, lane);
    }
  }
}

// Copies the rows and calls write(i, dots) with their dot products: dots[k] = row i . vector k. fill() is to put the
// vectors where they are read from. The rows are there for all threads after the next barrier.
template <int K, typename T, typename Team, typename Fill, typename Write>
FAN_DEVICE void dot_rows(const Rows<T>& rows, const Team& team, const Vectors<T>& vectors, const Fill& fill,
                         const Write& write) {
  using A = Accumulator<T>;
  constexpr int R = kRowsPerStep<T>;
  const int lane = team.lane % rows.lanes;
  const int per_step = kWarpSize / rows.lanes * R, stride = team.warps * per_step;
  const int n = rows.count;
  int first = team.warp * per_step + team.lane / rows.lanes * R;
#pragma unroll 1
  for (int ahead = 0; ahead < kStepsAhead; ++ahead) {
    copy_step(rows, first + ahead * stride, lane);
    commit_copies();
  }
  fill();
  __syncthreads();
#pragma unroll 1
  for (int at = team.warp * per_step; at < n; at += stride, first += stride) {
    copy_step(rows, first + kStepsAhead * stride, lane);
    commit_copies();
    wait_copies<kStepsAhead>();
    __syncwarp();  // a lane reads what others have copied
    const uint4* row[R] = {&rows.piece(first < n ? first : n - 1, 0)};
    for (int j = 1; j < R; ++j) row[j] = row[j - 1] + (first + j < n ? rows.pieces : 0);
    A dots[R][K] = {};
#pragma unroll 1
    for (int p = lane; p < rows.pieces; p += rows.lanes) {
      uint4 x[R];
      for (int j = 0; j < R; ++j) x[j] = row[j][p];
      Piece<T> q[K];
      for (int k = 0; k < K; ++k) q[k] = vectors.get(k, p);
      for (int j = 0; j < R; ++j) {
        const auto wide = widen<T>(x[j]);
        for (int k = 0; k < K; ++k) add_dot(dots[j][k], q[k], wide);
      }
    }
    sum_over_lanes(dots, rows.lanes);
    if (lane < R && first + lane < n) write(first + lane, dots[0]);
  }
}

// Copies the rows for all threads, with no work meanwhile.
template <typename T, typename Team>
FAN_DEVICE void copy_rows(const Rows<T>& rows, const Team& team) {
  const int per_step = kWarpSize / rows.lanes * kRowsPerStep<T>;
  const int first = team.warp * per_step + team.lane / rows.lanes * kRowsPerStep<T>;
#pragma unroll 1
  for (int at = first; at < rows.count; at += team.warps * per_step) {
    copy_step(rows, at, team.lane % rows.lanes);
  }
  commit_copies();
  wait_copies<0>();
  __syncthreads();
}

// body(rows) for what of a block's frames fits in shared memory at a time; once where there are none.
template <typename T, typename Body>
FAN_DEVICE void for_each_tile(const Call<T>& call, const Clip<T>& frames, const Body& body) {
  for (int column = 0; column < call.clips.dim; column += call.layout.columns) {
    int first = 0;
    do {
      if (column > 0 || first > 0) __syncthreads();  // all are done with the one before
      body(Rows<T>(call, frames, first, column));
      first += call.layout.rows;
    } while (first < frames.length);
  }
}

// A thread takes a piece of each row. Where a block has more threads than a row has pieces, groups of threads take the
// rows in turn; where it has fewer, its threads take several pieces one after the other, in rounds.
struct Columns {
  int step;    // pieces taken at a time
  int groups;  // row groups
  int first;   // piece of this thread
  int group;   // of this thread; not below groups: the thread has no part in it

  template <typename Team>
  FAN_DEVICE Columns(int pieces, const Team& team, bool one_group = false)
      : step(pieces < team.size ? pieces : team.size),
        groups(one_group ? 1 : team.size / step),
        first(team.rank % step),
        group(team.rank / step) {}
};

}  // namespace fan::cuda
