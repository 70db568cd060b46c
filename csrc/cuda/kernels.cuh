// What a call asks of the plan, and which kernels serve it. run(kernel, launch, cluster, arguments...) launches one.
#pragma once

#include <initializer_list>

#include "split_backward.cuh"
#include "split_forward.cuh"
#include "warp_backward.cuh"

namespace fan::cuda {

template <typename T>
constexpr DataType kDataType = sizeof(T) == 8            ? DataType::kFloat64
                               : sizeof(T) == 4          ? DataType::kFloat32
                               : std::is_same_v<T, Half> ? DataType::kFloat16
                                                         : DataType::kBFloat16;

// rows: what else the kernels read or write a row of D or 2D adjacent elements at a time, null pointers included.
template <typename T>
Request make_request(const Clips<T>& clips, std::initializer_list<const void*> rows, bool relation, Target target,
                     bool backward) {
  Request request{};
  request.clips = clips.clips;
  request.packed = clips.offsets != nullptr;
  request.frames = clips.frames;
  request.total_frames = clips.total_frames;
  request.dim = clips.dim;
  request.relation = relation;
  request.type = kDataType<T>;
  request.target = target;
  request.backward = backward;
  const auto bytes = [](int64_t elements) { return static_cast<uintptr_t>(elements) * sizeof(T); };
  request.copy_bytes =
      alignment_of({reinterpret_cast<uintptr_t>(clips.features), bytes(clips.frame_stride), bytes(clips.clip_stride)});
  request.aligned = alignment_of({bytes(clips.dim)}) == 16;
  for (const void* row : rows) request.aligned &= alignment_of({reinterpret_cast<uintptr_t>(row)}) == 16;
  return request;
}

template <typename T>
Request request_forward(const Clips<T>& clips, const Parameters<T>& q, const ForwardOutputs<T>& outputs,
                        Target target) {
  return make_request(clips, {q.self_weight.data, q.relation_weight.data, outputs.out},
                      q.relation_weight.data != nullptr, target, false);
}

template <typename T>
Request request_backward(const Clips<T>& clips, const Parameters<T>& q, const BackwardInputs<T>& in,
                         const BackwardOutputs<T>& outputs, Target target) {
  return make_request(clips, {q.self_weight.data, q.relation_weight.data, in.grad_out, in.out, outputs.features},
                      q.relation_weight.data != nullptr, target, true);
}

// workspace: as many accumulators as the plan says, at a multiple of 16 bytes.
template <bool kRelation, typename T, typename Run>
void run_forward_with(const Clips<T>& clips, const Parameters<T>& q, const ForwardOutputs<T>& outputs, const Plan& plan,
                      Accumulator<T>* workspace, const Run& run) {
  const Launch* const launch = plan.launch;
  const Layout& layout = plan.layout;
  switch (plan.regime) {
    case Regime::kWarp:
      return run(warp_forward_kernel<T, kRelation>, launch[0], 1, clips, q, outputs, layout);
    case Regime::kBlock:
      return run(forward_kernel<T, kRelation, Scope::kBlock>, launch[0], 1, clips, q, outputs, layout);
    case Regime::kCluster:
      return run(forward_kernel<T, kRelation, Scope::kCluster>, launch[0], plan.cluster, clips, q, outputs, layout);
    case Regime::kSplit: {
      run(logits_kernel<T, kRelation>, launch[0], 1, clips, q, outputs, layout, workspace);
      if constexpr (kRelation) run(sums_kernel<T>, launch[1], 1, clips, q, outputs, layout, workspace);
      const Launch& last = launch[kRelation ? 2 : 1];
      const int64_t turns = clips.clips < 1 ? 1 : clips.clips;
      const int shares = static_cast<int>(last.blocks < turns ? 1 : last.blocks / turns);
      return run(combine_kernel<T, kRelation>, last, 1, clips, outputs, layout, workspace, shares);
    }
  }
}

template <typename T, typename Run>
void run_forward(const Clips<T>& clips, const Parameters<T>& q, const ForwardOutputs<T>& outputs, const Plan& plan,
                 Accumulator<T>* workspace, const Run& run) {
  if (q.relation_weight.data != nullptr) {
    run_forward_with<true>(clips, q, outputs, plan, workspace, run);
  } else {
    run_forward_with<false>(clips, q, outputs, plan, workspace, run);
  }
}

template <bool kRelation, typename T, typename Run>
void run_backward_with(const Clips<T>& clips, const Parameters<T>& q, const BackwardInputs<T>& in, T* features,
                       const Plan& plan, Accumulator<T>* workspace, Accumulator<T>* partial, const Run& run) {
  const Launch* const launch = plan.launch;
  const Layout& layout = plan.layout;
  switch (plan.regime) {
    case Regime::kWarp:
      return run(warp_backward_kernel<T, kRelation>, launch[0], 1, clips, q, in, features, partial, layout);
    case Regime::kBlock:
      return run(backward_kernel<T, kRelation, Scope::kBlock>, launch[0], 1, clips, q, in, features, partial, layout);
    case Regime::kCluster:
      return run(backward_kernel<T, kRelation, Scope::kCluster>, launch[0], plan.cluster, clips, q, in, features,
                 partial, layout);
    case Regime::kSplit: {
      Accumulator<T>* const scratch = workspace + kBackwardScalars * padded_slots(layout.slots);
      run(gradient_sums_kernel<T, kRelation>, launch[0], 1, clips, in, layout, workspace, scratch);
      return run(gradients_kernel<T, kRelation>, launch[1], 1, clips, q, in, features, partial, layout, workspace,
                 scratch);
    }
  }
}

template <typename T, typename Run>
void run_backward(const Clips<T>& clips, const Parameters<T>& q, const BackwardInputs<T>& in,
                  const BackwardOutputs<T>& outputs, const Plan& plan, Accumulator<T>* workspace, const Run& run) {
  const bool relation = q.relation_weight.data != nullptr;
  Accumulator<T>* const partial = workspace + plan.workspace - plan.partial_rows * partial_width(clips.dim, relation);
  if (relation) {
    run_backward_with<true>(clips, q, in, outputs.features, plan, workspace, partial, run);
  } else {
    run_backward_with<false>(clips, q, in, outputs.features, plan, workspace, partial, run);
  }
  run(reduce_kernel<T>, plan.launch[plan.launches - 1], 1, outputs, partial, static_cast<int>(clips.dim),
      plan.partial_rows);
}

}  // namespace fan::cuda
