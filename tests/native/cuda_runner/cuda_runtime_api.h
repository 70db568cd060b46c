// The part of the CUDA runtime that csrc/cuda/launch.cuh and device.cu call, for a host compiler: launches are noted,
// nothing runs. launcher_check.cpp looks at them.
#pragma once

#include <cstdint>
#include <vector>

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
enum cudaLaunchAttributeID { cudaLaunchAttributeNone, cudaLaunchAttributeClusterDimension };

struct cudaFuncAttributes {
  int ptxVersion;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned x) : x(x) {}
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
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
inline int shared_per_block = 227 * 1024;
inline int capability = 90;
inline int driver_version = 13000;
inline int ptx_version = 90;
inline cudaError_t error_of_functions = cudaSuccess;  // of whoever asks for a kernel

// As the runtime keeps them.
inline thread_local int current_device = 0;
inline thread_local cudaError_t last_error = cudaSuccess;

inline cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

struct Noted {
  const void* kernel;
  int64_t blocks, threads, shared_bytes, cluster;
  cudaStream_t stream;
};
inline std::vector<Noted> launches;
inline std::vector<int> limits;  // of kernels' shared memory, as they were set

}  // namespace fake_cuda

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoKernelImageForDevice ? "no image" : "refused";
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = fake_cuda::last_error;
  fake_cuda::last_error = cudaSuccess;
  return error;
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
  if (value > fake_cuda::shared_per_block) return cudaErrorInvalidValue;
  fake_cuda::limits.push_back(value);
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = fake_cuda::ptx_version;
  return fake_cuda::note(fake_cuda::error_of_functions);
}
template <typename... Expected, typename... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...), Given&&...) {
  static_assert(sizeof...(Expected) == sizeof...(Given));
  const bool clusters = config->numAttrs > 0 && config->attrs->id == cudaLaunchAttributeClusterDimension;
  const auto& cluster = config->attrs->val.clusterDim;
  const unsigned blocks = clusters ? cluster.x * cluster.y * cluster.z : 1;
  // What the runtime refuses.
  if (config->gridDim.x == 0 || config->gridDim.x > 0x7fffffffu || config->gridDim.x % blocks != 0) {
    return cudaErrorInvalidConfiguration;
  }
  const int64_t limit = fake_cuda::limits.empty() ? 48 * 1024 : fake_cuda::limits.back();
  if (static_cast<int64_t>(config->dynamicSmemBytes) > limit) return cudaErrorInvalidValue;
  fake_cuda::launches.push_back({reinterpret_cast<const void*>(kernel), config->gridDim.x, config->blockDim.x,
                                 static_cast<int64_t>(config->dynamicSmemBytes), blocks, config->stream});
  return cudaSuccess;
}
