// Which kernels serve a plan, and with what. run(kernel, launch, cluster, arguments...) launches one.
#pragma once

#include "backward.cuh"
#include "forward.cuh"
#include "split_forward.cuh"

namespace fan::cuda {

template <typename T, typename Run>
void run_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                 const Plan& plan, const Run& run) {
  const Launch* launch = plan.launch;
  const auto run_next = [&](auto kernel) {
    run(kernel, *launch++, plan.cluster, clips, parameters, outputs, plan.layout);
  };
  switch (plan.regime) {
    case Regime::kWarpPerClip:
      return run_next(forward_kernel<T, Scope::kWarp>);
    case Regime::kResident:
      return run_next(forward_kernel<T, Scope::kBlock>);
    case Regime::kCluster:
      return run_next(forward_kernel<T, Scope::kCluster>);
    case Regime::kSplit:
      run_next(self_parts_kernel<T>);
      if (parameters.relation_weight.data != nullptr) run_next(relation_parts_kernel<T>);
      return run_next(combine_parts_kernel<T>);
  }
}

template <typename T, typename Run>
void run_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                  const BackwardOutputs<T>& outputs, const Plan& plan, const Run& run) {
  const Launch* launch = plan.launch;
  const auto run_next = [&](auto kernel) {
    run(kernel, *launch++, plan.cluster, clips, parameters, inputs, outputs, plan.layout);
  };
  switch (plan.regime) {
    case Regime::kWarpPerClip:
      run_next(backward_kernel<T, Scope::kWarp>);
      break;
    case Regime::kResident:
      run_next(backward_kernel<T, Scope::kBlock>);
      break;
    case Regime::kCluster:
      run_next(backward_kernel<T, Scope::kCluster>);
      break;
    case Regime::kSplit:
      run_next(gradient_parts_kernel<T>);
      run_next(backward_kernel<T, Scope::kPart>);
      break;
  }
  run(reduce_kernel<T>, *launch, 1, outputs, clips.dim, plan.partial_rows);
}

}  // namespace fan::cuda
