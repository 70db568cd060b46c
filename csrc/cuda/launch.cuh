// Which kernels serve a plan, and how they are queued. One source file per type includes this, so that they compile
// side by side.
#pragma once

#include <limits>

#include "check.h"
#include "frame_attention.h"
#include "kernels.cuh"

namespace fan::cuda {

// Makes the device current for the CUDA runtime in this library, which is not torch's, and says what it is.
Target use_device(int device);

namespace {

// What a block gets without asking for more.
constexpr int64_t kDefaultSharedBytes = 48 * 1024;

// What a block of the current device may ask for. A kernel's limit is set to it, not to what this launch needs: another
// thread of the host may set the same kernel's limit between our setting and our launch.
int most_shared_bytes() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes;
}

struct Launcher {
  void* stream;

  template <typename... Expected, typename... Given>
  void operator()(void (*kernel)(Expected...), const Launch& launch, int cluster, const Given&... arguments) const {
    if (launch.shared_bytes > kDefaultSharedBytes) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared_bytes()));
    }
    // Else the driver may leave room for one block where several fit.
    if (launch.shared_bytes > kDefaultSharedBytes / 4) {
      check(
          cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
    }
    if (launch.blocks > std::numeric_limits<int>::max()) check(cudaErrorInvalidConfiguration);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
    config.blockDim = dim3(static_cast<unsigned>(launch.threads));
    config.dynamicSmemBytes = static_cast<size_t>(launch.shared_bytes);
    config.stream = static_cast<cudaStream_t>(stream);
    cudaLaunchAttribute in_clusters{};
    in_clusters.id = cudaLaunchAttributeClusterDimension;
    in_clusters.val.clusterDim.x = static_cast<unsigned>(cluster);
    in_clusters.val.clusterDim.y = in_clusters.val.clusterDim.z = 1;
    config.attrs = &in_clusters;
    config.numAttrs = cluster > 1 ? 1 : 0;
    check(cudaLaunchKernelEx(&config, kernel, Expected(arguments)...));
  }
};

template <typename AnyCall>
void queue_call(const AnyCall& call, const Queue& queue) {
  const auto allocate = [&](int64_t bytes) { return bytes == 0 ? nullptr : queue.allocate(bytes, queue.context); };
  run_call(call, use_device(queue.device), make_plan, allocate, Launcher{queue.stream});
}

}  // namespace

template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                             const Queue& queue) {
  queue_call(ForwardCall<T>{{clips, parameters, {}, nullptr}, outputs}, queue);
}

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                              const BackwardOutputs<T>& outputs, const Queue& queue) {
  queue_call(BackwardCall<T>{{clips, parameters, {}, nullptr}, inputs, outputs, nullptr, 0}, queue);
}

#define FAN_INSTANTIATE(T)                                                                                   \
  template void frame_attention_forward<T>(const Clips<T>&, const Parameters<T>&, const ForwardOutputs<T>&,  \
                                           const Queue&);                                                    \
  template void frame_attention_backward<T>(const Clips<T>&, const Parameters<T>&, const BackwardInputs<T>&, \
                                            const BackwardOutputs<T>&, const Queue&);

}  // namespace fan::cuda
