// The forward pass over clips cut into parts, in three kernels: the logits of all parts and, with relation-attention
// once g of the whole clip is known, the sums of their rows; and the parts added up.
#pragma once

#include "forward.cuh"
#include "parts.cuh"

namespace fan::cuda {

// A part's softmax with self-attention weights is in the first three scalars of its slot, that with final weights in
// the others; the sums of its rows, relative to each, in the two rows.
template <typename T>
struct ForwardSlots : Slots<Accumulator<T>, kForwardScalars> {
  using A = Accumulator<T>;

  __device__ __forceinline__ void leave(int which, int64_t slot, const Softmax<A>& softmax) const {
    *this->scalar(3 * which, slot) = softmax.largest;
    *this->scalar(3 * which + 1, slot) = softmax.total;
    *this->scalar(3 * which + 2, slot) = softmax.sum;
  }
  __device__ __forceinline__ Softmax<A> get(int which, int64_t slot) const {
    return {*this->scalar(3 * which, slot), *this->scalar(3 * which + 1, slot), *this->scalar(3 * which + 2, slot)};
  }
  // Of a clip of so many parts from this slot on.
  template <typename Team>
  __device__ __forceinline__ Softmax<A> combine(int which, Team& team, int64_t first, int64_t count) const {
    return Softmax<A>::over(team, [&](Softmax<A>& own) {
      for (int64_t part = team.rank; part < count; part += team.size) own.add(get(which, first + part));
    });
  }
};

// The sums of a part's rows, weighted as in frames.weights; these are copied anew unless they are all there.
template <int K, typename T, typename Team>
__device__ __forceinline__ void sum_part(const Clips<T>& clips, const Clip<T>& part, const Layout& layout, Team& team,
                                         const Frames<T>& frames, const ForwardSlots<T>& slots, int64_t slot) {
  for_each_tile(clips, part, layout, [&](const Rows<T>& rows, int first) {
    copy_rows(rows, team);
    sum_rows<K>(rows, team, frames.weights + first, layout, [&](int d, const auto& sums) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        auto* const to = reinterpret_cast<Values<Accumulator<T>, kWidth<T>>*>(slots.row(k, slot) + d);
        auto total = sums[k];
        if (first > 0) add_product(total, Accumulator<T>(1), *to);
        *to = total;
      }
    });
  });
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    logits_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> q,
                  const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout,
                  Accumulator<T>* workspace) {
  using A = Accumulator<T>;
  const Part<T> part(clips, layout, blockIdx.x);
  if (!part.exists) return;
  Team<A, Scope::kBlock> team(layout);
  if (part.whole) return forward_clip<T, kRelation>(clips, q, outputs, layout, team, part.b);

  const Frames<T> frames(layout);
  for_each_tile(clips, part.frames, layout, [&](const Rows<T>& rows, int first) {
    compute_logits<T, kRelation>(rows, first, team, q, layout, frames, static_cast<int>(clips.dim));
  });
  __syncthreads();
  const auto self = Softmax<A>::over(team, [&](Softmax<A>& own) {
    for (int i = team.rank; i < part.frames.length; i += team.size) {
      if (part.frames.present(i)) own.add(Weight<A>(frames.s[i]), kRelation ? frames.u[i] : A(0));
    }
  });
  const ForwardSlots<T> slots{{workspace, layout, clips.dim}};
  if (team.rank == 0) slots.leave(0, blockIdx.x, self);
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    A* const saved = outputs.saved + part.frames.first + i;
    saved[kSavedS * clips.total_frames] = frames.s[i];
    if constexpr (kRelation) {
      saved[kSavedZ * clips.total_frames] = frames.z[i];
      saved[kSavedU * clips.total_frames] = frames.u[i];
    } else {
      frames.weights[i] = {{part.frames.present(i) ? self.relative(Weight<A>(frames.s[i])) : A(0), A(0)}};
    }
  }
  if constexpr (!kRelation) {
    __syncthreads();
    sum_part<1>(clips, part.frames, layout, team, frames, slots, blockIdx.x);
  }
}

