// The backward pass: a kernel over the clips, and one that adds up the parameters' gradients. The algorithm is section
// 1 of docs/operator.md; the names of the variables are the names there.
#pragma once

#include "split_backward.cuh"

namespace fan::cuda {

template <typename T, Scope kScope>
class Backward {
 public:
  using A = Accumulator<T>;

  __device__ __forceinline__ Backward(const Clips<T>& clips, const Parameters<T>& parameters,
                                      const BackwardInputs<T>& inputs, const BackwardOutputs<T>& outputs,
                                      const Layout& layout)
      : clips_(clips),
        q_(parameters),
        in_(inputs),
        outputs_(outputs),
        layout_(layout),
        relation_(parameters.relation_weight.data != nullptr),
        team_(shared_memory(), layout) {}

  __device__ __forceinline__ void run() {
    if (outputs_.features != nullptr) clear_stray_frames();
    const Columns columns(clips_.dim, W, team_.rank, team_.size);
    const int width = (relation_ ? 3 : 1) * clips_.dim;
    A* const partial = outputs_.partial + blockIdx.x * partial_width(clips_.dim, relation_);
    sums_ = layout_.sums < 0 ? partial : reinterpret_cast<A*>(team_.memory() + layout_.sums);
    // The barriers on a clip's way come before the first sum.
    for (int i = team_.rank; i < columns.groups * width; i += team_.size) sums_[i] = A(0);

    const int teams = kWarp ? blockDim.x / kWarpSize : 1;
    const int64_t step = static_cast<int64_t>(gridDim.x / team_.blocks) * teams;
    const int64_t count = kPart ? layout_.slots : clips_.clips;
    for (int64_t i = static_cast<int64_t>(blockIdx.x / team_.blocks) * teams + team_.index; i < count; i += step) {
      if constexpr (kPart) {
        run_part(i, columns, width);
      } else {
        run_clip(i, columns, width);
      }
      team_.sync();  // the next clip takes this one's memory
    }

    // Only this block's: of its partial sums, too, there is a row of its own.
    Team<A, kWarp ? Scope::kWarp : Scope::kBlock>(shared_memory(), layout_).sum(bias_);
    if (team_.rank == 0) {
      tile(0)[0] = bias_[0];
      tile(0)[1] = bias_[1];
    }
    __syncthreads();
    add_teams(partial, columns, width, teams);
    if constexpr (kScope == Scope::kCluster) sync_cluster();  // others may be reading what this block has reduced
  }

 private:
  static constexpr bool kWarp = kScope == Scope::kWarp;
  static constexpr bool kPart = kScope == Scope::kPart;
  static constexpr int W = kWidth<T>;
  static constexpr int kTile = kWarp ? kWarpTile : kBlockTile;

  __device__ __forceinline__ A* tile(int k) const {
    return reinterpret_cast<A*>(team_.memory() + layout_.tile) + k * kTile;
  }

  // A warp of the grid takes a frame.
  __device__ __forceinline__ void clear_stray_frames() const {
    const int64_t warps = blockDim.x / kWarpSize;
    for_each_stray_frame(clips_, blockIdx.x * warps + threadIdx.x / kWarpSize, gridDim.x * warps, [&](int64_t frame) {
      T* const to = outputs_.features + frame * clips_.dim;
#pragma unroll 1
      for (int d = team_.lane * W; d < clips_.dim; d += kWarpSize * W) {
        store<W>(to + d, zeros<A, W>(), clips_.dim - d, layout_.aligned);
      }
    });
  }

  __device__ __forceinline__ void run_clip(int64_t b, const Columns& columns, int width) {
    take(clip_of_team(clips_, b, team_), layout_.rows, team_.block == 0);
    if (rows_.clip.length <= kTile) {
      fG_ = tile(0);
      fV_ = tile(1);
    }
    sum_clip(b);
    write_columns<kWarp ? 1 : kRowsPerStep, 1>(b, columns, width);
  }

