// The forward pass over clips cut into parts, in three kernels: sums by self-attention weights, part by part; the same
// by final weights, which need g of the whole clip; and the parts added up. Without relation-attention the second is
// absent. Clips of one part are Forward's, in the first kernel.
#pragma once

#include "forward.cuh"
#include "split.cuh"

namespace fan::cuda {

template <typename T>
class SplitForward {
 public:
  using A = Accumulator<T>;

  __device__ __forceinline__ SplitForward(const Clips<T>& clips, const Parameters<T>& parameters,
                                          const ForwardOutputs<T>& outputs, const Layout& layout)
      : clips_(clips),
        q_(parameters),
        outputs_(outputs),
        layout_(layout),
        relation_(parameters.relation_weight.data != nullptr),
        team_(shared_memory(), layout),
        slots_(outputs.parts, layout, clips.dim) {}

  // The logits of a part's frames and, relative to its largest weight, its sums of weights, of u and of rows.
  __device__ __forceinline__ void sum_self(const Part<T>& part) {
    const Rows<T> rows(clips_, part.frames, team_.memory(), layout_, layout_.rows);
    A *const s = tile(0), *const z = tile(1), *const u = tile(2), *const weight = tile(3);
    compute_logits(rows, team_, q_, layout_.aligned, s, z, u);
    team_.sync();

    Softmax<A> self;
    A largest[1] = {lowest<A>()};
    for_each_frame(rows, [&](int i) { largest[0] = larger(largest[0], self.exponent(s[i])); });
    team_.largest(largest);
    self.largest = largest[0];
    A sums[2] = {A(0), A(0)};
    for (int i = team_.rank; i < rows.clip.length; i += team_.size) {
      const bool present = rows.clip.present(i);
      weight[i] = present ? self.weight(s[i]) : A(-1);
      if (present) sums[0] += weight[i];
      if (present && relation_) sums[1] += weight[i] * u[i];
      save(rows.clip.first + i, 0, present ? s[i] : A(0));
      if (!relation_) continue;
      save(rows.clip.first + i, 1, present ? z[i] : A(0));
      save(rows.clip.first + i, 2, present ? u[i] : A(0));
    }
    team_.sum(sums);  // a barrier, after which all may read the weights
    leave(blockIdx.x, kSelfLargest, self.largest);
    leave(blockIdx.x, kSelfTotal, sums[0]);
    leave(blockIdx.x, kU, sums[1]);
    sum_rows(rows, weight, slots_.row(0, blockIdx.x));
  }

  // The same by final weights. Rows are read again, from L2 while the features fit there.
  __device__ __forceinline__ void sum_both() {
    const Part<T> part(clips_, layout_, blockIdx.x);
    if (!part.exists || part.count == 1) return;
    const Rows<T> rows(clips_, part.frames, team_.memory(), layout_, 0);
    A u[1] = {A(0)};
    const Softmax<A> self = combine(part.first_slot, part.count, kSelfLargest, kSelfTotal,
                                    [&](int64_t slot, A factor) { u[0] += factor * *slots_.scalar(kU, slot); });
    team_.sum(u);
    const A shift = u[0] * inverse_total(self) + value_of(q_.relation_bias);

    A *const s = tile(0), *const z = tile(1), *const weight = tile(3);
    Softmax<A> both;
    A largest[1] = {lowest<A>()};
    for_each_frame(rows, [&](int i) {
      A* const saved = outputs_.logits + rows.clip.first + i;
      s[i] = *saved;
      z[i] = saved[clips_.total_frames] + shift;
      saved[clips_.total_frames] = z[i];
      largest[0] = larger(largest[0], both.exponent(s[i], z[i]));
    });
    team_.largest(largest);
    both.largest = largest[0];
    A sums[1] = {A(0)};
    for (int i = team_.rank; i < rows.clip.length; i += team_.size) {
      const bool present = rows.clip.present(i);
      weight[i] = present ? both.weight(s[i], z[i]) : A(-1);
      if (present) sums[0] += weight[i];
    }
    team_.sum(sums);  // a barrier, after which all may read the weights
    leave(blockIdx.x, kBothLargest, both.largest);
    leave(blockIdx.x, kBothTotal, sums[0]);
    sum_rows(rows, weight, slots_.row(1, blockIdx.x));
  }

