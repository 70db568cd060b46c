// The device, and whether the kernels run on it.
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "plan.h"

namespace fan::cuda {
namespace {

// Compiled for the same architectures as the others; it is asked for what is known of all of them.
__global__ void probe_kernel() {}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Makes the device current.
std::string find_problem(int device) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  cudaError_t error = cudaSetDevice(device);
  cudaFuncAttributes attributes{};
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, probe_kernel);
  if (error == cudaSuccess) return "";
  if (error == cudaErrorInsufficientDriver || error == cudaErrorUnsupportedPtxVersion) {
    if (driver == 0) return "there is no CUDA driver: install one";
    return "its driver is for CUDA " + version_text(driver) + ", and the kernels need " + version_text(CUDART_VERSION) +
           ": update the driver, or build fan_ext with a CUDA toolkit that is no newer than it";
  }
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    return "its compute capability is " + std::to_string(major) + "." + std::to_string(minor) +
           ", and the kernels are compiled for " FAN_EXT_CUDA_ARCHITECTURES ": build fan_ext with CUDAARCHS set to " +
           std::to_string(10 * major + minor);
  }
  return std::string("CUDA error: ") + cudaGetErrorString(error);
}

}  // namespace

// See launch.cuh.
Target use_device(int device) {
  check(cudaSetDevice(device));
  thread_local std::vector<Target> known;
  if (known.size() <= static_cast<size_t>(device)) known.resize(device + 1);
  Target& target = known[device];
  if (target.compute_capability == 0) {
    int major = 0, minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    // A device that has clusters may run code compiled for one that has none (a build with PTX of 8.0 alone).
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, probe_kernel));
    target = {10 * major + minor, attributes.ptxVersion >= 90};
  }
  return target;
}

}  // namespace fan::cuda

// Why the kernels do not run on this device, and what to do; null if they do. Called from Python, which copies it.
extern "C" __attribute__((visibility("default"))) const char* fan_ext_cuda_problem(int device) noexcept {
  thread_local std::string kept;
  std::string& problem = kept;
  // The current device and the last error are a thread's own, and so this one's stay as they are.
  std::thread([&] { problem = fan::cuda::find_problem(device); }).join();
  return problem.empty() ? nullptr : problem.c_str();
}
