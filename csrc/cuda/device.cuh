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

namespace fan::cuda {

template <typename A, int N>
struct alignas(sizeof(A) * N < 16 ? sizeof(A) * N : 16) Values {
  A at[N];
};

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
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

// Two of them, as they lie in memory.
template <typename T>
__device__ __forceinline__ float2 widen_pair(unsigned bits) {
  if constexpr (std::is_same_v<T, Half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  } else {
    return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
  }
}

// Round to nearest, ties to even.
template <typename T>
__device__ __forceinline__ unsigned narrow_pair(float a, float b) {
  if constexpr (std::is_same_v<T, Half>) {
    const __half2 pair = __floats2half2_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const unsigned*>(&pair);
  }
}
template <typename T>
__device__ __forceinline__ T narrow(Accumulator<T> x) {
  if constexpr (sizeof(T) == 2) {
    return {static_cast<uint16_t>(narrow_pair<T>(x, x))};
  } else {
    return x;
  }
}

// Of 16 bytes.
template <typename T>
__device__ __forceinline__ Values<Accumulator<T>, 16 / sizeof(T)> widen(uint4 bits) {
  if constexpr (sizeof(T) == 8) {
    return {{__hiloint2double(bits.y, bits.x), __hiloint2double(bits.w, bits.z)}};
  } else if constexpr (sizeof(T) == 4) {
    return {{__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)}};
  } else {
    const float2 a = widen_pair<T>(bits.x), b = widen_pair<T>(bits.y), c = widen_pair<T>(bits.z),
                 d = widen_pair<T>(bits.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
  }
}
template <typename T>
__device__ __forceinline__ uint4 narrow(const Values<Accumulator<T>, 16 / sizeof(T)>& x) {
  if constexpr (sizeof(T) == 2) {
    return {narrow_pair<T>(x.at[0], x.at[1]), narrow_pair<T>(x.at[2], x.at[3]), narrow_pair<T>(x.at[4], x.at[5]),
            narrow_pair<T>(x.at[6], x.at[7])};
  } else {
    return *reinterpret_cast<const uint4*>(&x);
  }
}
template <typename T, int N>
__device__ __forceinline__ uint4 pack(const T (&elements)[N]) {
  static_assert(sizeof(elements) == 16);
  if constexpr (sizeof(T) == 2) {
    const auto pair = [&](int k) { return elements[k].bits | static_cast<unsigned>(elements[k + 1].bits) << 16; };
    return {pair(0), pair(2), pair(4), pair(6)};
  } else {
    Values<T, N> values;
#pragma unroll
    for (int k = 0; k < N; ++k) values.at[k] = elements[k];
    return narrow<T>(values);
  }
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

// Writes 16 bytes to global memory at once, where the kernel does not read them. As plain C++, nvcc cuts it in four
// where another branch writes the same elements one by one.
__device__ __forceinline__ void store_piece(void* to_global, uint4 bits) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to_global)), "r"(bits.x),
               "r"(bits.y), "r"(bits.z), "r"(bits.w));
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

// What lies in an area of the block's shared memory.
template <typename U>
__device__ __forceinline__ U* area(const Layout& layout, Area which) {
  return reinterpret_cast<U*>(shared_memory() + layout.at[which]);
}

}  // namespace fan::cuda
