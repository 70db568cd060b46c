#include "memory_watch.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_map>

namespace cuda_on_cpu::watch {

Running running;

namespace {

constexpr int kWarp = 32;
// The smallest element that different threads may write side by side.
constexpr size_t kGranule = 2;
constexpr size_t kPage = 4096;

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
  const unsigned char* shared;
  std::vector<SharedCell> cells;
  uint32_t met;
  bool ended;
};

uint32_t now;
uint32_t launch_began, cluster_began, cluster_met;
std::vector<Block> blocks;
size_t shared_bytes;
int threads_per_block;
int64_t first_block;
std::vector<uint32_t> warp_met;                              // for each thread and lane of its warp
std::unordered_map<uintptr_t, std::vector<Access>> written;  // pages of global memory
// Pages known not to be there: most reads are of what no kernel writes.
constexpr size_t kNotWritten = 256;
uintptr_t not_written[kNotWritten];

// file:line of an access. binutils' word: the sanitizer's own symboliser finds nothing in files as large as the
// kernels'.
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
  return "thread " + std::to_string(thread % threads_per_block) + " of block " +
         std::to_string(first_block + thread / threads_per_block);
}

bool ordered(const Access& before, int thread) {
  if (before.thread == thread || before.time < cluster_met) return true;
  const int rank = thread / threads_per_block;
  if (before.thread / threads_per_block != rank) return false;
  if (before.time < blocks[rank].met) return true;
  if (before.thread / kWarp != thread / kWarp) return false;
  return before.time < warp_met[thread * kWarp + before.thread % kWarp];
}

[[noreturn]] void report_race(const char* memory, bool write, const void* code, int thread, const char* did,
                              const Access& before, bool same_cluster) {
  fail("race in %s memory: %s %s at %s what %s %s at %s, with no barrier between", memory, name(thread).c_str(),
       write ? "writes" : "reads", place(code).c_str(),
       same_cluster ? name(before.thread).c_str() : "a thread of another block", did, place(before.code).c_str());
}

void touch_shared(SharedCell& cell, bool write, const void* code, int thread) {
  if (cell.under_way) {
    fail("%s %s shared memory at %s while an asynchronous copy to it has not been waited for", name(thread).c_str(),
         write ? "writes" : "reads", place(code).c_str());
  }
  const bool has_value = cell.write.time >= cluster_began;
  if (has_value && !ordered(cell.write, thread)) {
    report_race("shared", write, code, thread, "wrote", cell.write, true);
  }
  if (write) {
    for (const Access& read : cell.reads) {
      if (read.time >= cluster_began && !ordered(read, thread)) {
        report_race("shared", true, code, thread, "read", read, true);
      }
    }
    cell.write = {code, now, static_cast<int16_t>(thread)};
    return;
  }
  if (!has_value) {
    fail("%s reads shared memory at %s that nobody has written", name(thread).c_str(), place(code).c_str());
  }
  Access& latest = cell.reads[0];
  if (latest.thread != thread || latest.time < cluster_began) {
    cell.reads[latest.thread / kWarp == thread / kWarp ? 1 : 2] = latest;
  }
  latest = {code, now, static_cast<int16_t>(thread)};
}

void touch_global(uintptr_t at, size_t bytes, bool write, const void* code, int thread) {
  for (uintptr_t page = at / kPage; page <= (at + bytes - 1) / kPage; ++page) {
    uintptr_t& known = not_written[page % kNotWritten];
    if (!write && known == page) continue;
    const auto found = written.find(page);
    if (found == written.end() && !write) {
      known = page;
      continue;
    }
    std::vector<Access>& cells = found == written.end() ? written[page] : found->second;
    if (cells.empty()) {
      cells.resize(kPage / kGranule);
      if (known == page) known = 0;
    }
    for (uintptr_t k = at / kGranule; k <= (at + bytes - 1) / kGranule; ++k) {
      if (k * kGranule / kPage != page) continue;
      Access& cell = cells[k % (kPage / kGranule)];
      if (cell.time >= launch_began) {
        const bool same_cluster = cell.time >= cluster_began;
        if (!same_cluster || !ordered(cell, thread)) {
          report_race("global", write, code, thread, "wrote", cell, same_cluster);
        }
      }
      if (write) cell = {code, now, static_cast<int16_t>(thread)};
    }
  }
}

