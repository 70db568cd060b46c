// The backward pass of clips of a few frames: some lanes of a warp keep a clip in their registers.
#pragma once

#include "backward.cuh"
#include "warp_forward.cuh"

namespace fan::cuda {

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kWarpThreads, 2) warp_backward_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  constexpr int R = kWarpRows<T>, P = kWarpPieces<T>, W = kWidth<T>, K = kRelation ? 2 : 1;
  const int lanes = call.layout.lanes, dim = call.dim();
  const bool aligned = call.layout.aligned;
  clear_idle_rows(call);
  const Vectors<T> vectors(area<A>(call.layout, kVectors), P * lanes);
  put_parameters<kRelation>(vectors, call, 0, P * lanes);
  ParameterSums<T, kRelation> sums(call, lanes);
  Piece<T> totals[P][kRelation ? 3 : 1] = {};  // of this thread's pieces
  __syncthreads();

  for (Lanes<T> own(call.clips, lanes); !own.done(); own.next()) {
    uint4 rows[R][P];
    load_rows(rows, call, own);
    const T *const V = grad_out_of<kRelation>(call, own.b), *const G = V + (kRelation ? dim : 0);
    const auto load_at = [&](const T* from, int d) { return load<T>(from + d, own.exists ? dim - d : 0, aligned); };
    A dots[R][K] = {};
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int d = own.piece(v) * W;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto vector = load_at(k == 0 ? G : V, d);
#pragma unroll
        for (int j = 0; j < R; ++j) add_dot(dots[j][k], vector, widen<T>(rows[j][v]));
      }
    }
    sum_over_lanes(dots, lanes);

    // A lane goes on with one row.
    const Frame<T, kRelation> frame(call, own.clip.first + own.row, own.present, dots[0][0], dots[0][K - 1]);
    A of_clip[3] = {frame.p * frame.fG, frame.p * frame.u, frame.r * frame.fV};
    reduce_lanes(of_clip, R, Add());
    ClipSums<A> clip;
    clip.vV = of_clip[2];
    if constexpr (kRelation) {
      A C[1] = {own.present ? frame.dz(clip.vV) : A(0)};
      reduce_lanes(C, R, Add());
      clip.C = C[0];
      if (own.lane == 0) sums.b1 += clip.C;
    }
    clip.gdg = of_clip[0] + clip.C * of_clip[1];
    A ds = 0;
    const auto mine = frame.factors(clip, ds);
    if (own.lane < R) sums.b0 += ds;

    Values<A, kFactors> factors[R];
#pragma unroll
    for (int j = 0; j < R; ++j) {
      for (int k = 0; k < kFactors; ++k) factors[j].at[k] = __shfl_sync(0xffffffffu, mine.at[k], own.leader + j);
    }
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int d = own.piece(v) * W;
      if (!own.exists || d >= dim) continue;
      const GradientColumns<T, kRelation> gradient(load_at(G, d), load_at(V, d), clip.C,
                                                   [&](int k) { return vectors.get(k, own.piece(v)); });
      if constexpr (kRelation) add_product(totals[v][2], clip.C, load_at(call.in.out + (own.b * 2 + 1) * dim, d));
#pragma unroll
      for (int j = 0; j < R; ++j) {
        if (j >= own.clip.length) break;
        const auto x = widen<T>(rows[j][v]);
        add_product(totals[v][0], factors[j].at[kDs], x);
        if constexpr (kRelation) add_product(totals[v][1], factors[j].at[kDz], x);
        if (call.to.features == nullptr) continue;
        gradient.write(call.to.features + (own.clip.first + j) * dim + d, factors[j], dim - d, aligned);
      }
    }
  }
#pragma unroll
  for (int v = 0; v < P; ++v) {
    const int piece = v * lanes + threadIdx.x % lanes;
    for (int k = 0; piece * W < dim && k < (kRelation ? 3 : 1); ++k) sums.add(k, piece, totals[v][k]);
  }
  sums.finish();
}

}  // namespace fan::cuda
