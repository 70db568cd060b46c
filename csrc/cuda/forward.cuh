// The forward pass. The algorithm is section 1 of docs/operator.md; the names of the variables are the names there.
#pragma once

#include "rows.cuh"
#include "weights.cuh"

namespace fan::cuda {

// s, z' (the relation-attention logit before what g adds to it) and u of the frames that are present.
template <typename T, typename A, typename Team>
__device__ __forceinline__ void compute_logits(const Rows<T>& rows, const Team& team, const Parameters<T>& q,
                                               bool aligned, A* s, A* z, A* u) {
  const bool relation = q.relation_weight.data != nullptr;
  const A b0 = value_of(q.self_bias);
  const auto vector = [&](int k, int d) {
    return k == 0 ? load<kWidth<T>>(q.self_weight, d, rows.dim - d, aligned)
                  : load<kWidth<T>>(q.relation_weight, (k - 1) * rows.dim + d, rows.dim - d, aligned);
  };
  dot_rows<3>(rows, team, relation ? 3 : 1, vector, [&](int64_t i, const A(&dots)[3]) {
    s[i] = dots[0] + b0;
    if (relation) {
      z[i] = dots[1];
      u[i] = dots[2];
    }
  });
}

// Adds the K sums of all row groups of a team, in order, to those of the first.
template <int K, int W, typename A, typename Team>
__device__ __forceinline__ void add_row_groups(const Team& team, const Columns& columns, A* memory,
                                               Values<A, W> (&sums)[K]) {
  if (columns.groups == 1) return;
#pragma unroll
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (int e = 0; e < W; ++e) memory[(k * W + e) * team.size + team.rank] = sums[k].at[e];
  }
  team.sync();
  if (columns.group > 0) return;
  for (int other = team.rank + columns.step; other < columns.groups * columns.step; other += columns.step) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int e = 0; e < W; ++e) sums[k].at[e] += memory[(k * W + e) * team.size + other];
    }
  }
}

template <typename T, Scope kScope>
class Forward {
 public:
  using A = Accumulator<T>;

  __device__ __forceinline__ Forward(const Clips<T>& clips, const Parameters<T>& parameters,
                                     const ForwardOutputs<T>& outputs, const Layout& layout)
      : clips_(clips),
        q_(parameters),
        outputs_(outputs),
        layout_(layout),
        relation_(parameters.relation_weight.data != nullptr),
        team_(shared_memory(), layout) {}

  __device__ __forceinline__ void run() {
    for_each_stray_frame(clips_, [&](int64_t frame) { write_frame(frame, false, A(0), A(0), A(0), A(0), A(0)); });
    const int teams = kWarp ? blockDim.x / kWarpSize : 1;
    const int64_t b = static_cast<int64_t>(blockIdx.x / team_.blocks) * teams + team_.index;
    if (b < clips_.clips) run_clip(b);
  }

  __device__ __forceinline__ void run_clip(int64_t b) {
    rows_ = Rows<T>(clips_, clip_of_team(clips_, b, team_), team_.memory(), layout_, layout_.rows);
    const int64_t n = rows_.clip.length;
    // The logits of a clip that is too long for shared memory live where they are saved.
    const bool fits = n <= kTile;
    A* const saved = outputs_.logits + rows_.clip.first;
    s_ = fits ? tile(0) : saved;
    z_ = fits ? tile(1) : saved + clips_.total_frames;
    u_ = fits ? tile(2) : saved + 2 * clips_.total_frames;

    compute_logits(rows_, team_, q_, layout_.aligned, s_, z_, u_);
    team_.sync();
    normalise();
    write_sums(b);
  }

 private:
  static constexpr bool kWarp = kScope == Scope::kWarp;
  static constexpr int W = kWidth<T>;
  static constexpr int kTile = kWarp ? kWarpTile : kBlockTile;

  __device__ __forceinline__ A* tile(int k) const {
    return reinterpret_cast<A*>(team_.memory() + layout_.tile) + k * kTile;
  }

  // body(i) for the frames that are present, shared among the threads, always in the same way.
  template <typename Body>
  __device__ __forceinline__ void for_each_frame(const Body& body) const {
    for (int64_t i = team_.rank; i < rows_.clip.length; i += team_.size) {
      if (rows_.clip.present(i)) body(i);
    }
  }

  __device__ __forceinline__ void normalise() {
    A largest[1] = {lowest<A>()};
    for_each_frame([&](int64_t i) { largest[0] = larger(largest[0], self_.exponent(s_[i])); });
    team_.largest(largest);
    self_.largest = largest[0];

    A sums[2] = {A(0), A(0)};
    for_each_frame([&](int64_t i) {
      const A weight = self_.weight(s_[i]);
      sums[0] += weight;
      if (relation_) sums[1] += weight * u_[i];
    });
    team_.sum(sums);
    self_.total = sums[0];
    if (!relation_) return;

    const A shift = sums[1] / sums[0] + value_of(q_.relation_bias);
    largest[0] = lowest<A>();
    for_each_frame([&](int64_t i) {
      z_[i] += shift;
      largest[0] = larger(largest[0], both_.exponent(s_[i], z_[i]));
    });
    team_.largest(largest);
    both_.largest = largest[0];

    A total[1] = {A(0)};
    for_each_frame([&](int64_t i) { total[0] += both_.weight(s_[i], z_[i]); });
    team_.sum(total);
    both_.total = total[0];
  }

