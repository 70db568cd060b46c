// The backward pass, and the sums of the parameters' gradients. The algorithm is section 1 of docs/operator.md; the
// names of the variables are the names there.
#pragma once

#include "forward.cuh"

namespace fan::cuda {

// The factors of a frame's row in dF: of dg, q0, V and q1a. Those of q0 and q1a are also the row's in their gradients.
// Of an absent frame the first is -1.
enum Factor { kP, kDs, kR, kDz, kFactors };

// What the frames need to know of their clip.
template <typename A>
struct ClipSums {
  A vV, C, gdg;
};

// Sums over the frames of a clip, or of a part. C = sum dz = sum r (1 - beta) (f.V - v.V) + sum b beta (1 - beta) would
// lose digits as a difference of sums over r f.V. So the parts sum (1 - beta) r (f.V - c), where c is their own mean of
// f.V, and what is left, c - v.V, is the same for all frames of a part.
enum BackwardScalar {
  kPfG,      // sum p f.G
  kPu,       // sum p u
  kRfV,      // sum r f.V
  kRTotal,   // sum r
  kCentred,  // sum r (1 - beta) (f.V - c)
  kSlope,    // sum r (1 - beta)
  kDirect,   // sum b beta (1 - beta)
};
static_assert(kDirect + 1 == kBackwardScalars);

template <typename A>
struct FrameSums {
  A at[kBackwardScalars] = {};

  FAN_DEVICE A mean() const { return at[kRTotal] > A(0) ? at[kRfV] / at[kRTotal] : A(0); }
  FAN_DEVICE A C(A vV) const { return at[kCentred] + (mean() - vV) * at[kSlope] + at[kDirect]; }
  FAN_DEVICE ClipSums<A> of_clip() const {  // where these are all
    const A vV = at[kRfV];
    return {vV, C(vV), at[kPfG] + C(vV) * at[kPu]};
  }
};

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

  // Adds ds to the gradient of the bias.
  FAN_DEVICE Values<A, kFactors> factors(const ClipSums<A>& clip, A& b0) const {
    if (!present) return {{-1, 0, 0, 0}};
    const A k = p * (fG + clip.C * u - clip.gdg);
    const A ds = sigmoid(-s) * (r * (fV - clip.vV) + k + grad_alpha * sigmoid(s));
    b0 += ds;
    const A dz = sigmoid(-z) * (r * (fV - clip.vV) + grad_beta * sigmoid(z));
    return {{p, ds, r, kRelation ? dz : A(0)}};
  }
};

// Over the frames that for_each(body) calls body(frame) with, each by one of the team's threads.
template <bool kRelation, typename A, typename Team, typename ForEach>
FAN_DEVICE FrameSums<A> sum_frames(Team& team, const ForEach& for_each) {
  FrameSums<A> sums;
  A first[4] = {}, of_C[3] = {};
  for_each([&](const auto& frame) {
    first[kPfG] += frame.p * frame.fG;
    first[kPu] += frame.p * frame.u;
    first[kRfV] += frame.r * frame.fV;
    first[kRTotal] += frame.r;
  });
  team.reduce(first, Add());
  for (int k = 0; k < 4; ++k) sums.at[k] = first[k];
  if constexpr (kRelation) {
    const A mean = sums.mean();
    for_each([&](const auto& frame) {
      const A rest = sigmoid(-frame.z);
      of_C[0] += frame.r * rest * (frame.fV - mean);
      of_C[1] += frame.r * rest;
      of_C[2] += frame.grad_beta * sigmoid(frame.z) * rest;
    });
    team.reduce(of_C, Add());
    for (int k = 0; k < 3; ++k) sums.at[4 + k] = of_C[k];
  }
  return sums;
}

// V and G, or G alone: the clip's incoming gradient.
template <bool kRelation, typename T>
FAN_DEVICE const T* grad_out_of(const BackwardCall<T>& call, int64_t b) {
  return call.in.grad_out + b * (kRelation ? 2 : 1) * call.dim();
}

