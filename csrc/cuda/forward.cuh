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

// What is known of frames: s, z (before and after what g adds to it), u, and the weights p and r.
template <typename T>
struct Frames {  // of a block's, in shared memory
  using A = Accumulator<T>;
  A *s, *z, *u;
  Values<A, 2>* weights;

  FAN_DEVICE explicit Frames(const Layout& layout)
      : s(area<A>(layout, kFrames)),
        z(s + layout.frames),
        u(z + layout.frames),
        weights(reinterpret_cast<Values<A, 2>*>(u + layout.frames)) {}
};
template <typename T>
struct OneFrame {  // a lane's
  template <typename U>
  struct One {
    U value;
    FAN_DEVICE U& operator[](int64_t) { return value; }
  };
  using A = Accumulator<T>;
  One<A> s, z, u;
  One<Values<A, 2>> weights{};
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

// write(column, sums) with the sums of the rows, weighted with p and, of K = 2, with r.
template <int K, typename T, typename Write>
FAN_DEVICE void sum_rows(const Rows<T>& rows, const Team<Accumulator<T>>& team,
                         const Values<Accumulator<T>, 2>* weights, const Layout& layout, const Write& write) {
  using A = Accumulator<T>;
  constexpr int W = kWidth<T>;
  const Columns columns(rows.pieces, team);
  const int n = rows.count;
  A* const groups = area<A>(layout, kVectors);  // the sums of row groups and blocks
  for (int round = 0; round < rows.pieces; round += columns.step) {
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
    bool writes = active && columns.group == 0;
    if (team.blocks > 1 || columns.groups > 1) {
      if (round > 0) team.sync();  // all have read the sums of the round before
      for (int e = 0; active && e < K * W; ++e) groups[e * team.size + team.rank] = sums[e / W].at[e % W];
      team.sync();
      const auto add_groups = [&](const A* theirs, int first) {
        for (int group = first; group < columns.groups; ++group) {
          const A* const at = theirs + group * columns.step + columns.first;
          for (int e = 0; e < K * W; ++e) sums[e / W].at[e % W] += at[e * team.size];
        }
      };
      writes = writes && piece % team.blocks == team.block;
      if (writes && team.blocks == 1) add_groups(groups, 1);
      if (kHaveClusters && writes && team.blocks > 1) {
        for (int k = 0; k < K; ++k) sums[k] = {};
        for (int block = 0; block < team.blocks; ++block) add_groups(of_block(groups, block), 0);
      }
    }
    if (writes) write(rows.first_column + piece * W, sums);
  }
  if (kHaveClusters && team.blocks > 1) sync_cluster();  // nobody reads on when a block's end takes its memory away
}

template <bool kRelation, typename T, typename Team, typename AnyFrames>
FAN_DEVICE Softmax<Accumulator<T>> softmax_of_s(Team& team, const Clip<T>& clip, AnyFrames& frames) {
  using A = Accumulator<T>;
  return Softmax<A>::over(team, clip.length, [&](int64_t i, Softmax<A>& own) {
    if (clip.present(i)) own.add(Weight<A>(frames.s[i]), kRelation ? frames.u[i] : A(0));
  });
}

// The frames' weights, of which the last, r with relation-attention, else p, are normalised within these frames; gives
// what they are normalised by. self: of the whole clip.
template <bool kRelation, typename T, typename Team, typename AnyFrames>
FAN_DEVICE Softmax<Accumulator<T>> weigh(const ForwardCall<T>& call, Team& team, const Clip<T>& clip, AnyFrames& frames,
                                         const Softmax<Accumulator<T>>& self) {
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
    if (team.writes) write_frame<kRelation>(call, clip.first + i, present, s, p, z, u, r);
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
    sum_rows<K>(rows, team, frames.weights + rows.first, call.layout, [&](int d, const auto& sums) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        if (part.whole) {
          store(call.to.out + (part.b * K + K - 1 - k) * dim + d, sums[k], dim - d, call.layout.aligned);
          continue;
        }
        auto* const to = reinterpret_cast<Piece<T>*>(slot_row(call, k, part.slot) + d);
        auto total = sums[k];
        if (rows.first > 0) add_product(total, Accumulator<T>(1), *to);
        *to = total;
      }
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
      A sum = 0;
#pragma unroll 4
      for (int64_t i = team.warp; column < width && i < parts.count; i += team.warps) {
        const A weight = of_last ? weight_of(i) : A(1);
        sum += weight * slot_row(call, kRelation && of_last, parts.first_slot + i)[column % dim];
      }
      __syncthreads();  // all have read the sums before
      of_warps[team.rank] = sum;
      __syncthreads();
      if (team.warp > 0 || column >= width) continue;
      for (int other = 1; other < team.warps; ++other) sum += of_warps[other * kWarpSize + team.lane];
      call.to.out[b * width + column] = narrow_one<T>(sum);
    }

