// What the kernels are given, and where the frames of a clip are.
#pragma once

#include "vectors.cuh"

namespace fan::cuda {

// Of both passes.
template <typename T>
struct Call {
  using A = Accumulator<T>;
  Clips<T> clips;
  Parameters<T> q;
  Layout layout;
  A* slots;  // what the parts of split clips leave

  FAN_DEVICE int dim() const { return static_cast<int>(clips.dim); }
};

template <typename T>
struct ForwardCall : Call<T> {
  ForwardOutputs<T> to;
};

template <typename T>
struct BackwardCall : Call<T> {
  BackwardInputs<T> in;
  BackwardOutputs<T> to;
  Accumulator<T>* partial;  // (blocks, partial_width)
  int64_t partial_rows;
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

}  // namespace fan::cuda
