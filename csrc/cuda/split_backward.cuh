// The backward pass over clips cut into parts, in two kernels: the sums over a clip's frames, part by part; and, with
// these added up, dF and the sums of the parameters' gradients.
#pragma once

#include "backward.cuh"
#include "parts.cuh"

namespace fan::cuda {

// In a slot. C = sum dz = sum r (1 - beta) (f.V - v.V) + sum b beta (1 - beta) would lose digits as a difference of
// sums over r f.V. So the parts sum (1 - beta) r (f.V - c), where c is their own mean of f.V, and what is left, c -
// v.V, is the same for all frames of a part.
enum BackwardScalar {
  kPfG,      // sum p f.G
  kPu,       // sum p u
  kRfV,      // sum r f.V
  kRTotal,   // sum r
  kCentred,  // sum r (1 - beta) (f.V - c)
  kSlope,    // sum r (1 - beta)
  kDirect,   // sum b beta (1 - beta)
};
static_assert(kDirect + 1 == kBackwardScalars);

template <typename A>
FAN_DEVICE A mean_of(A sum, A total) {
  return total > A(0) ? sum / total : A(0);
}

// f.G and f.V of all frames, from one kernel to the next.
template <typename T>
FAN_DEVICE Accumulator<T>* scratch_of(const BackwardCall<T>& call) {
  return slot_scalar(call, kBackwardScalars, 0);
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    gradient_sums_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  if (!Part<T>::may_exist(call, blockIdx.x)) return;
  const Part<T> part(call, blockIdx.x);
  if (!part.exists || part.all.whole) return;
  Team<A, Scope::kBlock> team(call.layout);
  A *const fG = area<A>(call.layout, kFrames), *const fV = fG + call.layout.frames;
  for_each_tile(call, part.frames, [&](const Rows<T>& rows, int first) {
    compute_frame_gradients<kRelation>(call, rows, first, team, part.b, fG, fV);
  });
  __syncthreads();

  const auto for_each_frame = [&](const auto& body) {
    for (int i = team.rank; i < part.frames.length; i += team.size) {
      const int64_t frame = part.frames.first + i;
      body(frame, Frame<T, kRelation>(call, frame, part.frames.present(i), fG[i], kRelation ? fV[i] : A(0)));
    }
  };
  A sums[4] = {}, of_C[3] = {};
  for_each_frame([&](int64_t i, const auto& frame) {
    scratch_of(call)[i] = frame.fG;
    if constexpr (kRelation) scratch_of(call)[call.clips.total_frames + i] = frame.fV;
    sums[kPfG] += frame.p * frame.fG;
    sums[kPu] += frame.p * frame.u;
    sums[kRfV] += frame.r * frame.fV;
    sums[kRTotal] += frame.r;
  });
  team.sum(sums);
  if constexpr (kRelation) {
    const A mean = mean_of(sums[kRfV], sums[kRTotal]);
    for_each_frame([&](int64_t, const auto& frame) {
      const A rest = sigmoid(-frame.z);
      of_C[0] += frame.r * rest * (frame.fV - mean);
      of_C[1] += frame.r * rest;
      of_C[2] += frame.grad_beta * sigmoid(frame.z) * rest;
    });
    team.sum(of_C);
  }
#pragma unroll
  for (int k = 0; k < kBackwardScalars; ++k) {
    if (team.rank == 0) *slot_scalar(call, k, blockIdx.x) = k < 4 ? sums[k] : of_C[k - 4];
  }
}

template <bool kRelation, typename T, typename Team>
FAN_DEVICE ClipSums<Accumulator<T>> combine(const BackwardCall<T>& call, Team& team, const Parts<T>& parts) {
  using A = Accumulator<T>;
  const auto at = [&](BackwardScalar k, int64_t i) { return *slot_scalar(call, k, parts.first_slot + i); };
  A sums[3] = {};
  for (int64_t i = team.rank; i < parts.count; i += team.size) {
    for (int k = kPfG; k <= kRfV; ++k) sums[k] += at(static_cast<BackwardScalar>(k), i);
  }
  team.sum(sums);
  ClipSums<A> clip;
  clip.vV = sums[kRfV];
  if constexpr (kRelation) {
    A C[1] = {};
    for (int64_t i = team.rank; i < parts.count; i += team.size) {
      const A mean = mean_of(at(kRfV, i), at(kRTotal, i));
      C[0] += at(kCentred, i) + (mean - clip.vV) * at(kSlope, i) + at(kDirect, i);
    }
    team.sum(C);
    clip.C = C[0];
  }
  clip.gdg = sums[kPfG] + clip.C * sums[kPu];
  return clip;
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    gradients_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  clear_idle_rows(call);
  Team<A, Scope::kBlock> team(call.layout);
  ParameterSums<T, kRelation> sums(call, Columns((call.dim() + kWidth<T> - 1) / kWidth<T>, team).step);
  auto* const factors = reinterpret_cast<Values<A, kFactors>*>(area<A>(call.layout, kFrames) + 2 * call.layout.frames);
  for (int64_t slot = blockIdx.x; Part<T>::may_exist(call, slot); slot += gridDim.x) {
    const Part<T> part(call, slot);
    if (!part.exists) continue;
    __syncthreads();  // all are done with the part before
    if (part.all.whole) {
      backward_clip(call, team, part.b, sums);
      continue;
    }
    const ClipSums<A> clip = combine<kRelation>(call, team, part.all);
    if (kRelation && part.number == 0 && team.rank == 0) sums.b1 += clip.C;
    for (int i = team.rank; i < part.frames.length; i += team.size) {
      const int64_t frame = part.frames.first + i;
      const A fG = scratch_of(call)[frame], fV = kRelation ? scratch_of(call)[call.clips.total_frames + frame] : A(0);
      factors[i] = Frame<T, kRelation>(call, frame, part.frames.present(i), fG, fV).factors(clip, sums.b0);
    }
    for_each_tile(call, part.frames, [&](const Rows<T>& rows, int first) {
      copy_rows(rows, team);
      write_gradients(call, rows, team, factors + first, clip.C, part.b, part.number == 0 && first == 0, sums);
    });
  }
  __syncthreads();
  sums.finish();
}

}  // namespace fan::cuda