  // The second sweep over a part of a clip, whose fG, fV and partial sums split_backward.cuh has left; or all of a clip
  // that is no longer than a part.
  __device__ __forceinline__ void run_part(int64_t slot, const Columns& columns, int width) {
    const Part<T> part(clips_, layout_, slot);
    if (!part.exists) return;
    const bool whole = part.count == 1;
    take(part.frames, whole ? layout_.rows : 0, part.number == 0);
    if (whole) {
      sum_clip(part.b);
      write_columns<1, 1>(part.b, columns, width);
    } else {
      const Slots<A, kBackwardScalars> slots(outputs_.parts, layout_, clips_.dim);
      const ClipSums<A> clip = combine_parts(slots, team_, part.first_slot, part.count, relation_);
      self_ = clip.self;
      both_ = clip.both;
      vV_ = clip.vV;
      C_ = clip.C;
      gdg_ = clip.gdg;
      write_columns<0, 2>(part.b, columns, width);
    }
  }

  // fG, fV and what needs them of all frames of the team's clip.
  __device__ __forceinline__ void sum_clip(int64_t b) {
    compute_frame_gradients(rows_, team_, grad_out_of(b), relation_, layout_.aligned, fG_, fV_);
    normalise();  // a barrier, after which all may read fG and fV
    sum_over_frames();
  }

  __device__ __forceinline__ const T* grad_out_of(int64_t b) const {
    return in_.grad_out + b * (relation_ ? 2 : 1) * clips_.dim;
  }

  // leads: among the blocks of a clip, this one adds what is to be added once.
  __device__ __forceinline__ void take(const Clip<T>& frames, int64_t rows_in_shared, bool leads) {
    rows_ = Rows<T>(clips_, frames, team_.memory(), layout_, rows_in_shared);
    leads_ = leads;
    s_ = in_.logits + frames.first;
    z_ = s_ + clips_.total_frames;
    u_ = z_ + clips_.total_frames;
    fG_ = outputs_.scratch + frames.first;
    fV_ = fG_ + clips_.total_frames;
  }

  // body(i) for the frames that are present, shared among the threads.
  template <typename Body>
  __device__ __forceinline__ void for_each_frame(const Body& body) const {
    for (int64_t i = team_.rank; i < rows_.clip.length; i += team_.size) {
      if (rows_.clip.present(i)) body(i);
    }
  }

  __device__ __forceinline__ void normalise() {
    A largest[2] = {lowest<A>(), lowest<A>()};
    for_each_frame([&](int64_t i) {
      largest[0] = larger(largest[0], self_.exponent(s_[i]));
      if (relation_) largest[1] = larger(largest[1], both_.exponent(s_[i], z_[i]));
    });
    team_.largest(largest);
    self_.largest = largest[0];
    both_.largest = largest[1];

    A totals[2] = {A(0), A(0)};
    for_each_frame([&](int64_t i) {
      totals[0] += self_.weight(s_[i]);
      if (relation_) totals[1] += both_.weight(s_[i], z_[i]);
    });
    team_.sum(totals);
    self_.total = totals[0];
    both_.total = totals[1];
  }

  __device__ __forceinline__ A p(int64_t i) const { return self_.weight(s_[i]) / self_.total; }
  __device__ __forceinline__ A r(int64_t i) const { return both_.weight(s_[i], z_[i]) / both_.total; }
  __device__ __forceinline__ A h(int64_t i, A r) const { return r * (fV_[i] - vV_); }

  __device__ __forceinline__ A dz(int64_t i, A h) const {
    const A z = z_[i];
    const A slope = in_.grad_beta == nullptr ? h : h + in_.grad_beta[rows_.clip.first + i] * sigmoid(z);
    return slope * sigmoid(-z);
  }

  __device__ __forceinline__ A ds(int64_t i, A h, A p) const {
    const A s = s_[i];
    const A f_dg = relation_ ? fG_[i] + C_ * u_[i] : fG_[i];
    A slope = h + p * (f_dg - gdg_);
    if (in_.grad_alpha != nullptr) slope += in_.grad_alpha[rows_.clip.first + i] * sigmoid(s);
    return slope * sigmoid(-s);
  }

