#include "cuda_on_cpu.h"

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <string>

#include "memory_watch.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
// The sanitizer wants to know of each change of stacks.
void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

namespace cuda_on_cpu {
namespace {

#if defined(__x86_64__)

// swapcontext() saves the signal mask, and under the sanitizer it clears what it knows of the whole stack: much slower.
struct Context {
  void* stack_pointer = nullptr;
};

extern "C" void cuda_on_cpu_switch(void** from, void* to);
asm(R"(
.text
cuda_on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

void switch_context(Context& from, Context& to) {
  cuda_on_cpu_switch(&from.stack_pointer, to.stack_pointer);
}

// At the first switch to it, main() starts at the top of the stack, aligned as after a call.
void prepare_context(Context& context, unsigned char* stack, size_t bytes, void (*main)()) {
  void** top = reinterpret_cast<void**>(stack + bytes) - 1;
  *top = nullptr;
  *--top = reinterpret_cast<void*>(main);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  context.stack_pointer = top;
}

#else

struct Context {
  ucontext_t context;
};

void switch_context(Context& from, Context& to) {
  swapcontext(&from.context, &to.context);
}

void prepare_context(Context& context, unsigned char* stack, size_t bytes, void (*main)()) {
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = stack;
  context.context.uc_stack.ss_size = bytes;
  context.context.uc_link = nullptr;
  makecontext(&context.context, main, 0);
}

#endif

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 256 * 1024;

enum class State { kReady, kAtBlockBarrier, kAtClusterBarrier, kAtWarpBarrier, kDone };

// A block of the cluster that is running.
struct Block {
  Index index;
  unsigned char* shared;
  size_t at_barrier;  // threads
  bool ended;
};

struct Copy {
  void* to;
  const void* from;
  int size;
};

struct Thread {
  Context context;
  unsigned char* stack = nullptr;
  void* fake_stack = nullptr;
  Index index;
  int rank;  // of its block in the cluster
  State state = State::kReady;
  Site site;  // where it waits
  // What it waits for in its warp, and what it brings.
  unsigned mask;
  int from;
  int size;
  unsigned char value[8];
  std::deque<std::vector<Copy>> copies;  // groups not yet arrived; the last one is open
};

// The scheduler's own context, and the cluster that is running: the threads of its blocks one block after the other.
Context scheduler;
const void* scheduler_stack;
size_t scheduler_stack_size;
void* scheduler_fake_stack;
std::vector<std::unique_ptr<Thread>> threads;
Thread* current;
std::vector<Block> blocks;
size_t at_cluster_barrier;
Index block_threads, grid;
int64_t shared_bytes;
bool copies_arrive_late;
const std::function<void()>* kernel;

void arrive(const std::vector<Copy>& group) {
  for (const Copy& copy : group) std::memcpy(copy.to, copy.from, copy.size);
}

std::string place(const Site& site) {
  const char* const slash = std::strrchr(site.file, '/');
  return std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
}

// Of the cluster's threads.
int number(const Thread& thread) {
  return static_cast<int>(thread.rank * block_threads.x + thread.index.x);
}

std::string name(const Thread& thread) {
  return "thread " + std::to_string(thread.index.x) + " of block " + std::to_string(blocks[thread.rank].index.x);
}

// Who of the cluster waits where, for the reader of a deadlock.
std::string describe_threads() {
  std::vector<std::pair<std::string, std::vector<const Thread*>>> groups;
  for (size_t x = 0; x < blocks.size() * block_threads.x; ++x) {
    const Thread& thread = *threads[x];
    const char* const what = thread.state == State::kDone               ? "ended"
                             : thread.state == State::kAtBlockBarrier   ? "at a barrier of the block"
                             : thread.state == State::kAtClusterBarrier ? "at a barrier of the cluster"
                             : thread.size > 0                          ? "at a shuffle"
                                                                        : "at a barrier of the warp";
    std::string key = what;
    if (thread.state != State::kDone) key += ", " + place(thread.site);
    const auto same = [&](const auto& group) {
      return group.first == key && group.second.front()->rank == thread.rank;
    };
    const auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) {
      groups.push_back({key, {&thread}});
    } else {
      group->second.push_back(&thread);
    }
  }
  std::string text;
  for (const auto& [what, members] : groups) {
    const std::string more = members.size() > 1 ? " and " + std::to_string(members.size() - 1) + " more" : "";
    text += (text.empty() ? "" : "; ") + name(*members.front()) + more + " " + what;
  }
  return text;
}

void to_scheduler(bool last) {
  Thread* const self = current;
  __sanitizer_start_switch_fiber(last ? nullptr : &self->fake_stack, scheduler_stack, scheduler_stack_size);
  switch_context(self->context, scheduler);
  __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
}

void thread_main() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
  (*kernel)();
  current->state = State::kDone;
  to_scheduler(true);
}

void get_on(Thread& thread) {
  current = &thread;
  watch::running = {number(thread), thread.stack, kStackBytes};
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, thread.stack, kStackBytes);
  switch_context(scheduler, thread.context);
  watch::running = {};
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
}

