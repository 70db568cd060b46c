// The forward pass. The algorithm is section 1 of docs/operator.md; the names of the variables are the names there.
#pragma once

#include "rows.cuh"
#include "weights.cuh"

namespace fan::cuda {

// Of one frame. A present one has these; an absent one zeros.
template <bool kRelation, typename T>
FAN_DEVICE void write_frame(const ForwardCall<T>& call, int64_t frame, bool present, typename Call<T>::A s,
                            typename Call<T>::A p, typename Call<T>::A z, typename Call<T>::A u,
                            typename Call<T>::A r) {
  using A = Accumulator<T>;
  const A values[] = {s, p, z, u, r};  // in the order of Saved
#pragma unroll
  for (int k = 0; k < saved_arrays(kRelation); ++k) {
    call.to.saved[k * call.clips.total_frames + frame] = present ? values[k] : A(0);
  }
  if (call.to.alpha == nullptr) return;
  call.to.alpha[frame] = present ? sigmoid(s) : A(0);
  if constexpr (kRelation) call.to.beta[frame] = present ? sigmoid(z) : A(0);
  call.to.final[frame] = present ? (kRelation ? r : p) : A(0);
}

template <bool kRelation, typename T>
FAN_DEVICE void write_idle_frames(const ForwardCall<T>& call) {
  for_each_idle_frame<1>(call.clips, [&](int64_t frame) { write_frame<kRelation>(call, frame, false, 0, 0, 0, 0, 0); });
}

// What is known of frames, in shared memory: s, z (before and after what g adds to it), u, and the weights p and r.
template <typename T>
struct Frames {
  using A = Accumulator<T>;
  A *s, *z, *u;
  Values<A, 2>* weights;