  __device__ __forceinline__ void write_frame(int64_t frame, bool present, A s, A z, A u, A p, A r) const {
    const int64_t total = clips_.total_frames;
    outputs_.logits[frame] = s;
    if (relation_) {
      outputs_.logits[total + frame] = z;
      outputs_.logits[2 * total + frame] = u;
    }
    if (outputs_.alpha != nullptr) {
      outputs_.alpha[frame] = present ? sigmoid(s) : A(0);
      if (relation_) outputs_.beta[frame] = present ? sigmoid(z) : A(0);
      outputs_.final[frame] = relation_ ? r : p;
    }
  }

  // The weights of the frames from begin to end, in shared memory; -1 for an absent frame.
  __device__ __forceinline__ void fill_tile(int64_t begin, int64_t end, bool write_frames) {
    for (int64_t i = begin + team_.rank; i < end; i += team_.size) {
      const bool present = rows_.clip.present(i);
      const A s = present ? s_[i] : A(0), z = present && relation_ ? z_[i] : A(0);
      const A u = present && relation_ ? u_[i] : A(0);
      const A p = present ? self_.weight(s) / self_.total : A(0);
      const A r = present && relation_ ? both_.weight(s, z) / both_.total : A(0);
      if (write_frames) write_frame(rows_.clip.first + i, present, s, z, u, p, r);
      tile(3)[i - begin] = present ? p : A(-1);
      tile(4)[i - begin] = r;
    }
  }

  // out: the sums of the rows, weighted with r and with p.
  __device__ __forceinline__ void write_sums(int64_t b) {
    const int64_t n = rows_.clip.length;
    const Columns columns(clips_.dim, W, team_.rank, team_.size);
    T* const out = outputs_.out + b * (relation_ ? 2 : 1) * clips_.dim;
    const A* const p = tile(3);
    const A* const r = tile(4);
    for (int first = 0; first < columns.pieces; first += columns.step) {
      const int piece = first + columns.first;
      const int d = piece * W;
      const bool active = piece < columns.pieces && columns.group < columns.groups;
      Values<A, W> sums[2] = {zeros<A, W>(), zeros<A, W>()};
      Values<A, W>&v = sums[0], &g = sums[1];
      for (int64_t begin = 0; begin < n; begin += kTile) {
        const int64_t end = begin + kTile < n ? begin + kTile : n;
        if (first == 0 || n > kTile) {
          if (begin > 0 || first > 0) team_.sync();  // all have read the tile before
          fill_tile(begin, end, first == 0);
          team_.sync();
        }
        if (!active) continue;
        for_each_row<kRowsPerStep, kRowsPerStep>(
            rows_, begin, end, columns, d, [&](int64_t i) { return !(p[i - begin] < A(0)); },
            [&](int64_t i, const Values<A, W>& x) {
              add_product(g, p[i - begin], x);
              if (relation_) add_product(v, r[i - begin], x);
            });
      }
      add_row_groups(team_, columns, reinterpret_cast<A*>(team_.memory() + layout_.row_groups), sums);
      if constexpr (kScope == Scope::kCluster) add_blocks(columns.group == 0, v, g);
      if (!active || columns.group > 0 || piece % team_.blocks != team_.block) continue;
      const int count = clips_.dim - d;
      if (relation_) store<W>(out + d, v, count, layout_.aligned);
      store<W>(out + (relation_ ? clips_.dim : 0) + d, g, count, layout_.aligned);
    }
  }

  // Replaces the sums of this block by those of the cluster, added in the order of its blocks.
  __device__ __forceinline__ void add_blocks(bool first_group, Values<A, W>& v, Values<A, W>& g) const {
    // Only the first row group's sums count; it may still be reading the others'.
    A* const sums = reinterpret_cast<A*>(team_.memory() + layout_.row_groups) + team_.rank;
    if (first_group) {
#pragma unroll
      for (int e = 0; e < W; ++e) {
        sums[e * team_.size] = v.at[e];
        sums[(W + e) * team_.size] = g.at[e];
      }
    }
    sync_cluster();
    v = g = zeros<A, W>();
    for (int block = 0; first_group && block < team_.blocks; ++block) {
      const A* const theirs = of_block(sums, block);
#pragma unroll
      for (int e = 0; e < W; ++e) {
        v.at[e] += theirs[e * team_.size];
        g.at[e] += theirs[(W + e) * team_.size];
      }
    }
    sync_cluster();  // nobody reads on when the next columns, or the block's end, take the memory away
  }

  const Clips<T>& clips_;
  const Parameters<T>& q_;
  const ForwardOutputs<T>& outputs_;
  const Layout& layout_;
  const bool relation_;
  Team<A, kScope> team_;
  Rows<T> rows_;
  A* s_;
  A* z_;
  A* u_;
  Softmax<A> self_, both_;
};

template <typename T, Scope kScope>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, kScope>)
    forward_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                   const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  if constexpr (kScope != Scope::kCluster || kHaveClusters) {
    Forward<T, kScope>(clips, parameters, outputs, layout).run();
  }
}

}  // namespace fan::cuda
