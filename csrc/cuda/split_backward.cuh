// The backward pass over clips cut into parts: the sums over a clip's frames, part by part. The sweep that writes dF is
// Backward's, in backward.cuh, which combines the parts' sums first; and so are clips of one part.
#pragma once

#include "split.cuh"

namespace fan::cuda {

// f.G and f.V of the frames that are present. grad_out: V and G, or G alone.
template <typename T, typename A, typename Team>
__device__ __forceinline__ void compute_frame_gradients(const Rows<T>& rows, const Team& team, const T* grad_out,
                                                        bool relation, bool aligned, A* fG, A* fV) {
  const T *const V = grad_out, *const G = relation ? grad_out + rows.dim : grad_out;
  const auto vector = [&](int k, int d) { return load<kWidth<T>>((k == 0 ? G : V) + d, rows.dim - d, aligned); };
  dot_rows<2>(rows, team, relation ? 2 : 1, vector, [&](int64_t i, const A(&dots)[2]) {
    fG[i] = dots[0];
    if (relation) fV[i] = dots[1];
  });
}

// A part leaves, with w and w' its frames' weights p and r but for the clip's normalisation, and c its own mean of f.V:
// C = sum dz = sum r (1 - beta) (f.V - v.V) + sum b beta (1 - beta) would lose digits as a difference of sums over w'
// f.V. So the parts sum (1 - beta) w' (f.V - c), and what is left, c - v.V, is the same for all frames of a part.
enum BackwardScalar {
  kPLargest,
  kPTotal,  // sum w
  kPfG,     // sum w f.G
  kPu,      // sum w u
  kRLargest,
  kRTotal,   // sum w'
  kRfV,      // sum w' f.V
  kSlope,    // sum w' (1 - beta)
  kCentred,  // sum w' (1 - beta) (f.V - c)
  kDirect,   // sum b beta (1 - beta)
  kBackwardScalarCount
};
static_assert(kBackwardScalarCount == kBackwardScalars);

// Of a whole clip.
template <typename A>
struct ClipSums {
  Softmax<A> self, both;
  A vV, C, gdg;
};

template <typename A, typename Team>
__device__ __forceinline__ ClipSums<A> combine_parts(const Slots<A, kBackwardScalars>& slots, Team& team, int64_t first,
                                                     int64_t count, bool relation) {
  ClipSums<A> clip{};
  const auto at = [&](BackwardScalar k, int64_t part) { return *slots.scalar(k, first + part); };
  A largest[2] = {lowest<A>(), lowest<A>()};
  for (int64_t part = team.rank; part < count; part += team.size) {
    largest[0] = larger(largest[0], at(kPLargest, part));
    if (relation) largest[1] = larger(largest[1], at(kRLargest, part));
  }
  team.largest(largest);
  clip.self.largest = largest[0];
  clip.both.largest = largest[1];

  A sums[5] = {A(0), A(0), A(0), A(0), A(0)};
  for (int64_t part = team.rank; part < count; part += team.size) {
    const A factor = part_factor(at(kPLargest, part), largest[0]);
    sums[0] += factor * at(kPTotal, part);
    sums[1] += factor * at(kPfG, part);
    if (!relation) continue;
    sums[2] += factor * at(kPu, part);
    const A both_factor = part_factor(at(kRLargest, part), largest[1]);
    sums[3] += both_factor * at(kRTotal, part);
    sums[4] += both_factor * at(kRfV, part);
  }
  team.sum(sums);
  clip.self.total = sums[0];
  clip.both.total = sums[3];
  clip.gdg = sums[1] * inverse_total(clip.self);
  if (!relation) return clip;

  clip.vV = sums[4] * inverse_total(clip.both);
  A C[1] = {A(0)};
  for (int64_t part = team.rank; part < count; part += team.size) {
    const Softmax<A> own{at(kRLargest, part), at(kRTotal, part)};
    const A mean = at(kRfV, part) * inverse_total(own);
    const A share = part_factor(own.largest, largest[1]) * inverse_total(clip.both);
    C[0] += share * (at(kCentred, part) + at(kSlope, part) * (mean - clip.vV)) + at(kDirect, part);
  }
  team.sum(C);
  clip.C = C[0];
  clip.gdg += clip.C * sums[2] * inverse_total(clip.self);
  return clip;
}

template <typename T>
class PartGradients {
 public:
  using A = Accumulator<T>;