  // first: of those that the block's shared memory has room for.
  FAN_DEVICE explicit Frames(const Layout& layout, int first = 0)
      : s(area<A>(layout, kFrames) + first),
        z(s + layout.frames),
        u(z + layout.frames),
        weights(reinterpret_cast<Values<A, 2>*>(area<A>(layout, kFrames) + 3 * layout.frames) + first) {}
};

// Of so many pieces from a column on, zeros behind the last column.
template <bool kRelation, typename T>
FAN_DEVICE void put_parameters(const Vectors<T>& vectors, const Call<T>& call, int column, int pieces) {
  const int dim = call.dim();
  for (int piece = threadIdx.x; piece < pieces; piece += blockDim.x) {
    const int d = column + piece * kWidth<T>;
    vectors.put(0, piece, load(call.q.self_weight, d, dim - d, call.layout.aligned));
    for (int half = 0; kRelation && half < 2; ++half) {
      vectors.put(1 + half, piece, load(call.q.relation_weight, half * dim + d, dim - d, call.layout.aligned));
    }
  }
}

// s, z' (the relation-attention logit before what g adds to it) and u of the rows.
template <bool kRelation, typename T>
FAN_DEVICE void compute_logits(const Call<T>& call, const Rows<T>& rows, const Team<Accumulator<T>>& team,
                               const Frames<T>& frames) {
  using A = Accumulator<T>;
  const Vectors<T> vectors(area<A>(call.layout, kVectors), rows.pieces);
  const A b0 = value_of(call.q.self_bias);
  const auto fill = [&] { put_parameters<kRelation>(vectors, call, rows.first_column, rows.pieces); };
  dot_rows<kRelation ? 3 : 1>(rows, team, vectors, fill, [&](int row, const auto& dots) {
    const int i = rows.first + row;
    A* const to[] = {&frames.s[i], &frames.z[i], &frames.u[i]};
#pragma unroll
    for (int k = 0; k < (kRelation ? 3 : 1); ++k) {
      const A before = rows.first_column > 0 ? *to[k] : k == 0 ? b0 : A(0);  // of the columns before
      *to[k] = before + dots[k];
    }
  });
}

// write(k, column, sums) with the sums of the rows, of k = 0 weighted with p and of k = 1, if K = 2, with r.
template <int K, typename T, typename Write>
FAN_DEVICE void sum_rows(const Rows<T>& rows, const Team<Accumulator<T>>& team,
                         const Values<Accumulator<T>, 2>* weights, const Layout& layout, const Write& write) {
  using A = Accumulator<T>;
  const Columns columns(rows.pieces, team);
  const int n = rows.count, step = columns.step;
  A* const memory = area<A>(layout, kVectors);
  const Vectors<T> of_groups(memory, step);
  for (int round = 0; round < rows.pieces; round += step) {
    const int piece = round + columns.first;
    const bool active = piece < rows.pieces && columns.group < columns.groups;
    Piece<T> sums[K] = {};
    if (active) {
#pragma unroll 4
      for (int i = columns.group; i < n; i += columns.groups) {
        const auto x = widen<T>(rows.piece(i, piece));
        const auto weight = weights[i];
        for (int k = 0; k < K; ++k) add_product(sums[k], weight.at[k], x);
      }
    }
    const auto write_at = [&](int k, int at, const Piece<T>& total) {
      if (round + at < rows.pieces) write(k, rows.first_column + (round + at) * kWidth<T>, total);
    };
    if (team.blocks == 1 && columns.groups == 1) {
      for (int k = 0; k < K && active; ++k) write_at(k, columns.first, sums[k]);
      continue;
    }
    // Of a block alone a second round has no groups. Of a cluster all have read the sums of the round before.
    if (kHaveClusters && round > 0) sync_cluster();
    for (int k = 0; k < K && columns.group < columns.groups; ++k) {
      of_groups.put(columns.group * K + k, columns.first, sums[k]);
    }
    __syncthreads();
    for (int i = team.rank; i < K * step; i += team.size) {
      const int k = i < step ? 0 : 1, at = i - k * step;
      auto total = of_groups.get(k, at);
      for (int group = 1; group < columns.groups; ++group) add_product(total, A(1), of_groups.get(group * K + k, at));
      if (team.blocks == 1) {
        write_at(k, at, total);
      } else {
        of_groups.put(k, at, total);
      }
    }
    if (!kHaveClusters || team.blocks == 1) continue;
    sync_cluster();
    for (int i = team.rank * team.blocks + team.block; i < K * step; i += team.size * team.blocks) {
      const int k = i < step ? 0 : 1, at = i - k * step;
      Piece<T> total = {};
      for (int block = 0; block < team.blocks; ++block) {
        add_product(total, A(1), Vectors<T>(const_cast<A*>(of_block(memory, block)), step).get(k, at));
      }
      write_at(k, at, total);
    }
  }
  if (kHaveClusters && team.blocks > 1) sync_cluster();  // nobody reads on when a block's end takes its memory away
}

template <bool kRelation, typename T, typename Team>
FAN_DEVICE Softmax<Accumulator<T>> softmax_of_s(Team& team, const Clip<T>& clip, const Frames<T>& frames) {
  using A = Accumulator<T>;
  return Softmax<A>::over(team, clip.length, [&](int64_t i, Softmax<A>& own) {
    if (clip.present(i)) own.add(Weight<A>(frames.s[i]), kRelation ? frames.u[i] : A(0));
  });
}

// The frames' weights, of which the last, r with relation-attention, else p, are normalised within these frames; gives
// what they are normalised by. self: of the whole clip.
template <bool kRelation, typename T, typename Team>
FAN_DEVICE Softmax<Accumulator<T>> weigh(const ForwardCall<T>& call, Team& team, const Clip<T>& clip,
                                         const Frames<T>& frames, const Softmax<Accumulator<T>>& self) {
  using A = Accumulator<T>;
  Softmax<A> last = self;
  if constexpr (kRelation) {
    const A shift = self.sum() / self.total() + value_of(call.q.relation_bias);  // g . q1b + b1
    last = Softmax<A>::over(team, clip.length, [&](int64_t i, Softmax<A>& own) {
      frames.z[i] += shift;
      if (clip.present(i)) own.add(Weight<A>(frames.s[i], frames.z[i]));
    });
  }
  for (int64_t i = team.rank; i < clip.length; i += team.size) {
    const bool present = clip.present(i);
    const A s = frames.s[i], z = kRelation ? frames.z[i] : A(0), u = kRelation ? frames.u[i] : A(0);
    const A p = present ? self.normalised(Weight<A>(s)) : A(0);
    const A r = kRelation && present ? last.normalised(Weight<A>(s, z)) : A(0);
    write_frame<kRelation>(call, clip.first + i, present, s, p, z, u, r);
    frames.weights[i] = {{p, r}};
  }
  return last;
}

// In a slot: the part's softmax with self-attention weights, that with final weights (kRelation), and its rows' sums.
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
template <typename T>
FAN_DEVICE Softmax<Accumulator<T>> combine(const Call<T>& call, int which, Team<Accumulator<T>>& team,
                                           const Parts<T>& parts) {
  return Softmax<Accumulator<T>>::over(team, parts.count, [&](int64_t i, Softmax<Accumulator<T>>& own) {
    own.add(softmax_of(call, which, parts.first_slot + i));
  });
}

// The weights of a part's frames and the sums of its rows: of a whole clip in out, else in the slot. there: the rows
// are in shared memory.
template <bool kRelation, typename T>
FAN_DEVICE void weigh_and_sum(const ForwardCall<T>& call, Team<Accumulator<T>>& team, const Part<T>& part,
                              Frames<T>& frames, const Softmax<Accumulator<T>>& self, bool there) {
  constexpr int K = kRelation ? 2 : 1;
  const Softmax<Accumulator<T>> last = weigh<kRelation>(call, team, part.frames, frames, self);
  if (!part.whole && team.rank == 0) leave_softmax(call, kRelation, part.slot, last);
  __syncthreads();
  const int dim = call.dim();
  for_each_tile(call, part.frames, [&](const Rows<T>& rows) {
    if (!there) copy_rows(rows, team);
    sum_rows<K>(rows, team, frames.weights + rows.first, call.layout, [&](int k, int d, auto sums) {
      if (part.whole) {
        return store(call.to.out + (part.b * K + K - 1 - k) * dim + d, sums, dim - d, call.layout.aligned);
      }
      auto* const to = reinterpret_cast<Piece<T>*>(slot_row(call, k, part.slot) + d);
      if (rows.first > 0) add_product(sums, Accumulator<T>(1), *to);
      *to = sums;
    });
  });
}

// A block, or a cluster, takes a clip, or a block a part of one. Of a part with relation-attention only the logits:
// sums_kernel goes on once g of the whole clip is known.
template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T>)
    forward_kernel(const __grid_constant__ ForwardCall<T> call) {
  write_idle_frames<kRelation>(call);
  Team<Accumulator<T>> team(call.layout);
  if (!Part<T>::may_exist(call, blockIdx.x / team.blocks)) return;
  const Part<T> part(call, team, blockIdx.x / team.blocks);
  if (!part.exists) return;
  Frames<T> frames(call.layout);
  for_each_tile(call, part.frames, [&](const Rows<T>& rows) { compute_logits<kRelation>(call, rows, team, frames); });
  __syncthreads();
  const auto self = softmax_of_s<kRelation>(team, part.frames, frames);
  const bool there = part.frames.length <= call.layout.rows && call.clips.dim <= call.layout.columns;
  if (!kRelation || part.whole) return weigh_and_sum<kRelation>(call, team, part, frames, self, there);
  if (team.rank == 0) leave_softmax(call, 0, part.slot, self);
  Accumulator<T>* const saved = call.to.saved + part.frames.first;
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    saved[kSavedS * call.clips.total_frames + i] = frames.s[i];
    saved[kSavedZ * call.clips.total_frames + i] = frames.z[i];
    saved[kSavedU * call.clips.total_frames + i] = frames.u[i];
  }
}

