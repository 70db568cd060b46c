// The forward pass of a clip that fits in the shared memory of a block, or of a cluster of blocks. The algorithm is
// section 1 of docs/operator.md; the names of the variables are the names there.
#pragma once

#include "rows.cuh"
#include "weights.cuh"

namespace fan::cuda {

// Of one frame.
template <typename T, bool kRelation>
__device__ __forceinline__ void write_frame(const Clips<T>& clips, const ForwardOutputs<T>& outputs, int64_t frame,
                                            bool present, Accumulator<T> s, Accumulator<T> p, Accumulator<T> z,
                                            Accumulator<T> u, Accumulator<T> r) {
  using A = Accumulator<T>;
  const auto save = [&](Saved which, A value) {
    outputs.saved[which * clips.total_frames + frame] = present ? value : A(0);
  };
  save(kSavedS, s);
  save(kSavedP, p);
  if constexpr (kRelation) {
    save(kSavedZ, z);
    save(kSavedU, u);
    save(kSavedR, r);
  }
  if (outputs.alpha == nullptr) return;
  outputs.alpha[frame] = present ? sigmoid(s) : A(0);
  if constexpr (kRelation) outputs.beta[frame] = present ? sigmoid(z) : A(0);
  outputs.final[frame] = present ? (kRelation ? r : p) : A(0);
}

template <typename T, bool kRelation>
__device__ __forceinline__ void write_idle_frames(const Clips<T>& clips, const ForwardOutputs<T>& outputs) {
  for_each_idle_frame<1>(
      clips, [&](int64_t frame) { write_frame<T, kRelation>(clips, outputs, frame, false, 0, 0, 0, 0, 0); });
}

// What is known of the frames of a block: arrays in shared memory, and in the place of the last ones their weights.
template <typename T>
struct Frames {
  using A = Accumulator<T>;
  A *s, *z, *u;
  Values<A, 2>* weights;  // p and r, or what they are relative to something

