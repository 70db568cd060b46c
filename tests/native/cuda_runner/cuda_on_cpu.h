// The part of CUDA C++ that csrc/cuda uses, for a host compiler: each CUDA thread is a fiber of one CPU thread.
//
// A fiber runs until it waits: at a barrier, at a shuffle, at the end. So the order in which the threads of a block get
// on is ours to choose, from "one runs as far ahead as it can" to "all in step". What they read and write meanwhile is
// watched (memory_watch.h), so that code that needs a barrier which is not there is reported.
//
// Limits:
// - No memory model: a write is seen by all at once. Without a barrier that is reported; atomics and fences, with which
//   one could do without, are not known here, nor are votes: the kernels use none.
// - No time, and no occupancy: blocks, or clusters, run one after the other.
// - A thread that spins until another does something spins for ever.
// - Approximate intrinsics differ in their last bits.
// - In global memory a write after another thread's read is not seen as a race. In another order of the threads it is a
//   read after a write, which is.
// - Threads that write single bytes side by side in shared memory would be reported: memory is watched two bytes at a
//   time. A __syncwarp orders the lanes of its mask with each other, and nothing through a third.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "csrc/cpu/simd.h"
#include "csrc/types.h"

#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace cuda_on_cpu {

// In which order the threads that can get on do so. Ahead: one as far as it can, then the next; steps: each in turn.
enum class Order { kAheadAscending, kAheadDescending, kAheadRandom, kStepsAscending, kStepsRandom, kCount };

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

// Runs kernel() once for each thread of each block. Prints what is wrong and ends the process where the threads of a
// block or a warp do not meet.
void run(const Launch& launch, const std::function<void()>& kernel);

const Index& thread_index();
const Index& block_index();
const Index& block_size();
const Index& grid_size();
unsigned char* shared_memory();
// In the source, where a thread calls what makes it wait.
struct Site {
  const char* file;
  int line;
};
void wait_for_block(Site site);
void wait_for_cluster(Site site);
int cluster_size();
int cluster_rank();
// The same place in the shared memory of another block of the cluster.
const void* of_block(const void* local, int rank);
// Each lane of mask gives its bytes and gets those of lane `from`, of its own warp, which takes part.
void exchange(unsigned mask, int from, void* value, int size, Site site);
void wait_for_warp(unsigned mask, Site site);
int lane();
void copy_async(void* to, const void* from, int size);
void commit_copies();
void wait_copies(int pending);

}  // namespace cuda_on_cpu

#define threadIdx (::cuda_on_cpu::thread_index())
#define blockIdx (::cuda_on_cpu::block_index())
#define blockDim (::cuda_on_cpu::block_size())
#define gridDim (::cuda_on_cpu::grid_size())

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_block({file, line});
}
inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_warp(mask, {file, line});
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::exchange(mask, from, &value, sizeof(value), {file, line});
  return value;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  cuda_on_cpu::exchange(mask, cuda_on_cpu::lane() ^ lane_mask, &value, sizeof(value), {file, line});
  return value;
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

inline unsigned char* shared_memory() {
  return cuda_on_cpu::shared_memory();
}
inline constexpr bool kHaveClusters = true;
inline int cluster_size() {
  return cuda_on_cpu::cluster_size();
}
inline int cluster_rank() {
  return cuda_on_cpu::cluster_rank();
}
inline void sync_cluster(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_cluster({file, line});
}
template <typename A>
const A* of_block(const A* local, int rank) {
  return static_cast<const A*>(cuda_on_cpu::of_block(local, rank));
}
// Inlined, so that a report names the caller.
template <int kBytes>
__attribute__((always_inline)) inline void copy_async(void* to, const void* from) {
  cuda_on_cpu::copy_async(to, from, kBytes);
}
inline void store_piece(void* to, uint4 bits) {
  *static_cast<uint4*>(to) = bits;
}
inline void commit_copies() {
  cuda_on_cpu::commit_copies();
}
template <int kPending>
void wait_copies() {
  cuda_on_cpu::wait_copies(kPending);
}

}  // namespace fan::cuda
