// Frame attention on CUDA, forward and backward, free of torch: plain device pointers in, plain device pointers out.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "plan.h"

namespace fan::cuda {

// Half-precision numbers as their bits; arithmetic happens in float only.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
// Sums are kept in float, or in double for double.
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;
// What parameters, and their gradients, may come in if not in the accumulation type: the features' own; beside double,
// float.
template <typename T>
using Narrow = std::conditional_t<std::is_same_v<T, double>, float, T>;

// Dense: clip b has frames [b * frames, (b + 1) * frames). Packed: offsets say. Everything "per frame" is indexed by
// that frame number.
template <typename T>
struct Clips {
  const T* features;     // the row of frame i of clip b starts at b * clip_stride + i * frame_stride (packed: b = 0)
  int64_t clip_stride;   // in elements
  int64_t frame_stride;  // in elements; the elements of a row are adjacent
  const bool* mask;      // per frame, true where it is present; may be null. Dense only.
  const void* offsets;   // (clips + 1), clamped where they are read; null when dense
  bool short_offsets;    // they are int32_t, else int64_t
  int64_t clips;         // B
  int64_t frames;        // N when dense
  int64_t total_frames;  // B * N, or T when packed
  int dim;               // D
};

// One of the parameters, or, to be written, the gradient of one. Each is of either type.
template <typename T>
struct Parameter {
  const void* data;
  bool narrow;  // Narrow<T>, else Accumulator<T>
};
template <typename T>
struct Gradient {
  void* data;
  bool narrow;
};

template <typename T>
struct Parameters {
  Parameter<T> self_weight;      // (D)
  Parameter<T> relation_weight;  // (2D), or null: self-attention only
  Parameter<T> self_bias;        // (1) or null
  Parameter<T> relation_bias;    // (1) or null
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
  Accumulator<T>* parts;  // workspace: what the parts of split clips leave
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
  T* features;                  // (total_frames, D), adjacent, or null when it is not needed
  Accumulator<T>* parts;        // workspace: what the parts of split clips leave
  Accumulator<T>* partial;      // (partial_rows, partial_width): workspace
  Accumulator<T>* scratch;      // (2, total_frames): workspace
  Gradient<T> self_weight;      // (D)
  Gradient<T> relation_weight;  // (2D) or null
  Gradient<T> self_bias;        // (1) or null
  Gradient<T> relation_bias;    // (1) or null
};

// Both queue their kernels on the stream (a cudaStream_t) of the current device and return; they throw
// std::runtime_error where CUDA refuses. No pointer is read by the host.
template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                             const Plan& plan, void* stream);

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                              const BackwardOutputs<T>& outputs, const Plan& plan, void* stream);

// Makes the device current for the CUDA runtime in this library, which is not torch's, and says what it is.
Target use_device(int device);

template <typename T>
constexpr DataType kDataType = sizeof(T) == 8            ? DataType::kFloat64
                               : sizeof(T) == 4          ? DataType::kFloat32
                               : std::is_same_v<T, Half> ? DataType::kFloat16
                                                         : DataType::kBFloat16;

// The largest power of two, up to 16, that divides all the addresses.
inline int alignment_of(std::initializer_list<uintptr_t> bytes) {
  uintptr_t bits = 16;
  for (const uintptr_t each : bytes) bits |= each;
  return static_cast<int>(bits & (~bits + 1));
}

// rows: what else the kernels read or write a row of D or 2D adjacent elements at a time, null pointers included.
// max_frames: of packed clips, or -1 where it is not known.
template <typename T>
Request make_request(const Clips<T>& clips, std::initializer_list<const void*> rows, bool relation, int64_t max_frames,
                     Target target, bool backward) {
  Request request{};
  request.clips = clips.clips;
  request.packed = clips.offsets != nullptr;
  request.frames = request.packed ? max_frames : clips.frames;
  request.total_frames = clips.total_frames;
  request.dim = clips.dim;
  request.relation = relation;
  request.type = kDataType<T>;
  request.target = target;
  request.backward = backward;
  const auto bytes = [](int64_t elements) { return static_cast<uintptr_t>(elements) * sizeof(T); };
  request.copy_bytes =
      alignment_of({reinterpret_cast<uintptr_t>(clips.features), bytes(clips.frame_stride), bytes(clips.clip_stride)});
  request.aligned = alignment_of({bytes(clips.dim)}) == 16;
  for (const void* row : rows) request.aligned &= alignment_of({reinterpret_cast<uintptr_t>(row)}) == 16;
  return request;
}

template <typename T>
Request request_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                        int64_t max_frames, Target target) {
  return make_request(clips, {parameters.self_weight.data, parameters.relation_weight.data, outputs.out},
                      parameters.relation_weight.data != nullptr, max_frames, target, false);
}

template <typename T>
Request request_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                         const BackwardOutputs<T>& outputs, int64_t max_frames, Target target) {
  return make_request(
      clips,
      {parameters.self_weight.data, parameters.relation_weight.data, inputs.grad_out, inputs.out, outputs.features},
      parameters.relation_weight.data != nullptr, max_frames, target, true);
}

// memory: plan.workspace accumulators, at a multiple of 16 bytes.
template <typename T>
void set_workspace(ForwardOutputs<T>& outputs, Accumulator<T>* memory) {
  outputs.parts = memory;
}

template <typename T>
void set_workspace(BackwardOutputs<T>& outputs, Accumulator<T>* memory, const Plan& plan, int64_t dim, bool relation) {
  outputs.parts = memory;
  outputs.partial = memory + kBackwardScalars * padded_slots(plan.layout.slots);
  outputs.scratch = outputs.partial + plan.partial_rows * partial_width(dim, relation);
}

}  // namespace fan::cuda