  // out and the frames' weights of whole clips; a block takes some columns of a clip, and some of its frames, then of
  // another clip.
  __device__ __forceinline__ void add_parts() {
    for_each_stray_frame(clips_, [&](int64_t frame) { write_absent(frame); });
    const int columns = combined_columns(clips_.offsets == nullptr ? parts_of(clips_.frames, layout_) : 0);
    const int chunks = static_cast<int>(ceil_div(width(), columns));
    const int64_t step = gridDim.x / chunks;
    int64_t b = blockIdx.x / chunks;
    // Most may be complete: a warp's lanes look at so many at once.
    const int64_t seen = b + team_.lane * step;
    const int64_t parts = seen < clips_.clips ? parts_of(find_clip(clips_, seen).length, layout_) : 1;
    for (int k = 0; k < kWarpSize && b < clips_.clips; ++k, b += step) {
      const int64_t count = __shfl_sync(0xffffffffu, parts, k);
      if (count != 1) add_parts(b, count, blockIdx.x % chunks * columns);
    }
  }

 private:
  static constexpr int W = kWidth<T>;
  enum Scalar { kSelfLargest, kSelfTotal, kU, kBothLargest, kBothTotal };
  static_assert(kBothTotal + 1 == kForwardScalars);

  __device__ __forceinline__ int width() const { return (relation_ ? 2 : 1) * clips_.dim; }

  // Of a clip of so many parts, some columns from this one on, and as large a share of the frames.
  __device__ __forceinline__ void add_parts(int64_t b, int64_t count, int first_column) {
    const bool few = count <= kFewParts;
    const int columns = few ? kMaxThreads : kSumColumns;
    if (first_column % columns != 0) return;  // another block takes these, too
    const Clip<T> clip = find_clip(clips_, b);
    const int64_t first = first_slot(clips_, layout_, b);
    const auto nothing = [](int64_t, A) {};
    const Softmax<A> self = combine(first, count, kSelfLargest, kSelfTotal, nothing);
    const Softmax<A> both = relation_ ? combine(first, count, kBothLargest, kBothTotal, nothing) : self;

    // A thread takes a column: of all parts; or, where they are many, of every so many-th, as do those of other warps.
    const int column = first_column + (few ? team_.rank : team_.lane);
    const bool is_v = relation_ && column < clips_.dim;
    const Softmax<A> softmax{is_v ? both.largest : self.largest, is_v ? both.total : self.total};
    A sum = A(0);
    if (column < width()) {
      const A* const largest = slots_.scalar(is_v ? kBothLargest : kSelfLargest, first);
      const A* const sums = slots_.row(is_v ? 1 : 0, first) + (column < clips_.dim ? column : column - clips_.dim);
#pragma unroll 4
      for (int64_t part = few ? 0 : team_.warp; part < count; part += few ? 1 : team_.warps) {
        sum += part_factor(largest[part], softmax.largest) * sums[part * padded_dim(clips_.dim)];
      }
    }
    if (!few) {
      A* const of_warps = tile(0);
      of_warps[team_.rank] = sum;
      team_.sync();
      for (int other = 1; team_.warp == 0 && other < team_.warps; ++other) {
        sum += of_warps[other * kWarpSize + team_.lane];
      }
    }
    if ((few || team_.warp == 0) && column < width()) {
      outputs_.out[b * width() + column] = narrow<T>(sum * inverse_total(softmax));
    }
    if (outputs_.alpha == nullptr) return;
    const int64_t threads = ceil_div(width(), columns) * team_.size;
    for (int64_t i = first_column / columns * team_.size + team_.rank; i < clip.length; i += threads) {
      write_weights(clip.first + i, clip.present(i), self, both);
    }
  }

  __device__ __forceinline__ A* tile(int k) const {
    return reinterpret_cast<A*>(team_.memory() + layout_.tile) + k * kBlockTile;
  }

  template <typename Body>
  __device__ __forceinline__ void for_each_frame(const Rows<T>& rows, const Body& body) const {
    for (int i = team_.rank; i < rows.clip.length; i += team_.size) {
      if (rows.clip.present(i)) body(i);
    }
  }

  __device__ __forceinline__ void save(int64_t frame, int k, A logit) const {
    outputs_.logits[k * clips_.total_frames + frame] = logit;
  }

