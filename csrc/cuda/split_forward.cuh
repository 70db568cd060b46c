// The forward pass over clips cut into parts, in three kernels: the logits of all parts and, with relation-attention
// once g of the whole clip is known, the sums of their rows; and the parts added up.
#pragma once

#include "forward.cuh"
#include "parts.cuh"

namespace fan::cuda {

// In a slot: the part's softmax with self-attention weights, that with final weights, and its rows' sums relative to
// each.
template <typename T>
FAN_DEVICE void leave_softmax(const Call<T>& call, int which, int64_t slot, const Softmax<Accumulator<T>>& softmax) {
  for (int k = 0; k < 3; ++k) *slot_scalar(call, 3 * which + k, slot) = softmax.at[k];
}
template <typename T>
FAN_DEVICE Softmax<Accumulator<T>> softmax_of(const Call<T>& call, int which, int64_t slot) {
  return {{*slot_scalar(call, 3 * which, slot), *slot_scalar(call, 3 * which + 1, slot),
           *slot_scalar(call, 3 * which + 2, slot)}};
}
template <typename T>
FAN_DEVICE Accumulator<T>* slot_row(const Call<T>& call, int which, int64_t slot) {
  return slot_scalar(call, kForwardScalars, 0) + (which * call.layout.slots + slot) * padded_dim(call.clips.dim);
}

template <typename T, typename Team>
FAN_DEVICE Softmax<Accumulator<T>> combine(const Call<T>& call, int which, Team& team, const Parts<T>& parts) {
  return Softmax<Accumulator<T>>::over(team, parts.count, [&](int64_t i, Softmax<Accumulator<T>>& own) {
    own.add(softmax_of(call, which, parts.first_slot + i));
  });
}

// The sums of a part's rows, weighted as in frames.weights.
template <int K, typename T, typename Team>
FAN_DEVICE void sum_part(const Call<T>& call, const Part<T>& part, Team& team, const Frames<T>& frames) {
  for_each_tile(call, part.frames, [&](const Rows<T>& rows, int first) {
    copy_rows(rows, team);
    sum_rows<K>(rows, team, frames.weights + first, call.layout, [&](int d, const auto& sums) {
      for (int k = 0; k < K; ++k) {
        auto* const to = reinterpret_cast<Piece<T>*>(slot_row(call, k, blockIdx.x) + d);
        auto total = sums[k];
        if (first > 0) add_product(total, Accumulator<T>(1), *to);
        *to = total;
      }
    });
  });
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    logits_kernel(const __grid_constant__ ForwardCall<T> call) {
  using A = Accumulator<T>;
  if (!Part<T>::may_exist(call, blockIdx.x)) return;
  const Part<T> part(call, blockIdx.x);
  if (!part.exists) return;
  Team<A, Scope::kBlock> team(call.layout);
  if (part.all.whole) return forward_clip<kRelation>(call, team, part.b);

  const Frames<T> frames(call.layout);
  for_each_tile(call, part.frames,
                [&](const Rows<T>& rows, int first) { compute_logits<kRelation>(call, rows, first, team, frames); });
  __syncthreads();
  const auto self = Softmax<A>::over(team, part.frames, [&](int i, Softmax<A>& own) {
    own.add(Weight<A>(frames.s[i]), kRelation ? frames.u[i] : A(0));
  });
  if (team.rank == 0) leave_softmax(call, 0, blockIdx.x, self);
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    A* const saved = call.to.saved + part.frames.first + i;
    saved[kSavedS * call.clips.total_frames] = frames.s[i];
    if constexpr (kRelation) {
      saved[kSavedZ * call.clips.total_frames] = frames.z[i];
      saved[kSavedU * call.clips.total_frames] = frames.u[i];
    } else {
      frames.weights[i] = {{part.frames.present(i) ? self.relative(Weight<A>(frames.s[i])) : A(0), A(0)}};
    }
  }
  if constexpr (!kRelation) {
    __syncthreads();
    sum_part<1>(call, part, team, frames);
  }
}

// Rows are read again, from L2 while the features fit there.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    sums_kernel(const __grid_constant__ ForwardCall<T> call) {
  using A = Accumulator<T>;
  if (!Part<T>::may_exist(call, blockIdx.x)) return;
  const Part<T> part(call, blockIdx.x);
  if (!part.exists || part.all.whole) return;
  Team<A, Scope::kBlock> team(call.layout);
  const Frames<T> frames(call.layout);
  const Softmax<A> clip = combine(call, 0, team, part.all), self = softmax_of(call, 0, blockIdx.x);
  const A shift = clip.sum() / clip.total() + value_of(call.q.relation_bias);
  A* const s = call.to.saved + kSavedS * call.clips.total_frames + part.frames.first;
  A* const z = call.to.saved + kSavedZ * call.clips.total_frames + part.frames.first;
  const auto both = Softmax<A>::over(team, part.frames, [&](int i, Softmax<A>& own) {
    z[i] += shift;
    own.add(Weight<A>(s[i], z[i]));
  });
  if (team.rank == 0) leave_softmax(call, 1, blockIdx.x, both);
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    const bool present = part.frames.present(i);
    frames.weights[i] = {
        {present ? self.relative(Weight<A>(s[i])) : A(0), present ? both.relative(Weight<A>(s[i], z[i])) : A(0)}};
  }
  __syncthreads();
  sum_part<2>(call, part, team, frames);
}

