// Frame attention on the CPU, forward and backward, free of torch: plain pointers in, plain pointers out.
#pragma once

#include <cstdint>

#include "../types.h"

namespace fan::cpu {

// Runs body(begin, end, context) over disjoint ranges that cover [begin, end), in any order, perhaps at the same time.
// A call from inside a body may run serially.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                             void* context);
struct Threads {
  ParallelFor parallel_for;
  int64_t count;
};

// Offsets must be ascending and within [0, total_frames].
template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                             const Threads& threads);

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                              const BackwardOutputs<T>& outputs, const Threads& threads);

}  // namespace fan::cpu
