// The forward pass of a clip that fits in the shared memory of a block, or of a cluster of blocks. The algorithm is
// section 1 of docs/operator.md; the names of the variables are the names there.
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

// What is known of the frames of a block.
template <typename T>
struct Frames {
  using A = Accumulator<T>;
  A *s, *z, *u;
  Values<A, 2>* weights;  // p and r, or what they are relative to something

  FAN_DEVICE explicit Frames(const Layout& layout)
      : s(area<A>(layout, kFrames)),
        z(s + layout.frames),
        u(z + layout.frames),
        weights(reinterpret_cast<Values<A, 2>*>(u + layout.frames)) {}
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

// s, z' (the relation-attention logit before what g adds to it) and u of the rows, the first of which is frame `at`.
template <bool kRelation, typename T, typename Team>
FAN_DEVICE void compute_logits(const Call<T>& call, const Rows<T>& rows, int at, const Team& team,
                               const Frames<T>& frames) {
  using A = Accumulator<T>;
  const Vectors<T> vectors(area<A>(call.layout, kVectors), rows.pieces);
  const A b0 = value_of(call.q.self_bias);
  const auto fill = [&] { put_parameters<kRelation>(vectors, call, rows.first_column, rows.pieces); };
  dot_rows<kRelation ? 3 : 1>(rows, team, vectors, fill, [&](int row, const auto& dots) {
    A* const to[] = {&frames.s[at + row], &frames.z[at + row], &frames.u[at + row]};
#pragma unroll
    for (int k = 0; k < (kRelation ? 3 : 1); ++k) {
      const A before = rows.first_column > 0 ? *to[k] : k == 0 ? b0 : A(0);  // of the columns before
      *to[k] = before + dots[k];
    }
  });
}

// write(column, sums) with the sums of the rows, weighted with p and, of K = 2, with r.
template <int K, typename T, Scope kScope, typename Write>
FAN_DEVICE void sum_rows(const Rows<T>& rows, const Team<Accumulator<T>, kScope>& team,
                         const Values<Accumulator<T>, 2>* weights, const Layout& layout, const Write& write) {
  using A = Accumulator<T>;
  constexpr int W = kWidth<T>;
  constexpr bool kCluster = kScope == Scope::kCluster;
  const Columns columns(rows.pieces, team);
  const int n = static_cast<int>(rows.frames.length);
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
    if (kCluster || columns.groups > 1) {
      if (round > 0) team.sync();  // all have read the sums of the round before
      for (int e = 0; active && e < K * W; ++e) groups[e * team.size + team.rank] = sums[e / W].at[e % W];
      team.sync();
      writes = writes && piece % team.blocks == team.block;
      for (int e = 0; kCluster && e < K * W; ++e) sums[e / W].at[e % W] = 0;
      for (int block = 0; writes && block < team.blocks; ++block) {
        const A* const theirs = (kCluster ? of_block(groups, block) : groups) + columns.first;
        for (int group = kCluster ? 0 : 1; group < columns.groups; ++group) {
          for (int e = 0; e < K * W; ++e) sums[e / W].at[e % W] += theirs[e * team.size + group * columns.step];
        }
      }
    }
    if (writes) write(rows.first_column + piece * W, sums);
  }
  if constexpr (kCluster) sync_cluster();  // nobody reads on when a block's end takes its memory away
}

template <bool kRelation, typename T, Scope kScope>
FAN_DEVICE void forward_clip(const ForwardCall<T>& call, Team<Accumulator<T>, kScope>& team, int64_t b) {
  using A = Accumulator<T>;
  const Rows<T> rows(call, share_of_block(call.clips, b, team));
  const Frames<T> frames(call.layout);
  A *const s = frames.s, *const z = frames.z, *const u = frames.u;
  compute_logits<kRelation>(call, rows, 0, team, frames);
  __syncthreads();

  const auto self = Softmax<A>::over(
      team, rows.frames, [&](int i, Softmax<A>& own) { own.add(Weight<A>(s[i]), kRelation ? u[i] : A(0)); });
  const A shift = kRelation ? self.sum() / self.total() + value_of(call.q.relation_bias) : A(0);  // g . q1b + b1
  Softmax<A> both;
  if constexpr (kRelation) {
    both = Softmax<A>::over(team, rows.frames, [&](int i, Softmax<A>& own) {
      z[i] += shift;
      own.add(Weight<A>(s[i], z[i]));
    });
  }
  for (int i = team.rank; i < rows.frames.length; i += team.size) {
    const bool present = rows.frames.present(i);
    const A p = present ? self.normalised(Weight<A>(s[i])) : A(0);
    const A r = kRelation && present ? both.normalised(Weight<A>(s[i], z[i])) : A(0);
    write_frame<kRelation>(call, rows.frames.first + i, present, s[i], p, kRelation ? z[i] : A(0),
                           kRelation ? u[i] : A(0), r);
    frames.weights[i] = {{p, r}};
  }
  __syncthreads();

  const int dim = call.dim();
  T* const out = call.to.out + b * (kRelation ? 2 : 1) * dim;
  sum_rows<kRelation ? 2 : 1>(rows, team, frames.weights, call.layout, [&](int d, const auto& sums) {
    store(out + (kRelation ? dim : 0) + d, sums[0], dim - d, call.layout.aligned);
    if constexpr (kRelation) store(out + d, sums[1], dim - d, call.layout.aligned);
  });
}

template <typename T, bool kRelation, Scope kScope>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, kScope>)
    forward_kernel(const __grid_constant__ ForwardCall<T> call) {
  if constexpr (kScope == Scope::kBlock || kHaveClusters) {
    write_idle_frames<kRelation>(call);
    Team<Accumulator<T>, kScope> team(call.layout);
    const int64_t b = blockIdx.x / team.blocks;
    if (b < call.clips.clips) forward_clip<kRelation>(call, team, b);
  }
}

}  // namespace fan::cuda