// Rows are read again, from L2 while the features fit there.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    sums_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> q,
                const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout,
                Accumulator<T>* workspace) {
  using A = Accumulator<T>;
  const Part<T> part(clips, layout, blockIdx.x);
  if (!part.exists || part.whole) return;
  Team<A, Scope::kBlock> team(layout);
  const Frames<T> frames(layout);
  const ForwardSlots<T> slots{{workspace, layout, clips.dim}};
  const Softmax<A> clip = slots.combine(0, team, part.first_slot, part.count), self = slots.get(0, blockIdx.x);
  const A shift = clip.sum / clip.total + value_of(q.relation_bias);
  A* const saved = outputs.saved + part.frames.first;
  const auto both = Softmax<A>::over(team, [&](Softmax<A>& own) {
    for (int i = team.rank; i < part.frames.length; i += team.size) {
      const A s = saved[kSavedS * clips.total_frames + i], z = saved[kSavedZ * clips.total_frames + i] + shift;
      saved[kSavedZ * clips.total_frames + i] = z;
      if (part.frames.present(i)) own.add(Weight<A>(s, z));
    }
  });
  if (team.rank == 0) slots.leave(1, blockIdx.x, both);
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    const A s = saved[kSavedS * clips.total_frames + i], z = saved[kSavedZ * clips.total_frames + i];
    const bool present = part.frames.present(i);
    frames.weights[i] = {
        {present ? self.relative(Weight<A>(s)) : A(0), present ? both.relative(Weight<A>(s, z)) : A(0)}};
  }
  __syncthreads();
  sum_part<2>(clips, part.frames, layout, team, frames, slots, blockIdx.x);
}

// Of each clip that was not whole, out and its frames' weights: a block takes every so many-th 32 columns and frames.
template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, 2)
    combine_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ ForwardOutputs<T> outputs,
                   const __grid_constant__ Layout layout, Accumulator<T>* workspace, int shares) {
  using A = Accumulator<T>;
  write_idle_frames<T, kRelation>(clips, outputs);
  Team<A, Scope::kBlock> team(layout);
  const ForwardSlots<T> slots{{workspace, layout, clips.dim}};
  A* const of_warps = area<A>(layout, kVectors);
  const int share = blockIdx.x % shares, width = static_cast<int>((kRelation ? 2 : 1) * clips.dim);
  for (int64_t b = blockIdx.x / shares; b < clips.clips; b += gridDim.x / shares) {
    const Clip<T> clip = find_clip(clips, b);
    if (is_whole(clips, clip.length, layout) && clip.length > 0) continue;
    const int64_t first = first_slot(clips, layout, b), count = parts_of(clip.length, layout);
    const Softmax<A> self = slots.combine(0, team, first, count);
    const Softmax<A> both = kRelation ? slots.combine(1, team, first, count) : self;

    for (int begin = share * kWarpSize; begin < width; begin += shares * kWarpSize) {
      const int column = begin + team.lane, which = kRelation && column < clips.dim ? 1 : 0;
      const Softmax<A>& softmax = which == 1 ? both : self;
      A sum = 0;
      if (column < width) {
        const int64_t d = column % clips.dim;
#pragma unroll 4
        for (int64_t part = team.warp; part < count; part += team.warps) {
          const A scale = Softmax<A>::rescale(*slots.scalar(3 * which, first + part), softmax.largest);
          sum += scale * slots.row(which, first + part)[d];
        }
      }
      __syncthreads();  // all have read the sums before
      of_warps[team.rank] = sum;
      __syncthreads();
      if (team.warp > 0 || column >= width) continue;
      for (int other = 1; other < team.warps; ++other) sum += of_warps[other * kWarpSize + team.lane];
      outputs.out[b * width + column] =
          narrow<T>(softmax.total > 0 || softmax.total != softmax.total ? sum / softmax.total : A(0));
    }

    for (int64_t i = share * team.size + team.rank; i < clip.length; i += shares * team.size) {
      const int64_t frame = clip.first + i, total = clips.total_frames;
      const bool present = clip.present(i);
      const A s = outputs.saved[kSavedS * total + frame], z = kRelation ? outputs.saved[kSavedZ * total + frame] : A(0);
      const A u = kRelation ? outputs.saved[kSavedU * total + frame] : A(0);
      write_frame<T, kRelation>(clips, outputs, frame, present, s, self.normalised(Weight<A>(s)), z, u,
                                kRelation ? both.normalised(Weight<A>(s, z)) : A(0));
    }
  }
}

}  // namespace fan::cuda
