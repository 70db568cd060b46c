// What the threads of a launch read and write, and whether a barrier lies between two accesses to the same place.
//
// The compiler calls __asan_load4(address) and the like before each access (see tests/native/cuda_kernels.py); the ones
// here look at the address after the address sanitizer has. Seen, and reported with both places in the source:
// - shared memory read before anyone has written it, or while an asynchronous copy to it is under way;
// - two threads that access the same shared memory, one of them writing, with no barrier that both have passed between;
// - the same in global memory where the first is a write; also of threads in different blocks, which no barrier orders
//   but a cluster's. In another order of the threads a write after a read is a read after a write;
// - accesses that a GPU refuses because the address is no multiple of their size.
// Barriers are __syncthreads, the cluster's, and __syncwarp among the lanes of its mask, which orders nothing through a
// third. A shuffle is none: it does not order memory. Memory is watched two bytes at a time: threads that write single
// bytes side by side would be reported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_on_cpu {

constexpr int kWarp = 32;

// Ends the process. Not [[noreturn]]: before a call of such a function the sanitizer cleans a stack it does not know.
void fail(const std::string& what);
// file:line of the call that returns to code, or of the access.
std::string place(const void* code);
// thread: counted through the cluster, the threads of its blocks one block after the other.
std::string name(int thread);

namespace watch {

// Whom the accesses are by: a thread and its stack, which is nobody else's. Or -1: the host.
struct Running {
  int thread = -1;
  const unsigned char* stack = nullptr;
  size_t stack_bytes = 0;
};
extern Running running;

void start_launch(int threads_per_block, size_t shared_bytes);
// With new shared memory for each block.
void start_cluster(int64_t first_block, int blocks);
unsigned char* shared_memory(int rank);
// Its shared memory goes. What reads it later, the sanitizer reports.
void end_block(int rank);
// A barrier of threads from first on: a cluster's, a block's, or a warp's lanes of mask.
void meet_in_cluster();
void meet_in_block(int rank);
void meet_in_warp(int first, unsigned mask);
void start_copy(const void* to, const void* from, size_t bytes, const void* code);
void end_copy(const void* to, size_t bytes);

}  // namespace watch
}  // namespace cuda_on_cpu