// Of each clip that was not whole, out and its frames' weights: a block takes every so many-th 32 columns and frames.
template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, 2)
    combine_kernel(const __grid_constant__ ForwardCall<T> call, int shares) {
  using A = Accumulator<T>;
  write_idle_frames<kRelation>(call);
  Team<A, Scope::kBlock> team(call.layout);
  A* const of_warps = area<A>(call.layout, kVectors);
  const int share = blockIdx.x % shares, dim = call.dim(), width = (kRelation ? 2 : 1) * dim;
  for (int64_t b = blockIdx.x / shares; b < call.clips.clips; b += gridDim.x / shares) {
    const Parts<T> parts(call, b);
    if (parts.whole) continue;
    const Softmax<A> self = combine(call, 0, team, parts);
    const Softmax<A> both = kRelation ? combine(call, 1, team, parts) : self;

    for (int begin = share * kWarpSize; begin < width; begin += shares * kWarpSize) {
      const int column = begin + team.lane, which = kRelation && column < dim ? 1 : 0;
      const A largest = which == 1 ? both.largest() : self.largest(), all = which == 1 ? both.total() : self.total();
      A sum = 0;
#pragma unroll 4
      for (int64_t i = team.warp; column < width && i < parts.count; i += team.warps) {
        const int64_t slot = parts.first_slot + i;
        const A scale = Softmax<A>::rescale(*slot_scalar(call, 3 * which, slot), largest);
        sum += scale * slot_row(call, which, slot)[column % dim];
      }
      __syncthreads();  // all have read the sums before
      of_warps[team.rank] = sum;
      __syncthreads();
      if (team.warp > 0 || column >= width) continue;
      for (int other = 1; other < team.warps; ++other) sum += of_warps[other * kWarpSize + team.lane];
      call.to.out[b * width + column] = narrow_one<T>(all == A(0) ? A(0) : sum / all);
    }

    for (int64_t i = share * team.size + team.rank; i < parts.clip.length; i += shares * team.size) {
      const int64_t frame = parts.clip.first + i, total = call.clips.total_frames;
      const A* const saved = call.to.saved + frame;
      const A s = saved[kSavedS * total], z = kRelation ? saved[kSavedZ * total] : A(0);
      const A u = kRelation ? saved[kSavedU * total] : A(0), r = kRelation ? both.normalised(Weight<A>(s, z)) : A(0);
      write_frame<kRelation>(call, frame, parts.clip.present(i), s, self.normalised(Weight<A>(s)), z, u, r);
    }
  }
}

}  // namespace fan::cuda