void start(Thread& thread, unsigned x, int rank) {
  if (thread.stack == nullptr) {
    void* const memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the stack of a thread");
    thread.stack = static_cast<unsigned char*>(memory);
  }
  prepare_context(thread.context, thread.stack, kStackBytes, thread_main);
  thread.index.x = x;
  thread.rank = rank;
  thread.state = State::kReady;
  thread.copies.assign(1, {});
}

// Lets the warp of the thread that has just come to wait go on if all it waits for are there.
void meet(size_t first_of_warp, const Thread& arrived) {
  for (int l = 0; l < kWarp; ++l) {
    if ((arrived.mask >> l & 1) == 0) continue;
    const Thread& other = *threads[first_of_warp + l];
    if (other.state == State::kDone) {
      fail("%s waits at %s for its warp, but its mask names lane %d, which has ended", name(arrived).c_str(),
           place(arrived.site).c_str(), l);
    }
    if (other.state != State::kAtWarpBarrier) return;
    if (other.mask != arrived.mask || other.size != arrived.size) {
      fail("%s at %s and lane %d of its warp at %s meet with different masks, %08x and %08x, or sizes, %d and %d",
           name(arrived).c_str(), place(arrived.site).c_str(), l, place(other.site).c_str(), arrived.mask, other.mask,
           arrived.size, other.size);
    }
  }
  unsigned char given[kWarp][8];
  for (int l = 0; l < kWarp; ++l) {
    if (arrived.mask >> l & 1) std::memcpy(given[l], threads[first_of_warp + l]->value, 8);
  }
  for (int l = 0; l < kWarp; ++l) {
    if ((arrived.mask >> l & 1) == 0) continue;
    Thread& other = *threads[first_of_warp + l];
    if (other.size > 0) {
      if (other.from < 0 || other.from >= kWarp || (arrived.mask >> other.from & 1) == 0) {
        fail("%s reads lane %d in a shuffle at %s, which takes no part in it", name(other).c_str(), other.from,
             place(other.site).c_str());
      }
      std::memcpy(other.value, given[other.from], other.size);
    }
    other.state = State::kReady;
  }
  if (arrived.size == 0) watch::meet_in_warp(static_cast<int>(first_of_warp), arrived.mask);
}

