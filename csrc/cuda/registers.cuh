// Both passes over clips whose rows stay in registers: some lanes of a warp take kRegisterRows rows of a clip at a
// time, and as many such groups of lanes share the clip as it has rows for. The algorithm is that of the other kernels;
// it reads from top to bottom here.
#pragma once

#include "backward.cuh"

namespace fan::cuda {

// Of a group of lanes, and pieces of a row for each lane, of 4 registers.
template <typename T>
inline constexpr int kRegisterRows = register_rows_of(sizeof(T));
template <typename T>
inline constexpr int kRegisterPieces = register_pieces_of(sizeof(T));

// The threads that take a clip, and the clip, the first of several. Threads of a warp, or a block. As a team, whose
// members combine numbers of frames, its first warp.
template <typename T>
struct RegisterTeam {
  using A = Accumulator<T>;
  const Clips<T>& clips;
  const int threads, row_lanes;  // that share a clip, and a row; powers of two
  const int teams;               // of a block
  const int lane = threadIdx.x & (row_lanes - 1);
  const int row_group = threadIdx.x / row_lanes;  // of the block
  const int groups = threads / row_lanes;         // of the clip
  const int first_row = (row_group & (groups - 1)) * kRegisterRows<T>;
  const int place = (row_group & -groups) * kRegisterRows<T>;  // of its frames in shared memory
  const int lanes = threads < kWarpSize ? threads : kWarpSize;
  const int size = lanes, rank = threadIdx.x & (lanes - 1);
  const bool combines = threads <= kWarpSize || threadIdx.x < kWarpSize;
  int64_t b = static_cast<int64_t>(blockIdx.x) * teams + threadIdx.x / threads;
  Clip<T> clip{};  // without frames behind the last one: a warp's lanes stay together

  FAN_DEVICE explicit RegisterTeam(const Call<T>& call)
      : clips(call.clips), threads(call.layout.team), row_lanes(call.layout.lanes), teams(call.layout.teams) {
    find();
  }

  FAN_DEVICE bool exists() const { return b < clips.clips; }
  // So is the first team of this warp.
  FAN_DEVICE bool done() const {
    return (b - clips.clips) * threads >= static_cast<int>(threadIdx.x & (kWarpSize - 1) & -threads);
  }
  FAN_DEVICE void next() {
    b += static_cast<int64_t>(gridDim.x) * teams;
    find();
  }
  FAN_DEVICE int piece(int v) const { return v * row_lanes + lane; }
  FAN_DEVICE void sync() const {
    if (threads <= kWarpSize) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }
  template <int K, typename Op>
  FAN_DEVICE void reduce(A (&values)[K], const Op& op) const {
    reduce_lanes(values, lanes, op);
  }
  template <int K, typename Op>
  FAN_DEVICE void reduce_warps(A (&)[K], const Op&) const {}

