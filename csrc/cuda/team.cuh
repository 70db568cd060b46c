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

  FAN_DEVICE explicit Team(const Layout& layout) : reduced_(area<A>(layout, kReduced)) {}

  // A barrier of the team's threads in all its blocks.
  FAN_DEVICE void sync() const {
    if constexpr (kScope == Scope::kCluster) {
      sync_cluster();
    } else {
      __syncthreads();
    }
  }

  // Combines the threads' values by op(mine, others), in a fixed order; all threads get the results. A barrier of the
  // block, like __syncthreads.
  template <int K, typename Op>
  FAN_DEVICE void reduce(A (&values)[K], const Op& op) {
    static_assert(K <= kMaxReduced);
    reduce_lanes(values, kWarpSize, op);
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
    if constexpr (kScope == Scope::kCluster) {
      A* const of_this_block = buffer + kMaxWarps * kMaxReduced;
      if (rank == 0) leave(of_this_block);
      sync_cluster();
      for (int k = 0; k < K; ++k) values[k] = of_block(of_this_block, 0)[k];
      for (int other = 1; other < blocks; ++other) take(of_block(of_this_block, other));
    }
  }

  template <int K>
  FAN_DEVICE void sum(A (&values)[K]) {
    reduce(values, Add());
  }

 private:
  A* const reduced_;
  int turn_ = 0;
};

// The frames of clip b that this block of a team takes.
template <typename T, typename Team>
FAN_DEVICE Clip<T> share_of_block(const Clips<T>& clips, int64_t b, const Team& team) {
  const Clip<T> clip = find_clip(clips, b);
  const int64_t share = rows_of_block(clip.length, team.blocks);
  return slice(clip, clips.frame_stride, team.block * share, share);
}

// Blocks that must fit on a multiprocessor together, by their registers: two with 128 a thread; one, with all it needs,
// in double, and where shared memory is used up anyway.
template <typename T, Scope kScope>
inline constexpr int kMinBlocks = sizeof(T) == 8 || kScope == Scope::kCluster ? 1 : 2;

}  // namespace fan::cuda
