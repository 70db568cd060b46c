// The part of CUDA C++ that csrc/cuda uses, for a host compiler: each CUDA thread is a fiber of one CPU thread.
//
// A fiber runs until it waits: at a barrier, at a shuffle, at the end. So the order in which the threads of a block get
// on is ours to choose, from "one runs as far ahead as it can" to "all in step". What they read and write meanwhile is
// watched (memory_watch.h), so that code that needs a barrier which is not there is reported.
//
// Limits: no memory model, so a write is seen by all at once; atomics, fences and votes are not known, as the kernels
// use none; no time, and blocks, or clusters, run one after the other; a thread that spins until another does something
// spins for ever; approximate intrinsics differ in their last bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "csrc/cpu/simd.h"
#include "csrc/types.h"

#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct dim3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

// Of the thread that runs.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

// In which order the threads that can get on do so. Ahead: one as far as it can, then the next; steps: each in turn.
enum class Order { kAheadAscending, kAheadDescending, kAheadRandom, kStepsAscending, kStepsRandom };

struct Launch {
  int64_t blocks;
  int threads;
  int64_t shared_bytes;
  int cluster;  // blocks
  Order order;
  unsigned seed;
  // When asynchronous copies arrive: as soon as they are asked for, or not before they are waited for.
  bool copies_arrive_late;
  int64_t first_block;  // those before it do not run
};

// Runs kernel() once for each thread of each block. Prints what is wrong, and ends the process.
void run(const Launch& launch, const std::function<void()>& kernel);

// Each lane of mask gives its bytes, at most 16 (none: a barrier), and gets those of lane `from`, which takes part.
void exchange(unsigned mask, int from, void* value, int size);
// The same place in the shared memory of another block of the cluster.
const void* of_block(const void* local, int rank);
void copy_async(void* to, const void* from, int size);
void wait_copies(int pending);

}  // namespace cuda_on_cpu

void __syncthreads();
// FAN_INLINE: a report names the caller.
FAN_INLINE void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_on_cpu::exchange(mask, 0, &mask, 0);
}
template <typename T>
FAN_INLINE T __shfl_sync(unsigned mask, T value, int from) {
  static_assert(sizeof(T) <= 16);
  cuda_on_cpu::exchange(mask, from, &value, sizeof(value));
  return value;
}
template <typename T>
FAN_INLINE T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return __shfl_sync(mask, value, static_cast<int>(threadIdx.x % 32) ^ lane_mask);
}
inline float __uint_as_float(unsigned bits) {
  return __builtin_bit_cast(float, bits);
}

namespace fan::cuda {

template <typename T>
float2 widen_pair(unsigned bits) {
  const cpu::U16x8 pair = {static_cast<uint16_t>(bits), static_cast<uint16_t>(bits >> 16)};
  const cpu::Vec<float> wide = cpu::widen(pair, T{});
  return {wide[0], wide[1]};
}
template <typename T>
unsigned narrow_pair(float a, float b) {
  const cpu::U16x8 pair = cpu::narrow(cpu::Vec<float>{a, b}, T{});
  return pair[0] | static_cast<unsigned>(pair[1]) << 16;
}

unsigned char* shared_memory();
inline constexpr bool kHaveClusters = true;
int cluster_size();
int cluster_rank();
void sync_cluster();
template <typename A>
const A* of_block(const A* local, int rank) {
  return static_cast<const A*>(cuda_on_cpu::of_block(local, rank));
}
template <int kBytes>
FAN_INLINE void copy_async(void* to, const void* from) {
  cuda_on_cpu::copy_async(to, from, kBytes);
}
enum class Use { kOnce, kAgain };
template <Use>
uint4 load_piece(const void* from, bool wanted) {
  return wanted ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
}
inline void store_piece(void* to, uint4 bits) {
  *static_cast<uint4*>(to) = bits;
}
void commit_copies();
template <int kPending>
void wait_copies() {
  cuda_on_cpu::wait_copies(kPending);
}
inline void store_vector(void* to, uint4 bits) {
  *static_cast<uint4*>(to) = bits;
}

}  // namespace fan::cuda
