// The backward pass of a clip that fits in the shared memory of a block, or of a cluster of blocks, and the sums of the
// parameters' gradients. The algorithm is section 1 of docs/operator.md; the names of the variables are the names
// there.
#pragma once

#include "forward.cuh"

namespace fan::cuda {

// What the backward pass needs to know of a clip, beside its frames.
template <typename A>
struct ClipSums {
  A vV = 0, C = 0, gdg = 0;
};

// The factors of a frame's row in dF: of dg, q0, V and q1a. Those of q0 and q1a are also the row's in their gradients.
// Of an absent frame the first is -1.
enum Factor { kP, kDs, kR, kDz, kFactors };

// What the forward pass saved of a frame, the incoming gradients of its weights, and f.G and f.V.
template <typename T, bool kRelation>
struct Frame {
  using A = Accumulator<T>;
  bool present = false;
  A s = 0, p = 0, z = 0, u = 0, r = 0, grad_alpha = 0, grad_beta = 0, fG = 0, fV = 0;

  FAN_DEVICE Frame(const BackwardCall<T>& call, int64_t frame, bool present, A fG, A fV)
      : present(present), fG(fG), fV(fV) {
    if (!present) return;
    const A* const saved = call.in.saved + frame;
    const int64_t total = call.clips.total_frames;
    s = saved[kSavedS * total];
    p = saved[kSavedP * total];
    if (call.in.grad_alpha != nullptr) grad_alpha = call.in.grad_alpha[frame];
    if constexpr (kRelation) {
      z = saved[kSavedZ * total];
      u = saved[kSavedU * total];
      r = saved[kSavedR * total];
      if (call.in.grad_beta != nullptr) grad_beta = call.in.grad_beta[frame];
    }
  }
  FAN_DEVICE A dz(A vV) const { return sigmoid(-z) * (r * (fV - vV) + grad_beta * sigmoid(z)); }

