// How kernels are queued. One source file per type includes this, so that they compile side by side.
#pragma once

#include <limits>

#include "check.h"
#include "frame_attention.h"
#include "kernels.cuh"

namespace fan::cuda {

template <typename AnyCall>
void queue_kernel(void (*kernel)(AnyCall), const Launch& launch, const AnyCall& call, const Queue& queue) {
  constexpr int64_t kDefaultSharedBytes = 48 * 1024;  // what a block gets without asking for more
  if (launch.shared_bytes > kDefaultSharedBytes) {
    // All that there is, not what this launch needs: another thread of the host may set the same kernel's limit before
    // our launch.
    int bytes = 0;
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, queue.device));
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  }
  // Else the driver may leave room for one block where several fit.
  if (launch.shared_bytes > kDefaultSharedBytes / 4) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
  }
  if (launch.blocks > std::numeric_limits<int>::max()) check(cudaErrorInvalidConfiguration);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
  config.blockDim = dim3(static_cast<unsigned>(launch.threads));
  config.dynamicSmemBytes = static_cast<size_t>(launch.shared_bytes);
  config.stream = static_cast<cudaStream_t>(queue.stream);
  cudaLaunchAttribute in_clusters{};
  in_clusters.id = cudaLaunchAttributeClusterDimension;
  in_clusters.val.clusterDim.x = static_cast<unsigned>(launch.cluster);
  in_clusters.val.clusterDim.y = in_clusters.val.clusterDim.z = 1;
  config.attrs = &in_clusters;
  config.numAttrs = launch.cluster > 1 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, call));
}

template <typename AnyCall>
void queue_call(const AnyCall& call, const Queue& queue) {
  run_call(
      call, use_device(queue.device), make_plan,
      [&](int64_t bytes) { return bytes == 0 ? nullptr : queue.allocate(bytes, queue.context); },
      [&](auto kernel, const Launch& launch, const AnyCall& given) { queue_kernel(kernel, launch, given, queue); });
}

template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                             const Queue& queue) {
  queue_call(ForwardCall<T>{{clips, parameters}, outputs}, queue);
}

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                              const BackwardOutputs<T>& outputs, const Queue& queue) {
  queue_call(BackwardCall<T>{{clips, parameters}, inputs, outputs}, queue);
}

#define FAN_INSTANTIATE(T)                                                                                   \
  template void frame_attention_forward<T>(const Clips<T>&, const Parameters<T>&, const ForwardOutputs<T>&,  \
                                           const Queue&);                                                    \
  template void frame_attention_backward<T>(const Clips<T>&, const Parameters<T>&, const BackwardInputs<T>&, \
                                            const BackwardOutputs<T>&, const Queue&);

}  // namespace fan::cuda
