// Which kernels serve a plan, and with what. launch(kernel, blocks, threads, shared_bytes, cluster, arguments...) runs
// one.
#pragma once

#include "backward.cuh"
#include "forward.cuh"

namespace fan::cuda {

template <typename T, typename Launch>
void run_forward(const Clips<T>& clips, const Parameters<Accumulator<T>>& parameters, const ForwardOutputs<T>& outputs,
                 const Plan& plan, const Launch& launch) {
  const auto kernel = plan.regime == Regime::kWarpPerClip ? forward_kernel<T, true, Scope::kWarp>
                      : plan.regime == Regime::kCluster   ? forward_kernel<T, true, Scope::kCluster>
                      : plan.aligned                      ? forward_kernel<T, true, Scope::kBlock>
                                                          : forward_kernel<T, false, Scope::kBlock>;
  launch(kernel, plan.blocks, plan.threads, plan.shared_bytes, plan.cluster, clips, parameters, outputs, plan.layout);
}

template <typename T, typename Launch>
void run_backward(const Clips<T>& clips, const Parameters<Accumulator<T>>& parameters, const BackwardInputs<T>& inputs,
                  const BackwardOutputs<T>& outputs, const Plan& plan, const Launch& launch) {
  const auto kernel = plan.regime == Regime::kWarpPerClip ? backward_kernel<T, true, Scope::kWarp>
                      : plan.regime == Regime::kCluster   ? backward_kernel<T, true, Scope::kCluster>
                      : plan.aligned                      ? backward_kernel<T, true, Scope::kBlock>
                                                          : backward_kernel<T, false, Scope::kBlock>;
  launch(kernel, plan.blocks, plan.threads, plan.shared_bytes, plan.cluster, clips, parameters, inputs, outputs,
         plan.layout);

  const int64_t width = partial_width(clips.dim, parameters.relation_weight != nullptr);
  const int64_t blocks = (width + kReduceColumns - 1) / kReduceColumns;
  launch(reduce_kernel<T>, blocks, kReduceThreads, kReduceThreads * int64_t{sizeof(Accumulator<T>)}, 1, outputs,
         clips.dim, plan.blocks);
}

}  // namespace fan::cuda
