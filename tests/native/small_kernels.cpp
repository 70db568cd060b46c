// Kernels with one mistake each, and without it: what tests/native/test_cuda_runner.py runs to see that the CUDA-on-CPU
// runner notices. Without the mistake, thread i of the grid leaves i + 1 in out[i].
//
//     small_kernels                              prints the names
//     small_kernels NAME wrong|right ORDER SEED  prints out
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cuda_on_cpu.h"

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

// 16 threads bring four numbers each; `in` has i + 1 at i.
void copy(const int* in, int quarter) {
  copy_async<16>(shared() + 4 * quarter, in + first() + 4 * quarter);
  commit_copies();
}

// Of 16 bytes.
struct Numbers {
  double d;
  int i;
};

struct Kernel {
  const char* name;
  int cluster;  // blocks
  void (*run)(bool wrong, int* out, const int* in);
};

const Kernel kKernels[] = {
    {"barrier in a branch", 1,
     [](bool wrong, int* out, const int*) {
       if (!wrong || me() < 40) __syncthreads();
       finish(out, me());
     }},
    {"two barriers instead of one", 1,
     [](bool wrong, int* out, const int*) {
       if (wrong && me() < 32) {
         __syncthreads();
       } else {
         __syncthreads();
       }
       finish(out, me());
     }},
    {"no barrier before reading", 1,
     [](bool wrong, int* out, const int*) {
       shared()[partner()] = partner();
       if (!wrong) __syncthreads();
       finish(out, shared()[me()]);
     }},
    {"no barrier before writing again", 1,
     [](bool wrong, int* out, const int*) {
       shared()[partner()] = partner();
       __syncthreads();
       const int value = shared()[me()];
       if (!wrong) __syncthreads();
       shared()[partner()] = -1;
       finish(out, value);
     }},
    // A shuffle brings a warp together here, but does not order its memory.
    {"shuffle for a warp barrier", 1,
     [](bool wrong, int* out, const int*) {
       shared()[neighbour()] = neighbour();
       if (wrong) {
         __shfl_xor_sync(kWholeWarp, 0, 1);
       } else {
         __syncwarp();
       }
       finish(out, shared()[me()]);
     }},
    {"warp barrier for a block barrier", 1,
     [](bool wrong, int* out, const int*) {
       shared()[partner()] = partner();
       if (wrong) {
         __syncwarp();
       } else {
         __syncthreads();
       }
       finish(out, shared()[me()]);
     }},
    {"two blocks write the same", 1,
     [](bool wrong, int* out, const int*) {
       finish(out, me());
       if (me() == 0) out[wrong ? 0 : first()] = first() + 1;
     }},
    {"shuffle from outside the mask", 1,
     [](bool wrong, int* out, const int*) {
       Numbers mine{me() + 0.5, me()};
       if (me() % 32 < 16) {
         mine = __shfl_xor_sync(kHalfWarp, mine, wrong ? 16 : 8);
         mine.d = __shfl_sync(kHalfWarp, mine.d, (me() % 32) ^ 8);
         mine.i = __shfl_xor_sync(kHalfWarp, mine.i, 8);
       }
       finish(out, mine.d - 0.5 == mine.i ? mine.i : -1);
     }},
    {"mask without oneself", 1,
     [](bool wrong, int* out, const int*) {
       if (wrong || me() % 32 < 16) __syncwarp(kHalfWarp);
       finish(out, me());
     }},
    {"mask with a lane that ended", 1,
     [](bool wrong, int* out, const int*) {
       finish(out, me());
       if (me() % 32 < 31) __syncwarp(wrong ? kWholeWarp : kWholeWarp >> 1);
     }},
    {"masks that differ", 1,
     [](bool wrong, int* out, const int*) {
       __syncwarp(wrong && me() % 32 == 31 ? kWholeWarp - 1 : kWholeWarp);
       finish(out, me());
     }},
    {"reads what the block before left", 1,
     [](bool wrong, int* out, const int*) {
       if (!wrong || blockIdx.x == 0) shared()[me()] = me();
       finish(out, shared()[me()]);
     }},
    {"reads beyond shared memory", 1,
     [](bool wrong, int* out, const int*) {
       shared()[me()] = me();
       finish(out, shared()[me() + (wrong && me() == kThreads - 1 ? 1 : 0)]);
     }},
    {"writes beyond global memory", 1,
     [](bool wrong, int* out, const int*) {
       const int i = first() + me();
       out[i + (wrong && i == kBlocks * kThreads - 1 ? 1 : 0)] = i + 1;
     }},
    {"reads a pair off 8 bytes", 1,
     [](bool wrong, int* out, const int* in) {
       const uint2 pair = *reinterpret_cast<const uint2*>(in + first() + (wrong && me() == 0 ? 1 : me() & ~1));
       out[first() + me()] = static_cast<int>(me() % 2 == 0 ? pair.x : pair.y);
     }},
    {"waits for too few copies", 1,
     [](bool wrong, int* out, const int* in) {
       if (me() < 8) {
         copy(in, me());
         copy(in, me() + 8);
         if (wrong) {
           wait_copies<1>();
         } else {
           wait_copies<0>();
         }
       }
       __syncthreads();
       out[first() + me()] = shared()[me()];
       if (me() < 8) wait_copies<0>();
     }},
    // What a thread waits for has arrived for that thread; for others there must be a barrier.
    {"reads the copy of another", 1,
     [](bool wrong, int* out, const int* in) {
       if (me() < 16) {
         copy(in, me());
         wait_copies<0>();
       }
       if (!wrong) __syncthreads();
       out[first() + me()] = shared()[me()];
     }},
    {"ends before its copy", 1,
     [](bool wrong, int* out, const int* in) {
       if (me() < 16) copy(in, me());
       if (!wrong && me() < 16) wait_copies<0>();
       finish(out, me());
     }},
    {"block barrier for a cluster barrier", 2,
     [](bool wrong, int* out, const int*) {
       const int other = cluster_rank() ^ 1;
       shared()[me()] = other * kThreads + me() + 1;
       if (wrong) {
         __syncthreads();
       } else {
         sync_cluster();
       }
       out[first() + me()] = of_block(shared(), other)[me()];
       sync_cluster();
     }},
    {"reads a block that ended", 2,
     [](bool wrong, int* out, const int*) {
       const int other = cluster_rank() ^ 1;
       shared()[me()] = other * kThreads + me() + 1;
       sync_cluster();
       out[first() + me()] = of_block(shared(), other)[me()];
       if (!wrong) sync_cluster();
     }},
    {"one block misses the cluster barrier", 2,
     [](bool wrong, int* out, const int*) {
       if (!wrong || cluster_rank() == 0) sync_cluster();
       finish(out, me());
     }},
    {"asks for a block beyond the cluster", 2,
     [](bool wrong, int* out, const int*) {
       finish(out, me());
       of_block(shared(), wrong ? 2 : 1);
     }},
    // Not a mistake: out[k] is the thread that comes k-th to a place before a barrier of its warp, then to one after
    // it.
    {"in which order", 1,
     [](bool, int* out, const int*) {
       if (blockIdx.x > 0) return;
       static int count = 0;
       out[count++] = me();
       __syncwarp();
       out[count++] = me();
     }},
};

void run(const Kernel& kernel, bool wrong, cuda_on_cpu::Order order, unsigned seed) {
  constexpr int64_t kBytes = kThreads * sizeof(int);
  // malloc, so that the sanitizer knows where they end.
  int* const out = static_cast<int*>(std::malloc(kBlocks * kBytes));
  int* const in = static_cast<int*>(std::malloc(kBlocks * kBytes));
  for (int i = 0; i < kBlocks * kThreads; ++i) in[i] = i + 1;
  cuda_on_cpu::run({kBlocks, kThreads, kBytes, kernel.cluster, order, seed, seed % 2 == 0, 0},
                   [&] { kernel.run(wrong, out, in); });
  for (int i = 0; i < kBlocks * kThreads; ++i) std::printf("%d ", out[i]);
}

}  // namespace

int main(int count, char** arguments) {
  for (const Kernel& kernel : kKernels) {
    if (count == 1) {
      std::puts(kernel.name);
    } else if (kernel.name == std::string(arguments[1])) {
      run(kernel, arguments[2] == std::string("wrong"), static_cast<cuda_on_cpu::Order>(std::atoi(arguments[3])),
          static_cast<unsigned>(std::atoi(arguments[4])));
    }
  }
}
