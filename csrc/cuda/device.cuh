// The few things that only a GPU has, under names that a CPU can serve too: the kernels are also compiled by a host
// compiler and executed by tests/native/cuda_runner.
#pragma once

#include "frame_attention.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include "cuda_on_cpu.h"
#endif

namespace fan::cuda {

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ double widen(double x) {
  return x;
}

#ifdef __CUDACC__

__device__ __forceinline__ float widen(Half x) {
  return __half2float(__ushort_as_half(x.bits));
}
__device__ __forceinline__ float widen(BFloat16 x) {
  return __bfloat162float(__ushort_as_bfloat16(x.bits));
}

// Round to nearest, ties to even.
template <typename T>
__device__ __forceinline__ T narrow(Accumulator<T> x) {
  return x;
}
template <>
__device__ __forceinline__ Half narrow<Half>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}
template <>
__device__ __forceinline__ BFloat16 narrow<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

// The block's dynamic shared memory.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

// Copies 4, 8 or 16 bytes to shared memory. They have arrived, for the thread that asked, once wait_copies says so.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* to_shared, const void* from_global) {
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

// Writes 16 bytes to global memory at once. As plain C++, nvcc cuts it in four where another branch writes the same
// elements one by one.
__device__ __forceinline__ void store_vector(void* to_global, uint4 bits) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to_global)), "r"(bits.x),
               "r"(bits.y), "r"(bits.z), "r"(bits.w)
               : "memory");
}

// Closes a group of copies.
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all but the latest kPending groups have arrived.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// Before compute capability 9.0 there are none; kernels for them are empty there, and not launched.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHaveClusters = false;
#else
inline constexpr bool kHaveClusters = true;
#endif

// Blocks of the cluster, and this block's number in it.
__device__ __forceinline__ int cluster_size() {
#if __CUDA_ARCH__ >= 900
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return static_cast<int>(size);
#else
  return 1;
#endif
}

__device__ __forceinline__ int cluster_rank() {
#if __CUDA_ARCH__ >= 900
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
#else
  return 0;
#endif
}

// A barrier of all threads of the cluster, for what they wrote to each other's shared memory, too.
__device__ __forceinline__ void sync_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// The same place in the shared memory of another block of the cluster.
template <typename A>
__device__ __forceinline__ const A* of_block(const A* local, int rank) {
#if __CUDA_ARCH__ >= 900
  const A* remote;
  asm("mapa.u64 %0, %1, %2;" : "=l"(remote) : "l"(local), "r"(rank));
  return remote;
#else
  return local;
#endif
}

#endif

}  // namespace fan::cuda
