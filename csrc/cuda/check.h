// CUDA errors as exceptions. torch's own check lives in a library that a CPU-only torch lacks.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace fan::cuda {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // the next call must not find this one's error
  std::string message = "fan_ext.frame_attention: ";
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    message += "no kernel is compiled for this device, build with CUDAARCHS set to its compute capability (";
    message += cudaGetErrorString(error);
    message += ")";
  } else {
    message += "CUDA error: ";
    message += cudaGetErrorString(error);
  }
  throw std::runtime_error(message);
}

}  // namespace fan::cuda
