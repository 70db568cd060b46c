// The part of the CUDA runtime that csrc/cuda/launch.cuh calls, for a host compiler: launches are noted, nothing runs.
// launcher_check.cpp looks at them.
#pragma once

#include <cstdint>
#include <vector>

using cudaStream_t = struct Stream*;

enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorInvalidConfiguration,
  cudaErrorInvalidDeviceFunction,
  cudaErrorNoKernelImageForDevice
};
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };
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

// The device, and of which version its code is.
inline int shared_per_block = 227 * 1024;
inline int ptx_version = 90;

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
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = fake_cuda::shared_per_block;
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
  return cudaSuccess;
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
