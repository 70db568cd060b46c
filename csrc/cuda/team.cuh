// The threads that share a clip: a block, or a cluster of blocks that split its frames. All of a team's threads call
// its functions together.
#pragma once

#include "clips.cuh"
#include "lanes.cuh"

namespace fan::cuda {

template <typename A, Scope kScope>
class Team {
 public:
  const int rank = threadIdx.x;  // of this thread in its block, and the threads there
  const int size = blockDim.x;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int warps = blockDim.x / kWarpSize;
  const int block = kScope == Scope::kCluster ? cluster_rank() : 0;  // of the team's blocks
  const int blocks = kScope == Scope::kCluster ? cluster_size() : 1;

  __device__ __forceinline__ explicit Team(const Layout& layout) : reduced_(area<A>(layout, kReduced)) {}

  // A barrier of the team's threads in all its blocks.
  __device__ __forceinline__ void sync() const {
    if constexpr (kScope == Scope::kCluster) {
      sync_cluster();
    } else {
      __syncthreads();
    }
  }

  // Combines the threads' values by op(mine, others), in a fixed order; all threads get the results. A barrier of the
  // block, like __syncthreads.
  template <int K, typename Op>
  __device__ __forceinline__ void reduce(A (&values)[K], const Op& op) {
    static_assert(K <= kMaxReduced);
    reduce_lanes(values, kWarpSize, op);
    // Two buffers in turn: by the next barrier everyone has read this one.
    A* const buffer = reduced_ + turn_ * (kMaxWarps + 1) * kMaxReduced;
    turn_ ^= 1;
    const auto take = [&](const A* from) {
      A others[K];
#pragma unroll
      for (int k = 0; k < K; ++k) others[k] = from[k];
      op(values, others);
    };
    const auto leave = [&](A* to) {
#pragma unroll
      for (int k = 0; k < K; ++k) to[k] = values[k];
    };
    if (lane == 0) leave(buffer + warp * kMaxReduced);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) values[k] = buffer[k];
    for (int w = 1; w < warps; ++w) take(buffer + w * kMaxReduced);
    if constexpr (kScope == Scope::kCluster) {
      A* const of_this_block = buffer + kMaxWarps * kMaxReduced;
      if (rank == 0) leave(of_this_block);
      sync_cluster();
#pragma unroll
      for (int k = 0; k < K; ++k) values[k] = of_block(of_this_block, 0)[k];
      for (int other = 1; other < blocks; ++other) take(of_block(of_this_block, other));
    }
  }

  template <int K>
  __device__ __forceinline__ void sum(A (&values)[K]) {
    reduce(values, Add());
  }

 private:
  A* const reduced_;
  int turn_ = 0;
};

}  // namespace fan::cuda
