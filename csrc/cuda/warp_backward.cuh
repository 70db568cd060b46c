// The backward pass of clips of a few frames: some lanes of a warp keep a clip in their registers.
#pragma once

#include "backward.cuh"
#include "warp_forward.cuh"

namespace fan::cuda {

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kWarpThreads, 2)
    warp_backward_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> q,
                         const __grid_constant__ BackwardInputs<T> in, T* features, Accumulator<T>* partial,
                         const __grid_constant__ Layout layout) {
  using A = Accumulator<T>;
  constexpr int R = kWarpRows<T>, P = kWarpPieces<T>, W = kWidth<T>, K = kRelation ? 2 : 1;
  const int lanes = layout.lanes, lane = threadIdx.x % lanes, dim = static_cast<int>(clips.dim);
  const int leader = static_cast<int>(threadIdx.x) % kWarpSize - lane;  // of these lanes the first
  const bool aligned = layout.aligned;
  clear_idle_rows(clips, features, aligned);
  const Vectors<T> vectors(area<A>(layout, kVectors), P * lanes);
  put_parameters<T, kRelation>(vectors, q, 0, P * lanes, dim, aligned);
  ParameterSums<T, kRelation> sums(layout, partial, dim, lanes);
  Values<A, W> totals[P][kRelation ? 3 : 1] = {};  // of this thread's pieces
  __syncthreads();

  for_each_clip_of_lanes(clips, lanes, [&](int64_t b, const Clip<T>& all) {
    uint4 rows[R][P];
    load_rows(rows, clips, all, layout, lane);
    const T* const grad_out = in.grad_out + b * (kRelation ? 2 : 1) * dim;
    const auto load_at = [&](const T* from, int d) {
      return load<W>(from + d, b < clips.clips ? dim - d : 0, aligned);
    };
    A dots[R][K] = {};
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int d = (v * lanes + lane) * W;
      const auto G = load_at(grad_out + (kRelation ? dim : 0), d), V = kRelation ? load_at(grad_out, d) : G;
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const auto x = widen<T>(rows[j][v]);
        add_dot(dots[j][0], G, x);
        if constexpr (kRelation) add_dot(dots[j][1], V, x);
      }
    }
    sum_over_lanes(dots, lanes);

    // A lane goes on with one row.
    const int row = lane % R;
    const bool present = row < all.length && all.present(row);
    const A fG = dots[0][0], fV = kRelation ? dots[0][K - 1] : A(0);
    ClipSums<A> clip;
    const SavedFrame<T, kRelation> frame =
        present ? SavedFrame<T, kRelation>(in, clips.total_frames, all.first + row) : SavedFrame<T, kRelation>();
    A of_clip[3] = {frame.p * fG, frame.p * frame.u, frame.r * fV};
    reduce_lanes(of_clip, R, Add());
    clip.vV = of_clip[2];
    if constexpr (kRelation) {
      A C[1] = {present ? frame.dz(fV, clip.vV) : A(0)};
      reduce_lanes(C, R, Add());
      clip.C = C[0];
      if (lane == 0) sums.b1 += clip.C;
    }
    clip.gdg = of_clip[0] + clip.C * of_clip[1];
    A ds = 0;
    const Values<A, kFactors> own = factors_of(frame, present, fG, fV, clip, ds);
    if (lane < R) sums.b0 += ds;

    Values<A, kFactors> factors[R];
#pragma unroll
    for (int j = 0; j < R; ++j) {
#pragma unroll
      for (int k = 0; k < kFactors; ++k) factors[j].at[k] = __shfl_sync(0xffffffffu, own.at[k], leader + j);
    }
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int piece = v * lanes + lane, d = piece * W;
      if (b >= clips.clips || d >= dim) continue;
      const auto q0 = vectors.get(0, piece);
      auto dg = load_at(grad_out + (kRelation ? dim : 0), d);
      Values<A, W> V = {}, q1a = {};
      if constexpr (kRelation) {
        V = load_at(grad_out, d);
        q1a = vectors.get(1, piece);
        add_product(dg, clip.C, vectors.get(2, piece));
        add_product(totals[v][2], clip.C, load_at(in.out + (b * 2 + 1) * dim, d));
      }
#pragma unroll
      for (int j = 0; j < R; ++j) {
        if (j >= all.length) break;
        const auto x = widen<T>(rows[j][v]);
        add_product(totals[v][0], factors[j].at[kDs], x);
        if constexpr (kRelation) add_product(totals[v][1], factors[j].at[kDz], x);
        if (features == nullptr) continue;
        Values<A, W> df = {};
        if (!(factors[j].at[kP] < A(0))) {
          add_product(df, factors[j].at[kP], dg);
          add_product(df, factors[j].at[kDs], q0);
          if constexpr (kRelation) {
            add_product(df, factors[j].at[kR], V);
            add_product(df, factors[j].at[kDz], q1a);
          }
        }
        store(features + (all.first + j) * dim + d, df, dim - d, aligned);
      }
    }
  });
  sums.clear();
#pragma unroll
  for (int v = 0; v < P; ++v) {
    const int piece = v * lanes + lane;
#pragma unroll
    for (int k = 0; k < (kRelation ? 3 : 1); ++k) {
      if (piece * W < dim) sums.add(k, piece, totals[v][k]);
    }
  }
  sums.finish(layout);
}

}  // namespace fan::cuda
