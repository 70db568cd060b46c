#include "cuda_on_cpu.h"

#include <sanitizer/common_interface_defs.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <deque>
#include <map>
#include <numeric>
#include <random>

#include "memory_watch.h"

dim3 threadIdx(0, 0, 0), blockIdx(0, 0, 0), blockDim, gridDim;

// The sanitizer need not be told of each change of stacks unless it moves variables away from them.
extern "C" const char* __asan_default_options() {
  return "detect_stack_use_after_return=0";
}

namespace cuda_on_cpu {
namespace {

enum class State { kReady, kAtWarp, kAtBlock, kAtCluster, kEnded };

using Context = void* [5];  // where a fiber, or the scheduler, goes on

struct Copy {
  void* to;
  const void* from;
  int size, group;
};

struct Thread {
  int number;
  Context context;
  unsigned char* stack;
  State state;
  const void* code;  // where it waits: without optimisation one call in the source is one in the code
  // What it waits for in its warp, and what it brings.
  unsigned mask;
  int from, size;
  unsigned char given[16], taken[16];
  std::vector<Copy> copies;  // not yet arrived
  int groups;                // of copies, closed
};

std::deque<Thread> threads;  // of the cluster that is running; they stay for the next one
int count;                   // of them
Thread* current;
Context scheduler;
bool copies_arrive_late;
const std::function<void()>* kernel;

std::string who(const Thread& thread) {
  return name(thread.number) + " at " + place(thread.code);
}

// swapcontext() would save the signal mask each time, by a system call, and the sanitizer then cleans a whole stack.
// noipa: a caller must not count on registers that it sees unused here, as other threads run before the call is back.
[[noreturn, gnu::noipa]] void go_on(Context& context) {
  __builtin_longjmp(context, 1);
}

[[gnu::noipa]] void switch_context(Context& from, Context& to) {
  if (__builtin_setjmp(from) == 0) go_on(to);
}

void thread_main() {
  for (;;) {
    switch_context(current->context, scheduler);
    (*kernel)();
    current->state = State::kEnded;
    current->code = nullptr;
  }
}

[[gnu::noipa]] void add_thread() {
  current = &threads.emplace_back();
  current->number = static_cast<int>(threads.size()) - 1;
  void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) fail("no memory for the stack of a thread");
  current->stack = static_cast<unsigned char*>(stack);
  ucontext_t beginning;
  getcontext(&beginning);
  beginning.uc_stack = {stack, 0, kStackBytes};
  makecontext(&beginning, thread_main, 0);
  if (__builtin_setjmp(scheduler) == 0) setcontext(&beginning);
}

void wait(State state, const void* code) {
  current->state = state;
  current->code = code;
  switch_context(current->context, scheduler);
}

// Lets those who wait for each other go on, if the thread that has just come is the last of them; says whether it is.
bool meet(const Thread& arrived) {
  const bool of_warp = arrived.state == State::kAtWarp, of_block = arrived.state == State::kAtBlock;
  const int size = of_warp ? kWarp : of_block ? block_threads : count;
  const int first = arrived.number / size * size;
  const auto takes_part = [&](int k) { return !of_warp || (0 <= k && k < kWarp && (arrived.mask >> k & 1) != 0); };
  for (int step = 1; step < size; ++step) {  // the next one is the likeliest to be on its way
    const int k = (arrived.number + step) % size;
    if (takes_part(k) && threads[first + k].state != arrived.state) return false;
  }
  ++now;
  if (!of_warp) (of_block ? blocks[first / block_threads].met : cluster_met) = now;
  for (int k = 0; k < size; ++k) {
    if (!takes_part(k)) continue;
    Thread& other = threads[first + k];
    if (other.code != arrived.code || (of_warp && other.mask != arrived.mask)) {
      fail(who(other) + " and " + who(arrived) + " meet at different places or with different masks");
    }
    other.state = State::kReady;
    if (of_warp && other.size > 0) {
      if (!takes_part(other.from)) fail(who(other) + " reads lane " + std::to_string(other.from) + ", not in the mask");
      std::memcpy(other.taken, threads[first + other.from].given, other.size);
    } else if (of_warp) {
      for (int lane = 0; lane < kWarp; ++lane) {
        if (takes_part(lane)) warp_met[(first + k) * kWarp + lane] = now;
      }
    }
  }
  return true;
}

void report_deadlock() {
  std::map<const void*, std::vector<int>> groups;
  for (int k = 0; k < count; ++k) groups[threads[k].code].push_back(k);
  std::string text = "deadlock";
  for (const auto& [code, members] : groups) {
    text += "; " + name(members.front()) + " and " + std::to_string(members.size() - 1) + " more " +
            (code == nullptr ? "have ended" : "wait at " + place(code));
  }
  fail(text);
}

void start_cluster() {
  cluster_began = cluster_met = ++now;
  for (Block& block : blocks) {
    // Of its own size, so that the sanitizer sees what lies beyond. NaN in every type of floating point.
    block.shared = static_cast<unsigned char*>(std::malloc(shared_bytes));
    std::memset(block.shared, 0xff, shared_bytes);
    block.cells.resize((shared_bytes + kGranule - 1) / kGranule);
    block.met = now;
    block.ended = 0;
  }
  for (int k = 0; k < count; ++k) threads[k].state = State::kReady;
  warp_met.assign(count * kWarp, 0);
}

void run_cluster(const std::vector<int>& order, bool in_steps) {
  start_cluster();
  for (int ended = 0; ended < count;) {
    bool moved = false;
    for (const int k : order) {
      Thread& thread = threads[k];
      if (thread.state != State::kReady) continue;
      moved = true;
      current = &thread;
      running = k;
      stack = thread.stack;
      threadIdx.x = k % block_threads;
      blockIdx.x = first_block + k / block_threads;
      switch_context(scheduler, thread.context);
      running = -1;
      if (thread.state == State::kEnded) {
        if (!thread.copies.empty()) fail(name(k) + " ended without waiting for its copies");
        ++ended;
        // A block's shared memory goes with its last thread. What reads it later, the sanitizer reports.
        Block& block = blocks[k / block_threads];
        if (++block.ended == block_threads) std::free(block.shared);
      } else if (meet(thread) && !in_steps) {
        break;  // the first that can get on may be one that has waited
      }
    }
    if (!moved) report_deadlock();
  }
}

}  // namespace

