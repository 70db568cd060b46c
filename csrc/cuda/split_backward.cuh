// The backward pass over clips cut into parts, in two kernels: the sums over a clip's frames, part by part; and, with
// these added up, dF and the sums of the parameters' gradients.
#pragma once

#include "backward.cuh"
#include "parts.cuh"

namespace fan::cuda {

// C = sum dz = sum r (1 - beta) (f.V - v.V) + sum b beta (1 - beta) would lose digits as a difference of sums over r
// f.V. So the parts sum (1 - beta) r (f.V - c), where c is their own mean of f.V, and what is left, c - v.V, is the
// same for all frames of a part.
enum BackwardScalar {
  kPfG,      // sum p f.G
  kPu,       // sum p u
  kRfV,      // sum r f.V
  kRTotal,   // sum r
  kCentred,  // sum r (1 - beta) (f.V - c)
  kSlope,    // sum r (1 - beta)
  kDirect,   // sum b beta (1 - beta)
  kBackwardScalarCount
};
static_assert(kBackwardScalarCount == kBackwardScalars);

template <typename A>
__device__ __forceinline__ A mean_of(A sum, A total) {
  return total > A(0) ? sum / total : A(0);
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    gradient_sums_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ BackwardInputs<T> in,
                         const __grid_constant__ Layout layout, Accumulator<T>* slot_memory, Accumulator<T>* scratch) {
  using A = Accumulator<T>;
  const Part<T> part(clips, layout, blockIdx.x);
  if (!part.exists || part.whole) return;
  Team<A, Scope::kBlock> team(layout);
  const int n = static_cast<int>(part.frames.length), dim = static_cast<int>(clips.dim);
  A *const fG = area<A>(layout, kFrames), *const fV = fG + layout.frames;
  for_each_tile(clips, part.frames, layout, [&](const Rows<T>& rows, int first) {
    compute_frame_gradients<T, kRelation>(rows, first, team, in.grad_out + part.b * (kRelation ? 2 : 1) * dim, layout,
                                          fG, fV, dim);
  });
  __syncthreads();

  A sums[4] = {};
  for (int i = team.rank; i < n; i += team.size) {
    scratch[part.frames.first + i] = fG[i];
    if constexpr (kRelation) scratch[clips.total_frames + part.frames.first + i] = fV[i];
    if (!part.frames.present(i)) continue;
    const SavedFrame<T, kRelation> frame(in, clips.total_frames, part.frames.first + i);
    sums[kPfG] += frame.p * fG[i];
    if constexpr (kRelation) {
      sums[kPu] += frame.p * frame.u;
      sums[kRfV] += frame.r * fV[i];
      sums[kRTotal] += frame.r;
    }
  }
  team.sum(sums);
  A of_C[3] = {};
  if constexpr (kRelation) {
    const A mean = mean_of(sums[kRfV], sums[kRTotal]);
    for (int i = team.rank; i < n; i += team.size) {
      if (!part.frames.present(i)) continue;
      const SavedFrame<T, kRelation> frame(in, clips.total_frames, part.frames.first + i);
      const A rest = sigmoid(-frame.z);
      of_C[0] += frame.r * rest * (fV[i] - mean);
      of_C[1] += frame.r * rest;
      of_C[2] += frame.grad_beta * sigmoid(frame.z) * rest;
    }
    team.sum(of_C);
  }
  if (team.rank > 0) return;
  const Slots<A, kBackwardScalars> slots{slot_memory, layout, dim};
#pragma unroll
  for (int k = 0; k < kBackwardScalars; ++k) *slots.scalar(k, blockIdx.x) = k < 4 ? sums[k] : of_C[k - 4];
}

template <bool kRelation, typename A, typename Team>
__device__ __forceinline__ ClipSums<A> combine_gradient_sums(const Slots<A, kBackwardScalars>& slots, Team& team,
                                                             int64_t first, int64_t count) {
  const auto at = [&](BackwardScalar k, int64_t part) { return *slots.scalar(k, first + part); };
  A sums[3] = {};
  for (int64_t part = team.rank; part < count; part += team.size) {
    sums[0] += at(kPfG, part);
    sums[1] += at(kPu, part);
    sums[2] += at(kRfV, part);
  }
  team.sum(sums);
  ClipSums<A> clip;
  if constexpr (kRelation) {
    clip.vV = sums[2];
    A C[1] = {};
    for (int64_t part = team.rank; part < count; part += team.size) {
      const A mean = mean_of(at(kRfV, part), at(kRTotal, part));
      C[0] += at(kCentred, part) + (mean - clip.vV) * at(kSlope, part) + at(kDirect, part);
    }
    team.sum(C);
    clip.C = C[0];
  }
  clip.gdg = sums[0] + clip.C * sums[1];
  return clip;
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    gradients_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> q,
                     const __grid_constant__ BackwardInputs<T> in, T* features, Accumulator<T>* partial,
                     const __grid_constant__ Layout layout, Accumulator<T>* slot_memory,
                     const Accumulator<T>* scratch) {
  using A = Accumulator<T>;
  clear_idle_rows(clips, features, layout.aligned);
  Team<A, Scope::kBlock> team(layout);
  const int dim = static_cast<int>(clips.dim);
  const Columns columns(static_cast<int>(ceil_div(dim, kWidth<T>)), team.rank, team.size);
  ParameterSums<T, kRelation> sums(layout, partial, dim, columns.step);
  sums.clear();
  const Slots<A, kBackwardScalars> slots{slot_memory, layout, dim};
  auto* const factors = reinterpret_cast<Values<A, kFactors>*>(area<A>(layout, kFrames) + 2 * layout.frames);
  for (int64_t slot = blockIdx.x; slot < layout.slots; slot += gridDim.x) {
    const Part<T> part(clips, layout, slot);
    if (!part.exists) continue;
    __syncthreads();  // all are done with the part before
    if (part.whole) {
      backward_clip(clips, q, in, features, layout, team, part.b, sums);
      continue;
    }
    const ClipSums<A> clip = combine_gradient_sums<kRelation>(slots, team, part.first_slot, part.count);
    if (kRelation && part.number == 0 && team.rank == 0) sums.b1 += clip.C;
    for (int i = team.rank; i < part.frames.length; i += team.size) {
      const int64_t frame = part.frames.first + i;
      factors[i] = factors_of(SavedFrame<T, kRelation>(in, clips.total_frames, frame), part.frames.present(i),
                              scratch[frame], kRelation ? scratch[clips.total_frames + frame] : A(0), clip, sums.b0);
    }
    for_each_tile(clips, part.frames, layout, [&](const Rows<T>& rows, int first) {
      copy_rows(rows, team);
      write_gradients(rows, team, factors + first, clip.C, q, in, features, part.b, part.number == 0 && first == 0,
                      layout, dim, sums);
    });
  }
  __syncthreads();
  sums.finish(layout);
}

}  // namespace fan::cuda
