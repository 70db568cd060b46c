// A kernel with one mistake, or without it: what tests/native/test_cuda_runner.py runs to see that the CUDA-on-CPU
// runner notices. Without the mistake, thread i of the grid leaves i + 1 in out[i].
//
//     small_kernels MISTAKE wrong|right ORDER SEED CLUSTER
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cuda_on_cpu.h"

namespace {

using namespace fan::cuda;

constexpr int kThreads = 64, kBlocks = 2;  // two blocks of two warps
constexpr unsigned kWholeWarp = 0xffffffffu, kHalfWarp = 0x0000ffffu;

// `in` has i + 1 at i.
void kernel(const std::string& mistake, bool wrong, int* out, const int* in) {
  const int me = static_cast<int>(threadIdx.x), lane = me % 32, first = static_cast<int>(blockIdx.x) * kThreads;
  const int other_warp = me ^ 32, neighbour = me ^ 1, other_block = cluster_rank() ^ 1;
  int* const shared = reinterpret_cast<int*>(shared_memory());
  const auto copy = [&](int quarter) {  // 16 of them are all
    copy_async<16>(shared + 4 * quarter, in + first + 4 * quarter);
    commit_copies();
  };
  int value = me;

  if (mistake == "barrier in a branch") {
    if (!wrong || me < 40) __syncthreads();
  } else if (mistake == "two barriers instead of one") {
    wrong&& me < 32 ? __syncthreads() : __syncthreads();
  } else if (mistake == "no barrier before reading") {
    shared[other_warp] = other_warp;
    if (!wrong) __syncthreads();
    value = shared[me];
  } else if (mistake == "no barrier before writing again") {
    shared[other_warp] = other_warp;
    __syncthreads();
    value = shared[me] + shared[other_warp] - other_warp;
    wrong ? __syncwarp() : __syncthreads();
    if (me >= 32) shared[other_warp] = -1;
  } else if (mistake == "shuffle for a warp barrier") {  // it brings the warp together, but does not order its memory
    shared[neighbour] = neighbour;
    __shfl_xor_sync(kWholeWarp, 0, 1);
    if (!wrong) __syncwarp();
    value = shared[me];
  } else if (mistake == "two blocks write the same") {
    if (me == 0) out[wrong ? 0 : first] = first + 1;
  } else if (mistake == "shuffle from outside the mask") {
    if (lane < 16) {
      double2 both = __shfl_xor_sync(kHalfWarp, double2{me + 0.5, -1.0 * me}, wrong ? 16 : 8);
      both.x = __shfl_sync(kHalfWarp, both.x, lane ^ 8);
      value = both.x + __shfl_xor_sync(kHalfWarp, both.y, 8) == 0.5 ? __shfl_xor_sync(kHalfWarp, me ^ 8, 8) : -1;
    }
  } else if (mistake == "mask without oneself") {
    if (wrong || lane < 16) __syncwarp(kHalfWarp);
  } else if (mistake == "masks that differ") {
    __syncwarp(wrong && lane == 31 ? kWholeWarp - 1 : kWholeWarp);
  } else if (mistake == "reads what the block before left") {
    if (!wrong || blockIdx.x == 0) shared[me] = me;
    value = shared[me];
  } else if (mistake == "reads beyond shared memory") {
    shared[me] = me;
    value = shared[me + (wrong && me == kThreads - 1 ? 1 : 0)];
  } else if (mistake == "reads a pair off 8 bytes") {
    const uint2 pair = *reinterpret_cast<const uint2*>(in + (wrong && me == 0 ? 1 : me & ~1));
    value = static_cast<int>(me % 2 == 0 ? pair.x : pair.y) - 1;
  } else if (mistake == "waits for too few copies") {
    if (me < 8) {
      copy(me);
      copy(me + 8);
      wrong ? wait_copies<1>() : wait_copies<0>();
    }
    __syncthreads();
    value = shared[me] - first - 1;
    wait_copies<0>();
  } else if (mistake == "reads the copy of another") {  // the wait is for the thread's own; others need a barrier
    if (me < 16) copy(me);
    wait_copies<0>();
    if (!wrong) __syncthreads();
    value = shared[me] - first - 1;
  } else if (mistake == "ends before its copy") {
    if (me < 16) copy(me);
    if (!wrong) wait_copies<0>();
  } else if (mistake == "block barrier for a cluster barrier") {
    shared[me] = me;
    if (!wrong) sync_cluster();
    for (int twice = 0; twice < 2; ++twice) __syncthreads();
    value = of_block(shared, other_block)[me];
    sync_cluster();
  } else if (mistake == "reads a block that ended") {
    shared[me] = me;
    sync_cluster();
    value = of_block(shared, other_block)[me];
    if (!wrong) sync_cluster();
  } else {  // no mistake: prints in which order threads come to two places on either side of a barrier of their warp
    std::printf("%d ", me);
    __syncwarp();
    std::printf("%d ", me);
  }
  out[first + me] = first + value + 1;
}

}  // namespace

int main(int, char** arguments) {
  const std::string mistake = arguments[1], which = arguments[2];
  const int order = std::atoi(arguments[3]), seed = std::atoi(arguments[4]), cluster = std::atoi(arguments[5]);
  constexpr int64_t kBytes = kThreads * sizeof(int);
  // malloc, so that the sanitizer knows where they end.
  int* const out = static_cast<int*>(std::malloc(kBlocks * kBytes));
  int* const in = static_cast<int*>(std::malloc(kBlocks * kBytes));
  for (int i = 0; i < kBlocks * kThreads; ++i) in[i] = i + 1;
  cuda_on_cpu::run({kBlocks, kThreads, kBytes, cluster, static_cast<cuda_on_cpu::Order>(order),
                    static_cast<unsigned>(seed), seed % 2 == 0, 0},
                   [&] { kernel(mistake, which == "wrong", out, in); });
  for (int i = 0; i < kBlocks * kThreads; ++i) std::printf("%d ", out[i]);
}
