// The threads that share a clip: a warp, a block, or a cluster of blocks that split its frames. All of a team's threads
// call its functions together.
#pragma once

#include "clips.cuh"
#include "vectors.cuh"

namespace fan::cuda {

template <typename A>
__device__ __forceinline__ A larger(A a, A b) {
  return a > b ? a : b;
}

template <typename A, Scope kScope>
class Team {
 public:
  static constexpr bool kWarp = kScope == Scope::kWarp;

  const int rank;   // of this thread, in its block if the team is a cluster
  const int size;   // threads, likewise
  const int index;  // of the team in its block
  const int lane;   // of this thread in its warp
  const int warp;   // of this thread's, likewise
  const int warps;
  const int block;  // of the team's blocks
  const int blocks;

  __device__ __forceinline__ Team(unsigned char* memory, const Layout& layout)
      : rank(kWarp ? threadIdx.x % kWarpSize : threadIdx.x),
        size(kWarp ? kWarpSize : blockDim.x),
        index(kWarp ? threadIdx.x / kWarpSize : 0),
        lane(threadIdx.x % kWarpSize),
        warp(kWarp ? 0 : threadIdx.x / kWarpSize),
        warps(kWarp ? 1 : blockDim.x / kWarpSize),
        block(kScope == Scope::kCluster ? cluster_rank() : 0),
        blocks(kScope == Scope::kCluster ? cluster_size() : 1),
        memory_(memory + index * layout.team_bytes),
        reduced_(reinterpret_cast<A*>(memory_ + layout.reduced)) {}

  // The start of the team's shared memory, in this block.
  __device__ __forceinline__ unsigned char* memory() const { return memory_; }

  // A barrier of the team's threads in this block.
  __device__ __forceinline__ void sync() const {
    if constexpr (kWarp) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  // Combines the threads' values with op, in a fixed order; all threads get the results. A barrier, like sync().
  template <int K, typename Op>
  __device__ __forceinline__ void reduce(A (&values)[K], const Op& op) {
    static_assert(K <= kMaxReduced);
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
#pragma unroll
      for (int k = 0; k < K; ++k) values[k] = op(values[k], __shfl_xor_sync(0xffffffffu, values[k], distance));
    }
    if constexpr (kWarp) {
      __syncwarp();
      return;
    }
    // Two buffers in turn: by the next barrier everyone has read this one.
    A* const buffer = reduced_ + turn_ * (kMaxWarps + 1) * kMaxReduced;
    turn_ ^= 1;
    if (lane == 0) {
#pragma unroll
      for (int k = 0; k < K; ++k) buffer[warp * kMaxReduced + k] = values[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) values[k] = buffer[k];
    for (int w = 1; w < warps; ++w) {
#pragma unroll
      for (int k = 0; k < K; ++k) values[k] = op(values[k], buffer[w * kMaxReduced + k]);
    }
    if constexpr (kScope == Scope::kCluster) {
      A* const of_this_block = buffer + kMaxWarps * kMaxReduced;
      if (rank == 0) {
#pragma unroll
        for (int k = 0; k < K; ++k) of_this_block[k] = values[k];
      }
      sync_cluster();
      for (int other = 0; other < blocks; ++other) {
        const A* const theirs = of_block(of_this_block, other);
#pragma unroll
        for (int k = 0; k < K; ++k) values[k] = other == 0 ? theirs[k] : op(values[k], theirs[k]);
      }
    }
  }

  template <int K>
  __device__ __forceinline__ void sum(A (&values)[K]) {
    reduce(values, [](A a, A b) { return a + b; });
  }

  template <int K>
  __device__ __forceinline__ void largest(A (&values)[K]) {
    reduce(values, [](A a, A b) { return larger(a, b); });
  }

 private:
  unsigned char* const memory_;
  A* const reduced_;
  int turn_ = 0;
};

}  // namespace fan::cuda
