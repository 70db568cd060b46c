#include "cuda_on_cpu.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "memory_watch.h"

Index threadIdx, blockIdx, blockDim{1, 1, 1}, gridDim{1, 1, 1};

// The sanitizer need not be told of each change of stacks unless it moves variables away from them.
extern "C" const char* __asan_default_options() {
  return "detect_stack_use_after_return=0";
}

namespace cuda_on_cpu {
namespace {

constexpr size_t kStackBytes = 256 * 1024;

enum class State { kReady, kAtWarp, kAtBlock, kAtCluster, kEnded };

// Where a fiber, or the scheduler, goes on.
struct Context {
  void* registers[5];
  ucontext_t beginning;
  bool is_new;
};

struct Copy {
  void* to;
  const void* from;
  int size;
  int group;
};

struct Thread {
  int number;  // in the cluster
  Context context;
  unsigned char* stack;
  State state;
  const void* code;  // where it waits: without optimisation one call in the source is one in the code
  // What it waits for in its warp, and what it brings.
  unsigned mask;
  int from;
  int size;
  unsigned char given[16], taken[16];
  std::vector<Copy> copies;  // not yet arrived
  int groups;                // of copies, closed
};

// The cluster that is running: the threads of its blocks one block after the other. They stay for the next one.
std::deque<Thread> threads;
Thread* current;
Context scheduler;
int64_t first_block;
int blocks;
std::vector<unsigned> lanes_waiting;  // of each warp, a bit each
std::vector<int> threads_waiting;     // at the barrier of each block, and at the cluster's
bool copies_arrive_late;
const std::function<void()>* kernel;

int rank_of(const Thread& thread) {
  return thread.number / static_cast<int>(blockDim.x);
}

int threads_in_cluster() {
  return blocks * static_cast<int>(blockDim.x);
}

std::string who(const Thread& thread) {
  return name(thread.number) + " at " + place(thread.code);
}

// swapcontext() would save the signal mask each time, by a system call, and the sanitizer then cleans a whole stack.
[[gnu::noinline, gnu::no_sanitize_address]] void switch_context(Context& from, Context& to) {
  if (__builtin_setjmp(from.registers) != 0) return;
  if (!to.is_new) __builtin_longjmp(to.registers, 1);
  to.is_new = false;
  setcontext(&to.beginning);
}

void thread_main() {
  for (;;) {
    (*kernel)();
    current->state = State::kEnded;
    current->code = nullptr;
    switch_context(current->context, scheduler);
  }
}

void add_thread() {
  Thread& thread = threads.emplace_back();
  thread.number = static_cast<int>(threads.size()) - 1;
  void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) fail("no memory for the stack of a thread");
  thread.stack = static_cast<unsigned char*>(stack);
  thread.context.is_new = true;
  ucontext_t& beginning = thread.context.beginning;
  getcontext(&beginning);
  beginning.uc_stack.ss_sp = stack;
  beginning.uc_stack.ss_size = kStackBytes;
  makecontext(&beginning, thread_main, 0);
}

void get_on(Thread& thread) {
  current = &thread;
  threadIdx.x = thread.number % blockDim.x;
  blockIdx.x = static_cast<unsigned>(first_block + rank_of(thread));
  watch::running = {thread.number, thread.stack, kStackBytes};
  switch_context(scheduler, thread.context);
  watch::running = {};
}

void wait(State state, const void* code) {
  current->state = state;
  current->code = code;
  switch_context(current->context, scheduler);
}

void wait_for_warp(unsigned mask, const void* code) {
  current->mask = mask;
  if ((mask >> threadIdx.x % kWarp & 1) == 0) {
    fail(name(current->number) + " is not in the mask that it gives at " + place(code));
  }
  wait(State::kAtWarp, code);
}

// Lets those who wait for each other go on, if the thread that has just come is the last of them; says whether it is.
bool meet(const Thread& arrived) {
  const bool of_warp = arrived.state == State::kAtWarp, of_block = arrived.state == State::kAtBlock;
  const int count = of_warp ? kWarp : of_block ? static_cast<int>(blockDim.x) : threads_in_cluster();
  const int first = arrived.number / count * count;
  const auto takes_part = [&](int k) { return !of_warp || (0 <= k && k < kWarp && (arrived.mask >> k & 1) != 0); };
  if (of_warp) {
    unsigned& here = lanes_waiting[first / kWarp];
    here |= 1u << (arrived.number - first);
    if ((arrived.mask & ~here) != 0) return false;
    here &= ~arrived.mask;
  } else {
    int& here = threads_waiting[of_block ? rank_of(arrived) : blocks];
    if (++here < count) return false;
    here = 0;
  }
  for (int k = 0; k < count; ++k) {
    const Thread& other = threads[first + k];
    if (!takes_part(k)) continue;
    if (other.code != arrived.code || (of_warp && other.mask != arrived.mask)) {
      fail(who(other) + " and " + who(arrived) + " meet at different places or with different masks");
    }
  }
  for (int k = 0; k < count; ++k) {
    Thread& other = threads[first + k];
    if (!takes_part(k)) continue;
    other.state = State::kReady;
    if (!of_warp || other.size == 0) continue;
    if (!takes_part(other.from)) fail(who(other) + " reads lane " + std::to_string(other.from) + ", not in the mask");
    std::memcpy(other.taken, threads[first + other.from].given, other.size);
  }
  if (of_block) watch::meet_in_block(rank_of(arrived));
  if (of_warp && arrived.size == 0) watch::meet_in_warp(first, arrived.mask);
  if (!of_warp && !of_block) watch::meet_in_cluster();
  return true;
}

// Who of the cluster waits where, for the reader of a deadlock.
std::string describe_threads() {
  static const char* const kDoing[] = {"runs", "waits for its warp at ", "waits for its block at ",
                                       "waits for its cluster at ", "has ended"};
  std::map<std::tuple<int, State, const void*>, std::vector<int>> groups;
  for (int k = 0; k < threads_in_cluster(); ++k) {
    groups[{rank_of(threads[k]), threads[k].state, threads[k].code}].push_back(k);
  }
  std::string text;
  for (const auto& [group, members] : groups) {
    const auto& [rank, state, code] = group;
    text += "; " + name(members.front()) + " (and " + std::to_string(members.size() - 1) + " more) " +
            kDoing[static_cast<int>(state)] + (code == nullptr ? "" : place(code));
  }
  return text;
}

void run_cluster(Order kind, std::mt19937& random) {
  std::vector<int> order(threads_in_cluster());
  std::iota(order.begin(), order.end(), 0);
  if (kind == Order::kAheadDescending) std::reverse(order.begin(), order.end());
  if (kind == Order::kAheadRandom || kind == Order::kStepsRandom) std::shuffle(order.begin(), order.end(), random);
  const bool in_steps = kind == Order::kStepsAscending || kind == Order::kStepsRandom;
  for (const int k : order) threads[k].state = State::kReady;
  lanes_waiting.assign(threads_in_cluster() / kWarp, 0);
  threads_waiting.assign(blocks + 1, 0);
  std::vector<int> left(blocks, static_cast<int>(blockDim.x));
  bool moved = true;
  while (moved) {
    moved = false;
    for (const int k : order) {
      Thread& thread = threads[k];
      if (thread.state != State::kReady) continue;
      get_on(thread);
      moved = true;
      if (thread.state == State::kEnded) {
        if (!thread.copies.empty()) fail(name(k) + " ended without waiting for its copies");
        if (--left[rank_of(thread)] == 0) watch::end_block(rank_of(thread));
      } else if (meet(thread) && !in_steps) {
        break;  // the first that can get on may be one that has waited
      }
    }
  }
  if (std::any_of(left.begin(), left.end(), [](int count) { return count > 0; })) {
    fail("deadlock" + describe_threads());
  }
}

}  // namespace