  // v.V, C and g.dg, the last as sum p f.G + C sum p u.
  __device__ __forceinline__ void sum_over_frames() {
    A sums[3] = {A(0), A(0), A(0)};
    for_each_frame([&](int64_t i) {
      const A share = p(i);
      sums[0] += share * fG_[i];
      if (relation_) {
        sums[1] += share * u_[i];
        sums[2] += r(i) * fV_[i];
      }
    });
    team_.sum(sums);
    vV_ = sums[2];
    C_ = A(0);
    if (relation_) {
      A total[1] = {A(0)};
      for_each_frame([&](int64_t i) { total[0] += dz(i, h(i, r(i))); });
      team_.sum(total);
      C_ = total[0];
    }
    gdg_ = sums[0] + C_ * sums[1];
  }

  // p, ds, r and dz of the frames from begin to end, in shared memory; p is -1 for an absent frame.
  __device__ __forceinline__ void fill_tile(int64_t begin, int64_t end, bool add_bias) {
    for (int64_t i = begin + team_.rank; i < end; i += team_.size) {
      const bool present = rows_.clip.present(i);
      A share = A(-1), slope = A(0), both = A(0), relation_slope = A(0);
      if (present) {
        share = p(i);
        A own = A(0);
        if (relation_) {
          both = r(i);
          own = h(i, both);
          relation_slope = dz(i, own);
        }
        slope = ds(i, own, share);
      }
      if (add_bias) bias_[0] += slope;
      tile(2)[i - begin] = share;
      tile(3)[i - begin] = slope;
      tile(4)[i - begin] = both;
      tile(5)[i - begin] = relation_slope;
    }
  }

  // The gradients of the features, and the clip's part in those of the parameters. Rows are loaded in batches from
  // shared memory (none: no row is there) and from global memory, as large as registers allow.
  template <int kSharedBatch, int kGlobalBatch>
  __device__ __forceinline__ void write_columns(int64_t b, const Columns& columns, int width) {
    const int64_t n = rows_.clip.length;
    const int dim = clips_.dim;
    const bool aligned = layout_.aligned;
    const T* const V = grad_out_of(b);
    const T* const G = V + (relation_ ? dim : 0);
    const A *const share = tile(2), *const slope = tile(3), *const both = tile(4), *const relation_slope = tile(5);
    if (leads_ && team_.rank == 0) bias_[1] += C_;
    // A part fits in one.
    const int64_t tiles = kPart ? 1 : ceil_div(n, int64_t{kTile});
    if constexpr (kPart) {
      fill_tile(0, n, true);
      team_.sync();
    }
    for (int first = 0; first < columns.pieces; first += columns.step) {
      const int piece = first + columns.first;
      const int d = piece * W, count = dim - d;
      const bool active = piece < columns.pieces && columns.group < columns.groups;
      Values<A, W> q0 = zeros<A, W>(), q1a = q0, v = q0, dg = q0, dq0 = q0, dq1a = q0;
      if (active) {
        q0 = load<W>(q_.self_weight, d, count, aligned);
        dg = load<W>(G + d, count, aligned);
        if (relation_) {
          q1a = load<W>(q_.relation_weight, d, count, aligned);
          v = load<W>(V + d, count, aligned);
          add_product(dg, C_, load<W>(q_.relation_weight, dim + d, count, aligned));
        }
      }
      for (int64_t number = 0; number < tiles; ++number) {
        const int64_t begin = number * kTile, end = kPart || begin + kTile > n ? n : begin + kTile;
        if (!kPart && (first == 0 || n > kTile)) {
          if (begin > 0 || first > 0) team_.sync();  // all have read the tile before
          fill_tile(begin, end, first == 0);
          team_.sync();
        }
        if (!active) continue;
        const auto wanted = [&](int64_t i) { return !(share[i - begin] < A(0)); };
        const auto add_row = [&](int64_t i, const Values<A, W>& x) {
          const int64_t j = i - begin;
          add_product(dq0, slope[j], x);
          if (relation_) add_product(dq1a, relation_slope[j], x);
          if (outputs_.features == nullptr) return;
          Values<A, W> df = zeros<A, W>();
          if (!(share[j] < A(0))) {
            add_product(df, share[j], dg);
            add_product(df, slope[j], q0);
            if (relation_) {
              add_product(df, both[j], v);
              add_product(df, relation_slope[j], q1a);
            }
          }
          store<W>(outputs_.features + (rows_.clip.first + i) * dim + d, df, count, aligned);
        };
        for_each_row<kSharedBatch, kGlobalBatch>(rows_, begin, end, columns, d, wanted, add_row);
      }
      if (!active) continue;
      A* const sums = sums_ + columns.group * width + d;
      const bool with_q1b = relation_ && columns.group == 0 && leads_;
      const Values<A, W> g = with_q1b ? load<W>(in_.out + b * 2 * dim + dim + d, count, aligned) : zeros<A, W>();
#pragma unroll
      for (int e = 0; e < W; ++e) {
        if (e >= count) break;
        sums[e] += dq0.at[e];
        if (relation_) sums[dim + e] += dq1a.at[e];
        if (with_q1b) sums[2 * dim + e] += C_ * g.at[e];
      }
    }
  }

