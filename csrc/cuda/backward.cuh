// The backward pass of a clip that fits in the shared memory of a block, or of a cluster of blocks, and the sums of the
// parameters' gradients. The algorithm is section 1 of docs/operator.md; the names of the variables are the names
// there.
#pragma once

#include "forward.cuh"

namespace fan::cuda {

// What the forward pass saved of a frame, and the incoming gradients of its weights.
template <typename T, bool kRelation>
struct SavedFrame {
  using A = Accumulator<T>;
  A s = 0, p = 0, z = 0, u = 0, r = 0, grad_alpha = 0, grad_beta = 0;

  SavedFrame() = default;
  __device__ __forceinline__ SavedFrame(const BackwardInputs<T>& in, int64_t total, int64_t frame) {
    s = in.saved[kSavedS * total + frame];
    p = in.saved[kSavedP * total + frame];
    if (in.grad_alpha != nullptr) grad_alpha = in.grad_alpha[frame];
    if constexpr (kRelation) {
      z = in.saved[kSavedZ * total + frame];
      u = in.saved[kSavedU * total + frame];
      r = in.saved[kSavedR * total + frame];
      if (in.grad_beta != nullptr) grad_beta = in.grad_beta[frame];
    }
  }
  __device__ __forceinline__ A h(A fV, A vV) const { return r * (fV - vV); }
  __device__ __forceinline__ A dz(A fV, A vV) const { return sigmoid(-z) * (h(fV, vV) + grad_beta * sigmoid(z)); }
  __device__ __forceinline__ A ds(A fG, A fV, A vV, A C, A gdg) const {
    return sigmoid(-s) * (h(fV, vV) + p * (fG + C * u - gdg) + grad_alpha * sigmoid(s));
  }
};

// Of a clip, over its frames.
template <typename A>
struct ClipSums {
  A vV = 0, C = 0, gdg = 0;
};

// The factors of a row in dF: of dg, q0, V and q1a. Those of q0 and q1a are also the row's in the gradients of these.
enum Factor { kP, kDs, kR, kDz, kFactors };

// f.G and f.V of the rows, the first of which is frame `at`.
template <typename T, bool kRelation, typename Team>
__device__ __forceinline__ void compute_frame_gradients(const Rows<T>& rows, int at, const Team& team,
                                                        const T* grad_out, const Layout& layout, Accumulator<T>* fG,
                                                        Accumulator<T>* fV, int dim) {
  using A = Accumulator<T>;
  constexpr int W = kWidth<T>;
  const Vectors<T> vectors(area<A>(layout, kVectors), rows.pieces);
  const auto fill = [&] {
    for (int piece = team.rank; piece < rows.pieces; piece += team.size) {
      const int d = rows.first_column + piece * W;
      vectors.put(0, piece, load<W>(grad_out + (kRelation ? dim : 0) + d, dim - d, layout.aligned));
      if constexpr (kRelation) vectors.put(1, piece, load<W>(grad_out + d, dim - d, layout.aligned));
    }
  };
  dot_rows<kRelation ? 2 : 1>(rows, team, vectors, fill, [&](int row, const auto& dots) {
    const bool first = rows.first_column == 0;  // else there are sums over the columns before
    fG[at + row] = dots[0] + (first ? A(0) : fG[at + row]);
    if constexpr (kRelation) fV[at + row] = dots[1] + (first ? A(0) : fV[at + row]);
  });
}

// A block's sums over its clips of ds f, dz f and C g, the gradients of q0, q1a and q1b: each thread's own, in shared
// memory side by side with the other threads'; of rows too wide for it, in the block's row of global memory.
template <typename T, bool kRelation>
class ParameterSums {
 public:
  using A = Accumulator<T>;
  static constexpr int W = kWidth<T>, K = kRelation ? 3 : 1;
  A b0 = 0, b1 = 0;  // this thread's part of the gradients of the biases

  // step: pieces of a row that the block's threads take at a time.
  __device__ __forceinline__ ParameterSums(const Layout& layout, A* partial, int dim, int step)
      : shared_(layout.at[kSums] < layout.at[kSums + 1] ? area<A>(layout, kSums) : nullptr),
        partial_(partial + blockIdx.x * partial_width(dim, kRelation)),
        dim_(dim),
        step_(step) {}

