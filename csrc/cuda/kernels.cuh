// What a call asks of the plan, and which kernels serve it.
#pragma once

#include "split_backward.cuh"
#include "split_forward.cuh"
#include "warp_backward.cuh"

namespace fan::cuda {

template <typename T>
constexpr DataType kDataType = sizeof(T) == 8            ? DataType::kFloat64
                               : sizeof(T) == 4          ? DataType::kFloat32
                               : std::is_same_v<T, Half> ? DataType::kFloat16
                                                         : DataType::kBFloat16;

// rows: what the kernels read or write a row of D or 2D adjacent elements at a time beside features, also null
// pointers.
template <typename T>
Request make_request(const Clips<T>& clips, const Parameters<T>& q, std::initializer_list<const void*> rows,
                     Target target, bool backward) {
  Request request{};
  request.clips = clips.clips;
  request.packed = clips.offsets != nullptr;
  request.frames = clips.frames;
  request.total_frames = clips.total_frames;
  request.dim = clips.dim;
  request.relation = q.relation_weight.data != nullptr;
  request.type = kDataType<T>;
  request.target = target;
  request.backward = backward;
  const auto address = [](const void* row) { return reinterpret_cast<uintptr_t>(row); };
  const auto bytes = [](int64_t elements) { return static_cast<uintptr_t>(elements) * sizeof(T); };
  request.copy_bytes = alignment_of({address(clips.features), bytes(clips.frame_stride), bytes(clips.clip_stride)});
  request.aligned =
      alignment_of({bytes(clips.dim), address(q.self_weight.data), address(q.relation_weight.data)}) == 16;
  for (const void* row : rows) request.aligned &= alignment_of({address(row)}) == 16;
  return request;
}

template <typename T>
Request request_for(const ForwardCall<T>& call, Target target) {
  return make_request(call.clips, call.q, {call.to.out}, target, false);
}
template <typename T>
Request request_for(const BackwardCall<T>& call, Target target) {
  return make_request(call.clips, call.q, {call.in.grad_out, call.in.out, call.to.features}, target, true);
}

// Runs the kernels of a plan: run(kernel, launch, cluster, arguments...) launches one. call.slots: the plan's
// workspace, at a multiple of 16 bytes.
template <bool kRelation, typename T, typename Run>
void run_kernels(const ForwardCall<T>& call, const Plan& plan, const Run& run) {
  const Launch* const launch = plan.launch;
  switch (plan.regime) {
    case Regime::kWarp:
      return run(warp_forward_kernel<T, kRelation>, launch[0], 1, call);
    case Regime::kBlock:
      return run(forward_kernel<T, kRelation, Scope::kBlock>, launch[0], 1, call);
    case Regime::kCluster:
      return run(forward_kernel<T, kRelation, Scope::kCluster>, launch[0], plan.cluster, call);
    case Regime::kSplit:
      run(logits_kernel<T, kRelation>, launch[0], 1, call);
      if constexpr (kRelation) run(sums_kernel<T>, launch[1], 1, call);
      return run(combine_kernel<T, kRelation>, launch[kRelation ? 2 : 1], 1, call, plan.shares);
  }
}

template <bool kRelation, typename T, typename Run>
void run_kernels(const BackwardCall<T>& call, const Plan& plan, const Run& run) {
  const Launch* const launch = plan.launch;
  switch (plan.regime) {
    case Regime::kWarp:
      run(warp_backward_kernel<T, kRelation>, launch[0], 1, call);
      break;
    case Regime::kBlock:
      run(backward_kernel<T, kRelation, Scope::kBlock>, launch[0], 1, call);
      break;
    case Regime::kCluster:
      run(backward_kernel<T, kRelation, Scope::kCluster>, launch[0], plan.cluster, call);
      break;
    case Regime::kSplit:
      run(gradient_sums_kernel<T, kRelation>, launch[0], 1, call);
      run(gradients_kernel<T, kRelation>, launch[1], 1, call);
      break;
  }
  run(reduce_kernel<T>, launch[plan.launches - 1], 1, call);
}

template <typename T>
void set_plan(ForwardCall<T>& call, const Plan& plan, void* workspace) {
  call.layout = plan.layout;
  call.slots = static_cast<Accumulator<T>*>(workspace);
}
template <typename T>
void set_plan(BackwardCall<T>& call, const Plan& plan, void* workspace) {
  call.layout = plan.layout;
  call.slots = static_cast<Accumulator<T>*>(workspace);
  call.partial = call.slots + plan.partial_at;
  call.partial_rows = plan.partial_rows;
}

// make(request) plans; allocate(bytes) gives the memory to work in.
template <typename AnyCall, typename Make, typename Allocate, typename Run>
Plan run_call(AnyCall call, Target target, const Make& make, const Allocate& allocate, const Run& run) {
  const Plan plan = make(request_for(call, target));
  set_plan(call, plan, allocate(plan.workspace * sizeof(typename AnyCall::A)));
  if (call.q.relation_weight.data != nullptr) {
    run_kernels<true>(call, plan, run);
  } else {
    run_kernels<false>(call, plan, run);
  }
  return plan;
}

}  // namespace fan::cuda
