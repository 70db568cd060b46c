// Where the frames of a clip are.
#pragma once

#include "device.cuh"
#include "frame_attention.h"

namespace fan::cuda {

template <typename T>
struct Clip {
  int64_t first;      // number of the clip's first frame
  int64_t length;     // its frames, present or not
  const T* features;  // of the first frame
  const bool* mask;   // of the first frame, or null

  __device__ __forceinline__ bool present(int64_t i) const { return mask == nullptr || mask[i]; }
};

__device__ __forceinline__ int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

template <typename T>
__device__ __forceinline__ int64_t offset_of(const Clips<T>& clips, int64_t b) {
  return clips.short_offsets ? static_cast<const int32_t*>(clips.offsets)[b]
                             : static_cast<const int64_t*>(clips.offsets)[b];
}

// Nobody has looked at the offsets before: whatever they say, nothing out of bounds is touched.
template <typename T>
__device__ __forceinline__ Clip<T> find_clip(const Clips<T>& clips, int64_t b) {
  Clip<T> clip;
  if (clips.offsets == nullptr) {
    clip.first = b * clips.frames;
    clip.length = clips.frames;
    clip.features = clips.features + b * clips.clip_stride;
  } else {
    clip.first = clamp(offset_of(clips, b), 0, clips.total_frames);
    clip.length = clamp(offset_of(clips, b + 1), clip.first, clips.total_frames) - clip.first;
    clip.features = clips.features + clip.first * clips.frame_stride;
  }
  clip.mask = clips.mask == nullptr ? nullptr : clips.mask + clip.first;
  return clip;
}

// The part of the clip with this number, where each has so many frames.
template <typename T>
__device__ __forceinline__ Clip<T> part_of(const Clip<T>& clip, int64_t frame_stride, int64_t number, int64_t rows) {
  const int64_t begin = clamp(rows * number, 0, clip.length);
  Clip<T> part;
  part.first = clip.first + begin;
  part.length = clamp(begin + rows, begin, clip.length) - begin;
  part.features = clip.features + begin * frame_stride;
  part.mask = clip.mask == nullptr ? nullptr : clip.mask + begin;
  return part;
}

// Frames before the first and after the last packed clip belong to none. body(frame) for each, shared among so many, of
// whom this is one.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_stray_frame(const Clips<T>& clips, int64_t rank, int64_t size,
                                                     const Body& body) {
  if (clips.offsets == nullptr) return;
  const int64_t begin = clamp(offset_of(clips, 0), 0, clips.total_frames);
  const int64_t end = clamp(offset_of(clips, clips.clips), begin, clips.total_frames);
  const int64_t count = begin + clips.total_frames - end;
  for (int64_t i = rank; i < count; i += size) body(i < begin ? i : end + (i - begin));
}

// By the threads of the grid.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_stray_frame(const Clips<T>& clips, const Body& body) {
  for_each_stray_frame(clips, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                       static_cast<int64_t>(gridDim.x) * blockDim.x, body);
}

}  // namespace fan::cuda
