// 32-byte vectors in the compiler's own vector extension (gcc, clang): one source for SSE, AVX2, AVX-512 and NEON.
//
// Features of any dtype are loaded into vectors of the accumulation type (float, or double for double) and stored from
// them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../types.h"

#define FAN_INLINE inline __attribute__((always_inline))

namespace fan::cpu {

template <typename A, int kBytes>
struct VectorOf {
  typedef A type __attribute__((vector_size(kBytes)));
};
template <typename A>
using Vec = typename VectorOf<A, 32>::type;
template <typename A>
using HalfVec = typename VectorOf<A, 16>::type;
// The same anywhere in memory. As an assignment it is one instruction; gcc splits a memcpy into two for AVX2.
template <typename A>
struct UnalignedVectorOf {
  typedef A type __attribute__((vector_size(32), aligned(alignof(A)), may_alias));
};
template <typename A>
using UnalignedVec = typename UnalignedVectorOf<A>::type;
template <typename A>
inline constexpr int64_t kLanes = 32 / sizeof(A);

template <typename A>
FAN_INLINE HalfVec<A> lower_half(const Vec<A>& x) {
  if constexpr (kLanes<A> == 4) {
    return HalfVec<A>{x[0], x[1]};
  } else {
    return HalfVec<A>{x[0], x[1], x[2], x[3]};
  }
}

template <typename A>
FAN_INLINE HalfVec<A> upper_half(const Vec<A>& x) {
  if constexpr (kLanes<A> == 4) {
    return HalfVec<A>{x[2], x[3]};
  } else {
    return HalfVec<A>{x[4], x[5], x[6], x[7]};
  }
}

typedef int32_t I32x8 __attribute__((vector_size(32)));
typedef uint16_t U16x8 __attribute__((vector_size(16)));
typedef uint32_t U32x8 __attribute__((vector_size(32)));

// The bits as the upper halves of 32-bit numbers. A shuffle with zeros takes gcc 2 instructions for AVX2, a
// conversion 6.
FAN_INLINE U32x8 upper_halves(U16x8 bits) {
#if __has_builtin(__builtin_shufflevector)
  const U16x8 zeros = {};
  return (U32x8)__builtin_shufflevector(zeros, bits, 0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15);
#else
  return __builtin_convertvector(bits, U32x8) << 16;
#endif
}

FAN_INLINE Vec<float> widen(U16x8 bits, BFloat16) {
  return (Vec<float>)upper_halves(bits);
}

FAN_INLINE Vec<float> widen(U16x8 bits, Half) {
  // Sign-extended and shifted into a float's fields; the exponent is then 112 too small, for normal and subnormal
  // numbers alike. Infinity and NaN have all exponent bits set before and must have them after.
  const U32x8 h = (U32x8)((I32x8)upper_halves(bits) >> 3);
  const U32x8 finite = (U32x8)((Vec<float>)(h & 0x8fffe000u) * 0x1p112f);
  const U32x8 is_special = (U32x8)((h & 0x0f800000u) == 0x0f800000u);
  return (Vec<float>)(finite | (is_special & 0x7f800000u));
}

// Round to nearest, ties to even.
FAN_INLINE U16x8 narrow(const Vec<float>& value, BFloat16) {
  const U32x8 bits = (U32x8)value;
  const U32x8 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U32x8 is_nan = (U32x8)((bits & 0x7fffffffu) > 0x7f800000u);
  return __builtin_convertvector((is_nan & 0x7fc0u) | (~is_nan & rounded), U16x8);
}

FAN_INLINE U16x8 narrow(const Vec<float>& value, Half) {
  const U32x8 bits = (U32x8)value;
  const U32x8 magnitude = bits & 0x7fffffffu;
  const U32x8 normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 0.5 aligns a subnormal half's last bit with the float's last bit, so that the addition rounds it.
  const U32x8 subnormal = (U32x8)((Vec<float>)magnitude + 0.5f) - 0x3f000000u;
  const U32x8 is_small = (U32x8)(magnitude < 0x38800000u);
  const U32x8 is_nan = (U32x8)(magnitude > 0x7f800000u);
  const U32x8 is_large = (U32x8)(magnitude >= 0x47800000u);
  const U32x8 overflow = (is_nan & 0x7e00u) | (~is_nan & 0x7c00u);
  const U32x8 in_range = (is_small & subnormal) | (~is_small & normal);
  const U32x8 result = (is_large & overflow) | (~is_large & in_range);
  return __builtin_convertvector(result | ((bits >> 16) & 0x8000u), U16x8);
}

template <typename T>
FAN_INLINE void load(Vec<Accumulator<T>>& out, const T* from) {
  if constexpr (sizeof(T) == 2) {
    U16x8 bits;
    std::memcpy(&bits, from, sizeof(bits));
    out = widen(bits, T{});
  } else {
    out = *reinterpret_cast<const UnalignedVec<T>*>(from);
  }
}

template <typename T>
FAN_INLINE void store(T* to, const Vec<Accumulator<T>>& value) {
  if constexpr (sizeof(T) == 2) {
    const U16x8 bits = narrow(value, T{});
    std::memcpy(to, &bits, sizeof(bits));
  } else {
    *reinterpret_cast<UnalignedVec<T>*>(to) = value;
  }
}

// The last count < kLanes elements of a row; the missing lanes are zero.
template <typename T>
FAN_INLINE void load_tail(Vec<Accumulator<T>>& out, const T* from, int64_t count) {
  T padded[kLanes<Accumulator<T>>] = {};
  std::memcpy(padded, from, count * sizeof(T));
  load(out, padded);
}

template <typename T>
FAN_INLINE void store_tail(T* to, const Vec<Accumulator<T>>& value, int64_t count) {
  T padded[kLanes<Accumulator<T>>];
  store(padded, value);
  std::memcpy(to, padded, count * sizeof(T));
}

// exp(x) for x <= 0, below -87.3 zero, NaN for NaN. Float: to 1.2 units in the last place, by a polynomial on |r| <=
// ln(2) / 2.
FAN_INLINE Vec<float> exp_of_nonpositive(Vec<float> x) {
  const Vec<float> round = Vec<float>{} + 0x1.8p23f;  // adding it drops what is behind the point
  const Vec<float> powers = (x * 1.44269504f + round) - round;
  const Vec<float> r = (x - powers * 0.693359375f) - powers * -2.12194440e-4f;  // ln(2) in two parts
  Vec<float> y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  // Not max(): a NaN must stay NaN, and no power may leave the range of the exponent.
  const I32x8 too_small = x < -87.3f;
  const I32x8 exponents = __builtin_convertvector(too_small ? Vec<float>{} : powers, I32x8);
  const Vec<float> scale = (Vec<float>)((exponents + 127) << 23);
  return too_small ? Vec<float>{} : y * scale;
}

FAN_INLINE Vec<double> exp_of_nonpositive(Vec<double> x) {
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::exp(x[lane]);
  return x;
}

}  // namespace fan::cpu