// Rows are read again, from L2 while the features fit there.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T>) sums_kernel(const __grid_constant__ ForwardCall<T> call) {
  Team<Accumulator<T>> team(call.layout, 1);
  if (!Part<T>::may_exist(call, blockIdx.x)) return;
  const Part<T> part(call, team, blockIdx.x);
  if (!part.exists || part.whole) return;
  Frames<T> frames(call.layout);
  const Accumulator<T>* const saved = call.to.saved + part.frames.first;
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    frames.s[i] = saved[kSavedS * call.clips.total_frames + i];
    frames.z[i] = saved[kSavedZ * call.clips.total_frames + i];
    frames.u[i] = saved[kSavedU * call.clips.total_frames + i];
  }
  weigh_and_sum<true>(call, team, part, frames, combine(call, 0, team, part), false);
}

// Of each clip that was not whole, out and its frames' last weights: a block takes every so many-th 32 columns and
// frames.
template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, 2) combine_kernel(const __grid_constant__ ForwardCall<T> call) {
  using A = Accumulator<T>;
  Team<A> team(call.layout, 1);
  A* const of_warps = area<A>(call.layout, kVectors);
  A* const weights = of_warps + kMaxThreads;  // of kCombinedParts parts
  const int shares = call.layout.shares, share = blockIdx.x % shares, dim = call.dim(),
            width = (kRelation ? 2 : 1) * dim;
  for (int64_t b = blockIdx.x / shares; b < call.clips.clips; b += gridDim.x / shares) {
    const Parts<T> parts(call, team, b);
    if (parts.whole) continue;
    const Softmax<A> clip = combine(call, kRelation, team, parts);
    const A inverse = clip.total() == A(0) ? A(0) : A(1) / clip.total();
    const auto weight_of = [&](int64_t i) {
      const Softmax<A> part = softmax_of(call, kRelation, parts.first_slot + i);
      return Softmax<A>::rescale(part.largest(), clip.largest()) * part.total() * inverse;
    };

    for (int begin = share * kWarpSize; begin < width; begin += shares * kWarpSize) {
      const int column = begin + team.lane;
      const bool of_last = !kRelation || column < dim;  // the sums with p are to be added only
      const A* const rows = slot_row(call, kRelation && of_last, parts.first_slot) + column % dim;
      A sum = 0;
      for (int64_t first = 0; first < parts.count; first += kCombinedParts) {
        const int count = static_cast<int>(clamp(parts.count - first, 0, kCombinedParts));
        __syncthreads();  // all have read the weights before
        for (int i = team.rank; i < count; i += team.size) weights[i] = weight_of(first + i);
        __syncthreads();
#pragma unroll 8
        for (int i = team.warp; i < count; i += team.warps) {
          if (column < width) sum += (of_last ? weights[i] : A(1)) * rows[(first + i) * padded_dim(dim)];
        }
      }
      __syncthreads();  // all have read the sums before
      of_warps[team.rank] = sum;
      __syncthreads();
      if (team.warp > 0 || column >= width) continue;
      for (int other = 1; other < team.warps; ++other) sum += of_warps[other * kWarpSize + team.lane];
      call.to.out[b * width + column] = narrow_one<T>(sum);
    }

#pragma unroll 4
    for (int64_t i = share * team.size + team.rank; i < parts.clip.length; i += shares * team.size) {
      if (!parts.clip.present(i)) continue;
      const int64_t frame = parts.clip.first + i;
      A& last = call.to.saved[(kRelation ? kSavedR : kSavedP) * call.clips.total_frames + frame];
      last *= weight_of(i / parts.rows);
      if (call.to.final != nullptr) call.to.final[frame] = last;
    }
  }
}

}  // namespace fan::cuda
