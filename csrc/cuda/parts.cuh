// Clips cut into parts: a block takes a part. Blocks do not wait for each other; what they must know of each other one
// kernel leaves for the next, in a slot of memory for each part. A clip that fits in one block needs no other: one
// kernel does all of it.
#pragma once

#include "team.cuh"

namespace fan::cuda {

FAN_DEVICE int64_t parts_of(int64_t frames, const Layout& layout) {
  return ceil_div(frames, part_rows_of(frames, layout.part_rows));
}

// The slot of a clip's first part; its others' follow. Packed clips need no more slots than this leaves them, because
// floor(x + y) + 1 >= floor(x) + ceil(y).
template <typename T>
FAN_DEVICE int64_t first_slot(const Clips<T>& clips, const Layout& layout, int64_t b) {
  if (clips.offsets == nullptr) return b * parts_of(clips.frames, layout);
  return offset_of(clips, b) / layout.part_rows + b;
}

// The last packed clip whose first slot is not beyond. A warp, all of whose threads call, looks at 32 clips at a time.
// Offsets in disorder lead somewhere, but not out of bounds.
template <typename T>
FAN_DEVICE int64_t clip_of_slot(const Clips<T>& clips, const Layout& layout, int64_t slot) {
  const int lane = threadIdx.x % kWarpSize;
  int64_t b = 0;
  for (int64_t count = clips.clips; count > 1;) {  // b, or one of so many from there
    const int64_t step = ceil_div(count, kWarpSize);
    int last[1] = {lane * step < count && first_slot(clips, layout, b + lane * step) <= slot ? lane : 0};
    const auto later = [](int (&mine)[1], const int (&others)[1]) {
      mine[0] = others[0] > mine[0] ? others[0] : mine[0];
    };
    reduce_lanes(last, kWarpSize, later);
    b += last[0] * step;
    count = count - last[0] * step < step ? count - last[0] * step : step;
  }
  return b;
}

// A clip's parts.
template <typename T>
struct Parts {
  Clip<T> clip;
  bool whole;  // it fits in one block
  int64_t count;
  int64_t first_slot;

  FAN_DEVICE Parts(const Call<T>& call, int64_t b)
      : clip(find_clip(call.clips, b)),
        count(parts_of(clip.length, call.layout)),
        first_slot(cuda::first_slot(call.clips, call.layout, b)) {
    whole = count == 1 && clip.length <= call.layout.rows && call.clips.dim <= call.layout.columns;
  }
};

// The part that a slot is for, if there is one. All threads of a block ask for the same.
template <typename T>
struct Part {
  int64_t b;  // its clip
  Parts<T> all;
  int64_t number;
  bool exists;
  Clip<T> frames;

  FAN_DEVICE Part(const Call<T>& call, int64_t slot)
      : b(call.clips.offsets == nullptr ? slot / parts_of(call.clips.frames, call.layout)
                                        : clip_of_slot(call.clips, call.layout, slot)),
        all(call, b),
        number(slot - all.first_slot),
        exists(number >= 0 && number < all.count) {
    const int64_t rows = part_rows_of(all.clip.length, call.layout.part_rows);
    frames = slice(all.clip, call.clips.frame_stride, number * rows, rows);
  }
  static FAN_DEVICE bool may_exist(const Call<T>& call, int64_t slot) {
    return slot < call.layout.slots && call.clips.clips > 0;
  }
};

// In the slots: arrays of scalars over them, then arrays of rows of sums.
template <typename T>
FAN_DEVICE Accumulator<T>* slot_scalar(const Call<T>& call, int k, int64_t slot) {
  return call.slots + k * padded_slots(call.layout.slots) + slot;
}

}  // namespace fan::cuda