void touch(const void* address, size_t bytes, bool write, const void* code) {
  const auto* const at = static_cast<const unsigned char*>(address);
  const int thread = running.thread;
  if (thread < 0 || static_cast<size_t>(at - running.stack) < running.stack_bytes || bytes == 0) return;
  for (Block& block : blocks) {
    if (at < block.shared || at >= block.shared + shared_bytes) continue;
    if (block.ended) {
      fail("%s %s at %s the shared memory of a block that has ended", name(thread).c_str(), write ? "writes" : "reads",
           place(code).c_str());
    }
    const size_t first = at - block.shared;
    // What lies beyond is the address sanitizer's.
    for (size_t k = first / kGranule; k <= (first + bytes - 1) / kGranule && k < block.cells.size(); ++k) {
      touch_shared(block.cells[k], write, code, thread);
    }
    return;
  }
  // Where a test gives clips that overlap.
  static const bool ignored = std::getenv("CUDA_ON_CPU_GLOBAL_RACES") != nullptr;
  if (!ignored) touch_global(reinterpret_cast<uintptr_t>(at), bytes, write, code, thread);
}

template <typename Body>
void for_each_cell(const void* to, size_t bytes, const Body& body) {
  for (Block& block : blocks) {
    const auto* const at = static_cast<const unsigned char*>(to);
    if (at < block.shared || at >= block.shared + shared_bytes) continue;
    const size_t first = at - block.shared;
    for (size_t k = first / kGranule; k <= (first + bytes - 1) / kGranule && k < block.cells.size(); ++k) {
      body(block.cells[k]);
    }
  }
}

}  // namespace

void start_launch() {
  launch_began = ++now;
}

void start_cluster(const std::vector<unsigned char*>& shared, size_t bytes, int threads, int64_t first) {
  cluster_began = cluster_met = ++now;
  shared_bytes = bytes;
  threads_per_block = threads;
  first_block = first;
  blocks.resize(shared.size());
  for (size_t rank = 0; rank < shared.size(); ++rank) {
    Block& block = blocks[rank];
    block.shared = shared[rank];
    block.cells.resize((bytes + kGranule - 1) / kGranule);
    block.met = now;
    block.ended = false;
  }
  warp_met.assign(shared.size() * threads * kWarp, 0);
}

void end_block(int rank) {
  blocks[rank].ended = true;
}

void meet_in_block(int rank) {
  blocks[rank].met = ++now;
}

void meet_in_cluster() {
  cluster_met = ++now;
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
  touch(from, bytes, false, code);
  touch(to, bytes, true, code);
  for_each_cell(to, bytes, [](SharedCell& cell) { cell.under_way = true; });
}

void end_copy(int thread, const void* to, size_t bytes) {
  for_each_cell(to, bytes, [&](SharedCell& cell) {
    cell.under_way = false;
    cell.write.time = now;
    cell.write.thread = static_cast<int16_t>(thread);
  });
}

}  // namespace cuda_on_cpu::watch

// The address sanitizer's functions of the same name, after a look at the address.
#define FAN_WATCH(NAME, BYTES, WRITE)                                                                  \
  extern "C" void NAME(uintptr_t at) {                                                                 \
    static const auto next = reinterpret_cast<void (*)(uintptr_t)>(dlsym(RTLD_NEXT, #NAME));           \
    next(at);                                                                                          \
    cuda_on_cpu::watch::touch(reinterpret_cast<void*>(at), BYTES, WRITE, __builtin_return_address(0)); \
  }
#define FAN_WATCH_RANGE(NAME, WRITE)                                                                   \
  extern "C" void NAME(uintptr_t at, size_t bytes) {                                                   \
    static const auto next = reinterpret_cast<void (*)(uintptr_t, size_t)>(dlsym(RTLD_NEXT, #NAME));   \
    next(at, bytes);                                                                                   \
    cuda_on_cpu::watch::touch(reinterpret_cast<void*>(at), bytes, WRITE, __builtin_return_address(0)); \
  }
FAN_WATCH(__asan_load1, 1, false)
FAN_WATCH(__asan_load2, 2, false)
FAN_WATCH(__asan_load4, 4, false)
FAN_WATCH(__asan_load8, 8, false)
FAN_WATCH(__asan_load16, 16, false)
FAN_WATCH_RANGE(__asan_loadN, false)
FAN_WATCH(__asan_store1, 1, true)
FAN_WATCH(__asan_store2, 2, true)
FAN_WATCH(__asan_store4, 4, true)
FAN_WATCH(__asan_store8, 8, true)
FAN_WATCH(__asan_store16, 16, true)
FAN_WATCH_RANGE(__asan_storeN, true)