void run(const Launch& launch, const std::function<void()>& body) {
  if (launch.threads < kWarp || launch.threads > 1024 || launch.threads % kWarp != 0 || launch.blocks < 1 ||
      launch.blocks > 0x7fffffff || launch.cluster < 1 || launch.cluster > 8 || launch.blocks % launch.cluster != 0) {
    fail("a launch has 1 to 2^31 - 1 blocks, whole clusters of up to 8, and whole warps, up to 1024 threads");
  }
  kernel = &body;
  copies_arrive_late = launch.copies_arrive_late;
  blocks = launch.cluster;
  blockDim.x = static_cast<unsigned>(launch.threads);
  gridDim.x = static_cast<unsigned>(launch.blocks);
  while (static_cast<int>(threads.size()) < threads_in_cluster()) add_thread();
  watch::start_launch(launch.threads, launch.shared_bytes);
  std::mt19937 random(launch.seed);
  for (int64_t b = launch.first_block; b < launch.blocks; b += blocks) {
    // Clusters run in any order.
    first_block = launch.order == Order::kAheadDescending ? launch.blocks - blocks - (b - launch.first_block) : b;
    watch::start_cluster(first_block, blocks);
    run_cluster(launch.order, random);
  }
}

void exchange(unsigned mask, int from, void* value, int size) {
  current->from = from;
  current->size = size;
  std::memcpy(current->given, value, size);
  wait_for_warp(mask, __builtin_return_address(0));
  std::memcpy(value, current->taken, size);
}

const void* of_block(const void* local, int rank) {
  if (rank < 0 || rank >= blocks) {
    fail(name(current->number) + " asks for block " + std::to_string(rank) + " of a cluster of " +
         std::to_string(blocks));
  }
  return watch::shared_memory(rank) + (static_cast<const unsigned char*>(local) - fan::cuda::shared_memory());
}

void copy_async(void* to, const void* from, int size) {
  watch::start_copy(to, from, size, __builtin_return_address(0));
  if (!copies_arrive_late) std::memcpy(to, from, size);
  current->copies.push_back({to, from, size, current->groups});
}

void wait_copies(int pending) {
  std::vector<Copy>& copies = current->copies;
  const auto still_away = std::find_if(copies.begin(), copies.end(),
                                       [&](const Copy& copy) { return copy.group + pending >= current->groups; });
  for (auto copy = copies.begin(); copy != still_away; ++copy) {
    if (copies_arrive_late) std::memcpy(copy->to, copy->from, copy->size);
    watch::end_copy(copy->to, copy->size);
  }
  copies.erase(copies.begin(), still_away);
}

}  // namespace cuda_on_cpu

void __syncthreads() {
  cuda_on_cpu::wait(cuda_on_cpu::State::kAtBlock, __builtin_return_address(0));
}

void __syncwarp(unsigned mask) {
  cuda_on_cpu::current->size = 0;
  cuda_on_cpu::wait_for_warp(mask, __builtin_return_address(0));
}

namespace fan::cuda {

unsigned char* shared_memory() {
  return cuda_on_cpu::watch::shared_memory(cluster_rank());
}
int cluster_size() {
  return cuda_on_cpu::blocks;
}
int cluster_rank() {
  return cuda_on_cpu::rank_of(*cuda_on_cpu::current);
}
void sync_cluster() {
  cuda_on_cpu::wait(cuda_on_cpu::State::kAtCluster, __builtin_return_address(0));
}
void commit_copies() {
  ++cuda_on_cpu::current->groups;
}

}  // namespace fan::cuda
