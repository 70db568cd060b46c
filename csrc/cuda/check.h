// The CUDA runtime: errors as exceptions, for torch's own check lives in a library that a CPU-only torch lacks; and the
// device.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "plan.h"

namespace fan::cuda {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // the next call must not find this one's error
  throw std::runtime_error(std::string("fan_ext.frame_attention: CUDA error: ") + cudaGetErrorString(error));
}

// Makes the device current for the CUDA runtime in this library, which is not torch's, and says what it is.
Target use_device(int device);

}  // namespace fan::cuda