    for (int64_t i = share * team.size + team.rank; i < parts.clip.length; i += shares * team.size) {
      if (!parts.clip.present(i)) continue;
      const int64_t frame = parts.clip.first + i;
      A& last = call.to.saved[(kRelation ? kSavedR : kSavedP) * call.clips.total_frames + frame];
      last *= weight_of(i / parts.rows);
      if (call.to.final != nullptr) call.to.final[frame] = last;
    }
  }
}

// Clips of a few frames are kept in registers. Frames of a clip, and pieces of a row for each lane, of 4 registers.
template <typename T>
inline constexpr int kWarpRows = kWidth<T>;
template <typename T>
inline constexpr int kWarpPieces = warp_pieces_of(kWidth<T>);

// The lanes that share a clip, of whom all warps of the grid have some, and the clip, the first of several. A team, of
// as many as there are rows: in other lanes there are its members again.
template <typename T>
struct Lanes {
  const Clips<T>& clips;
  const int lanes;
  const int lane = threadIdx.x % lanes;
  const int leader = threadIdx.x % kWarpSize - lane;  // their first one
  const int rank = threadIdx.x % kWarpRows<T>;        // the row of which this lane has the numbers
  static constexpr int size = kWarpRows<T>;
  const bool writes = lane < size;
  int64_t b = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  Clip<T> clip{};  // without frames behind the last one: a warp's lanes stay together
  bool exists;

  FAN_DEVICE Lanes(const Clips<T>& clips, int lanes) : clips(clips), lanes(lanes) { find(); }

  FAN_DEVICE bool done() const { return b - leader / lanes >= clips.clips; }
  FAN_DEVICE void next() {
    b += static_cast<int64_t>(gridDim.x) * blockDim.x / lanes;
    find();
  }
  FAN_DEVICE int piece(int v) const { return v * lanes + lane; }
  template <int K, typename A, typename Op>
  FAN_DEVICE void reduce(A (&values)[K], const Op& op) const {
    reduce_lanes(values, size, op);
  }
  template <typename A>
  FAN_DEVICE A of_row(A value, int row) const {  // what the lane with this row has
    return __shfl_sync(0xffffffffu, value, leader + row);
  }

 private:
  FAN_DEVICE void find() {
    exists = b < clips.clips;
    clip = exists ? find_clip(clips, b) : Clip<T>{};
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

    OneFrame<T> frame{{dots[0][0] + value_of(call.q.self_bias)}, {dots[0][K / 2]}, {dots[0][K - 1]}};
    const auto self = softmax_of_s<kRelation>(own, own.clip, frame);
    weigh<kRelation>(call, own, own.clip, frame, self);
    Values<A, 2> weights[R];
#pragma unroll
    for (int j = 0; j < R; ++j) {
      for (int k = 0; k < (kRelation ? 2 : 1); ++k) weights[j].at[k] = own.of_row(frame.weights.value.at[k], j);
    }
    T* const out = call.to.out + own.b * (kRelation ? 2 : 1) * dim;
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int d = own.piece(v) * kWidth<T>;
      Piece<T> sums[2] = {};
#pragma unroll
      for (int j = 0; j < R; ++j) {
        const auto x = widen<T>(rows[j][v]);
        for (int k = 0; k < (kRelation ? 2 : 1); ++k) add_product(sums[k], weights[j].at[k], x);
      }
      if (!own.exists || d >= dim) continue;
      store(out + (kRelation ? dim : 0) + d, sums[0], dim - d, call.layout.aligned);
      if constexpr (kRelation) store(out + d, sums[1], dim - d, call.layout.aligned);
    }
  }
}

}  // namespace fan::cuda
