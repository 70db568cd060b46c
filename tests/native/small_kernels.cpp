// Kernels with one mistake each, and without it: what tests/native/test_cuda_runner.py runs to see that the CUDA-on-CPU
// runner notices. Without the mistake, thread i of the grid leaves i + 1 in out[i].
//
//     small_kernels NAME wrong|right ORDER SEED
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "csrc/cuda/device.cuh"

namespace {

using namespace fan::cuda;

// Two blocks of two warps. Threads put their partner's number in shared memory, and take their own from there.
constexpr int kThreads = 64, kBlocks = 2;
constexpr unsigned kWholeWarp = 0xffffffffu, kHalfWarp = 0x0000ffffu;

int* shared() {
  return reinterpret_cast<int*>(shared_memory());
}
int me() {
  return static_cast<int>(threadIdx.x);
}
// In the other warp, and in the own one.
int partner() {
  return me() ^ 32;
}
int neighbour() {
  return me() ^ 1;
}
int first() {
  return static_cast<int>(blockIdx.x * blockDim.x);
}
void finish(int* out, int value) {
  out[first() + me()] = first() + value + 1;
}

// Barriers.

template <bool kWrong>
void barrier_in_a_branch(int* out, const int*) {
  if (!kWrong || me() < 40) __syncthreads();
  finish(out, me());
}

template <bool kWrong>
void two_barriers_instead_of_one(int* out, const int*) {
  if (kWrong && me() < 32) {
    __syncthreads();
  } else {
    for (int once = 0; once < (kWrong ? 1 : 2); ++once) __syncthreads();
  }
  finish(out, me());
}

template <bool kWrong>
void waits_for_each_other(int* out, const int*) {
  if (kWrong && me() == 0) __syncthreads();
  __syncwarp();
  if (!kWrong || me() != 0) __syncthreads();
  finish(out, me());
}

// Races.

template <bool kWrong>
void no_barrier_before_reading(int* out, const int*) {
  shared()[partner()] = partner();
  if (!kWrong) __syncthreads();
  finish(out, shared()[me()]);
}

template <bool kWrong>
void no_barrier_before_writing_again(int* out, const int*) {
  shared()[partner()] = partner();
  __syncthreads();
  const int value = shared()[me()];
  if (!kWrong) __syncthreads();
  shared()[partner()] = -1;
  finish(out, value);
}

template <bool kWrong>
void two_write_the_same(int* out, const int*) {
  shared()[kWrong ? me() / 2 : me()] = me() / 2;
  finish(out, me());
}

// A shuffle brings a warp together here, but does not order its memory.
template <bool kWrong>
void shuffle_for_a_warp_barrier(int* out, const int*) {
  shared()[neighbour()] = neighbour();
  if (kWrong) {
    __shfl_xor_sync(kWholeWarp, 0, 1);
  } else {
    __syncwarp();
  }
  finish(out, shared()[me()]);
}

template <bool kWrong>
void warp_barrier_for_a_block_barrier(int* out, const int*) {
  shared()[partner()] = partner();
  if (kWrong) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  finish(out, shared()[me()]);
}

template <bool kWrong>
void two_blocks_write_the_same(int* out, const int*) {
  finish(out, me());
  if (me() == 0) out[kWrong ? 0 : first()] = first() + 1;
}

template <bool kWrong>
void reads_what_another_block_writes(int* out, const int*) {
  finish(out, me());
  if (kWrong && blockIdx.x == 1 && me() == 0) out[first()] = out[0] + kThreads;
}

// Warps.

template <bool kWrong>
void shuffle_from_outside_the_mask(int* out, const int*) {
  int value = me();
  if (me() % 32 < 16) {
    for (int twice = 0; twice < 2; ++twice) value = __shfl_xor_sync(kHalfWarp, value, kWrong ? 16 : 8);
  }
  finish(out, value);
}

template <bool kWrong>
void mask_without_oneself(int* out, const int*) {
  if (kWrong || me() % 32 < 16) __syncwarp(kHalfWarp);
  finish(out, me());
}

template <bool kWrong>
void mask_with_a_lane_that_ended(int* out, const int*) {
  finish(out, me());
  if (me() % 32 == 31) return;
  __syncwarp(kWrong ? kWholeWarp : kWholeWarp >> 1);
}

template <bool kWrong>
void masks_that_differ(int* out, const int*) {
  __syncwarp(kWrong && me() % 32 == 0 ? kHalfWarp : kWholeWarp);
  finish(out, me());
}

// Memory.

template <bool kWrong>
void reads_what_nobody_wrote(int* out, const int*) {
  if (!kWrong || me() != 5) shared()[me()] = me();
  finish(out, shared()[me()]);
}

template <bool kWrong>
void reads_what_the_block_before_left(int* out, const int*) {
  if (!kWrong || blockIdx.x == 0) shared()[me()] = me();
  finish(out, shared()[me()]);
}

template <bool kWrong>
void reads_beyond_shared_memory(int* out, const int*) {
  shared()[me()] = me();
  finish(out, shared()[me() + (kWrong && me() == kThreads - 1 ? 1 : 0)]);
}

template <bool kWrong>
void writes_beyond_shared_memory(int* out, const int*) {
  shared()[me() + (kWrong && me() == kThreads - 1 ? 1 : 0)] = me();
  finish(out, me());
}

template <bool kWrong>
void reads_beyond_global_memory(int* out, const int* in) {
  const int i = first() + me();
  out[i] = in[i + (kWrong && i == kBlocks * kThreads - 1 ? 1 : 0)];
}

template <bool kWrong>
void writes_beyond_global_memory(int* out, const int*) {
  finish(out, me());
  const int i = first() + me();
  out[i + (kWrong && i == kBlocks * kThreads - 1 ? 1 : 0)] = i + 1;
}

// Asynchronous copies: 16 threads bring four numbers each; `in` has i + 1 at i.

void copy(const int* in, int quarter) {
  copy_async<16>(shared() + 4 * quarter, in + first() + 4 * quarter);
  commit_copies();
}

template <bool kWrong>
void reads_a_copy_without_waiting(int* out, const int* in) {
  if (me() < 16) {
    copy(in, me());
    if (!kWrong) wait_copies<0>();
  }
  __syncthreads();
  out[first() + me()] = shared()[me()];
  if (me() < 16) wait_copies<0>();
}

template <bool kWrong>
void waits_for_too_few_copies(int* out, const int* in) {
  if (me() < 8) {
    copy(in, me());
    copy(in, me() + 8);
    wait_copies<kWrong ? 1 : 0>();
  }
  __syncthreads();
  out[first() + me()] = shared()[me()];
  if (me() < 8) wait_copies<0>();
}

// What a thread waits for has arrived for that thread; for others there must be a barrier.
template <bool kWrong>
void reads_the_copy_of_another(int* out, const int* in) {
  if (me() < 16) {
    copy(in, me());
    wait_copies<0>();
  }
  if (!kWrong) __syncthreads();
  out[first() + me()] = shared()[me()];
}

template <bool kWrong>
void copies_over_what_is_being_read(int* out, const int* in) {
  shared()[me()] = me();
  __syncthreads();
  const int value = shared()[me()];
  if (!kWrong) __syncthreads();
  if (me() < 16) {
    copy(in, me());
    wait_copies<0>();
  }
  finish(out, value);
}

template <bool kWrong>
void ends_before_its_copy(int* out, const int* in) {
  if (me() < 16) copy(in, me());
  if (!kWrong && me() < 16) wait_copies<0>();
  finish(out, me());
}

template <bool kWrong>
void copy_off_16_bytes(int* out, const int* in) {
  if (me() == 0) {
    copy_async<16>(shared() + 4, in + (kWrong ? 1 : 0));
    commit_copies();
    wait_copies<0>();
  }
  finish(out, me());
}

// Clusters: the two blocks are one.

int other_block() {
  return cluster_rank() ^ 1;
}

template <bool kWrong>
void reads_another_block_without_a_barrier(int* out, const int*) {
  shared()[me()] = (other_block() * kThreads) + me() + 1;
  if (!kWrong) sync_cluster();
  out[first() + me()] = of_block(shared(), other_block())[me()];
  sync_cluster();
}

template <bool kWrong>
void block_barrier_for_a_cluster_barrier(int* out, const int*) {
  shared()[me()] = (other_block() * kThreads) + me() + 1;
  if (kWrong) {
    __syncthreads();
  } else {
    sync_cluster();
  }
  out[first() + me()] = of_block(shared(), other_block())[me()];
  sync_cluster();
}

template <bool kWrong>
void asks_for_a_block_that_ended(int* out, const int*) {
  shared()[me()] = (other_block() * kThreads) + me() + 1;
  sync_cluster();
  out[first() + me()] = of_block(shared(), other_block())[me()];
  if (!kWrong) sync_cluster();
}

template <bool kWrong>
void reads_a_block_that_ended(int* out, const int*) {
  shared()[me()] = (other_block() * kThreads) + me() + 1;
  const int* const theirs = of_block(shared(), other_block());
  sync_cluster();
  out[first() + me()] = theirs[me()];
  if (!kWrong) sync_cluster();
}

template <bool kWrong>
void one_block_misses_the_cluster_barrier(int* out, const int*) {
  if (!kWrong || cluster_rank() == 0) sync_cluster();
  finish(out, me());
}

template <bool kWrong>
void one_thread_misses_the_cluster_barrier(int* out, const int*) {
  if (!kWrong || me() != 7) sync_cluster();
  finish(out, me());
}

template <bool kWrong>
void one_block_waits_once_more(int* out, const int*) {
  const int times = kWrong && cluster_rank() == 0 ? 2 : 1;
  for (int time = 0; time < times; ++time) sync_cluster();
  finish(out, me());
}

template <bool kWrong>
void asks_for_a_block_beyond_the_cluster(int* out, const int*) {
  finish(out, me());
  of_block(shared(), kWrong ? 2 : 1);
  sync_cluster();
}

// Not a mistake: out[k] is the thread that comes k-th to a place before a barrier of its warp, then to one after it.
template <bool>
void in_which_order(int* out, const int*) {
  if (blockIdx.x > 0) return;
  static int count = 0;
  out[count++] = me();
  __syncwarp();
  out[count++] = me();
}

using Kernel = void (*)(int*, const int*);
struct Pair {
  Kernel wrong, right;
  int cluster;
};
#define BLOCKS(NAME) {#NAME, {NAME<true>, NAME<false>, 1}}
#define CLUSTER(NAME) {#NAME, {NAME<true>, NAME<false>, 2}}
const std::map<std::string, Pair> kKernels = {
    BLOCKS(barrier_in_a_branch),
    BLOCKS(two_barriers_instead_of_one),
    BLOCKS(waits_for_each_other),
    BLOCKS(no_barrier_before_reading),
    BLOCKS(no_barrier_before_writing_again),
    BLOCKS(two_write_the_same),
    BLOCKS(shuffle_for_a_warp_barrier),
    BLOCKS(warp_barrier_for_a_block_barrier),
    BLOCKS(two_blocks_write_the_same),
    BLOCKS(reads_what_another_block_writes),
    BLOCKS(shuffle_from_outside_the_mask),
    BLOCKS(mask_without_oneself),
    BLOCKS(mask_with_a_lane_that_ended),
    BLOCKS(masks_that_differ),
    BLOCKS(reads_what_nobody_wrote),
    BLOCKS(reads_what_the_block_before_left),
    BLOCKS(reads_beyond_shared_memory),
    BLOCKS(writes_beyond_shared_memory),
    BLOCKS(reads_beyond_global_memory),
    BLOCKS(writes_beyond_global_memory),
    BLOCKS(reads_a_copy_without_waiting),
    BLOCKS(waits_for_too_few_copies),
    BLOCKS(reads_the_copy_of_another),
    BLOCKS(copies_over_what_is_being_read),
    BLOCKS(ends_before_its_copy),
    BLOCKS(copy_off_16_bytes),
    BLOCKS(in_which_order),
    CLUSTER(reads_another_block_without_a_barrier),
    CLUSTER(block_barrier_for_a_cluster_barrier),
    CLUSTER(asks_for_a_block_that_ended),
    CLUSTER(reads_a_block_that_ended),
    CLUSTER(one_block_misses_the_cluster_barrier),
    CLUSTER(one_thread_misses_the_cluster_barrier),
    CLUSTER(one_block_waits_once_more),
    CLUSTER(asks_for_a_block_beyond_the_cluster),
};

}  // namespace

int main(int, char** arguments) {
  const Pair& pair = kKernels.at(arguments[1]);
  const Kernel kernel = std::string(arguments[2]) == "wrong" ? pair.wrong : pair.right;
  const int seed = std::atoi(arguments[4]);
  const int64_t bytes = kBlocks * kThreads * int64_t{sizeof(int)};
  // malloc, so that the sanitizer knows where they end.
  int* const out = static_cast<int*>(std::malloc(bytes));
  int* const in = static_cast<int*>(std::malloc(bytes));
  std::memset(out, 0xff, bytes);
  for (int i = 0; i < kBlocks * kThreads; ++i) in[i] = i + 1;
  const cuda_on_cpu::Launch launch{kBlocks,
                                   kThreads,
                                   kThreads * int64_t{sizeof(int)},
                                   pair.cluster,
                                   static_cast<cuda_on_cpu::Order>(std::atoi(arguments[3])),
                                   static_cast<unsigned>(seed),
                                   seed % 2 == 0,
                                   0};
  cuda_on_cpu::run(launch, [&] { kernel(out, in); });
  for (int i = 0; i < kBlocks * kThreads; ++i) std::printf("%d ", out[i]);
  std::free(out);
  std::free(in);
}
