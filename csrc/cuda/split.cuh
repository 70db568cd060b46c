// The split regime: a clip is cut into parts, and a block takes a part. Blocks do not wait for each other; what they
// must know of each other one kernel leaves for the next, in a slot of memory for each part. A clip of one part needs
// no other block: one kernel does all of it.
#pragma once

#include "rows.cuh"
#include "weights.cuh"

namespace fan::cuda {

__device__ __forceinline__ int64_t parts_of(int64_t frames, const Layout& layout) {
  return ceil_div(frames, part_rows_of(frames, layout.part_rows));
}

// The slot of a clip's first part; its others' follow. Packed clips need no more slots than this leaves them, because
// floor(x + y) + 1 >= floor(x) + ceil(y).
template <typename T>
__device__ __forceinline__ int64_t first_slot(const Clips<T>& clips, const Layout& layout, int64_t b) {
  if (clips.offsets == nullptr) return b * parts_of(clips.frames, layout);
  return clamp(offset_of(clips, b), 0, clips.total_frames) / layout.part_rows + b;
}

// The last packed clip whose first slot is not beyond. A warp, all of whose threads call, looks at 32 clips at a time.
// Offsets in disorder lead somewhere, but not out of bounds.
template <typename T>
__device__ __forceinline__ int64_t clip_of_slot(const Clips<T>& clips, const Layout& layout, int64_t slot) {
  const int lane = threadIdx.x % kWarpSize;
  int64_t b = 0;
  for (int64_t count = clips.clips; count > 1;) {  // b, or one of so many from there
    const int64_t step = ceil_div(count, kWarpSize);
    int last = lane * step < count && first_slot(clips, layout, b + lane * step) <= slot ? lane : 0;
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      last = larger(last, __shfl_xor_sync(0xffffffffu, last, distance));
    }
    b += last * step;
    count = count - last * step < step ? count - last * step : step;
  }
  return b;
}

// Whose a slot is. All threads of a block ask for the same one.
template <typename T>
struct Part {
  bool exists;         // not every slot is used
  int64_t b;           // the clip
  int64_t first_slot;  // of the clip
  int64_t count;       // parts of the clip
  int64_t number;      // of this part
  Clip<T> frames;      // of this part

  __device__ __forceinline__ Part(const Clips<T>& clips, const Layout& layout, int64_t slot) {
    exists = false;
    if (slot >= layout.slots || clips.clips == 0) return;
    b = clips.offsets == nullptr ? slot / parts_of(clips.frames, layout) : clip_of_slot(clips, layout, slot);
    const Clip<T> clip = find_clip(clips, b);
    first_slot = cuda::first_slot(clips, layout, b);
    count = parts_of(clip.length, layout);
    number = slot - first_slot;
    exists = number >= 0 && number < count;
    if (exists) frames = part_of(clip, clips.frame_stride, number, part_rows_of(clip.length, layout.part_rows));
  }
};

// Turns weights relative to the largest exponent of a part into weights relative to that of its clip. A part without
// frames has lowest(), and sums that are 0.
template <typename A>
__device__ __forceinline__ A part_factor(A of_part, A of_clip) {
  return of_part == of_clip ? A(1) : exponential(of_part - of_clip);
}

// 1 / total; 0 for a clip, or part, without frames.
template <typename A>
__device__ __forceinline__ A inverse_total(const Softmax<A>& softmax) {
  return softmax.largest == lowest<A>() ? A(0) : A(1) / softmax.total;
}

// What the kernels leave in the slots: arrays of scalars over the slots, then arrays of rows of sums.
template <typename A, int kScalars>
struct Slots {
  A* memory;
  int64_t stride;  // between arrays of scalars
  int64_t slots;
  int dim;

  __device__ __forceinline__ Slots(A* memory, const Layout& layout, int dim)
      : memory(memory), stride(padded_slots(layout.slots)), slots(layout.slots), dim(dim) {}

  __device__ __forceinline__ A* scalar(int k, int64_t slot) const { return memory + k * stride + slot; }
  __device__ __forceinline__ A* row(int k, int64_t slot) const {
    return memory + kScalars * stride + (k * slots + slot) * padded_dim(dim);
  }
};

}  // namespace fan::cuda