  __device__ __forceinline__ void clear() const {
    if (shared_ == nullptr) {
      for (int i = threadIdx.x; i < K * dim_; i += blockDim.x) partial_[i] = A(0);
      __syncthreads();
    } else {
      const int rounds = (dim_ + step_ * W - 1) / (step_ * W);
      for (int i = 0; i < rounds * K * W; ++i) shared_[i * blockDim.x + threadIdx.x] = A(0);
    }
  }
  // k: of which parameter. piece: of a row, this thread's.
  __device__ __forceinline__ void add(int k, int piece, const Values<A, W>& values) const {
#pragma unroll
    for (int e = 0; e < W; ++e) {
      if (shared_ != nullptr) {
        shared_[((piece / step_ * K + k) * W + e) * blockDim.x + threadIdx.x] += values.at[e];
      } else if (piece * W + e < dim_) {
        partial_[k * dim_ + piece * W + e] += values.at[e];
      }
    }
  }
  __device__ __forceinline__ bool in_shared() const { return shared_ != nullptr; }
  // Leaves the block's sums in its row of global memory.
  __device__ __forceinline__ void finish(const Layout& layout) {
    A biases[2] = {b0, b1};
    Team<A, Scope::kBlock>(layout).sum(biases);
    if (threadIdx.x == 0) partial_[K * dim_] = biases[0];
    if (kRelation && threadIdx.x == 0) partial_[K * dim_ + 1] = biases[1];
    if (shared_ == nullptr) return;
    for (int i = threadIdx.x; i < K * dim_; i += blockDim.x) {
      const int k = i / dim_, d = i % dim_, piece = d / W;
      const A* const sums = shared_ + ((piece / step_ * K + k) * W + d % W) * blockDim.x;
      A sum = 0;
      for (int group = 0; group < static_cast<int>(blockDim.x) / step_; ++group)
        sum += sums[group * step_ + piece % step_];
      partial_[i] = sum;
    }
  }

