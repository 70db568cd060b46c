// The part of the CUDA runtime that csrc/cuda/launch.cuh and device.cu call, for a host compiler: a launch is noted,
// nothing runs. launcher_check.cpp looks at it.
#pragma once

#include <utility>

#include "cuda_on_cpu.h"

#define CUDART_VERSION 13000

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9,
                      cudaErrorInsufficientDriver = 35, cudaErrorInvalidDeviceFunction = 98,
                      cudaErrorNoKernelImageForDevice = 209, cudaErrorUnsupportedPtxVersion = 222;
using cudaDeviceAttr = int;
constexpr cudaDeviceAttr cudaDevAttrMaxSharedMemoryPerBlockOptin = 0, cudaDevAttrComputeCapabilityMajor = 1,
                         cudaDevAttrComputeCapabilityMinor = 2;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize, cudaFuncAttributePreferredSharedMemoryCarveout };
constexpr int cudaSharedmemCarveoutMaxShared = 100;
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };

struct cudaFuncAttributes {
  int ptxVersion;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    dim3 clusterDim;
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
inline int attributes[] = {227 * 1024, 10, 3};  // as in cudaDeviceAttr
inline int driver_version = 13000, ptx_version = 90;
inline cudaError_t error_of_functions = cudaSuccess;  // of whoever asks for a kernel

// As the runtime keeps them.
inline thread_local int current_device = 0;
inline thread_local cudaError_t last_error = cudaSuccess;

// The latest launch, and the latest limit of a kernel's shared memory.
inline cudaLaunchConfig_t launch;
inline unsigned cluster;
inline int shared_limit;
inline bool shared_preferred = false;  // of a multiprocessor's memory, as much as there may be

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
  if (fake_cuda::driver_version < CUDART_VERSION) return fake_cuda::last_error = cudaErrorInsufficientDriver;
  fake_cuda::current_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = fake_cuda::attributes[attribute];
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute which, int value) {
  if (which == cudaFuncAttributePreferredSharedMemoryCarveout) fake_cuda::shared_preferred = value == 100;
  if (which == cudaFuncAttributeMaxDynamicSharedMemorySize) fake_cuda::shared_limit = value;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = fake_cuda::ptx_version;
  return fake_cuda::last_error = fake_cuda::error_of_functions;
}
template <typename... Expected, typename... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*)(Expected...), Given&&...) {
  static_assert(sizeof...(Expected) == sizeof...(Given));
  fake_cuda::launch = *config;
  fake_cuda::cluster = config->numAttrs > 0 ? config->attrs->val.clusterDim.x : 1;
  return cudaSuccess;
}
