// Sums, and the like, over lanes of a warp. All 32 lanes call these functions together.
#pragma once

#include "device.cuh"

namespace fan::cuda {

struct Add {
  template <typename A, int K>
  FAN_DEVICE void operator()(A (&sums)[K], const A (&others)[K]) const {
    for (int k = 0; k < K; ++k) sums[k] += others[k];
  }
};

// Combines the values of lanes that are first, 2 first, 4 first ... apart, among so many adjacent ones.
template <int K, typename A, typename Op>
FAN_DEVICE void reduce_lanes(A (&values)[K], int lanes, const Op& op, int first = 1) {
#pragma unroll 1
  for (int distance = first; distance < lanes; distance *= 2) {
    A others[K];
    for (int k = 0; k < K; ++k) others[k] = __shfl_xor_sync(0xffffffffu, values[k], distance);
    op(values, others);
  }
}

// Sums over so many adjacent lanes, of K numbers of each row. Those of row j come to rows[0] of lanes j, j + kRows,
// ...: a lane gives half of its rows away for the same half of another lane's, which takes a third of the shuffles.
template <int kRows, int K, typename A>
FAN_DEVICE void sum_over_lanes(A (&rows)[kRows][K], int lanes) {
  for (int distance = 1; distance < kRows; distance *= 2) {
    const bool odd = (threadIdx.x & distance) != 0;
    for (int j = 0; j < kRows / (2 * distance); ++j) {
      for (int k = 0; k < K; ++k) {
        const A even_row = rows[2 * j][k], odd_row = rows[2 * j + 1][k];
        rows[j][k] = (odd ? odd_row : even_row) + __shfl_xor_sync(0xffffffffu, odd ? even_row : odd_row, distance);
      }
    }
  }
  reduce_lanes(rows[0], lanes, Add(), kRows);
}

}  // namespace fan::cuda