 private:
  A* shared_;
  A* partial_;
  int dim_, step_;
};

// dF of the rows, by their factors, and their part in the parameters' gradients. with_g: with the clip's C g.
template <typename T, bool kRelation, typename Team>
__device__ __forceinline__ void write_gradients(const Rows<T>& rows, const Team& team,
                                                const Values<Accumulator<T>, kFactors>* factors, Accumulator<T> C,
                                                const Parameters<T>& q, const BackwardInputs<T>& in, T* features,
                                                int64_t b, bool with_g, const Layout& layout, int dim,
                                                const ParameterSums<T, kRelation>& sums) {
  using A = Accumulator<T>;
  constexpr int W = kWidth<T>;
  const Columns columns(rows.pieces, team.rank, team.size, !sums.in_shared());
  const int n = static_cast<int>(rows.frames.length);
  const bool aligned = layout.aligned;
  if (columns.group >= columns.groups) return;
  for (int piece = columns.first; piece < rows.pieces; piece += columns.step) {
    const int d = rows.first_column + piece * W, count = dim - d;
    const T* const V = in.grad_out + b * (kRelation ? 2 : 1) * dim + d;
    const Values<A, W> q0 = load(q.self_weight, d, count, aligned);
    Values<A, W> dg = load<W>(V + (kRelation ? dim : 0), count, aligned), v, q1a, dq0 = {}, dq1a = {};
    if constexpr (kRelation) {
      v = load<W>(V, count, aligned);
      q1a = load(q.relation_weight, d, count, aligned);
      add_product(dg, C, load(q.relation_weight, dim + d, count, aligned));
    }
#pragma unroll 2
    for (int i = columns.group; i < n; i += columns.groups) {
      const auto x = widen<T>(rows.piece(i, piece));
      const auto factor = factors[i];
      add_product(dq0, factor.at[kDs], x);
      if constexpr (kRelation) add_product(dq1a, factor.at[kDz], x);
      if (features == nullptr) continue;
      Values<A, W> df = {};
      if (!(factor.at[kP] < A(0))) {
        add_product(df, factor.at[kP], dg);
        add_product(df, factor.at[kDs], q0);
        if constexpr (kRelation) {
          add_product(df, factor.at[kR], v);
          add_product(df, factor.at[kDz], q1a);
        }
      }
      store(features + (rows.frames.first + i) * dim + d, df, count, aligned);
    }
    const int whole_row_piece = rows.first_column / W + piece;
    sums.add(0, whole_row_piece, dq0);
    if constexpr (kRelation) {
      sums.add(1, whole_row_piece, dq1a);
      if (!with_g || columns.group > 0) continue;
      Values<A, W> dq1b = {};
      add_product(dq1b, C, load<W>(in.out + b * 2 * dim + dim + d, count, aligned));
      sums.add(2, whole_row_piece, dq1b);
    }
  }
}

// Of one frame; p is -1 of an absent one. Adds its part to the gradient of a bias.
template <typename T, bool kRelation>
__device__ __forceinline__ Values<Accumulator<T>, kFactors> factors_of(const SavedFrame<T, kRelation>& frame,
                                                                       bool present, Accumulator<T> fG,
                                                                       Accumulator<T> fV,
                                                                       const ClipSums<Accumulator<T>>& clip,
                                                                       Accumulator<T>& b0) {
  if (!present) return {{-1, 0, 0, 0}};
  const Accumulator<T> ds = frame.ds(fG, fV, clip.vV, clip.C, clip.gdg);
  b0 += ds;
  return {{frame.p, ds, frame.r, kRelation ? frame.dz(fV, clip.vV) : Accumulator<T>(0)}};
}

template <typename T, bool kRelation, Scope kScope>
__device__ __forceinline__ void backward_clip(const Clips<T>& clips, const Parameters<T>& q,
                                              const BackwardInputs<T>& in, T* features, const Layout& layout,
                                              Team<Accumulator<T>, kScope>& team, int64_t b,
                                              ParameterSums<T, kRelation>& sums) {
  using A = Accumulator<T>;
  const Clip<T> all = find_clip(clips, b);
  const int64_t share = rows_of_block(all.length, team.blocks);
  const Rows<T> rows(clips, slice(all, clips.frame_stride, team.block * share, share), layout);
  const int n = static_cast<int>(rows.frames.length), dim = static_cast<int>(clips.dim);
  A *const fG = area<A>(layout, kFrames), *const fV = fG + layout.frames;
  auto* const factors = reinterpret_cast<Values<A, kFactors>*>(fV + layout.frames);
  compute_frame_gradients<T, kRelation>(rows, 0, team, in.grad_out + b * (kRelation ? 2 : 1) * dim, layout, fG, fV,
                                        dim);
  __syncthreads();

  const auto for_each_frame = [&](const auto& body) {  // that is present
    for (int i = team.rank; i < n; i += team.size) {
      if (!rows.frames.present(i)) continue;
      body(SavedFrame<T, kRelation>(in, clips.total_frames, rows.frames.first + i), fG[i], kRelation ? fV[i] : A(0));
    }
  };
  ClipSums<A> clip;
  A totals[3] = {};  // of p f.G, p u and r f.V
  for_each_frame([&](const auto& frame, A fG, A fV) {
    totals[0] += frame.p * fG;
    totals[1] += frame.p * frame.u;
    totals[2] += frame.r * fV;
  });
  team.sum(totals);
  clip.vV = totals[2];
  if constexpr (kRelation) {
    A C[1] = {};
    for_each_frame([&](const auto& frame, A, A fV) { C[0] += frame.dz(fV, clip.vV); });
    team.sum(C);
    clip.C = C[0];
    if (team.block == 0 && team.rank == 0) sums.b1 += clip.C;
  }
  clip.gdg = totals[0] + clip.C * totals[1];

  for (int i = team.rank; i < n; i += team.size) {
    const SavedFrame<T, kRelation> frame(in, clips.total_frames, rows.frames.first + i);
    factors[i] = factors_of(frame, rows.frames.present(i), fG[i], kRelation ? fV[i] : A(0), clip, sums.b0);
  }
  __syncthreads();
  write_gradients(rows, team, factors, clip.C, q, in, features, b, team.block == 0, layout, dim, sums);
}

// A warp clears a row of dF at a time.
template <typename T>
__device__ __forceinline__ void clear_idle_rows(const Clips<T>& clips, T* features, bool aligned) {
  if (features == nullptr) return;
  const int dim = static_cast<int>(clips.dim);
  for_each_idle_frame<kWarpSize>(clips, [&](int64_t frame) {
    for (int d = threadIdx.x % kWarpSize * kWidth<T>; d < dim; d += kWarpSize * kWidth<T>) {
      store(features + frame * dim + d, Values<Accumulator<T>, kWidth<T>>{}, dim - d, aligned);
    }
  });
}

template <typename T, bool kRelation, Scope kScope>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, kScope>)
    backward_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> q,
                    const __grid_constant__ BackwardInputs<T> in, T* features, Accumulator<T>* partial,
                    const __grid_constant__ Layout layout) {
  if constexpr (kScope == Scope::kBlock || kHaveClusters) {
    clear_idle_rows(clips, features, layout.aligned);
    Team<Accumulator<T>, kScope> team(layout);
    const Columns columns(static_cast<int>(ceil_div(clips.dim, kWidth<T>)), team.rank, team.size);
    ParameterSums<T, kRelation> sums(layout, partial, static_cast<int>(clips.dim), columns.step);
    sums.clear();
    for (int64_t b = blockIdx.x / team.blocks; b < clips.clips; b += gridDim.x / team.blocks) {
      backward_clip(clips, q, in, features, layout, team, b, sums);
      __syncthreads();  // the next clip takes this one's memory
    }
    sums.finish(layout);
    if constexpr (kScope == Scope::kCluster) sync_cluster();  // others may be reading what this block has reduced
  }
}

// Adds the rows of partial sums, in a fixed order: a warp takes every 32nd row of 32 columns.
template <typename T>
__global__ void __launch_bounds__(kReduceThreads) reduce_kernel(const __grid_constant__ BackwardOutputs<T> outputs,
                                                                const Accumulator<T>* partial, int dim, int64_t count) {
  using A = Accumulator<T>;
  const bool relation = outputs.relation_weight.data != nullptr;
  const int64_t width = partial_width(dim, relation);
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
  constexpr int kWarps = kReduceThreads / kWarpSize;
  A* const sums = reinterpret_cast<A*>(shared_memory());

  A sum = 0;
  if (column < width) {
#pragma unroll 4
    for (int64_t row = warp; row < count; row += kWarps) sum += partial[row * width + column];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || column >= width) return;
  for (int other = 1; other < kWarps; ++other) sum += sums[other * kWarpSize + lane];

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
