// The forward pass of clips of a few frames: some lanes of a warp keep a clip in their registers.
#pragma once

#include "forward.cuh"

namespace fan::cuda {

// Frames of a clip, and pieces of a row for each lane: 16 pieces of 4 registers.
template <typename T>
inline constexpr int kWarpRows = kWidth<T>;
template <typename T>
inline constexpr int kWarpPieces = 16 / kWidth<T>;

// The rows of a clip, zeros for absent ones, as they lie in memory: rows[j][v] is piece v * lanes + lane of row j.
template <typename T>
__device__ __forceinline__ void load_rows(uint4 (&rows)[kWarpRows<T>][kWarpPieces<T>], const Clips<T>& clips,
                                          const Clip<T>& clip, const Layout& layout, int lane) {
#pragma unroll
  for (int j = 0; j < kWarpRows<T>; ++j) {
    const bool present = j < clip.length && clip.present(j);
#pragma unroll
    for (int v = 0; v < kWarpPieces<T>; ++v) {
      const int d = (v * layout.lanes + lane) * kWidth<T>;
      const T* const from = clip.features + j * clips.frame_stride + d;
      rows[j][v] = uint4{0, 0, 0, 0};
      if (present && d < clips.dim) {
        rows[j][v] = load_piece(from, static_cast<int>(clips.dim) - d, layout.copy_bytes == 16);
      }
    }
  }
}

// body(b, clip) for each clip of the grid's lanes, in step; of a warp's last clips some may not exist.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_clip_of_lanes(const Clips<T>& clips, int lanes, const Body& body) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x / lanes;
  const int of_warp = static_cast<int>(threadIdx.x) % kWarpSize / lanes;
  for (int64_t b = first; b - of_warp < clips.clips; b += step) {
    body(b, b < clips.clips ? find_clip(clips, b) : Clip<T>{});
  }
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kWarpThreads, 2)
    warp_forward_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> q,
                        const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  using A = Accumulator<T>;
  constexpr int R = kWarpRows<T>, P = kWarpPieces<T>, K = kRelation ? 3 : 1;
  const int lanes = layout.lanes, lane = threadIdx.x % lanes, dim = static_cast<int>(clips.dim);
  const int leader = static_cast<int>(threadIdx.x) % kWarpSize - lane;  // of these lanes the first
  write_idle_frames<T, kRelation>(clips, outputs);
  const Vectors<T> vectors(area<A>(layout, kVectors), P * lanes);
  put_parameters<T, kRelation>(vectors, q, 0, P * lanes, dim, layout.aligned);
  __syncthreads();

  for_each_clip_of_lanes(clips, lanes, [&](int64_t b, const Clip<T>& clip) {
    uint4 rows[R][P];
    load_rows(rows, clips, clip, layout, lane);
    A dots[R][K] = {};
#pragma unroll
    for (int v = 0; v < P; ++v) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto vector = vectors.get(k, v * lanes + lane);
#pragma unroll
        for (int j = 0; j < R; ++j) add_dot(dots[j][k], vector, widen<T>(rows[j][v]));
      }
    }
    sum_over_lanes(dots, lanes);

    // A lane goes on with one row.
    const int row = lane % R;
    const bool present = row < clip.length && clip.present(row);
    const A s = dots[0][0] + value_of(q.self_bias);
    Softmax<A> self;
    if (present) self.add(Weight<A>(s), kRelation ? dots[0][K - 1] : A(0));
    self.merge_lanes(R);
    const A p = present ? self.normalised(Weight<A>(s)) : A(0);
    A z = 0, r = 0;
    if constexpr (kRelation) {
      z = dots[0][1] + self.sum / self.total + value_of(q.relation_bias);
      Softmax<A> both;
      if (present) both.add(Weight<A>(s, z));
      both.merge_lanes(R);
      if (present) r = both.normalised(Weight<A>(s, z));
    }
    if (lane < R && row < clip.length) {
      write_frame<T, kRelation>(clips, outputs, clip.first + row, present, s, p, z, dots[0][K - 1], r);
    }

    A shares[R][2];
#pragma unroll
    for (int j = 0; j < R; ++j) {
      shares[j][0] = __shfl_sync(0xffffffffu, p, leader + j);
      if constexpr (kRelation) shares[j][1] = __shfl_sync(0xffffffffu, r, leader + j);
    }
    T* const out = outputs.out + b * (kRelation ? 2 : 1) * dim;
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int d = (v * lanes + lane) * kWidth<T>;
      Values<A, kWidth<T>> sums[2] = {};
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const auto x = widen<T>(rows[j][v]);
        add_product(sums[0], shares[j][0], x);
        if constexpr (kRelation) add_product(sums[1], shares[j][1], x);
      }
      if (b >= clips.clips || d >= dim) continue;
      store(out + (kRelation ? dim : 0) + d, sums[0], dim - d, layout.aligned);
      if constexpr (kRelation) store(out + d, sums[1], dim - d, layout.aligned);
    }
  });
}

}  // namespace fan::cuda
