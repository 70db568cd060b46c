#include "memory_watch.h"

#include <dlfcn.h>
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace cuda_on_cpu {
namespace watch {

Running running;

namespace {

// The smallest element that different threads may write side by side.
constexpr size_t kGranule = 2;
constexpr size_t kPageGranules = 2048;

// Time goes on at every barrier and at every start, so an access is before a barrier if its time is smaller.
struct Access {
  const void* code;
  uint32_t time;
  int16_t thread;
};

struct SharedCell {
  Access write;
  // The latest read; the latest of another thread in its warp; the latest of another warp.
  Access reads[3];
  bool under_way;  // an asynchronous copy
};

struct Block {
  unsigned char* shared;
  std::vector<SharedCell> cells;
  uint32_t met;
};

uint32_t now;
uint32_t launch_began, cluster_began, cluster_met;
std::vector<Block> blocks;
size_t shared_bytes;
int threads_per_block;
int64_t first_block;
std::vector<uint32_t> warp_met;  // for each thread and lane of its warp
const void* latest_code;         // of an access

bool ordered(const Access& before, int thread) {
  if (before.thread == thread || before.time < cluster_met) return true;
  const int rank = thread / threads_per_block;
  if (before.thread / threads_per_block != rank) return false;
  if (before.time < blocks[rank].met) return true;
  if (before.thread / kWarp != thread / kWarp) return false;
  return before.time < warp_met[thread * kWarp + before.thread % kWarp];
}

std::string doing(bool write, const char* memory, const void* code) {
  return name(running.thread) + (write ? " writes " : " reads ") + memory + " memory at " + place(code);
}

void check_order(const Access& before, const char* did, bool write, const char* memory, const void* code) {
  const bool same_cluster = before.time >= cluster_began;
  if (same_cluster && ordered(before, running.thread)) return;
  fail("race: " + doing(write, memory, code) + " where " +
       (same_cluster ? name(before.thread) : "a thread of another block") + " " + did + " at " + place(before.code) +
       ", with no barrier between");
}

void touch_shared(SharedCell& cell, bool write, const void* code) {
  const bool has_value = cell.write.time >= cluster_began;
  if (cell.under_way) fail(doing(write, "shared", code) + " while a copy to it has not been waited for");
  if (has_value) check_order(cell.write, "wrote", write, "shared", code);
  const Access access{code, now, static_cast<int16_t>(running.thread)};
  if (write) {
    for (const Access& read : cell.reads) {
      if (read.time >= cluster_began) check_order(read, "read", write, "shared", code);
    }
    cell.write = access;
    return;
  }
  if (!has_value) fail(doing(write, "shared", code) + " that nobody has written");
  Access& latest = cell.reads[0];
  if (latest.thread != access.thread || latest.time < cluster_began) {
    cell.reads[latest.thread / kWarp == access.thread / kWarp ? 1 : 2] = latest;
  }
  latest = access;
}

// The latest writes to a page of global memory; null if there are none and none is to come.
Access* writes_to(uintptr_t page, bool write) {
  static std::unordered_map<uintptr_t, std::vector<Access>> written;
  static struct {
    uintptr_t page;
    Access* accesses;
  } known[256];
  auto& entry = known[page % 256];
  if (entry.page != page || (write && entry.accesses == nullptr)) {
    auto found = written.find(page);
    if (found == written.end() && write) found = written.try_emplace(page, kPageGranules).first;
    entry = {page, found == written.end() ? nullptr : found->second.data()};
  }
  return entry.accesses;
}

void touch_global(uintptr_t at, size_t bytes, bool write, const void* code) {
  for (uintptr_t k = at / kGranule; k <= (at + bytes - 1) / kGranule; ++k) {
    Access* const accesses = writes_to(k / kPageGranules, write);
    if (accesses == nullptr) continue;
    Access& latest = accesses[k % kPageGranules];
    if (latest.time >= launch_began) check_order(latest, "wrote", write, "global", code);
    if (write) latest = {code, now, static_cast<int16_t>(running.thread)};
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

void touch(const void* address, size_t bytes, size_t alignment, bool write, const void* code) {
  const size_t in_stack = static_cast<const unsigned char*>(address) - running.stack;
  if (running.thread < 0 || in_stack < running.stack_bytes || bytes == 0) return;
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) fail(doing(write, "misaligned", code));
  if (for_each_cell(address, bytes, [&](SharedCell& cell) { touch_shared(cell, write, code); })) return;
  // Where a test gives clips that overlap.
  static const bool ignored = std::getenv("CUDA_ON_CPU_GLOBAL_RACES") != nullptr;
  if (!ignored) touch_global(reinterpret_cast<uintptr_t>(address), bytes, write, code);
}

// The sanitizer's reports do not know of our threads.
void name_thread() {
  if (running.thread >= 0) fail(name(running.thread) + ", at or after " + place(latest_code));
}

}  // namespace

void start_launch(int threads, size_t bytes) {
  launch_began = ++now;
  threads_per_block = threads;
  shared_bytes = bytes;
  __sanitizer_set_death_callback(name_thread);
}

void start_cluster(int64_t first, int count) {
  cluster_began = cluster_met = ++now;
  first_block = first;
  blocks.resize(count);
  for (Block& block : blocks) {
    // Of its own size, so that the sanitizer sees what lies beyond. NaN in every type of floating point.
    block.shared = static_cast<unsigned char*>(std::malloc(shared_bytes));
    std::memset(block.shared, 0xff, shared_bytes);
    block.cells.resize((shared_bytes + kGranule - 1) / kGranule);
    block.met = now;
  }
  warp_met.assign(count * threads_per_block * kWarp, 0);
}

unsigned char* shared_memory(int rank) {
  return blocks[rank].shared;
}

void end_block(int rank) {
  std::free(blocks[rank].shared);
}

void meet_in_cluster() {
  cluster_met = ++now;
}

void meet_in_block(int rank) {
  blocks[rank].met = ++now;
}

void meet_in_warp(int first, unsigned mask) {
  ++now;
  for (int a = 0; a < kWarp; ++a) {
    for (int b = 0; b < kWarp; ++b) {
      if ((mask >> a & 1) && (mask >> b & 1)) warp_met[(first + a) * kWarp + b] = now;
    }
  }
}

void start_copy(const void* to, const void* from, size_t bytes, const void* code) {
  latest_code = code;
  touch(from, bytes, bytes, false, code);
  touch(to, bytes, bytes, true, code);
  if (!for_each_cell(to, bytes, [](SharedCell& cell) { cell.under_way = true; })) {
    fail(name(running.thread) + " starts a copy that does not go to shared memory at " + place(code));
  }
}

void end_copy(const void* to, size_t bytes) {
  for_each_cell(to, bytes, [&](SharedCell& cell) {
    cell.under_way = false;
    cell.write.time = now;
  });
}

}  // namespace watch

void fail(const std::string& what) {
  std::fprintf(stderr, "cuda_on_cpu: %s\n", what.c_str());
  std::_Exit(3);
}

// binutils' word: the sanitizer's own symboliser finds nothing in files as large as the kernels'.
std::string place(const void* code) {
  Dl_info module{};
  if (dladdr(code, &module) == 0) return "?";
  const auto offset = static_cast<const char*>(code) - static_cast<const char*>(module.dli_fbase) - 1;
  char text[512];
  std::snprintf(text, sizeof(text), "addr2line -i -e /proc/%d/exe %#tx", getpid(), offset);
  FILE* const pipe = popen(text, "r");
  if (pipe == nullptr) return "?";
  std::strcpy(text, "?");
  while (std::fgets(text, sizeof(text), pipe) != nullptr) {  // the last one is not inlined into another
  }
  pclose(pipe);
  text[std::strcspn(text, "\n ")] = 0;
  const char* const slash = std::strrchr(text, '/');
  return slash == nullptr ? text : slash + 1;
}

std::string name(int thread) {
  return "thread " + std::to_string(thread % watch::threads_per_block) + " of block " +
         std::to_string(watch::first_block + thread / watch::threads_per_block);
}

}  // namespace cuda_on_cpu

// The address sanitizer's functions of the same name, and then a look at the address. The compiler calls the one for 16
// bytes also where the type's alignment is 8.
#define FAN_WATCH(NAME, BYTES, ALIGNMENT, WRITE, PARAMETERS, ARGUMENTS)                          \
  extern "C" void NAME PARAMETERS {                                                              \
    static const auto next = reinterpret_cast<decltype(&NAME)>(dlsym(RTLD_NEXT, #NAME));         \
    const void* const code = __builtin_return_address(0);                                        \
    cuda_on_cpu::watch::latest_code = code;                                                      \
    next ARGUMENTS;                                                                              \
    cuda_on_cpu::watch::touch(reinterpret_cast<const void*>(at), BYTES, ALIGNMENT, WRITE, code); \
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
