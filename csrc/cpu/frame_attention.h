// Frame attention on the CPU, forward and backward, free of torch: plain pointers in, plain pointers out.
#pragma once

#include <cstdint>

#include "simd.h"

namespace fan {

// Runs body(begin, end, context) over disjoint ranges that cover [begin, end), in any order, perhaps at the same time.
// A call from inside a body may run serially.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                             void* context);
struct Threads {
  ParallelFor parallel_for;
  int64_t count;
};

// Where the frames of each clip are. Dense: clip b has frames [b * frames, (b + 1) * frames). Packed: offsets say.
// Everything that is "per frame" below is indexed by that frame number.
template <typename T>
struct Clips {
  const T* features;       // the row of frame i of clip b starts at b * clip_stride + i * frame_stride (packed: b = 0)
  int64_t clip_stride;     // in elements
  int64_t frame_stride;    // in elements; the elements of a row are adjacent
  const bool* mask;        // per frame, true where it is present; may be null. Dense only.
  const int64_t* offsets;  // (clips + 1), ascending, within [0, total_frames]; null when dense
  int64_t clips;           // B
  int64_t frames;          // N when dense
  int64_t total_frames;    // B * N, or T when packed
  int64_t dim;             // D
};

template <typename A>
struct Parameters {
  const A* self_weight;      // (D)
  const A* relation_weight;  // (2D), or null: self-attention only
  A self_bias;
  A relation_bias;
};

// logits holds what the backward pass needs, (3, total_frames) or (1, total_frames): the self-attention logit s, the
// relation-attention logit z and u = f . relation_weight[D:].
template <typename T>
struct ForwardOutputs {
  T* out;                  // (B, 2D), or (B, D) without relation-attention
  Accumulator<T>* logits;  // zero for frames that take no part
  Accumulator<T>* alpha;   // (total_frames); alpha, beta and final may be null together, beta also alone
  Accumulator<T>* beta;
  Accumulator<T>* final;
};

template <typename T>
struct BackwardInputs {
  const T* grad_out;                 // like out
  const Accumulator<T>* grad_alpha;  // (total_frames) or null
  const Accumulator<T>* grad_beta;   // (total_frames) or null
  const T* out;                      // the forward pass's
  const Accumulator<T>* logits;      // the forward pass's
};

template <typename T>
struct BackwardOutputs {
  T* features;                      // (total_frames, D), adjacent, or null when it is not needed
  Accumulator<T>* self_weight;      // (D)
  Accumulator<T>* relation_weight;  // (2D) or null
  Accumulator<T>* self_bias;        // (1)
  Accumulator<T>* relation_bias;    // (1) or null
};

template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<Accumulator<T>>& parameters,
                             const ForwardOutputs<T>& outputs, const Threads& threads);

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<Accumulator<T>>& parameters,
                              const BackwardInputs<T>& inputs, const BackwardOutputs<T>& outputs,
                              const Threads& threads);

}  // namespace fan
