// The forward pass of clips of a few frames: some lanes of a warp keep a clip in their registers.
#pragma once

#include "forward.cuh"

namespace fan::cuda {

// Frames of a clip, and pieces of a row for each lane: 16 pieces of 4 registers.
template <typename T>
inline constexpr int kWarpRows = kWidth<T>;
template <typename T>
inline constexpr int kWarpPieces = 16 / kWidth<T>;

// The lanes that share a clip, of whom all warps of the grid have some, and the clip, the first of several.
template <typename T>
struct Lanes {
  const Clips<T>& clips;
  const int lanes;
  const int lane = threadIdx.x % lanes;
  const int leader = threadIdx.x % kWarpSize - lane;  // their first one
  const int row = threadIdx.x % kWarpRows<T>;         // of which this lane has the numbers
  int64_t b = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  Clip<T> clip{};  // without frames behind the last one: a warp's lanes stay together
  bool exists, present;

  FAN_DEVICE Lanes(const Clips<T>& clips, int lanes) : clips(clips), lanes(lanes) { find(); }

  FAN_DEVICE bool done() const { return b - leader / lanes >= clips.clips; }
  FAN_DEVICE void next() {
    b += static_cast<int64_t>(gridDim.x) * blockDim.x / lanes;
    find();
  }
  FAN_DEVICE int piece(int v) const { return v * lanes + lane; }

 private:
  FAN_DEVICE void find() {
    exists = b < clips.clips;
    clip = exists ? find_clip(clips, b) : Clip<T>{};
    present = row < clip.length && clip.present(row);
  }
};

// rows[j][v] is piece v of row j as it lies in memory, zeros of an absent one.
template <typename T>
FAN_DEVICE void load_rows(uint4 (&rows)[kWarpRows<T>][kWarpPieces<T>], const Call<T>& call, const Lanes<T>& own) {
#pragma unroll
  for (int j = 0; j < kWarpRows<T>; ++j) {
    const bool present = j < own.clip.length && own.clip.present(j);
#pragma unroll
    for (int v = 0; v < kWarpPieces<T>; ++v) {
      const int d = own.piece(v) * kWidth<T>, count = present ? call.dim() - d : 0;
      const T* const from = own.clip.features + j * call.clips.frame_stride + d;
      rows[j][v] = count > 0 ? load_bits(from, count, call.layout.copy_bytes == 16) : uint4{0, 0, 0, 0};
    }
  }
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kWarpThreads, 2) warp_forward_kernel(const __grid_constant__ ForwardCall<T> call) {
  using A = Accumulator<T>;
  constexpr int R = kWarpRows<T>, P = kWarpPieces<T>, K = kRelation ? 3 : 1;
  const int lanes = call.layout.lanes, dim = call.dim();
  write_idle_frames<kRelation>(call);
  const Vectors<T> vectors(area<A>(call.layout, kVectors), P * lanes);
  put_parameters<kRelation>(vectors, call, 0, P * lanes);
  __syncthreads();

  for (Lanes<T> own(call.clips, lanes); !own.done(); own.next()) {
    uint4 rows[R][P];
    load_rows(rows, call, own);
    A dots[R][K] = {};
#pragma unroll
    for (int v = 0; v < P; ++v) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto vector = vectors.get(k, own.piece(v));
#pragma unroll
        for (int j = 0; j < R; ++j) add_dot(dots[j][k], vector, widen<T>(rows[j][v]));
      }
    }
    sum_over_lanes(dots, lanes);

    // A lane goes on with one row.
    const A s = dots[0][0] + value_of(call.q.self_bias), u = dots[0][K - 1];
    Softmax<A> self;
    if (own.present) self.add(Weight<A>(s), kRelation ? u : A(0));
    reduce_lanes(self.at, R, typename Softmax<A>::Merge());
    const A p = own.present ? self.normalised(Weight<A>(s)) : A(0);
    A z = 0, r = 0;
    if constexpr (kRelation) {
      z = dots[0][1] + self.sum() / self.total() + value_of(call.q.relation_bias);
      Softmax<A> both;
      if (own.present) both.add(Weight<A>(s, z));
      reduce_lanes(both.at, R, typename Softmax<A>::Merge());
      if (own.present) r = both.normalised(Weight<A>(s, z));
    }
    if (own.lane < R && own.row < own.clip.length) {
      write_frame<kRelation>(call, own.clip.first + own.row, own.present, s, p, z, u, r);
    }

    A shares[R][2];
#pragma unroll
    for (int j = 0; j < R; ++j) {
      shares[j][0] = __shfl_sync(0xffffffffu, p, own.leader + j);
      if constexpr (kRelation) shares[j][1] = __shfl_sync(0xffffffffu, r, own.leader + j);
    }
    T* const out = call.to.out + own.b * (kRelation ? 2 : 1) * dim;
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int d = own.piece(v) * kWidth<T>;
      Piece<T> sums[2] = {};
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const auto x = widen<T>(rows[j][v]);
        for (int k = 0; k < (kRelation ? 2 : 1); ++k) add_product(sums[k], shares[j][k], x);
      }
      if (!own.exists || d >= dim) continue;
      store(out + (kRelation ? dim : 0) + d, sums[0], dim - d, call.layout.aligned);
      if constexpr (kRelation) store(out + d, sums[1], dim - d, call.layout.aligned);
    }
  }
}

}  // namespace fan::cuda
