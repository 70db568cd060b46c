// Threads that work together, and their sums.
#pragma once

#include "device.cuh"

namespace fan::cuda {

struct Largest {
  template <typename A, int K>
  FAN_DEVICE void operator()(A (&largest)[K], const A (&others)[K]) const {
    for (int k = 0; k < K; ++k) largest[k] = largest[k] < others[k] ? others[k] : largest[k];
  }
};
struct Add {
  template <typename A, int K>
  FAN_DEVICE void operator()(A (&sums)[K], const A (&others)[K]) const {
    for (int k = 0; k < K; ++k) sums[k] += others[k];
  }
};

// Combines the values of lanes of a warp that are first, 2 first, 4 first ... apart, among so many adjacent ones. All
// 32 lanes call.
template <int K, typename A, typename Op>
FAN_DEVICE void reduce_lanes(A (&values)[K], int lanes, const Op& op, int first = 1) {
#pragma unroll 1
  for (int distance = first; distance < lanes; distance *= 2) {
    A others[K];
    for (int k = 0; k < K; ++k) others[k] = __shfl_xor_sync(0xffffffffu, values[k], distance);
    op(values, others);
  }
}

// Sums over so many adjacent lanes, of K numbers of each row. Those of row j come to rows[0] of lanes j, j + kRows,
// ...: a lane gives half of its rows away for the same half of another lane's, which takes a third of the shuffles.
template <int kRows, int K, typename A>
FAN_DEVICE void sum_over_lanes(A (&rows)[kRows][K], int lanes) {
  for (int distance = 1; distance < kRows; distance *= 2) {
    const bool odd = (threadIdx.x & distance) != 0;
    for (int j = 0; j < kRows / (2 * distance); ++j) {
      for (int k = 0; k < K; ++k) {
        const A even_row = rows[2 * j][k], odd_row = rows[2 * j + 1][k];
        rows[j][k] = (odd ? odd_row : even_row) + __shfl_xor_sync(0xffffffffu, odd ? even_row : odd_row, distance);
      }
    }
  }
  reduce_lanes(rows[0], lanes, Add(), kRows);
}

// A block, or the blocks of a cluster, which share out a clip's frames. All threads call its functions together.
template <typename A>
class Team {
 public:
  const int rank = threadIdx.x;  // of this thread in its block, and the threads there
  const int size = blockDim.x;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int warps = blockDim.x / kWarpSize;
  const int blocks;  // of the team
  const int block = kHaveClusters && blocks > 1 ? cluster_rank() : 0;
  static constexpr int lanes = kWarpSize;  // that combine their values first

  FAN_DEVICE explicit Team(const Layout& layout, int blocks = kHaveClusters ? cluster_size() : 1)
      : blocks(blocks), reduced_(area<A>(layout, kReduced)) {}

  // Combines the threads' values by op(mine, others), in a fixed order; all threads get the results. A barrier of the
  // block, like __syncthreads.
  template <int K, typename Op>
  FAN_DEVICE void reduce(A (&values)[K], const Op& op) {
    reduce_lanes(values, lanes, op);
    reduce_warps(values, op);
  }
  // The same of values that all lanes of a warp have.
  template <int K, typename Op>
  FAN_DEVICE void reduce_warps(A (&values)[K], const Op& op) {
    static_assert(K <= kMaxReduced);
    // Two buffers in turn: by the next barrier everyone has read this one.
    A* const buffer = reduced_ + turn_ * (kMaxWarps + 1) * kMaxReduced;
    turn_ ^= 1;
    const auto take = [&](const A* from) {
      A others[K];
      for (int k = 0; k < K; ++k) others[k] = from[k];
      op(values, others);
    };
    const auto leave = [&](A* to) {
      for (int k = 0; k < K; ++k) to[k] = values[k];
    };
    if (lane == 0) leave(buffer + warp * kMaxReduced);
    __syncthreads();
    for (int k = 0; k < K; ++k) values[k] = buffer[k];
    for (int w = 1; w < warps; ++w) take(buffer + w * kMaxReduced);
    if (kHaveClusters && blocks > 1) {
      A* const of_this_block = buffer + kMaxWarps * kMaxReduced;
      if (rank == 0) leave(of_this_block);
      sync_cluster();
      for (int k = 0; k < K; ++k) values[k] = of_block(of_this_block, 0)[k];
      for (int other = 1; other < blocks; ++other) take(of_block(of_this_block, other));
    }
  }

 private:
  A* const reduced_;
  int turn_ = 0;
};

// Blocks that must fit on a multiprocessor together, by their registers: two with 128 a thread; in double one.
template <typename T>
inline constexpr int kMinBlocks = sizeof(T) == 8 ? 1 : 2;

}  // namespace fan::cuda