  __device__ __forceinline__ explicit Frames(const Layout& layout)
      : s(area<A>(layout, kFrames)),
        z(s + layout.frames),
        u(z + layout.frames),
        weights(reinterpret_cast<Values<A, 2>*>(u + layout.frames)) {}
};

// Of so many pieces from a column on, zeros behind the last column.
template <typename T, bool kRelation>
__device__ __forceinline__ void put_parameters(const Vectors<T>& vectors, const Parameters<T>& q, int column,
                                               int pieces, int dim, bool aligned) {
  for (int piece = threadIdx.x; piece < pieces; piece += blockDim.x) {
    const int d = column + piece * kWidth<T>;
    vectors.put(0, piece, load(q.self_weight, d, dim - d, aligned));
    if constexpr (kRelation) {
      vectors.put(1, piece, load(q.relation_weight, d, dim - d, aligned));
      vectors.put(2, piece, load(q.relation_weight, dim + d, dim - d, aligned));
    }
  }
}

// s, z' (the relation-attention logit before what g adds to it) and u of the rows, the first of which is frame `at`.
template <typename T, bool kRelation, typename Team>
__device__ __forceinline__ void compute_logits(const Rows<T>& rows, int at, const Team& team, const Parameters<T>& q,
                                               const Layout& layout, const Frames<T>& frames, int dim) {
  using A = Accumulator<T>;
  const Vectors<T> vectors(area<A>(layout, kVectors), rows.pieces);
  const A b0 = value_of(q.self_bias);
  const auto fill = [&] {
    put_parameters<T, kRelation>(vectors, q, rows.first_column, rows.pieces, dim, layout.aligned);
  };
  dot_rows<kRelation ? 3 : 1>(rows, team, vectors, fill, [&](int row, const auto& dots) {
    const int i = at + row;
    const bool first = rows.first_column == 0;  // else there are sums over the columns before
    frames.s[i] = dots[0] + (first ? b0 : frames.s[i]);
    if constexpr (kRelation) {
      frames.z[i] = dots[1] + (first ? A(0) : frames.z[i]);
      frames.u[i] = dots[2] + (first ? A(0) : frames.u[i]);
    }
  });
}

// write(column, sums) with the sums of the rows, weighted with p and, of K = 2, with r.
template <int K, typename T, Scope kScope, typename Write>
__device__ __forceinline__ void sum_rows(const Rows<T>& rows, const Team<Accumulator<T>, kScope>& team,
                                         const Values<Accumulator<T>, 2>* weights, const Layout& layout,
                                         const Write& write) {
  using A = Accumulator<T>;
  constexpr int W = kWidth<T>;
  constexpr bool kCluster = kScope == Scope::kCluster;
  const Columns columns(rows.pieces, team.rank, team.size);
  const int n = static_cast<int>(rows.frames.length);
  A* const groups = area<A>(layout, kVectors);  // the sums of row groups and blocks
  for (int round = 0; round < rows.pieces; round += columns.step) {
    const int piece = round + columns.first;
    const bool active = piece < rows.pieces && columns.group < columns.groups;
    Values<A, W> sums[K] = {};
    if (active) {
#pragma unroll 4
      for (int i = columns.group; i < n; i += columns.groups) {
        const auto x = widen<T>(rows.piece(i, piece));
        const auto weight = weights[i];
#pragma unroll
        for (int k = 0; k < K; ++k) add_product(sums[k], weight.at[k], x);
      }
    }
    bool writes = active && columns.group == 0;
    if (kCluster || columns.groups > 1) {
      if (round > 0) team.sync();  // all have read the sums of the round before
#pragma unroll
      for (int e = 0; active && e < K * W; ++e) groups[e * team.size + team.rank] = sums[e / W].at[e % W];
      team.sync();
      writes = writes && piece % team.blocks == team.block;
#pragma unroll
      for (int e = 0; kCluster && e < K * W; ++e) sums[e / W].at[e % W] = 0;
      for (int block = 0; writes && block < team.blocks; ++block) {
        const A* const theirs = (kCluster ? of_block(groups, block) : groups) + columns.first;
        for (int group = kCluster ? 0 : 1; group < columns.groups; ++group) {
#pragma unroll
          for (int e = 0; e < K * W; ++e) sums[e / W].at[e % W] += theirs[e * team.size + group * columns.step];
        }
      }
    }
    if (writes) write(rows.first_column + piece * W, sums);
  }
  if constexpr (kCluster) sync_cluster();  // nobody reads on when a block's end takes its memory away
}

template <typename T, bool kRelation, Scope kScope>
__device__ __forceinline__ void forward_clip(const Clips<T>& clips, const Parameters<T>& q,
                                             const ForwardOutputs<T>& outputs, const Layout& layout,
                                             Team<Accumulator<T>, kScope>& team, int64_t b) {
  using A = Accumulator<T>;
  const Clip<T> clip = find_clip(clips, b);
  const int64_t share = rows_of_block(clip.length, team.blocks);
  const Rows<T> rows(clips, slice(clip, clips.frame_stride, team.block * share, share), layout);
  const Frames<T> frames(layout);
  const int n = static_cast<int>(rows.frames.length), dim = static_cast<int>(clips.dim);
  A *const s = frames.s, *const z = frames.z, *const u = frames.u;
  compute_logits<T, kRelation>(rows, 0, team, q, layout, frames, dim);
  __syncthreads();

  const auto self = Softmax<A>::over(team, [&](Softmax<A>& own) {
    for (int i = team.rank; i < n; i += team.size) {
      if (rows.frames.present(i)) own.add(Weight<A>(s[i]), kRelation ? u[i] : A(0));
    }
  });
  Softmax<A> both;
  if constexpr (kRelation) {
    const A shift = self.sum / self.total + value_of(q.relation_bias);  // g . q1b + b1
    both = Softmax<A>::over(team, [&](Softmax<A>& own) {
      for (int i = team.rank; i < n; i += team.size) {
        z[i] += shift;
        if (rows.frames.present(i)) own.add(Weight<A>(s[i], z[i]));
      }
    });
  }
  for (int i = team.rank; i < n; i += team.size) {
    const bool present = rows.frames.present(i);
    const A p = present ? self.normalised(Weight<A>(s[i])) : A(0);
    const A r = kRelation && present ? both.normalised(Weight<A>(s[i], z[i])) : A(0);
    write_frame<T, kRelation>(clips, outputs, rows.frames.first + i, present, s[i], p, kRelation ? z[i] : A(0),
                              kRelation ? u[i] : A(0), r);
    frames.weights[i] = {{p, r}};
  }
  __syncthreads();

  T* const out = outputs.out + b * (kRelation ? 2 : 1) * clips.dim;
  sum_rows<kRelation ? 2 : 1>(rows, team, frames.weights, layout, [&](int d, const auto& sums) {
    store(out + (kRelation ? dim : 0) + d, sums[0], dim - d, layout.aligned);
    if constexpr (kRelation) store(out + d, sums[1], dim - d, layout.aligned);
  });
}

// Blocks that must fit on a multiprocessor together, by their registers: two with 128 a thread; one, with all it needs,
// in double, and where shared memory is used up anyway.
template <typename T, Scope kScope>
inline constexpr int kMinBlocks = sizeof(T) == 8 || kScope == Scope::kCluster ? 1 : 2;

template <typename T, bool kRelation, Scope kScope>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, kScope>)
    forward_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                   const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  if constexpr (kScope == Scope::kBlock || kHaveClusters) {
    write_idle_frames<T, kRelation>(clips, outputs);
    Team<Accumulator<T>, kScope> team(layout);
    const int64_t b = blockIdx.x / team.blocks;
    if (b < clips.clips) forward_clip<T, kRelation>(clips, parameters, outputs, layout, team, b);
  }
}

}  // namespace fan::cuda
