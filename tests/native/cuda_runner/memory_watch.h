// What the threads of a launch read and write, and whether a barrier lies between two accesses to the same place.
//
// The compiler calls __asan_load4(address) and the like before each access (see tests/native/cuda_kernels.py); the ones
// here look at the address after the address sanitizer has. Seen, and reported with both places in the source:
// - shared memory read before anyone has written it;
// - two threads, or a thread and an asynchronous copy, that access the same shared memory, one of them writing, with no
//   barrier that both have passed, or wait for the copy, between;
// - the same in global memory where the first is a write (in another order of the threads a write after a read is one);
//   also of threads in different blocks, which no barrier orders but a cluster's;
// - addresses that are no multiple of the access's size, as a GPU refuses them.
// Barriers are __syncthreads, the cluster's, and __syncwarp among the lanes of its mask, which orders nothing through a
// third. A shuffle is none. Memory is watched two bytes at a time: single bytes written side by side would be reported.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

extern const char __executable_start;  // the linker's

namespace cuda_on_cpu {
namespace {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kGranule = 2;  // the smallest element that different threads may write side by side
constexpr int kCopy = -1;       // for a thread: an asynchronous copy under way

// Time goes on at every barrier and at every start, so an access is before a barrier if its time is smaller. Threads
// are counted through the cluster, those of its blocks one block after the other.
struct Access {
  const void* code;
  uint32_t time;
  int thread;
};

struct SharedCell {
  Access write;
  // The latest read; the latest of another thread in its warp; the latest of another warp.
  Access reads[3];
};

// Of the cluster that is running.
struct Block {
  unsigned char* shared;
  std::vector<SharedCell> cells;
  uint32_t met;
  int ended;  // threads
};

uint32_t now, launch_began, cluster_began, cluster_met;
std::vector<uint32_t> warp_met;  // for each thread and lane of its warp
std::vector<Block> blocks;
int64_t first_block;
int block_threads;
size_t shared_bytes;

// Who runs: a thread, or -1, the host; its stack, which is nobody else's; the code of its latest access.
int running = -1;
const unsigned char* stack;
const void* latest_code;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "cuda_on_cpu: %s\n", what.c_str());
  std::_Exit(3);
}

// file:line of the call that returns to code, or of the access. binutils' word: the sanitizer's own symboliser finds
// nothing in files as large as the kernels'. Its last line is not inlined into another.
std::string place(const void* code) {
  char text[256] = "?";
  std::snprintf(text, sizeof(text), "addr2line -s -i -e /proc/%d/exe %#tx | tail -n 1", getpid(),
                static_cast<const char*>(code) - &__executable_start - 1);
  if (FILE* const pipe = popen(text, "r")) {
    if (std::fgets(text, sizeof(text), pipe) != nullptr) text[std::strcspn(text, "\n ")] = 0;
    pclose(pipe);
  }
  return text;
}

// For a report: from here on it is the host that runs.
std::string name(int thread) {
  running = -1;
  return "thread " + std::to_string(thread % block_threads) + " of block " +
         std::to_string(first_block + thread / block_threads);
}

// The latest access.
std::string doing(const char* did, const char* memory) {
  const void* const code = latest_code;
  return name(running) + did + memory + place(code);
}

bool ordered(const Access& before) {
  if (before.thread == kCopy) return false;
  if (before.thread == running || before.time < cluster_met) return true;
  const int rank = running / block_threads;
  if (before.thread / block_threads != rank) return false;
  if (before.time < blocks[rank].met) return true;
  return before.thread / kWarp == running / kWarp && before.time < warp_met[running * kWarp + before.thread % kWarp];
}

void check_order(const Access& before, const char* did, bool write, const char* memory) {
  const bool same_cluster = before.time >= cluster_began;
  if (same_cluster && ordered(before)) return;
  const std::string now_doing = doing(write ? " writes " : " reads ", memory);
  const std::string who = !same_cluster            ? "a thread of another block"
                          : before.thread == kCopy ? "a copy, not waited for,"
                                                   : name(before.thread);
  fail("race: " + now_doing + " where " + who + did + place(before.code) + ", with no barrier between");
}