// f.G and f.V of the rows.
template <bool kRelation, typename T, typename Team>
FAN_DEVICE void compute_frame_gradients(const BackwardCall<T>& call, const Rows<T>& rows, const Team& team, int64_t b,
                                        Accumulator<T>* fG, Accumulator<T>* fV) {
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
    A* const to[] = {&fG[rows.first + row], &fV[rows.first + row]};
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
      : call_(call), layout_(call.layout), dim_(call.dim()), step_(step) {
    if (!in_shared()) {
      for (int i = threadIdx.x; i < K * dim_; i += blockDim.x)
        partial()[i] = A(0);  // there before the first clip's sums
    } else {
      const int rounds = (dim_ + step_ * W - 1) / (step_ * W);
      for (int i = 0; i < rounds * K * kParts; ++i) shared(i)[threadIdx.x] = {};
    }
  }
  FAN_DEVICE bool in_shared() const { return layout_.at[kSums] < layout_.at[kSums + 1]; }

  // k: of which parameter. piece: of a row, this thread's.
  FAN_DEVICE void add(int k, int piece, const Piece<T>& values) const {
    if (in_shared()) return add_at(k, piece / step_, values);
    for (int e = 0; e < W; ++e) {
      if (piece * W + e < dim_) partial()[k * dim_ + piece * W + e] += values.at[e];
    }
  }
  // round: the piece over the step. In shared memory.
  FAN_DEVICE void add_at(int k, int round, const Piece<T>& values) const {
    for (int part = 0; part < kParts; ++part) {
      auto& to = shared((round * K + k) * kParts + part)[threadIdx.x];
      auto sums = to;
      for (int e = 0; e < kPart; ++e) sums.at[e] += values.at[part * kPart + e];
      to = sums;
    }
  }
  // Leaves the block's sums in its row of global memory.
  FAN_DEVICE void finish() {
    A biases[2] = {b0, b1};
    Team<A>(layout_, 1).reduce(biases, Add());
    if (threadIdx.x == 0) partial()[K * dim_] = biases[0];
    if (kRelation && threadIdx.x == 0) partial()[K * dim_ + 1] = biases[1];
    for (int i = threadIdx.x; in_shared() && i < K * dim_; i += blockDim.x) {
      const int d = i % dim_, piece = d / W, part = d % W / kPart;
      const auto* const sums = shared((piece / step_ * K + i / dim_) * kParts + part) + piece % step_;
      A sum = 0;
      for (int group = 0; group < static_cast<int>(blockDim.x) / step_; ++group)
        sum += sums[group * step_].at[d % kPart];
      partial()[i] = sum;
    }
  }

 private:
  static constexpr int kPart = 16 / sizeof(A), kParts = W / kPart;  // 16 bytes of a piece: lanes do not meet in a bank

  FAN_DEVICE Values<A, kPart>* shared(int i) const { return area<Values<A, kPart>>(layout_, kSums) + i * blockDim.x; }

  FAN_DEVICE A* partial() const { return call_.partial() + blockIdx.x * partial_width(dim_, kRelation); }

  const BackwardCall<T>& call_;
  const Layout& layout_;
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
  FAN_DEVICE Piece<T> of(const Values<Accumulator<T>, kFactors>& factors) const {
    Piece<T> df = {};
    if (!(factors.at[kP] < 0)) {
      add_product(df, factors.at[kP], dg);
      add_product(df, factors.at[kDs], q0);
      if constexpr (kRelation) {
        add_product(df, factors.at[kR], V);
        add_product(df, factors.at[kDz], q1a);
      }
    }
    return df;
  }
};