 private:
  FAN_DEVICE void find() { clip = exists() ? find_clip(clips, b) : Clip<T>{}; }
};

// The lane's pieces of a row of so many elements as they lie in memory, zeros behind.
template <Use use, typename T>
FAN_DEVICE void load_pieces(uint4 (&to)[kRegisterPieces<T>], const T* from, int count, const RegisterTeam<T>& team) {
  const int step = team.row_lanes * kWidth<T>;
  int d = team.lane * kWidth<T>;
  from += d;
#pragma unroll
  for (int v = 0; v < kRegisterPieces<T>; ++v, d += step, from += step) to[v] = load_piece<use>(from, d < count);
}

// Of the team's clip. Absent ones are zeros.
template <typename T>
FAN_DEVICE void load_rows(uint4 (&rows)[kRegisterRows<T>][kRegisterPieces<T>], const Call<T>& call,
                          const RegisterTeam<T>& team) {
  constexpr int R = kRegisterRows<T>;
  const int left = static_cast<int>(team.clip.length) - team.first_row;
  unsigned present = left < R ? (1u << (left < 0 ? 0 : left)) - 1 : (1u << R) - 1;
  if (team.clip.mask != nullptr) {
    for (int j = 0; j < R; ++j) {
      if (j < left && !team.clip.mask[team.first_row + j]) present &= ~(1u << j);
    }
  }
  const T* from = team.clip.features + team.first_row * call.clips.frame_stride;
#pragma unroll
  for (int j = 0; j < R; ++j, from += call.clips.frame_stride) {
    load_pieces<Use::kOnce>(rows[j], from, (present >> j & 1u) != 0 ? call.dim() : 0, team);
  }
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T>)
    register_forward_kernel(const __grid_constant__ ForwardCall<T> call) {
  using A = Accumulator<T>;
  constexpr int R = kRegisterRows<T>, P = kRegisterPieces<T>, K = kRelation ? 3 : 1, S = kRelation ? 2 : 1;
  const int dim = call.dim();
  write_idle_frames<kRelation>(call);
  RegisterTeam<T> team(call);
  const Frames<T> frames(call.layout, team.place);
  const Vectors<T> vectors(area<A>(call.layout, kVectors), P * team.row_lanes);
  const Vectors<T> sums_of_groups(area<A>(call.layout, kSums), P * team.row_lanes);
  const A b0 = value_of(call.q.self_bias);
  put_parameters<kRelation>(vectors, call, 0, P * team.row_lanes);
  __syncthreads();

  uint4 rows[R][P];
  load_rows(rows, call, team);
  while (!team.done()) {
    A dots[R][K] = {};
#pragma unroll
    for (int v = 0; v < P; ++v) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto vector = vectors.get(k, team.piece(v));
#pragma unroll
        for (int j = 0; j < R; ++j) add_dot(dots[j][k], vector, widen<T>(rows[j][v]));
      }
    }
    sum_over_lanes(dots, team.row_lanes);
    if (team.lane < R) {
      const int i = team.first_row + team.lane;
      frames.s[i] = dots[0][0] + b0;
      frames.z[i] = dots[0][K / 2];
      frames.u[i] = dots[0][K - 1];
    }
    team.sync();
    if (team.combines) {
      weigh<kRelation>(call, team, team.clip, frames, softmax_of_s<kRelation>(team, team.clip, frames));
    }
    team.sync();

    const int length = static_cast<int>(team.clip.length) - team.first_row;  // rows of this group, if there are so many
    T* const out = call.to.out + team.b * S * dim;
    const bool exists = team.exists();
    const auto write = [&](int k, int piece, const Piece<T>& sums) {
      const int d = piece * kWidth<T>;
      if (exists && d < dim) store_piece(out + (S - 1 - k) * dim + d, narrow<T>(sums));
    };
#pragma unroll
    for (int v = 0; v < P; ++v) {
      Piece<T> sums[S] = {};
#pragma unroll
      for (int j = 0; j < R; ++j) {
        if (j >= length) continue;
        const auto x = widen<T>(rows[j][v]);
        const auto weight = frames.weights[team.first_row + j];
        for (int k = 0; k < S; ++k) add_product(sums[k], weight.at[k], x);
      }
      for (int k = 0; k < S; ++k) {
        if (team.groups == 1) {
          write(k, team.piece(v), sums[k]);
        } else {
          sums_of_groups.put(team.row_group * S + k, team.piece(v), sums[k]);
        }
      }
    }
    team.next();
    load_rows(rows, call, team);  // on their way while the groups' sums are added
    if (team.groups == 1) continue;
    team.sync();
    const int first = (team.row_group & -team.groups) * S, pieces = P * team.row_lanes;
    for (int i = threadIdx.x & (team.threads - 1); i < S * pieces; i += team.threads) {
      const int k = i < pieces ? 0 : 1, piece = i & (pieces - 1);
      auto sums = sums_of_groups.get(first + k, piece);
      for (int group = 1; group < team.groups; ++group) {
        add_product(sums, A(1), sums_of_groups.get(first + group * S + k, piece));
      }
      write(k, piece, sums);
    }
  }
}