void touch_shared(SharedCell& cell, bool write) {
  const Access access{latest_code, now, running};
  const bool has_value = cell.write.time >= cluster_began;
  if (has_value) check_order(cell.write, " wrote at ", write, "shared memory at ");
  if (write) {
    for (const Access& read : cell.reads) {
      if (read.time >= cluster_began) check_order(read, " read at ", write, "shared memory at ");
    }
    cell.write = access;
    return;
  }
  if (!has_value) fail(doing(" reads shared memory", " that nobody has written at "));
  Access& latest = cell.reads[0];
  if (latest.thread != running) cell.reads[latest.thread / kWarp == running / kWarp ? 1 : 2] = latest;
  latest = access;
}

void touch_global(uintptr_t at, size_t bytes, bool write) {
  static std::unordered_map<uintptr_t, Access> written;
  for (uintptr_t k = at / kGranule; k <= (at + bytes - 1) / kGranule; ++k) {
    const auto latest = written.find(k);
    if (latest != written.end() && latest->second.time >= launch_began) {
      check_order(latest->second, " wrote at ", write, "global memory at ");
    }
    if (write) written[k] = {latest_code, now, running};
  }
}

// Calls body with what is known of these bytes of shared memory; false where they are not there.
template <typename Body>
bool for_each_cell(const void* from, size_t bytes, const Body& body) {
  for (Block& block : blocks) {
    const size_t first = static_cast<const unsigned char*>(from) - block.shared;
    if (first >= shared_bytes) continue;
    // What lies beyond is the address sanitizer's.
    const size_t end = std::min(shared_bytes, first + bytes);
    for (size_t k = first / kGranule; k < (end + kGranule - 1) / kGranule; ++k) body(block.cells[k]);
    return true;
  }
  return false;
}

void touch(const void* address, size_t bytes, size_t alignment, bool write) {
  if (running < 0 || bytes == 0) return;
  if (static_cast<size_t>(static_cast<const unsigned char*>(address) - stack) < kStackBytes) return;
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) fail(doing(" uses a misaligned", " address at "));
  if (for_each_cell(address, bytes, [&](SharedCell& cell) { touch_shared(cell, write); })) return;
  // Where a test gives clips that overlap.
  static const bool ignored = std::getenv("CUDA_ON_CPU_GLOBAL_RACES") != nullptr;
  if (!ignored) touch_global(reinterpret_cast<uintptr_t>(address), bytes, write);
}

}  // namespace
}  // namespace cuda_on_cpu

// The address sanitizer's functions of the same name, and then a look at the address. The compiler calls the one for 16
// bytes also where the type's alignment is 8.
#define FAN_WATCH(NAME, BYTES, ALIGNMENT, WRITE, PARAMETERS, ARGUMENTS)                  \
  extern "C" void NAME PARAMETERS {                                                      \
    static const auto next = reinterpret_cast<decltype(&NAME)>(dlsym(RTLD_NEXT, #NAME)); \
    cuda_on_cpu::latest_code = __builtin_return_address(0);                              \
    next ARGUMENTS;                                                                      \
    cuda_on_cpu::touch(reinterpret_cast<const void*>(at), BYTES, ALIGNMENT, WRITE);      \
  }
#define FAN_WATCH_BYTES(BYTES, ALIGNMENT)                                      \
  FAN_WATCH(__asan_load##BYTES, BYTES, ALIGNMENT, false, (uintptr_t at), (at)) \
  FAN_WATCH(__asan_store##BYTES, BYTES, ALIGNMENT, true, (uintptr_t at), (at))
FAN_WATCH_BYTES(1, 1)
FAN_WATCH_BYTES(2, 2)
FAN_WATCH_BYTES(4, 4)
FAN_WATCH_BYTES(8, 8)
FAN_WATCH_BYTES(16, 8)
FAN_WATCH(__asan_loadN, bytes, 1, false, (uintptr_t at, size_t bytes), (at, bytes))
FAN_WATCH(__asan_storeN, bytes, 1, true, (uintptr_t at, size_t bytes), (at, bytes))