  __device__ __forceinline__ void leave(int64_t slot, Scalar k, A value) const {
    if (team_.rank == 0) *slots_.scalar(k, slot) = value;
  }

  // The clip's weights, from those of its parts; with body(slot, factor) for each, shared among the threads.
  template <typename Body>
  __device__ __forceinline__ Softmax<A> combine(int64_t first, int64_t count, Scalar largest, Scalar total,
                                                const Body& body) {
    A of_clip[1] = {lowest<A>()};
    for (int64_t part = team_.rank; part < count; part += team_.size) {
      of_clip[0] = larger(of_clip[0], *slots_.scalar(largest, first + part));
    }
    team_.largest(of_clip);
    A sum[1] = {A(0)};
    for (int64_t part = team_.rank; part < count; part += team_.size) {
      const A factor = part_factor(*slots_.scalar(largest, first + part), of_clip[0]);
      sum[0] += factor * *slots_.scalar(total, first + part);
      body(first + part, factor);
    }
    team_.sum(sum);
    return {of_clip[0], sum[0]};
  }

  // The rows' sum by these weights, a negative one for an absent frame.
  __device__ __forceinline__ void sum_rows(const Rows<T>& rows, const A* weight, A* to) const {
    const Columns columns(clips_.dim, W, team_.rank, team_.size);
    for (int first = 0; first < columns.pieces; first += columns.step) {
      const int piece = first + columns.first;
      const int d = piece * W;
      const bool active = piece < columns.pieces && columns.group < columns.groups;
      Values<A, W> sums[1] = {zeros<A, W>()};
      if (active) {
        for_each_row<kRowsPerStep, kRowsPerStep>(
            rows, 0, rows.clip.length, columns, d, [&](int64_t i) { return !(weight[i] < A(0)); },
            [&](int64_t i, const Values<A, W>& x) { add_product(sums[0], weight[i], x); });
      }
      add_row_groups(team_, columns, reinterpret_cast<A*>(team_.memory() + layout_.row_groups), sums);
      if (active && columns.group == 0) store<W>(to + d, sums[0], W, true);
    }
  }

  __device__ __forceinline__ void write_weights(int64_t frame, bool present, const Softmax<A>& self,
                                                const Softmax<A>& both) const {
    const A s = outputs_.logits[frame], z = relation_ ? outputs_.logits[clips_.total_frames + frame] : A(0);
    outputs_.alpha[frame] = present ? sigmoid(s) : A(0);
    if (relation_) outputs_.beta[frame] = present ? sigmoid(z) : A(0);
    const A weight = relation_ ? both.weight(s, z) / both.total : self.weight(s) / self.total;
    outputs_.final[frame] = present ? weight : A(0);
  }

  __device__ __forceinline__ void write_absent(int64_t frame) const {
    for (int k = 0; k < (relation_ ? 3 : 1); ++k) save(frame, k, A(0));
    if (outputs_.alpha == nullptr) return;
    outputs_.alpha[frame] = outputs_.final[frame] = A(0);
    if (relation_) outputs_.beta[frame] = A(0);
  }

  const Clips<T>& clips_;
  const Parameters<T>& q_;
  const ForwardOutputs<T>& outputs_;
  const Layout& layout_;
  const bool relation_;
  Team<A, Scope::kBlock> team_;
  const Slots<A, kForwardScalars> slots_;
};

template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    self_parts_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                      const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  const Part<T> part(clips, layout, blockIdx.x);
  if (!part.exists) return;
  if (part.count == 1) {
    Forward<T, Scope::kBlock>(clips, parameters, outputs, layout).run_clip(part.b);
  } else {
    SplitForward<T>(clips, parameters, outputs, layout).sum_self(part);
  }
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    relation_parts_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                          const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  SplitForward<T>(clips, parameters, outputs, layout).sum_both();
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks<T, Scope::kBlock>)
    combine_parts_kernel(const __grid_constant__ Clips<T> clips, const __grid_constant__ Parameters<T> parameters,
                         const __grid_constant__ ForwardOutputs<T> outputs, const __grid_constant__ Layout layout) {
  SplitForward<T>(clips, parameters, outputs, layout).add_parts();
}

}  // namespace fan::cuda