  // Adds ds to the gradient of the bias.
  FAN_DEVICE Values<A, kFactors> factors(const ClipSums<A>& clip, A& b0) const {
    if (!present) return {{-1, 0, 0, 0}};
    const A k = p * (fG + clip.C * u - clip.gdg);
    const A ds = sigmoid(-s) * (r * (fV - clip.vV) + k + grad_alpha * sigmoid(s));
    b0 += ds;
    return {{p, ds, r, kRelation ? dz(clip.vV) : A(0)}};
  }
};

// V and G, or G alone: the clip's incoming gradient.
template <bool kRelation, typename T>
FAN_DEVICE const T* grad_out_of(const BackwardCall<T>& call, int64_t b) {
  return call.in.grad_out + b * (kRelation ? 2 : 1) * call.dim();
}

// f.G and f.V of the rows, the first of which is frame `at`.
template <bool kRelation, typename T, typename Team>
FAN_DEVICE void compute_frame_gradients(const BackwardCall<T>& call, const Rows<T>& rows, int at, const Team& team,
                                        int64_t b, Accumulator<T>* fG, Accumulator<T>* fV) {
  using A = Accumulator<T>;
  const Vectors<T> vectors(area<A>(call.layout, kVectors), rows.pieces);
  const T *const V = grad_out_of<kRelation>(call, b), *const G = V + (kRelation ? call.dim() : 0);
  const auto fill = [&] {
    for (int piece = team.rank; piece < rows.pieces; piece += team.size) {
      const int d = rows.first_column + piece * kWidth<T>, count = call.dim() - d;
      vectors.put(0, piece, load<T>(G + d, count, call.layout.aligned));
      if constexpr (kRelation) vectors.put(1, piece, load<T>(V + d, count, call.layout.aligned));
    }
  };
  dot_rows<kRelation ? 2 : 1>(rows, team, vectors, fill, [&](int row, const auto& dots) {
    A* const to[] = {&fG[at + row], &fV[at + row]};
#pragma unroll
    for (int k = 0; k < (kRelation ? 2 : 1); ++k) *to[k] = (rows.first_column > 0 ? *to[k] : A(0)) + dots[k];
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
  FAN_DEVICE ParameterSums(const BackwardCall<T>& call, int step)
      : layout_(call.layout),
        partial_(call.partial + blockIdx.x * partial_width(call.dim(), kRelation)),
        dim_(call.dim()),
        step_(step) {
    if (!in_shared()) {
      for (int i = threadIdx.x; i < K * dim_; i += blockDim.x) partial_[i] = A(0);
      __syncthreads();
    } else {
      const int rounds = (dim_ + step_ * W - 1) / (step_ * W);
      for (int i = 0; i < rounds * K * W; ++i) shared(i)[threadIdx.x] = A(0);
    }
  }
  FAN_DEVICE bool in_shared() const { return layout_.at[kSums] < layout_.at[kSums + 1]; }

  // k: of which parameter. piece: of a row, this thread's.
  FAN_DEVICE void add(int k, int piece, const Piece<T>& values) const {
    for (int e = 0; e < W; ++e) {
      if (in_shared()) {
        shared((piece / step_ * K + k) * W + e)[threadIdx.x] += values.at[e];
      } else if (piece * W + e < dim_) {
        partial_[k * dim_ + piece * W + e] += values.at[e];
      }
    }
  }
  // Leaves the block's sums in its row of global memory.
  FAN_DEVICE void finish() {
    A biases[2] = {b0, b1};
    Team<A, Scope::kBlock>(layout_).sum(biases);
    if (threadIdx.x == 0) partial_[K * dim_] = biases[0];
    if (kRelation && threadIdx.x == 0) partial_[K * dim_ + 1] = biases[1];
    for (int i = threadIdx.x; in_shared() && i < K * dim_; i += blockDim.x) {
      const int d = i % dim_, piece = d / W;
      const A* const sums = shared((piece / step_ * K + i / dim_) * W + d % W) + piece % step_;
      A sum = 0;
      for (int group = 0; group < static_cast<int>(blockDim.x) / step_; ++group) sum += sums[group * step_];
      partial_[i] = sum;
    }
  }

 private:
  FAN_DEVICE A* shared(int i) const { return area<A>(layout_, kSums) + i * blockDim.x; }

  const Layout& layout_;
  A* partial_;
  int dim_, step_;
};

// The columns of a piece that dF is made of.
template <typename T, bool kRelation>
struct GradientColumns {
  Piece<T> dg, q0, V{}, q1a{};

  // q(k): the piece of a parameter. dg without C q1b.
  template <typename Parameter>
  FAN_DEVICE GradientColumns(const Piece<T>& G, const Piece<T>& V, Accumulator<T> C, const Parameter& q)
      : dg(G), q0(q(0)) {
    if constexpr (kRelation) {
      this->V = V;
      q1a = q(1);
      add_product(dg, C, q(2));
    }
  }
  FAN_DEVICE void write(T* to, const Values<Accumulator<T>, kFactors>& factors, int count, bool aligned) const {
    Piece<T> df = {};
    if (!(factors.at[kP] < 0)) {
      add_product(df, factors.at[kP], dg);
      add_product(df, factors.at[kDs], q0);
      if constexpr (kRelation) {
        add_product(df, factors.at[kR], V);
        add_product(df, factors.at[kDz], q1a);
      }
    }
    store(to, df, count, aligned);
  }
};

// dF of the rows, by their factors, and their part in the parameters' gradients. with_g: with the clip's C g.
template <bool kRelation, typename T, typename Team>
FAN_DEVICE void write_gradients(const BackwardCall<T>& call, const Rows<T>& rows, const Team& team,
                                const Values<Accumulator<T>, kFactors>* factors, Accumulator<T> C, int64_t b,
                                bool with_g, const ParameterSums<T, kRelation>& sums) {
  const Columns columns(rows.pieces, team, !sums.in_shared());
  const int n = static_cast<int>(rows.frames.length), dim = call.dim();
  const bool aligned = call.layout.aligned;
  for (int piece = columns.first; columns.group < columns.groups && piece < rows.pieces; piece += columns.step) {
    const int d = rows.first_column + piece * kWidth<T>, count = dim - d;
    const T* const V = grad_out_of<kRelation>(call, b) + d;
    const GradientColumns<T, kRelation> gradient(
        load<T>(V + (kRelation ? dim : 0), count, aligned), load<T>(V, count, aligned), C, [&](int k) {
          return k == 0 ? load(call.q.self_weight, d, count, aligned)
                        : load(call.q.relation_weight, (k - 1) * dim + d, count, aligned);
        });
    Piece<T> dq0 = {}, dq1a = {};
#pragma unroll 2
    for (int i = columns.group; i < n; i += columns.groups) {
      const auto x = widen<T>(rows.piece(i, piece));
      const auto factor = factors[i];
      add_product(dq0, factor.at[kDs], x);
      if constexpr (kRelation) add_product(dq1a, factor.at[kDz], x);
      if (call.to.features == nullptr) continue;
      gradient.write(call.to.features + (rows.frames.first + i) * dim + d, factor, count, aligned);
    }
    const int of_row = rows.first_column / kWidth<T> + piece;
    sums.add(0, of_row, dq0);
    if constexpr (kRelation) {
      sums.add(1, of_row, dq1a);
      if (!with_g || columns.group > 0) continue;
      Piece<T> dq1b = {};
      add_product(dq1b, C, load<T>(call.in.out + (b * 2 + 1) * dim + d, count, aligned));
      sums.add(2, of_row, dq1b);
    }
  }
}

template <bool kRelation, typename T, Scope kScope>
FAN_DEVICE void backward_clip(const BackwardCall<T>& call, Team<Accumulator<T>, kScope>& team, int64_t b,
                              ParameterSums<T, kRelation>& sums) {
  using A = Accumulator<T>;
  const Rows<T> rows(call, share_of_block(call.clips, b, team));
  A *const fG = area<A>(call.layout, kFrames), *const fV = fG + call.layout.frames;
  auto* const factors = reinterpret_cast<Values<A, kFactors>*>(fV + call.layout.frames);
  compute_frame_gradients<kRelation>(call, rows, 0, team, b, fG, fV);
  __syncthreads();

  const auto for_each_frame = [&](const auto& body) {
    for (int i = team.rank; i < rows.frames.length; i += team.size) {
      body(i,
           Frame<T, kRelation>(call, rows.frames.first + i, rows.frames.present(i), fG[i], kRelation ? fV[i] : A(0)));
    }
  };
  A totals[3] = {};  // of p f.G, p u and r f.V
  for_each_frame([&](int, const auto& frame) {
    totals[0] += frame.p * frame.fG;
    totals[1] += frame.p * frame.u;
    totals[2] += frame.r * frame.fV;
  });
  team.sum(totals);
  ClipSums<A> clip;
  clip.vV = totals[2];
  if constexpr (kRelation) {
    A C[1] = {};
    for_each_frame([&](int, const auto& frame) { C[0] += frame.dz(clip.vV); });
    team.sum(C);
    clip.C = C[0];
    if (team.block == 0 && team.rank == 0) sums.b1 += clip.C;
  }
  clip.gdg = totals[0] + clip.C * totals[1];
  for_each_frame([&](int i, const auto& frame) { factors[i] = frame.factors(clip, sums.b0); });
  __syncthreads();
  write_gradients(call, rows, team, factors, clip.C, b, team.block == 0, sums);
}

// A warp clears a row of dF at a time.
template <typename T>
FAN_DEVICE void clear_idle_rows(const BackwardCall<T>& call) {
  if (call.to.features == nullptr) return;
  for_each_idle_frame<kWarpSize>(call.clips, [&](int64_t frame) {
    for (int d = threadIdx.x % kWarpSize; d < call.dim(); d += kWarpSize)
      call.to.features[frame * call.dim() + d] = T{};
  });
}

template <typename T, bool kRelation, Scope kScope>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, kScope>)
    backward_kernel(const __grid_constant__ BackwardCall<T> call) {
  if constexpr (kScope == Scope::kBlock || kHaveClusters) {
    clear_idle_rows(call);
    Team<Accumulator<T>, kScope> team(call.layout);
    ParameterSums<T, kRelation> sums(call, Columns((call.dim() + kWidth<T> - 1) / kWidth<T>, team).step);
    for (int64_t b = blockIdx.x / team.blocks; b < call.clips.clips; b += gridDim.x / team.blocks) {
      backward_clip(call, team, b, sums);
      __syncthreads();  // the next clip takes this one's memory
    }
    sums.finish();
    if constexpr (kScope == Scope::kCluster) sync_cluster();  // others may be reading what this block has reduced
  }
}

// Adds the rows of partial sums, in a fixed order: a warp takes every 32nd row of 32 columns.
template <typename T>
__global__ void __launch_bounds__(kReduceThreads) reduce_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  const bool relation = call.to.relation_weight.data != nullptr;
  const int64_t width = partial_width(call.dim(), relation), weights = (relation ? 3 : 1) * call.clips.dim;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
  constexpr int kWarps = kReduceThreads / kWarpSize;
  A* const sums = reinterpret_cast<A*>(shared_memory());
  A sum = 0;
#pragma unroll 4
  for (int64_t row = warp; column < width && row < call.partial_rows; row += kWarps) {
    sum += call.partial[row * width + column];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || column >= width) return;
  for (int other = 1; other < kWarps; ++other) sum += sums[other * kWarpSize + lane];
  if (column < call.dim()) {
    store(call.to.self_weight, column, sum);
  } else if (column < weights) {
    store(call.to.relation_weight, column - call.dim(), sum);
  } else {
    store(column == weights ? call.to.self_bias : call.to.relation_bias, 0, sum);
  }
}

}  // namespace fan::cuda