void run(const Launch& launch, const std::function<void()>& body) {
  if (launch.threads < 1 || launch.threads > 1024 || launch.threads % kWarp != 0) fail("no whole warps");
  if (launch.blocks < 1 || launch.cluster < 1 || launch.blocks % launch.cluster != 0) fail("no whole clusters");
  // The sanitizer's reports do not know of our threads.
  __sanitizer_set_death_callback([] {
    if (running >= 0) fail(doing(", at", " or after "));
  });
  kernel = &body;
  copies_arrive_late = launch.copies_arrive_late;
  launch_began = ++now;
  shared_bytes = launch.shared_bytes;
  blocks.resize(launch.cluster);
  blockDim.x = block_threads = launch.threads;
  gridDim.x = launch.blocks;
  count = launch.cluster * launch.threads;
  while (static_cast<int>(threads.size()) < count) add_thread();
  const bool descending = launch.order == Order::kAheadDescending;
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (descending) std::reverse(order.begin(), order.end());
  std::mt19937 random(launch.seed);
  for (int64_t b = launch.first_block; b < launch.blocks; b += launch.cluster) {
    first_block = descending ? launch.blocks - launch.cluster - (b - launch.first_block) : b;
    if (launch.order == Order::kAheadRandom || launch.order == Order::kStepsRandom) {
      std::shuffle(order.begin(), order.end(), random);
    }
    run_cluster(order, launch.order >= Order::kStepsAscending);
  }
}

void exchange(unsigned mask, int from, void* value, int size) {
  Thread& self = *current;
  self.mask = mask;
  self.from = from;
  self.size = size;
  self.code = __builtin_return_address(0);
  if ((mask >> threadIdx.x % kWarp & 1) == 0) fail(who(self) + " is not in the mask that it gives");
  std::memcpy(self.given, value, size);
  wait(State::kAtWarp, self.code);
  std::memcpy(value, self.taken, size);
}

const void* of_block(const void* local, int rank) {
  return blocks.at(rank).shared + (static_cast<const unsigned char*>(local) - fan::cuda::shared_memory());
}

void copy_async(void* to, const void* from, int size) {
  latest_code = __builtin_return_address(0);
  touch(from, size, size, false);
  touch(to, size, size, true);
  if (!for_each_cell(to, size, [](SharedCell& cell) { cell.write.thread = kCopy; })) {
    fail(doing(" starts a copy that does not go to", " shared memory at "));
  }
  if (!copies_arrive_late) std::memcpy(to, from, size);
  current->copies.push_back({to, from, size, current->groups});
}

void wait_copies(int pending) {
  std::vector<Copy>& copies = current->copies;
  while (!copies.empty() && copies.front().group + pending < current->groups) {
    const Copy& copy = copies.front();
    if (copies_arrive_late) std::memcpy(copy.to, copy.from, copy.size);
    for_each_cell(copy.to, copy.size, [](SharedCell& cell) {
      cell.write.thread = running;
      cell.write.time = now;
    });
    copies.erase(copies.begin());
  }
}

}  // namespace cuda_on_cpu

void __syncthreads() {
  cuda_on_cpu::wait(cuda_on_cpu::State::kAtBlock, __builtin_return_address(0));
}

namespace fan::cuda {

unsigned char* shared_memory() {
  return cuda_on_cpu::blocks[cluster_rank()].shared;
}
int cluster_size() {
  return static_cast<int>(cuda_on_cpu::blocks.size());
}
int cluster_rank() {
  return cuda_on_cpu::running / cuda_on_cpu::block_threads;
}
void sync_cluster() {
  cuda_on_cpu::wait(cuda_on_cpu::State::kAtCluster, __builtin_return_address(0));
}
void commit_copies() {
  ++cuda_on_cpu::current->groups;
}

}  // namespace fan::cuda
