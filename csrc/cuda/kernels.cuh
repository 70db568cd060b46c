// Which kernels serve a call, in which order.
#pragma once

#include "registers.cuh"

namespace fan::cuda {

template <typename T>
constexpr DataType kDataType = sizeof(T) == 8            ? DataType::kFloat64
                               : sizeof(T) == 4          ? DataType::kFloat32
                               : std::is_same_v<T, Half> ? DataType::kFloat16
                                                         : DataType::kBFloat16;

// rows: what the kernels read or write a row of D or 2D adjacent elements at a time beside features, also null
// pointers.
template <typename T>
Request make_request(const Call<T>& call, std::initializer_list<const void*> rows, bool backward, Target target) {
  const Clips<T>& clips = call.clips;
  const auto bytes = [](int64_t elements) { return static_cast<uintptr_t>(elements) * sizeof(T); };
  const auto address = [](const void* row) { return reinterpret_cast<uintptr_t>(row); };
  const int copy_bytes = alignment_of({address(clips.features), bytes(clips.frame_stride), bytes(clips.clip_stride)});
  uintptr_t all = bytes(clips.dim) | address(call.q.self_weight.data) | address(call.q.relation_weight.data);
  for (const void* row : rows) all |= address(row);
  return {clips.clips,  clips.frames, clips.total_frames, clips.dim,  clips.offsets != nullptr, call.relation(),
          kDataType<T>, target,       backward,           copy_bytes, alignment_of({all}) == 16};
}
template <typename T>
Request make_request(const ForwardCall<T>& call, Target target) {
  return make_request(call, {call.to.out}, false, target);
}
template <typename T>
Request make_request(const BackwardCall<T>& call, Target target) {
  return make_request(call, {call.in.grad_out, call.in.out, call.to.features}, true, target);
}

// launch: the plan's next.
template <bool kRelation, typename T, typename Run>
void run_kernels(const ForwardCall<T>& call, Regime regime, const Launch* launch, const Run& run) {
  if (regime == Regime::kRegisters) return run(register_forward_kernel<T, kRelation>, *launch, call);
  run(forward_kernel<T, kRelation>, *launch++, call);
  if (regime != Regime::kSplit) return;
  if constexpr (kRelation) run(sums_kernel<T>, *launch++, call);
  run(combine_kernel<T, kRelation>, *launch, call);
}
template <bool kRelation, typename T, typename Run>
void run_kernels(const BackwardCall<T>& call, Regime regime, const Launch* launch, const Run& run) {
  if (regime == Regime::kSplit) run(gradient_sums_kernel<T, kRelation>, *launch++, call);
  run(regime == Regime::kRegisters ? register_backward_kernel<T, kRelation> : backward_kernel<T, kRelation>, *launch++,
      call);
  run(reduce_kernel<T>, *launch, call);
}

// make(request) plans; allocate(bytes) gives memory to work in, at a multiple of 16 bytes; run(kernel, launch, call)
// launches.
template <typename AnyCall, typename Make, typename Allocate, typename Run>
Plan run_call(AnyCall call, Target target, const Make& make, const Allocate& allocate, const Run& run) {
  const Plan plan = make(make_request(call, target));
  call.layout = plan.layout;
  call.slots = static_cast<typename AnyCall::A*>(allocate(plan.workspace * sizeof(typename AnyCall::A)));
  if (call.relation()) {
    run_kernels<true>(call, plan.regime, plan.launch, run);
  } else {
    run_kernels<false>(call, plan.regime, plan.launch, run);
  }
  return plan;
}

}  // namespace fan::cuda
