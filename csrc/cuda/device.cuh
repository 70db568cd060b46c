// The few things that only a GPU has, under names that a CPU can serve too: the kernels are also compiled by a host
// compiler and executed by tests/native/cuda_runner.
#pragma once

#include <type_traits>

#include "../types.h"
#include "plan.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include "cuda_on_cpu.h"
#endif

#define FAN_DEVICE __device__ __forceinline__

namespace fan::cuda {

#ifdef __CUDACC__

// Two 16-bit numbers, as they lie in memory, and back: to nearest, ties to even.
template <typename T>
FAN_DEVICE float2 widen_pair(unsigned bits) {
  if constexpr (std::is_same_v<T, Half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  } else {
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
  }
}
template <typename T>
FAN_DEVICE unsigned narrow_pair(float a, float b) {
  if constexpr (std::is_same_v<T, Half>) {
    const __half2 pair = __floats2half2_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&pair);
  }
}

// The block's dynamic shared memory.
FAN_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

// Copies 4, 8 or 16 bytes to shared memory. They have arrived, for the thread that asked, once wait_copies says so.
template <int kBytes>
FAN_DEVICE void copy_async(void* to_shared, const void* from_global) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#if __CUDA_ARCH__ >= 800
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from_global) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from_global), "n"(kBytes) : "memory");
  }
#else
  using Piece = std::conditional_t<kBytes == 16, uint4, std::conditional_t<kBytes == 8, uint2, unsigned> >;
  *static_cast<Piece*>(to_shared) = *static_cast<const Piece*>(from_global);
#endif
}

// 16 bytes of global memory that the kernel does not write, or zeros: read once, or again soon.
enum class Use { kOnce, kAgain };
template <Use use>
FAN_DEVICE uint4 load_piece(const void* from_global, bool wanted) {
  uint4 bits;
  const auto from = __cvta_generic_to_global(from_global);
  const int read = wanted;
#define FAN_LOAD_PIECE(cached)                                           \
  asm("{\n.reg .pred read;\nsetp.ne.s32 read, %5, 0;\n"                  \
      "mov.u32 %0, 0;\nmov.u32 %1, 0;\nmov.u32 %2, 0;\nmov.u32 %3, 0;\n" \
      "@read ld.global.nc" cached ".v4.u32 {%0, %1, %2, %3}, [%4];\n}"   \
      : "=&r"(bits.x), "=&r"(bits.y), "=&r"(bits.z), "=&r"(bits.w)       \
      : "l"(from), "r"(read))
  if constexpr (use == Use::kOnce) {
    FAN_LOAD_PIECE(".L1::no_allocate");
  } else {
    FAN_LOAD_PIECE("");
  }
#undef FAN_LOAD_PIECE
  return bits;
}

// Writes 16 bytes to global memory at once, where the kernel does not read them. As plain C++, nvcc cuts it in four
// where another branch writes the same elements one by one.
FAN_DEVICE void store_piece(void* to_global, uint4 bits) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to_global)), "r"(bits.x),
               "r"(bits.y), "r"(bits.z), "r"(bits.w));
}

// Closes a group of copies.
FAN_DEVICE void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all but the latest kPending groups have arrived.
template <int kPending>
FAN_DEVICE void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// Clusters of blocks: devices before compute capability 9.0 have none, and the rest of this is not called for them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHaveClusters = false;
#else
inline constexpr bool kHaveClusters = true;
#endif

// Blocks of the cluster, and this block's number in it.
FAN_DEVICE int cluster_size() {
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return static_cast<int>(size);
}
FAN_DEVICE int cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// A barrier of all threads of the cluster, for what they wrote to each other's shared memory, too.
FAN_DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// The same place in the shared memory of another block of the cluster.
template <typename A>
FAN_DEVICE const A* of_block(const A* local, int rank) {
  const A* remote;
  asm("mapa.u64 %0, %1, %2;" : "=l"(remote) : "l"(local), "r"(rank));
  return remote;
}

#endif

// What lies in an area of the block's shared memory.
template <typename U>
FAN_DEVICE U* area(const Layout& layout, Area which) {
  return reinterpret_cast<U*>(shared_memory() + layout.at[which]);
}

}  // namespace fan::cuda
