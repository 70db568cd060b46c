// Clips cut into parts: a block takes a part. Blocks do not wait for each other; what they must know of each other one
// kernel leaves for the next, in a slot of memory for each part. A clip that fits in one block needs no other: one
// kernel does all of it.
#pragma once

#include "clips.cuh"
#include "lanes.cuh"

namespace fan::cuda {

__device__ __forceinline__ int64_t parts_of(int64_t frames, const Layout& layout) {
  return ceil_div(frames, part_rows_of(frames, layout.part_rows));
}

template <typename T>
__device__ __forceinline__ bool is_whole(const Clips<T>& clips, int64_t frames, const Layout& layout) {
  return frames <= layout.rows && parts_of(frames, layout) <= 1 && clips.dim <= layout.columns;
}

// The slot of a clip's first part; its others' follow. Packed clips need no more slots than this leaves them, because
// floor(x + y) + 1 >= floor(x) + ceil(y).
template <typename T>
__device__ __forceinline__ int64_t first_slot(const Clips<T>& clips, const Layout& layout, int64_t b) {
  if (clips.offsets == nullptr) return b * parts_of(clips.frames, layout);
  return offset_of(clips, b) / layout.part_rows + b;
}

// The last packed clip whose first slot is not beyond. A warp, all of whose threads call, looks at 32 clips at a time.
// Offsets in disorder lead somewhere, but not out of bounds.
template <typename T>
__device__ __forceinline__ int64_t clip_of_slot(const Clips<T>& clips, const Layout& layout, int64_t slot) {
  const int lane = threadIdx.x % kWarpSize;
  int64_t b = 0;
  for (int64_t count = clips.clips; count > 1;) {  // b, or one of so many from there
    const int64_t step = ceil_div(count, kWarpSize);
    int last[1] = {lane * step < count && first_slot(clips, layout, b + lane * step) <= slot ? lane : 0};
    reduce_lanes(last, kWarpSize, [](int (&mine)[1], const int (&other)[1]) {
      if (other[0] > mine[0]) mine[0] = other[0];
    });
    b += last[0] * step;
    count = count - last[0] * step < step ? count - last[0] * step : step;
  }
  return b;
}

// Whose a slot is. All threads of a block ask for the same one.
template <typename T>
struct Part {
  bool exists = false;  // not every slot is used
  bool whole;           // it is a clip that fits in one block
  int64_t b;            // the clip
  int64_t first_slot;   // of the clip
  int64_t count;        // parts of the clip
  int64_t number;       // of this part
  Clip<T> frames;       // of this part

  __device__ __forceinline__ Part(const Clips<T>& clips, const Layout& layout, int64_t slot) {
    if (slot >= layout.slots || clips.clips == 0) return;
    b = clips.offsets == nullptr ? slot / parts_of(clips.frames, layout) : clip_of_slot(clips, layout, slot);
    const Clip<T> clip = find_clip(clips, b);
    whole = is_whole(clips, clip.length, layout);
    first_slot = cuda::first_slot(clips, layout, b);
    count = parts_of(clip.length, layout);
    number = slot - first_slot;
    exists = number >= 0 && number < count;
    const int64_t rows = part_rows_of(clip.length, layout.part_rows);
    frames = slice(clip, clips.frame_stride, number * rows, rows);
  }
};

// What the kernels leave in the slots: arrays of scalars over the slots, then arrays of rows of sums.
template <typename A, int kScalars>
struct Slots {
  A* memory;
  const Layout& layout;
  int64_t dim;

  __device__ __forceinline__ A* scalar(int k, int64_t slot) const {
    return memory + k * padded_slots(layout.slots) + slot;
  }
  __device__ __forceinline__ A* row(int k, int64_t slot) const {
    return scalar(kScalars, 0) + (k * layout.slots + slot) * padded_dim(dim);
  }
};

}  // namespace fan::cuda
