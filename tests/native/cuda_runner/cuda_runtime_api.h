// The part of the CUDA runtime that csrc/cuda/launch.cuh and device.cu call, for a host compiler: launches are noted,
// nothing runs. launcher_check.cpp looks at them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "cuda_on_cpu.h"

#define CUDART_VERSION 13000

using cudaStream_t = struct Stream*;

enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorInvalidConfiguration,
  cudaErrorInvalidDeviceFunction,
  cudaErrorInsufficientDriver,
  cudaErrorUnsupportedPtxVersion,
  cudaErrorNoKernelImageForDevice
};
enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };

struct cudaFuncAttributes {
  int ptxVersion;
};
struct dim3 : Index {
  dim3(unsigned x = 1) : Index{x, 1, 1} {}
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    Index clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace fake_cuda {

// Every device, its driver, and of which version its code is.
inline int shared_per_block = 227 * 1024, capability = 90, driver_version = 13000, ptx_version = 90;
inline cudaError_t error_of_functions = cudaSuccess;  // of whoever asks for a kernel

// As the runtime keeps them.
inline thread_local int current_device = 0;
inline thread_local cudaError_t last_error = cudaSuccess;

inline cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

struct Noted {
  int64_t blocks, threads, shared_bytes, cluster;
  cudaStream_t stream;
  int shared_limit;
};
inline std::vector<Noted> launches;
inline int shared_limit = 48 * 1024;  // of the next launch

}  // namespace fake_cuda

inline const char* cudaGetErrorString(cudaError_t) {
  return "refused";
}
inline cudaError_t cudaGetLastError() {
  return std::exchange(fake_cuda::last_error, cudaSuccess);
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = fake_cuda::driver_version;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = fake_cuda::current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (fake_cuda::driver_version < CUDART_VERSION) return fake_cuda::note(cudaErrorInsufficientDriver);
  fake_cuda::current_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? fake_cuda::capability / 10
           : attribute == cudaDevAttrComputeCapabilityMinor ? fake_cuda::capability % 10
                                                            : fake_cuda::shared_per_block;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int value) {
  fake_cuda::shared_limit = value;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = fake_cuda::ptx_version;
  return fake_cuda::note(fake_cuda::error_of_functions);
}
template <typename... Expected, typename... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*)(Expected...), Given&&...) {
  static_assert(sizeof...(Expected) == sizeof...(Given));
  const int64_t cluster = config->numAttrs > 0 ? config->attrs->val.clusterDim.x : 1;
  fake_cuda::launches.push_back({config->gridDim.x, config->blockDim.x, static_cast<int64_t>(config->dynamicSmemBytes),
                                 cluster, config->stream, std::exchange(fake_cuda::shared_limit, 48 * 1024)});
  return cudaSuccess;
}