  __device__ __forceinline__ PartGradients(const Clips<T>& clips, const Parameters<T>& parameters,
                                           const BackwardInputs<T>& inputs, const BackwardOutputs<T>& outputs,
                                           const Layout& layout)
      : clips_(clips),
        in_(inputs),
        outputs_(outputs),
        layout_(layout),
        relation_(parameters.relation_weight.data != nullptr) {}

  __device__ __forceinline__ void run() const {
    const Part<T> part(clips_, layout_, blockIdx.x);
    if (!part.exists || part.count == 1) return;
    Team<A, Scope::kBlock> team(shared_memory(), layout_);
    const Rows<T> rows(clips_, part.frames, team.memory(), layout_, layout_.rows);
    const int64_t total = clips_.total_frames;
    const A *const s = in_.logits + rows.clip.first, *const z = s + total, *const u = z + total;
    A *const fG = outputs_.scratch + rows.clip.first, *const fV = fG + total;
    const auto for_each_frame = [&](const auto& body) {
      for (int64_t i = team.rank; i < rows.clip.length; i += team.size) {
        if (rows.clip.present(i)) body(i);
      }
    };
    compute_frame_gradients(rows, team, in_.grad_out + part.b * (relation_ ? 2 : 1) * clips_.dim, relation_,
                            layout_.aligned, fG, fV);

    Softmax<A> self, both;
    A largest[2] = {lowest<A>(), lowest<A>()};
    for_each_frame([&](int64_t i) {
      largest[0] = larger(largest[0], self.exponent(s[i]));
      if (relation_) largest[1] = larger(largest[1], both.exponent(s[i], z[i]));
    });
    team.largest(largest);  // a barrier, after which all may read fG and fV
    self.largest = largest[0];
    both.largest = largest[1];

    A sums[5] = {A(0), A(0), A(0), A(0), A(0)};
    for_each_frame([&](int64_t i) {
      const A weight = self.weight(s[i]);
      sums[0] += weight;
      sums[1] += weight * fG[i];
      if (!relation_) return;
      sums[2] += weight * u[i];
      const A both_weight = both.weight(s[i], z[i]);
      sums[3] += both_weight;
      sums[4] += both_weight * fV[i];
    });
    team.sum(sums);
    both.total = sums[3];

    A of_C[3] = {A(0), A(0), A(0)};
    if (relation_) {
      const A mean = sums[4] * inverse_total(both);
      for_each_frame([&](int64_t i) {
        const A slope = both.weight(s[i], z[i]) * sigmoid(-z[i]);
        of_C[0] += slope;
        of_C[1] += slope * (fV[i] - mean);
        if (in_.grad_beta != nullptr) {
          of_C[2] += in_.grad_beta[rows.clip.first + i] * sigmoid(z[i]) * sigmoid(-z[i]);
        }
      });
      team.sum(of_C);
    }
    if (team.rank > 0) return;
    const Slots<A, kBackwardScalars> slots(outputs_.parts, layout_, clips_.dim);
    const A values[kBackwardScalars] = {largest[0], sums[0], sums[1], sums[2], largest[1],
                                        sums[3],    sums[4], of_C[0], of_C[1], of_C[2]};
#pragma unroll
    for (int k = 0; k < kBackwardScalars; ++k) *slots.scalar(k, blockIdx.x) = values[k];
  }

 private:
  const Clips<T>& clips_;
  const BackwardInputs<T>& in_;
  const BackwardOutputs<T>& outputs_;
  const Layout& layout_;
  const bool relation_;
};

template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    gradient_parts_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                          const __grid_constant__ BackwardInputs<T> inputs,
                          const __grid_constant__ BackwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  PartGradients<T>(clips, parameters, inputs, outputs, layout).run();
}

}  // namespace fan::cuda
