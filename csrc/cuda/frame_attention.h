// Frame attention on CUDA, forward and backward, free of torch.
#pragma once

#include "../types.h"

namespace fan::cuda {

// Where the kernels are queued, and who gives them memory to work in.
struct Queue {
  int device;    // is made current for the CUDA runtime in this library, which is not torch's
  void* stream;  // a cudaStream_t of the device
  // So many bytes at a multiple of 16, free to use until the stream is past this call.
  void* (*allocate)(int64_t bytes, void* context);
  void* context;
};

// Both queue their kernels and return; they throw std::runtime_error where CUDA refuses. No pointer into clips,
// parameters, inputs or outputs is read by the host.
template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                             const Queue& queue);

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                              const BackwardOutputs<T>& outputs, const Queue& queue);

}  // namespace fan::cuda