template <typename T, bool kRelation>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T>)
    register_backward_kernel(const __grid_constant__ BackwardCall<T> call) {
  using A = Accumulator<T>;
  constexpr int R = kRegisterRows<T>, P = kRegisterPieces<T>, W = kWidth<T>, K = kRelation ? 2 : 1;
  const int dim = call.dim();
  clear_idle_rows(call);
  RegisterTeam<T> team(call);
  const Vectors<T> vectors(area<A>(call.layout, kVectors), P * team.row_lanes);
  put_parameters<kRelation>(vectors, call, 0, P * team.row_lanes);
  ParameterSums<T, kRelation> sums(call, team.row_lanes);
  __syncthreads();

  uint4 rows[R][P];
  load_rows(rows, call, team);
  while (!team.done()) {
    const int count = team.exists() ? dim : 0;
    const auto grad_of = [&](int k) { return grad_out_of<kRelation>(call, team.b) + (kRelation && k == 0 ? dim : 0); };
    A dots[R][K] = {};
#pragma unroll
    for (int k = 0; k < K; ++k) {
      uint4 bits[P];
      load_pieces<Use::kAgain>(bits, grad_of(k), count, team);
#pragma unroll
      for (int v = 0; v < P; ++v) {
        const auto vector = widen<T>(bits[v]);
#pragma unroll
        for (int j = 0; j < R; ++j) add_dot(dots[j][k], vector, widen<T>(rows[j][v]));
      }
    }
    sum_over_lanes(dots, team.row_lanes);
    const FrameGradients<T, kRelation, RegisterTeam<T>> frames(call, team.clip, team, team.place);
    const auto C_of_clip = [&]() -> A& { return area<A>(call.layout, kReduced)[team.row_group & -team.groups]; };
    if (team.lane < R) {
      const int i = team.first_row + team.lane;
      frames.fG[i] = dots[0][0];
      frames.fV[i] = dots[0][K - 1];
    }
    team.sync();
    if (team.combines) {
      const ClipSums<A> clip = frames.sums().of_clip();
      frames.compute_factors(clip, sums.b0);
      if (team.rank == 0) C_of_clip() = clip.C;
      if (team.rank == 0 && kRelation) sums.b1 += clip.C;
    }
    team.sync();

    const A C = C_of_clip();
    const int length = static_cast<int>(team.clip.length) - team.first_row;  // rows of this group, if there are so many
#pragma unroll
    for (int v = 0; v < P; ++v) {
      const int piece = team.piece(v), d = piece * W;
      if (d >= count) continue;
      const auto load_at = [&](const T* from) { return widen<T>(load_piece<Use::kAgain>(from + d, true)); };
      Piece<T> of_q[3] = {};  // the clip's part in their gradients
#pragma unroll
      for (int j = 0; j < R; ++j) {
        if (j >= length) continue;
        const auto x = widen<T>(rows[j][v]);
        const auto factors = frames.factors[team.first_row + j];
        add_product(of_q[0], factors.at[kDs], x);
        if constexpr (kRelation) add_product(of_q[1], factors.at[kDz], x);
      }
      sums.add_at(0, v, of_q[0]);
      if constexpr (kRelation) sums.add_at(1, v, of_q[1]);
      if (kRelation && team.first_row == 0) {
        add_product(of_q[2], C, load_at(call.in.out + (team.b * 2 + 1) * dim));
        sums.add_at(2, v, of_q[2]);
      }
      if (call.to.features == nullptr) continue;
      T* const df = call.to.features + (team.clip.first + team.first_row) * dim + d;
      const GradientColumns<T, kRelation> gradient(load_at(grad_of(0)), load_at(grad_of(1)), C,
                                                   [&](int k) { return vectors.get(k, piece); });
#pragma unroll
      for (int j = 0; j < R; ++j) {
        if (j < length) store_piece(df + j * dim, narrow<T>(gradient.of(frames.factors[team.first_row + j])));
      }
    }
    team.next();
    load_rows(rows, call, team);
  }
  __syncthreads();  // finish() uses what C lies in
  sums.finish();
}

}  // namespace fan::cuda