// Lets threads go on from the barrier that one of them has just come to, if it was the last.
void meet_at_barrier(const Thread& arrived) {
  const bool of_cluster = arrived.state == State::kAtClusterBarrier;
  const size_t first = of_cluster ? 0 : arrived.rank * block_threads.x;
  const size_t count = of_cluster ? blocks.size() * block_threads.x : block_threads.x;
  size_t& waiting = of_cluster ? at_cluster_barrier : blocks[arrived.rank].at_barrier;
  if (++waiting < count) return;
  waiting = 0;
  for (size_t x = first; x < first + count; ++x) {
    Thread& thread = *threads[x];
    if (thread.site.line != arrived.site.line || std::strcmp(thread.site.file, arrived.site.file) != 0) {
      fail("threads meet at different barriers: %s at %s, %s at %s", name(thread).c_str(), place(thread.site).c_str(),
           name(arrived).c_str(), place(arrived.site).c_str());
    }
    thread.state = State::kReady;
  }
  if (of_cluster) {
    watch::meet_in_cluster();
  } else {
    watch::meet_in_block(arrived.rank);
  }
}

void run_cluster(const Launch& launch, std::mt19937& random) {
  std::vector<int> order(block_threads.x * blocks.size());
  std::iota(order.begin(), order.end(), 0);
  for (const int x : order) start(*threads[x], x % block_threads.x, x / block_threads.x);
  const bool is_random = launch.order == Order::kAheadRandom || launch.order == Order::kStepsRandom;
  const bool in_steps = launch.order == Order::kStepsAscending || launch.order == Order::kStepsRandom;
  if (launch.order == Order::kAheadDescending) std::reverse(order.begin(), order.end());
  if (is_random) std::shuffle(order.begin(), order.end(), random);
  at_cluster_barrier = 0;
  std::vector<size_t> left(blocks.size(), block_threads.x);

  size_t done = 0;
  while (done < order.size()) {
    bool moved = false;
    for (const int x : order) {
      Thread& thread = *threads[x];
      if (thread.state != State::kReady) continue;
      get_on(thread);
      moved = true;
      if (thread.state == State::kDone) {
        ++done;
        // A block's shared memory goes with its last thread.
        if (--left[thread.rank] == 0) {
          Block& block = blocks[thread.rank];
          block.ended = true;
          std::memset(block.shared, 0xff, shared_bytes);
          watch::end_block(thread.rank);
        }
      }
      if (thread.state == State::kAtBlockBarrier || thread.state == State::kAtClusterBarrier) meet_at_barrier(thread);
      if (thread.state == State::kAtWarpBarrier) meet(x / kWarp * kWarp, thread);
      if (!in_steps) break;
    }
    if (!moved) fail("deadlock, nobody can get on: %s", describe_threads().c_str());
  }
  for (const int x : order) {
    for (const std::vector<Copy>& group : threads[x]->copies) {
      if (!group.empty()) fail("%s ended without waiting for its asynchronous copies", name(*threads[x]).c_str());
    }
  }
}

}  // namespace

