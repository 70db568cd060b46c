// What the kernels are given, and which frames of which clip a block takes.
#pragma once

#include "team.cuh"
#include "vectors.cuh"

namespace fan::cuda {

// Of both passes.
template <typename T>
struct Call {
  using A = Accumulator<T>;
  Clips<T> clips;
  Parameters<T> q;
  Layout layout;
  A* slots;  // memory to work in, which begins with what the parts of split clips leave

  FAN_DEVICE int dim() const { return static_cast<int>(clips.dim); }
  __host__ __device__ bool relation() const { return q.relation_weight.data != nullptr; }
};

template <typename T>
struct ForwardCall : Call<T> {
  ForwardOutputs<T> to;
};

template <typename T>
struct BackwardCall : Call<T> {
  BackwardInputs<T> in;
  BackwardOutputs<T> to;

  // Partial sums of the parameters' gradients: a row of partial_width for each block of backward_kernel.
  FAN_DEVICE Accumulator<T>* partial() const { return this->slots + this->layout.partial_at; }
};

template <typename T>
struct Clip {
  int64_t first;      // number of the clip's first frame
  int64_t length;     // its frames, present or not
  int64_t cut;        // frames behind these that max_frames cuts off
  const T* features;  // of the first frame
  const bool* mask;   // of the first frame, or null

  FAN_DEVICE bool present(int64_t i) const { return mask == nullptr || mask[i]; }
};

FAN_DEVICE int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

// Nobody has looked at the offsets before: whatever they say, nothing out of bounds is touched.
template <typename T>
FAN_DEVICE int64_t offset_of(const Clips<T>& clips, int64_t b, int64_t least = 0) {
  const int64_t offset = clips.short_offsets ? static_cast<const int32_t*>(clips.offsets)[b]
                                             : static_cast<const int64_t*>(clips.offsets)[b];
  return clamp(offset, least, clips.total_frames);
}

template <typename T>
FAN_DEVICE Clip<T> find_clip(const Clips<T>& clips, int64_t b) {
  if (clips.offsets == nullptr) {
    const int64_t first = b * clips.frames;
    const bool* const mask = clips.mask == nullptr ? nullptr : clips.mask + first;
    return {first, clips.frames, 0, clips.features + b * clips.clip_stride, mask};
  }
  const int64_t first = offset_of(clips, b), whole = offset_of(clips, b + 1, first) - first;
  const int64_t length = clips.frames < 0 || whole < clips.frames ? whole : clips.frames;
  return {first, length, whole - length, clips.features + first * clips.frame_stride, nullptr};
}

// So many frames of a clip from this one on, as far as there are.
template <typename T>
FAN_DEVICE Clip<T> slice(const Clip<T>& clip, int64_t frame_stride, int64_t begin, int64_t count) {
  begin = clamp(begin, 0, clip.length);
  return {clip.first + begin, clamp(clip.length - begin, 0, count), 0, clip.features + begin * frame_stride,
          clip.mask == nullptr ? nullptr : clip.mask + begin};
}

// body(frame) for the frames that take no part in packed clips: before the first clip, after the last, or cut off.
// kThreads threads of the grid take one together.
template <int kThreads, typename T, typename Body>
FAN_DEVICE void for_each_idle_frame(const Clips<T>& clips, const Body& body) {
  if (clips.offsets == nullptr) return;
  const int64_t rank = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kThreads;
  const int64_t size = static_cast<int64_t>(gridDim.x) * blockDim.x / kThreads;
  const int64_t begin = offset_of(clips, 0), end = offset_of(clips, clips.clips, begin);
  const int64_t outside = begin + clips.total_frames - end;
#pragma unroll 1
  for (int64_t i = rank; i < outside; i += size) body(i < begin ? i : end + (i - begin));
  for (int64_t b = rank; clips.frames >= 0 && b < clips.clips; b += size) {
    const Clip<T> clip = find_clip(clips, b);
#pragma unroll 1
    for (int64_t i = 0; i < clip.cut; ++i) body(clip.first + clip.length + i);
  }
}

// A clip, cut into parts: those of the split regime, a block each, whose blocks do not wait for each other; or, in the
// others, the shares of a team's blocks.
template <typename T>
struct Parts {
  int64_t b;
  Clip<T> clip;
  bool cut;       // split
  int64_t rows;   // of a part, but for the last ones
  int64_t count;  // of parts
  int64_t first_slot;
  bool whole;  // one team works on all of the clip, and its rows are in shared memory together

