// What frame attention is given and what it gives, the same for every backend: plain pointers, free of torch.
#pragma once

#include <cstdint>
#include <type_traits>

namespace fan {

// Half-precision numbers as their bits; arithmetic happens in float only.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Sums are kept in float, or in double for double.
template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

// What parameters, and their gradients, may come in if not in the accumulation type: the features' own; beside double,
// float.
template <typename T>
using Narrow = std::conditional_t<std::is_same_v<T, double>, float, T>;

// Where the frames of each clip are. Dense: clip b has frames [b * frames, (b + 1) * frames). Packed: offsets say.
// Everything that is "per frame" below is indexed by that frame number.
template <typename T>
struct Clips {
  const T* features;     // the row of frame i of clip b starts at b * clip_stride + i * frame_stride (packed: b = 0)
  int64_t clip_stride;   // in elements
  int64_t frame_stride;  // in elements; the elements of a row are adjacent
  const bool* mask;      // per frame, true where it is present; may be null. Dense only.
  const void* offsets;   // (clips + 1); null when dense
  bool short_offsets;    // they are int32_t, else int64_t
  int64_t clips;         // B
  int64_t frames;        // N when dense; when packed, frames of a clip from this number on take no part; -1: all do
  int64_t total_frames;  // B * N, or T when packed
  int64_t dim;           // D
};

// One of the parameters, or, to be written, the gradient of one. Each is of either type.
template <typename T>
struct Parameter {
  const void* data;  // may be null
  bool narrow;       // Narrow<T>, else Accumulator<T>
};
template <typename T>
struct Gradient {
  void* data;  // may be null
  bool narrow;
};

template <typename T>
struct Parameters {
  Parameter<T> self_weight;      // (D)
  Parameter<T> relation_weight;  // (2D), or null: self-attention only
  Parameter<T> self_bias;        // (1) or null
  Parameter<T> relation_bias;    // (1) or null
};

// What the backward pass needs of each frame, in this order: arrays (total_frames) of accumulators, zero for frames
// that take no part. Without relation-attention there are the first two only.
enum Saved {
  kSavedS,  // the self-attention logit
  kSavedP,  // the normalised self-attention weight
  kSavedZ,  // the relation-attention logit
  kSavedU,  // f . relation_weight[D:]
  kSavedR,  // the final weight
};
constexpr int saved_arrays(bool relation) {
  return relation ? 5 : 2;
}

template <typename T>
struct ForwardOutputs {
  T* out;                 // (B, 2D), or (B, D) without relation-attention
  Accumulator<T>* saved;  // (saved_arrays, total_frames)
  Accumulator<T>* alpha;  // (total_frames); alpha, beta and final may be null together, beta also alone
  Accumulator<T>* beta;
  Accumulator<T>* final;
};

template <typename T>
struct BackwardInputs {
  const T* grad_out;                 // like out
  const Accumulator<T>* grad_alpha;  // (total_frames) or null
  const Accumulator<T>* grad_beta;   // (total_frames) or null
  const T* out;                      // the forward pass's
  const Accumulator<T>* saved;       // the forward pass's
};

template <typename T>
struct BackwardOutputs {
  T* features;                  // (total_frames, D), adjacent, or null when it is not needed
  Gradient<T> self_weight;      // (D)
  Gradient<T> relation_weight;  // (2D) or null
  Gradient<T> self_bias;        // (1) or null
  Gradient<T> relation_bias;    // (1) or null
};

}  // namespace fan