// dF of the rows, by their factors, and their part in the parameters' gradients. with_g: with the clip's C g.
template <bool kRelation, typename T, typename Team>
FAN_DEVICE void write_gradients(const BackwardCall<T>& call, const Rows<T>& rows, const Team& team,
                                const Values<Accumulator<T>, kFactors>* factors, Accumulator<T> C, int64_t b,
                                bool with_g, const ParameterSums<T, kRelation>& sums) {
  const Columns columns(rows.pieces, team, !sums.in_shared());
  const int n = rows.count, dim = call.dim();
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
      store(call.to.features + (rows.frames.first + rows.first + i) * dim + d, gradient.of(factor), count, aligned);
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

// A warp clears a row of dF at a time.
template <typename T>
FAN_DEVICE void clear_idle_rows(const BackwardCall<T>& call) {
  if (call.to.features == nullptr) return;
  for_each_idle_frame<kWarpSize>(call.clips, [&](int64_t frame) {
    for (int d = threadIdx.x % kWarpSize; d < call.dim(); d += kWarpSize)
      call.to.features[frame * call.dim() + d] = T{};
  });
}

// f.G and f.V of the frames of split clips, from one kernel to the next.
template <typename T>
FAN_DEVICE Accumulator<T>* scratch_of(const BackwardCall<T>& call) {
  return slot_scalar(call, kBackwardScalars, 0);
}

// Of so many of a clip's frames, in shared memory: f.G and f.V, and their factors. A team has some each.
template <typename T, bool kRelation, typename Team>
struct FrameGradients {
  using A = Accumulator<T>;
  const BackwardCall<T>& call;
  const Clip<T>& frames;
  Team& team;
  A *const fG, *const fV;
  Values<A, kFactors>* const factors;

  // first: of those that the block's shared memory has room for.
  FAN_DEVICE FrameGradients(const BackwardCall<T>& call, const Clip<T>& frames, Team& team, int first = 0)
      : call(call),
        frames(frames),
        team(team),
        fG(area<A>(call.layout, kFrames) + first),
        fV(fG + call.layout.frames),
        factors(reinterpret_cast<Values<A, kFactors>*>(area<A>(call.layout, kFrames) + 2 * call.layout.frames) +
                first) {}

  // body(i, frame), for those of this thread.
  template <typename Body>
  FAN_DEVICE void for_each(const Body& body) const {
    for (int i = team.rank; i < frames.length; i += team.size) {
      body(i, Frame<T, kRelation>(call, frames.first + i, frames.present(i), fG[i], kRelation ? fV[i] : A(0)));
    }
  }
  FAN_DEVICE FrameSums<A> sums() const {
    return sum_frames<kRelation, A>(team,
                                    [&](const auto& body) { for_each([&](int, const auto& frame) { body(frame); }); });
  }
  // Adds the frames' part to the gradient of the bias.
  FAN_DEVICE void compute_factors(const ClipSums<A>& clip, A& b0) const {
    for_each([&](int i, const auto& frame) { factors[i] = frame.factors(clip, b0); });
  }
};

// f.G and f.V of a part's frames, and their sums.
template <bool kRelation, typename T>
FAN_DEVICE FrameSums<Accumulator<T>> sum_part(const BackwardCall<T>& call, Team<Accumulator<T>>& team,
                                              const Part<T>& part,
                                              const FrameGradients<T, kRelation, Team<Accumulator<T>>>& frames) {
  for_each_tile(call, part.frames, [&](const Rows<T>& rows) {
    compute_frame_gradients<kRelation>(call, rows, team, part.b, frames.fG, frames.fV);
  });
  __syncthreads();
  return frames.sums();
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T>)
    gradient_sums_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  Team<A> team(call.layout, 1);
  if (!Part<T>::may_exist(call, blockIdx.x)) return;
  const Part<T> part(call, team, blockIdx.x);
  if (!part.exists || part.whole) return;
  const FrameGradients<T, kRelation, Team<A>> frames(call, part.frames, team);
  const FrameSums<A> sums = sum_part(call, team, part, frames);
#pragma unroll
  for (int k = 0; k < kBackwardScalars; ++k) {
    if (team.rank == 0) *slot_scalar(call, k, part.slot) = sums.at[k];
  }
  for (int i = team.rank; i < part.frames.length; i += team.size) {
    scratch_of(call)[part.frames.first + i] = frames.fG[i];
    if constexpr (kRelation) scratch_of(call)[call.clips.total_frames + part.frames.first + i] = frames.fV[i];
  }
}

