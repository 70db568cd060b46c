// Rows of features and parameters in pieces of 16 bytes of the features' type, widened to the accumulation type.
#pragma once

#include <cstring>

#include "device.cuh"

namespace fan::cuda {

// Features in 16 bytes.
template <typename T>
inline constexpr int kWidth = 16 / sizeof(T);

template <typename A, int N>
struct alignas(sizeof(A) * N < 16 ? sizeof(A) * N : 16) Values {
  A at[N];
};
// A piece of a row of T.
template <typename T>
using Piece = Values<Accumulator<T>, kWidth<T>>;

template <typename To, typename From>
FAN_DEVICE To as(const From& from) {  // the same bits
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename T>
FAN_DEVICE Piece<T> widen(uint4 bits) {
  if constexpr (sizeof(T) >= 4) {
    return as<Piece<T>>(bits);
  } else {
    const float2 a = widen_pair<T>(bits.x), b = widen_pair<T>(bits.y), c = widen_pair<T>(bits.z),
                 d = widen_pair<T>(bits.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
  }
}

template <typename T>
FAN_DEVICE uint4 narrow(const Piece<T>& x) {
  if constexpr (sizeof(T) >= 4) {
    return as<uint4>(x);
  } else {
    const auto pair = [&](int k) { return narrow_pair<T>(x.at[k], x.at[k + 1]); };
    return {pair(0), pair(2), pair(4), pair(6)};
  }
}

// Of one number.
template <typename U>
FAN_DEVICE Accumulator<U> widen_one(U x) {
  if constexpr (sizeof(U) >= 4) {
    return x;
  } else {
    return widen_pair<U>(x.bits).x;
  }
}
template <typename U>
FAN_DEVICE U narrow_one(Accumulator<U> x) {
  if constexpr (sizeof(U) >= 4) {
    return x;
  } else {
    return {static_cast<uint16_t>(narrow_pair<U>(x, 0))};
  }
}

// A piece as it lies in memory, or the elements of it that its row has, zeros behind. aligned: from is a multiple of 16
// bytes.
template <typename U>
FAN_DEVICE uint4 load_bits(const U* from, int count, bool aligned) {
  if (aligned && count >= kWidth<U>) return *reinterpret_cast<const uint4*>(from);
  uint4 bits{0, 0, 0, 0};
#pragma unroll 1
  for (int k = 0; k < kWidth<U>; ++k) {  // all at once would take a register each
    const U element = k < count ? from[k] : U{};
    if constexpr (sizeof(U) == 8) {
      bits = {bits.z, bits.w, as<uint2>(element).x, as<uint2>(element).y};
    } else if constexpr (sizeof(U) == 4) {
      bits = {bits.y, bits.z, bits.w, as<unsigned>(element)};
    } else {
      bits = {bits.x >> 16 | bits.y << 16, bits.y >> 16 | bits.z << 16, bits.z >> 16 | bits.w << 16,
              bits.w >> 16 | static_cast<unsigned>(element.bits) << 16};
    }
  }
  return bits;
}

// As many elements of any type as a piece of T has.
template <typename T, typename U>
FAN_DEVICE Piece<T> load(const U* from, int count, bool aligned) {
  Piece<T> result;
  if constexpr (sizeof(T) > sizeof(U)) {  // float for double
    for (int k = 0; k < kWidth<T>; ++k) result.at[k] = k < count ? from[k] : U(0);
  } else {
    for (int at = 0; at < kWidth<T>; at += kWidth<U>) {
      const auto part = widen<U>(load_bits(from + at, count - at, aligned));
      for (int k = 0; k < kWidth<U>; ++k) result.at[at + k] = part.at[k];
    }
  }
  return result;
}

template <typename T>
FAN_DEVICE Piece<T> load(const Parameter<T>& from, int64_t at, int count, bool aligned) {
  if (from.narrow) return load<T>(static_cast<const Narrow<T>*>(from.data) + at, count, aligned);
  return load<T>(static_cast<const Accumulator<T>*>(from.data) + at, count, aligned);
}

// Of one element, or 0.
template <typename T>
FAN_DEVICE Accumulator<T> value_of(const Parameter<T>& parameter) {
  if (parameter.data == nullptr) return 0;
  return parameter.narrow ? widen_one(*static_cast<const Narrow<T>*>(parameter.data))
                          : *static_cast<const Accumulator<T>*>(parameter.data);
}

template <typename T>
FAN_DEVICE void store(const Gradient<T>& to, int64_t at, Accumulator<T> value) {
  if (to.data == nullptr) return;
  if (to.narrow) {
    static_cast<Narrow<T>*>(to.data)[at] = narrow_one<Narrow<T>>(value);
  } else {
    static_cast<Accumulator<T>*>(to.data)[at] = value;
  }
}

// to is in global memory.
template <typename T>
FAN_DEVICE void store(T* to, const Piece<T>& values, int count, bool aligned) {
  if (aligned) {
    store_piece(to, narrow<T>(values));
  } else {
    for (int k = 0; k < kWidth<T>; ++k) {
      if (k < count) to[k] = narrow_one<T>(values.at[k]);
    }
  }
}

template <typename A, int N>
FAN_DEVICE void add_product(Values<A, N>& sum, A scale, const Values<A, N>& x) {
  for (int k = 0; k < N; ++k) sum.at[k] += scale * x.at[k];
}

template <typename A, int N>
FAN_DEVICE void add_dot(A& sum, const Values<A, N>& q, const Values<A, N>& x) {
  for (int k = 0; k < N; ++k) sum += q.at[k] * x.at[k];
}

// Vectors that all rows are multiplied with, in shared memory, zeros behind their end. 16 bytes of each piece lie side
// by side: lanes that read adjacent pieces do not meet in a bank.
template <typename T>
class Vectors {
 public:
  using A = Accumulator<T>;

  FAN_DEVICE Vectors(A* memory, int pieces) : memory_(memory), pieces_(pieces) {}

  FAN_DEVICE void put(int vector, int piece, const Piece<T>& values) const {
    for (int part = 0; part < kWidth<T> / kPart; ++part) {
      Values<A, kPart> of_part;
      for (int k = 0; k < kPart; ++k) of_part.at[k] = values.at[part * kPart + k];
      *reinterpret_cast<Values<A, kPart>*>(at(vector, part, piece)) = of_part;
    }
  }
  FAN_DEVICE Piece<T> get(int vector, int piece) const {
    Piece<T> result;
    for (int part = 0; part < kWidth<T> / kPart; ++part) {
      const auto values = *reinterpret_cast<const Values<A, kPart>*>(at(vector, part, piece));
      for (int k = 0; k < kPart; ++k) result.at[part * kPart + k] = values.at[k];
    }
    return result;
  }

 private:
  static constexpr int kPart = 16 / sizeof(A);

  FAN_DEVICE A* at(int vector, int part, int piece) const {
    return memory_ + ((vector * (kWidth<T> / kPart) + part) * pieces_ + piece) * kPart;
  }

  A* memory_;
  int pieces_;
};

}  // namespace fan::cuda