void fail(const char* format, ...) {
  std::fputs("cuda_on_cpu: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputs("\n", stderr);
  std::fflush(stderr);
  std::_Exit(3);
}

void run(const Launch& launch, const std::function<void()>& body) {
  if (launch.threads < 1 || launch.threads > 1024) fail("a block has 1 to 1024 threads");
  if (launch.blocks < 1 || launch.blocks > 0x7fffffff) fail("a grid has 1 to 2^31 - 1 blocks");
  if (launch.threads % kWarp != 0) fail("the kernels want whole warps");
  if (launch.cluster < 1 || launch.cluster > 8) fail("a cluster has 1 to 8 blocks");
  if (launch.blocks % launch.cluster != 0) fail("a grid has whole clusters");
  kernel = &body;
  copies_arrive_late = launch.copies_arrive_late;
  block_threads = {static_cast<unsigned>(launch.threads), 1, 1};
  grid = {static_cast<unsigned>(launch.blocks), 1, 1};
  shared_bytes = launch.shared_bytes;
  blocks.resize(launch.cluster);
  watch::start_launch();
  while (threads.size() < block_threads.x * blocks.size()) threads.push_back(std::make_unique<Thread>());
  std::mt19937 random(launch.seed);
  for (int64_t b = launch.first_block; b < launch.blocks; b += launch.cluster) {
    // Clusters run in any order.
    const int64_t first =
        launch.order == Order::kAheadDescending ? launch.blocks - launch.cluster - (b - launch.first_block) : b;
    for (int rank = 0; rank < launch.cluster; ++rank) {
      Block& block = blocks[rank];
      block.index = {static_cast<unsigned>(first + rank), 0, 0};
      block.ended = false;
      block.at_barrier = 0;
      // NaN in every type of floating point, and of its own size, so that the sanitizer sees what lies beyond.
      block.shared = static_cast<unsigned char*>(std::malloc(std::max<int64_t>(shared_bytes, 1)));
      std::memset(block.shared, 0xff, shared_bytes);
    }
    std::vector<unsigned char*> memories;
    for (const Block& block : blocks) memories.push_back(block.shared);
    watch::start_cluster(memories, shared_bytes, launch.threads, first);
    run_cluster(launch, random);
    for (const Block& block : blocks) std::free(block.shared);
  }
}

const Index& thread_index() {
  return current->index;
}
const Index& block_index() {
  return blocks[current->rank].index;
}
const Index& block_size() {
  return block_threads;
}
const Index& grid_size() {
  return grid;
}
unsigned char* shared_memory() {
  return blocks[current->rank].shared;
}
int cluster_size() {
  return static_cast<int>(blocks.size());
}
int cluster_rank() {
  return current->rank;
}

const void* of_block(const void* local, int rank) {
  if (rank < 0 || rank >= cluster_size())
    fail("%s asks for block %d of a cluster of %d", name(*current).c_str(), rank, cluster_size());
  if (blocks[rank].ended) {
    fail("%s asks for the shared memory of block %u, which has ended", name(*current).c_str(), blocks[rank].index.x);
  }
  return blocks[rank].shared + (static_cast<const unsigned char*>(local) - shared_memory());
}

int lane() {
  return static_cast<int>(current->index.x % kWarp);
}

void wait_for_block(Site site) {
  current->site = site;
  current->state = State::kAtBlockBarrier;
  to_scheduler(false);
}

void wait_for_cluster(Site site) {
  current->site = site;
  current->state = State::kAtClusterBarrier;
  to_scheduler(false);
}

void exchange(unsigned mask, int from, void* value, int size, Site site) {
  Thread& self = *current;
  if ((mask >> lane() & 1) == 0) {
    fail("%s is not in the mask that it gives at %s", name(self).c_str(), place(site).c_str());
  }
  self.site = site;
  self.state = State::kAtWarpBarrier;
  self.mask = mask;
  self.from = from;
  self.size = size;
  if (size > 0) std::memcpy(self.value, value, size);
  to_scheduler(false);
  if (size > 0) std::memcpy(value, self.value, size);
}

void wait_for_warp(unsigned mask, Site site) {
  exchange(mask, lane(), nullptr, 0, site);
}

void copy_async(void* to, const void* from, int size) {
  if (reinterpret_cast<uintptr_t>(to) % size != 0 || reinterpret_cast<uintptr_t>(from) % size != 0) {
    fail("%s starts an asynchronous copy that is not aligned to its %d bytes", name(*current).c_str(), size);
  }
  const unsigned char* const shared = shared_memory();
  if (to < shared || to >= shared + shared_bytes) {
    fail("%s starts an asynchronous copy that does not go to its block's shared memory", name(*current).c_str());
  }
  watch::start_copy(to, from, size, __builtin_return_address(0));
  current->copies.back().push_back({to, from, size});
  if (!copies_arrive_late) arrive({current->copies.back().back()});
}

void commit_copies() {
  current->copies.emplace_back();
}

void wait_copies(int pending) {
  std::deque<std::vector<Copy>>& copies = current->copies;
  while (copies.size() > static_cast<size_t>(pending) + 1) {
    if (copies_arrive_late) arrive(copies.front());
    for (const Copy& copy : copies.front()) watch::end_copy(number(*current), copy.to, copy.size);
    copies.pop_front();
  }
}

}  // namespace cuda_on_cpu
