// What the threads of a launch read and write, and whether a barrier lies between two accesses to the same place.
//
// The compiler calls __asan_load4(address) and the like before each access (see tests/native/cuda_kernels.py); the ones
// here look at the address before the address sanitizer does. Seen, and reported with both places in the source:
// - shared memory read before anyone has written it, while an asynchronous copy to it is under way, or after its block
//   has ended;
// - two threads that access the same shared memory, one of them writing, with no barrier that both have passed between;
// - the same in global memory where the first is a write; also of threads in different blocks, which no barrier orders
//   but a cluster's.
// Barriers are __syncthreads, the cluster's, and __syncwarp among the lanes of its mask. A shuffle is none: it does not
// order memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cuda_on_cpu {

// From cuda_on_cpu.cpp.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);
namespace watch {

// Whom the accesses are by: a thread, counted through the cluster, and its stack, which is nobody else's. Or -1: the
// host.
struct Running {
  int thread = -1;
  const unsigned char* stack = nullptr;
  size_t stack_bytes = 0;
};
extern Running running;

void start_launch();
// Shared memory of the cluster's blocks, bytes each, and their threads.
void start_cluster(const std::vector<unsigned char*>& shared, size_t bytes, int threads_per_block, int64_t first_block);
void end_block(int rank);
void meet_in_block(int rank);
void meet_in_cluster();
// Lanes of mask; first is the first thread of the warp.
void meet_in_warp(int first, unsigned mask);
void start_copy(const void* to, const void* from, size_t bytes, const void* code);
void end_copy(int thread, const void* to, size_t bytes);

}  // namespace watch
}  // namespace cuda_on_cpu