  template <typename Team>
  FAN_DEVICE Parts(const Call<T>& call, const Team& team, int64_t b)
      : b(b), clip(find_clip(call.clips, b)), cut(call.layout.part_rows > 0) {
    const Layout& layout = call.layout;
    rows = cut ? part_rows_of(clip.length, layout.part_rows) : rows_of_block(clip.length, team.blocks);
    count = cut ? ceil_div(clip.length, rows) : team.blocks;
    first_slot = cut ? slot_of(call, b) : b;
    whole = !cut || (count == 1 && clip.length <= layout.rows && call.clips.dim <= layout.columns);
  }

  // The slot of a clip's first part; its others' follow. Packed clips need no more slots than this leaves them, because
  // floor(x + y) + 1 >= floor(x) + ceil(y).
  static FAN_DEVICE int64_t slot_of(const Call<T>& call, int64_t b) {
    if (call.clips.offsets == nullptr) return b * parts_of_dense(call);
    return offset_of(call.clips, b) / call.layout.part_rows + b;
  }
  static FAN_DEVICE int64_t parts_of_dense(const Call<T>& call) {
    return ceil_div(call.clips.frames, part_rows_of(call.clips.frames, call.layout.part_rows));
  }
};

// The part that a block takes.
template <typename T>
struct Part : Parts<T> {
  int64_t slot, number;
  bool exists;
  Clip<T> frames;

  template <typename Team>
  FAN_DEVICE Part(const Call<T>& call, const Team& team, int64_t slot)
      : Parts<T>(call, team, clip_of_slot(call, slot)),
        slot(slot),
        number(this->cut ? slot - this->first_slot : team.block),
        exists(number >= 0 && number < this->count),
        frames(slice(this->clip, call.clips.frame_stride, number * this->rows, this->rows)) {}

  static FAN_DEVICE bool may_exist(const Call<T>& call, int64_t slot) {
    return slot < call.layout.slots && call.clips.clips > 0;
  }

 private:
  // The last packed clip whose first slot is not beyond. A warp, all of whose threads call, looks at 32 clips at a
  // time. Offsets in disorder lead somewhere, but not out of bounds.
  static FAN_DEVICE int64_t clip_of_slot(const Call<T>& call, int64_t slot) {
    if (call.layout.part_rows == 0) return slot;
    if (call.clips.offsets == nullptr) return slot / Parts<T>::parts_of_dense(call);
    const int lane = threadIdx.x % kWarpSize;
    int64_t b = 0;
    for (int64_t count = call.clips.clips; count > 1;) {  // b, or one of so many from there
      const int64_t step = ceil_div(count, kWarpSize);
      int last[1] = {lane * step < count && Parts<T>::slot_of(call, b + lane * step) <= slot ? lane : 0};
      const auto later = [](int (&mine)[1], const int (&others)[1]) {
        mine[0] = others[0] > mine[0] ? others[0] : mine[0];
      };
      reduce_lanes(last, kWarpSize, later);
      b += last[0] * step;
      count = count - last[0] * step < step ? count - last[0] * step : step;
    }
    return b;
  }
};

// What a part leaves in its slot for the next kernel: arrays of scalars over the slots, then arrays of rows of sums.
template <typename T>
FAN_DEVICE Accumulator<T>* slot_scalar(const Call<T>& call, int k, int64_t slot) {
  return call.slots + k * padded_slots(call.layout.slots) + slot;
}

}  // namespace fan::cuda