  // Adds the sums of the block's teams and their row groups, in order.
  __device__ __forceinline__ void add_teams(A* partial, const Columns& columns, int width, int teams) const {
    const auto of_team = [&](int t, int offset) {
      return reinterpret_cast<const A*>(shared_memory() + t * layout_.team_bytes + offset);
    };
    if (layout_.sums >= 0) {
      for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A sum = A(0);
        for (int t = 0; t < teams; ++t) {
          for (int group = 0; group < columns.groups; ++group) sum += of_team(t, layout_.sums)[group * width + i];
        }
        partial[i] = sum;
      }
    }
    if (threadIdx.x < (relation_ ? 2 : 1)) {
      A sum = A(0);
      for (int t = 0; t < teams; ++t) sum += of_team(t, layout_.tile)[threadIdx.x];
      partial[width + threadIdx.x] = sum;
    }
  }

  const Clips<T>& clips_;
  const Parameters<T>& q_;
  const BackwardInputs<T>& in_;
  const BackwardOutputs<T>& outputs_;
  const Layout& layout_;
  const bool relation_;
  Team<A, kScope> team_;
  Rows<T> rows_;
  const A* s_;
  const A* z_;
  const A* u_;
  A* fG_;
  A* fV_;
  A* sums_;
  A bias_[2] = {A(0), A(0)};  // this thread's part in the gradients of the biases
  bool leads_;
  A vV_, C_, gdg_;
  Softmax<A> self_, both_;
};

template <typename T, Scope kScope>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, kScope>)
    backward_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                    const __grid_constant__ BackwardInputs<T> inputs,
                    const __grid_constant__ BackwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  if constexpr (kScope != Scope::kCluster || kHaveClusters) {
    Backward<T, kScope>(clips, parameters, inputs, outputs, layout).run();
  }
}

// Adds the rows of partial sums, in a fixed order: a warp takes every 32nd row of 32 columns.
template <typename T>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_kernel(const __grid_constant__ BackwardOutputs<T> outputs, int dim, int64_t count) {
  using A = Accumulator<T>;
  const bool relation = outputs.relation_weight.data != nullptr;
  const int64_t width = partial_width(dim, relation);
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumColumns + lane;
  constexpr int kWarps = kReduceThreads / kWarpSize;
  A* const sums = reinterpret_cast<A*>(shared_memory());

  A sum = A(0);
  if (column < width) {
#pragma unroll 4
    for (int64_t row = warp; row < count; row += kWarps) sum += outputs.partial[row * width + column];
  }
  sums[warp * kSumColumns + lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= width) return;
  for (int other = 1; other < kWarps; ++other) sum += sums[other * kSumColumns + lane];

  const int64_t weights = (relation ? 3 : 1) * static_cast<int64_t>(dim);
  if (column < dim) {
    store(outputs.self_weight, column, sum);
  } else if (column < weights) {
    store(outputs.relation_weight, column - dim, sum);
  } else {
    const Gradient<T>& bias = column == weights ? outputs.self_bias : outputs.relation_bias;
    if (bias.data != nullptr) store(bias, 0, sum);
  }
}

}  // namespace fan::cuda