// The clip's sums, from those of so many parts: sums_of(i).
template <bool kRelation, typename A, typename SumsOf>
FAN_DEVICE ClipSums<A> combine(Team<A>& team, int64_t parts, const SumsOf& sums_of) {
  A sums[3] = {}, C[1] = {};
  for (int64_t i = team.rank; i < parts; i += team.size) {
    const FrameSums<A> part = sums_of(i);
    for (int k = kPfG; k <= kRfV; ++k) sums[k] += part.at[k];
  }
  team.reduce(sums, Add());
  for (int64_t i = team.rank; kRelation && i < parts; i += team.size) C[0] += sums_of(i).C(sums[kRfV]);
  if constexpr (kRelation) team.reduce(C, Add());
  return {sums[kRfV], C[0], sums[kPfG] + C[0] * sums[kPu]};
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T>)
    backward_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  clear_idle_rows(call);
  Team<A> team(call.layout);
  ParameterSums<T, kRelation> sums(call, Columns((call.dim() + kWidth<T> - 1) / kWidth<T>, team).step);
  const int64_t teams = gridDim.x / team.blocks;
  for (int64_t slot = blockIdx.x / team.blocks; Part<T>::may_exist(call, slot); slot += teams) {
    const Part<T> part(call, team, slot);
    if (!part.exists) continue;
    __syncthreads();  // all are done with the part before
    const FrameGradients<T, kRelation, Team<A>> frames(call, part.frames, team);
    ClipSums<A> clip;
    if (part.whole) {
      clip = sum_part(call, team, part, frames).of_clip();
    } else {
      clip = combine<kRelation, A>(team, part.count, [&](int64_t i) {
        FrameSums<A> sums;
        for (int k = 0; k < kBackwardScalars; ++k) sums.at[k] = *slot_scalar(call, k, part.first_slot + i);
        return sums;
      });
      for (int i = team.rank; i < part.frames.length; i += team.size) {
        frames.fG[i] = scratch_of(call)[part.frames.first + i];
        if constexpr (kRelation) frames.fV[i] = scratch_of(call)[call.clips.total_frames + part.frames.first + i];
      }
    }
    if (kRelation && part.number == 0 && team.rank == 0) sums.b1 += clip.C;
    frames.compute_factors(clip, sums.b0);
    __syncthreads();
    for_each_tile(call, part.frames, [&](const Rows<T>& rows) {
      if (!part.whole) copy_rows(rows, team);
      write_gradients(call, rows, team, frames.factors + rows.first, clip.C, part.b,
                      part.number == 0 && rows.first == 0, sums);
    });
  }
  sums.finish();
  if (kHaveClusters && team.blocks > 1) sync_cluster();  // others may be reading what this block has reduced
}

// Adds the rows of partial sums, in a fixed order: a warp takes every 32nd row of 32 columns.
template <typename T>
__global__ void __launch_bounds__(kReduceThreads) reduce_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  const int64_t width = partial_width(call.dim(), call.relation()),
                weights = (call.relation() ? 3 : 1) * call.clips.dim;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
  constexpr int kWarps = kReduceThreads / kWarpSize;
  A* const sums = reinterpret_cast<A*>(shared_memory());
  A sum = 0;
#pragma unroll 4
  for (int64_t row = warp; column < width && row < call.layout.partial_rows; row += kWarps) {
    sum += call.partial()[row * width + column];
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
