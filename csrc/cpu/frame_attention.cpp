// The algorithm is section 1 of docs/operator.md; the names of the variables are the names there.
//
// A clip is cut into chunks of a fixed number of frames and the sums of its chunks are added in order, so that the bits
// of a result depend neither on the number of threads nor on the other clips of the batch.
#include "frame_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "row_kernels.h"

namespace fan::cpu {
namespace {

constexpr int64_t kChunkFrames = 64;
// Chunks whose sums are kept side by side, for the threads, before they are added.
constexpr int64_t kChunksTogether = 64;
// Parameter gradients are summed over groups of clips, then over groups: few enough to be cheap, enough to share out.
constexpr int64_t kClipGroups = 32;
// Elements of features that are worth a thread of their own.
constexpr int64_t kGrainElements = 16384;

// Numbers from the start of a cache line on, so that no vector of them lies in two.
template <typename A>
struct Aligned {
  using value_type = A;
  static constexpr std::align_val_t kLine{64};
  Aligned() = default;
  template <typename B>
  Aligned(const Aligned<B>&) {}
  A* allocate(size_t n) { return static_cast<A*>(::operator new(n * sizeof(A), kLine)); }
  void deallocate(A* numbers, size_t) { ::operator delete(numbers, kLine); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
template <typename A>
using Numbers = std::vector<A, Aligned<A>>;

template <typename Body>
void for_each(const Threads& threads, int64_t count, int64_t grain, const Body& body) {
  const auto call = [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); };
  if (count <= grain) {  // a call of the pool costs as much as a short clip
    body(0, count);
  } else {
    threads.parallel_for(0, count, std::max<int64_t>(grain, 1), call, const_cast<Body*>(&body));
  }
}

int64_t chunk_count(int64_t frames) {
  return (frames + kChunkFrames - 1) / kChunkFrames;
}

template <typename T>
int64_t offset(const Clips<T>& clips, int64_t b) {
  return clips.short_offsets ? static_cast<const int32_t*>(clips.offsets)[b]
                             : static_cast<const int64_t*>(clips.offsets)[b];
}

// A parameter in the accumulation type: as it lies there, or a copy. Null where there is none.
template <typename T>
class Wide {
 public:
  using A = Accumulator<T>;
  Wide(const Parameter<T>& given, int64_t size) : data_(static_cast<const A*>(given.data)) {
    if (given.data == nullptr || !given.narrow) return;
    copy_.resize(size);
    const auto* narrow = static_cast<const Narrow<T>*>(given.data);
    if constexpr (sizeof(T) == 2) {
      widen_row<T>(narrow, size, copy_.data());
    } else {
      std::copy_n(narrow, size, copy_.data());
    }
    data_ = copy_.data();
  }
  Wide(const Wide&) = delete;

  const A* data() const { return data_; }
  A value() const { return data_ == nullptr ? A(0) : *data_; }

 private:
  const A* data_;
  Numbers<A> copy_;
};

template <typename T>
struct WideParameters {
  using A = Accumulator<T>;
  Wide<T> q0, q1, b0, b1;

  WideParameters(const Parameters<T>& given, int64_t dim)
      : q0(given.self_weight, dim),
        q1(given.relation_weight, 2 * dim),
        b0(given.self_bias, 1),
        b1(given.relation_bias, 1) {}
  bool relation() const { return q1.data() != nullptr; }
};

template <typename T>
void write(const Accumulator<T>* from, int64_t size, const Gradient<T>& to) {
  if (to.data == nullptr) return;
  if (!to.narrow) {
    std::copy_n(from, size, static_cast<Accumulator<T>*>(to.data));
  } else if constexpr (sizeof(T) == 2) {
    round_row<T>(from, size, static_cast<T*>(to.data));
  } else {
    std::copy_n(from, size, static_cast<Narrow<T>*>(to.data));
  }
}

// The frames of one clip that take part, and arrays with a number of each.
template <typename T>
class Clip {
 public:
  int64_t first;                // number of the clip's first frame, taking part or not
  int64_t length;               // its frames, taking part or not
  std::vector<int64_t> frames;  // numbers of the frames that take part
  std::vector<const T*> rows;   // their features

  void gather(const Clips<T>& clips, int64_t b, int arrays) {
    const bool packed = clips.offsets != nullptr;
    first = packed ? offset(clips, b) : b * clips.frames;
    length = packed ? offset(clips, b + 1) - first : clips.frames;
    const int64_t taken = packed && clips.frames >= 0 ? std::min(length, clips.frames) : length;
    const T* base = clips.features + (packed ? first * clips.frame_stride : b * clips.clip_stride);
    frames.resize(taken);
    rows.resize(taken);
    int64_t n = 0;
    for (int64_t i = 0; i < taken; ++i) {
      if (clips.mask != nullptr && !clips.mask[first + i]) continue;
      frames[n] = first + i;
      rows[n++] = base + i * clips.frame_stride;
    }
    frames.resize(n);
    rows.resize(n);
    numbers_.resize(arrays * padded<Accumulator<T>>(n));
  }
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
  // As many numbers as there are frames, and room up to whole vectors. The first arrays are those of Saved.
  Accumulator<T>* operator[](int array) { return numbers_.data() + array * padded<Accumulator<T>>(size()); }

 private:
  std::vector<Accumulator<T>> numbers_;
};

// Runs body(first, count) over runs of whole chunks of n frames.
template <typename Body>
void for_each_chunks(const Threads& threads, int64_t n, int64_t dim, const Body& body) {
  const int64_t grain = kGrainElements / (kChunkFrames * std::max<int64_t>(dim, 1));
  for_each(threads, chunk_count(n), grain, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kChunkFrames;
    body(first, std::min(end * kChunkFrames, n) - first);
  });
}

// dots[k][i] = rows[i] . vectors[k], i from `begin`
template <typename T, typename A, size_t K>
void dot_rows(const Clips<T>& clips, const std::vector<const T*>& rows, int64_t begin, const A* const (&vectors)[K],
              A* const (&dots)[K], const Threads& threads) {
  for_each_chunks(threads, rows.size() - begin, clips.dim, [&](int64_t first, int64_t count) {
    A* to[K];
    for (size_t k = 0; k < K; ++k) to[k] = dots[k] + begin + first;
    row_dots<T>(rows.data() + begin + first, count, clips.dim, clips.frame_stride, vectors, K, to);
  });
}

// sums[k] += sum_i weights[k][i] * rows[i]
template <typename T, typename A, size_t K>
void add_rows(const Clips<T>& clips, const std::vector<const T*>& rows, const A* const (&weights)[K],
              A* const (&sums)[K], const Threads& threads) {
  const int64_t dim = clips.dim;
  if (chunk_count(rows.size()) == 1) {  // as little as its products have brought into a cache
    weighted_sums<T>(rows.data(), rows.size(), dim, 0, weights, K, sums);
    return;
  }
  const int64_t n = rows.size(), together = kChunksTogether * kChunkFrames;
  Numbers<A> partial(std::min(chunk_count(n), kChunksTogether) * K * dim);
  for (int64_t begin = 0; begin < n; begin += together) {
    const int64_t frames = std::min(together, n - begin);
    std::fill(partial.begin(), partial.end(), A(0));
    for_each_chunks(threads, frames, dim, [&](int64_t first, int64_t count) {
      for (int64_t from = first; from < first + count; from += kChunkFrames) {
        const A* w[K];
        A* to[K];
        for (size_t k = 0; k < K; ++k) {
          w[k] = weights[k] + begin + from;
          to[k] = partial.data() + (from / kChunkFrames * K + k) * dim;
        }
        weighted_sums<T>(rows.data() + begin + from, std::min(kChunkFrames, first + count - from), dim,
                         clips.frame_stride, w, K, to);
      }
    });
    for (int64_t chunk = 0; chunk < chunk_count(frames); ++chunk) {
      for (size_t k = 0; k < K; ++k) {
        for (int64_t d = 0; d < dim; ++d) sums[k][d] += partial[(chunk * K + k) * dim + d];
      }
    }
  }
}

template <typename A>
double dot(const A* a, const A* b, int64_t n) {
  double totals[4] = {};  // four sums, so that an addition need not wait for the one before
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int k = 0; k < 4; ++k) totals[k] += static_cast<double>(a[i + k]) * b[i + k];
  }
  for (; i < n; ++i) totals[0] += static_cast<double>(a[i]) * b[i];
  return (totals[0] + totals[1]) + (totals[2] + totals[3]);
}

// Frames before the first and after the last packed clip belong to none.
template <typename T, typename Body>
void for_each_stray_range(const Clips<T>& clips, const Body& body) {
  if (clips.offsets == nullptr) return;
  const int64_t begin = offset(clips, 0), end = offset(clips, clips.clips);
  body(0, begin);
  body(end, clips.total_frames - end);
}

template <typename T>
void clear_frames(const Clips<T>& clips, const ForwardOutputs<T>& outputs, bool relation, int64_t first,
                  int64_t count) {
  for (int k = 0; k < saved_arrays(relation); ++k) {
    std::fill_n(outputs.saved + k * clips.total_frames + first, count, Accumulator<T>(0));
  }
  for (Accumulator<T>* weights : {outputs.alpha, outputs.beta, outputs.final}) {
    if (weights != nullptr) std::fill_n(weights + first, count, Accumulator<T>(0));
  }
}

template <typename T>
class Forward {
 public:
  using A = Accumulator<T>;
  Forward(const Clips<T>& clips, const WideParameters<T>& parameters, const ForwardOutputs<T>& outputs,
          const Threads& threads)
      : clips_(clips), q_(parameters), outputs_(outputs), threads_(threads) {}

  // Clips [begin, end), one after the other.
  void run(int64_t begin, int64_t end) {
    if (begin < end) {
      next_.gather(clips_, begin, kArrays);
      take_dots(0);
    }
    for (int64_t b = begin; b < end; ++b) {
      std::swap(clip_, next_);
      weigh();
      if (b + 1 < end) next_.gather(clips_, b + 1, kArrays);
      pool(b + 1 < end);
      round_row<T>(sums_.data(), sums_.size(), outputs_.out + b * sums_.size());
      write_per_frame();
    }
  }

 private:
  enum Array { kSigmoid = saved_arrays(true), kArrays };

  bool relation() const { return q_.relation(); }

  // The dot products of the next clip's frames, without the `done` first.
  void take_dots(int64_t done) {
    if (!relation()) {
      dot_rows<T, A>(clips_, next_.rows, done, {q_.q0.data()}, {next_[kSavedS]}, threads_);
    } else {
      dot_rows<T, A>(clips_, next_.rows, done, {q_.q0.data(), q_.q1.data(), q_.q1.data() + clips_.dim},
                     {next_[kSavedS], next_[kSavedZ], next_[kSavedU]}, threads_);
    }
  }

  // The clip's logits and normalised weights.
  void weigh() {
    const int64_t n = clip_.size();
    A *const s = clip_[kSavedS], *const p = clip_[kSavedP];
    for (int64_t i = 0; i < n; ++i) s[i] += q_.b0.value();
    std::fill(s + n, s + padded<A>(n), -std::numeric_limits<A>::infinity());  // the logit of no frame
    normalised_sigmoids<A>(s, nullptr, n, p);
    if (!relation()) return;
    A* const z = clip_[kSavedZ];
    const A shift = static_cast<A>(dot(p, clip_[kSavedU], n) + q_.b1.value());
    for (int64_t i = 0; i < n; ++i) z[i] += shift;
    std::fill(z + n, z + padded<A>(n), A(0));
    normalised_sigmoids<A>(s, z, n, clip_[kSavedR]);
  }

  // The clip's weighted sums, and the dot products of the next where there is one.
  void pool(bool more) {
    const int64_t dim = clips_.dim;
    sums_.assign(relation() ? 2 * dim : dim, A(0));
    const std::vector<const T*>&rows = clip_.rows, &next = next_.rows;
    if (!relation()) {
      add_rows<T, A>(clips_, rows, {clip_[kSavedP]}, {sums_.data()}, threads_);
      if (more) take_dots(0);
      return;
    }
    const A* const weights[] = {clip_[kSavedR], clip_[kSavedP]};
    A* const sums[] = {sums_.data(), sums_.data() + dim};
    if (!more || chunk_count(rows.size()) != 1 || chunk_count(next.size()) != 1) {
      add_rows<T, A>(clips_, rows, weights, sums, threads_);
      if (more) take_dots(0);
      return;
    }
    // Short clips: the rows of this one are still in a cache, those of the next come from memory meanwhile.
    const int64_t n = rows.size();
    const A* const vectors[] = {q_.q0.data(), q_.q1.data(), q_.q1.data() + dim};
    A* const dots[] = {next_[kSavedS], next_[kSavedZ], next_[kSavedU]};
    const int64_t both = dots_and_sums<T>(next.data(), rows.data(), std::min<int64_t>(n, next.size()), dim,
                                          clips_.frame_stride, vectors, dots, weights, sums);
    const A* const rest[] = {weights[0] + both, weights[1] + both};
    weighted_sums<T>(rows.data() + both, n - both, dim, 0, rest, 2, sums);
    take_dots(both);
  }

  void write_per_frame() {
    const int64_t n = clip_.size();
    if (n < clip_.length) clear_frames(clips_, outputs_, relation(), clip_.first, clip_.length);
    for (int k = 0; k < saved_arrays(relation()); ++k) write(clip_[k], outputs_.saved + k * clips_.total_frames);
    if (outputs_.alpha == nullptr) return;
    sigmoids<A>(clip_[kSavedS], n, false, clip_[kSigmoid]);
    write(clip_[kSigmoid], outputs_.alpha);
    write(clip_[relation() ? kSavedR : kSavedP], outputs_.final);
    if (!relation()) return;
    sigmoids<A>(clip_[kSavedZ], n, false, clip_[kSigmoid]);
    write(clip_[kSigmoid], outputs_.beta);
  }

  void write(const A* from, A* to) {
    for (int64_t i = 0; i < clip_.size(); ++i) to[clip_.frames[i]] = from[i];
  }

  const Clips<T>& clips_;
  const WideParameters<T>& q_;
  const ForwardOutputs<T>& outputs_;
  const Threads& threads_;
  Clip<T> clip_, next_;
  Numbers<A> sums_;
};

// Sums over clips of the parameters' gradients: of the weights q0, q1a and q1b one behind the other, of the biases.
template <typename A>
struct ParameterSums {
  Numbers<A> weights;
  double b0 = 0, b1 = 0;

  void add(const ParameterSums& other) {
    for (size_t d = 0; d < weights.size(); ++d) weights[d] += other.weights[d];
    b0 += other.b0;
    b1 += other.b1;
  }
};

template <typename T>
class Backward {
 public:
  using A = Accumulator<T>;
  Backward(const Clips<T>& clips, const WideParameters<T>& parameters, const BackwardInputs<T>& inputs,
           const BackwardOutputs<T>& outputs, const Threads& threads)
      : clips_(clips), q_(parameters), in_(inputs), outputs_(outputs), threads_(threads) {}

  void run(int64_t b, ParameterSums<A>& sums) {
    clip_.gather(clips_, b, kArrays);
    const int64_t n = clip_.size(), dim = clips_.dim;
    const bool relation = q_.relation();
    for (int k = 0; k < saved_arrays(relation); ++k) {
      const A* const from = in_.saved + k * clips_.total_frames;
      for (int64_t i = 0; i < n; ++i) clip_[k][i] = from[clip_.frames[i]];
    }
    A *const s = clip_[kSavedS], *const p = clip_[kSavedP], *const z = clip_[kSavedZ], *const u = clip_[kSavedU],
             *const r = clip_[kSavedR], *const fV = clip_[kFV], *const f_dg = clip_[kFdg], *const ds = clip_[kDs],
             *const dz = clip_[kDz], *const rest = clip_[kRest], *const sigmoid = clip_[kSigmoid];

    A *const dq0 = sums.weights.data(), *const dq1a = dq0 + dim;
    const int64_t width = relation ? 2 * dim : dim;
    grad_.resize(width);
    widen_row<T>(in_.grad_out + b * width, width, grad_.data());
    const A* const V = grad_.data();
    A* const dg = grad_.data() + width - dim;  // G, to which C q1b is added below

    if (relation) {
      dot_rows<T, A>(clips_, clip_.rows, 0, {V, dg}, {fV, f_dg}, threads_);
      double C = 0;
      sigmoids<A>(z, n, true, rest);  // 1 - beta
      if (in_.grad_beta != nullptr) sigmoids<A>(z, n, false, sigmoid);
      const double vV = dot(r, fV, n);
      for (int64_t i = 0; i < n; ++i) {
        const double h = r[i] * (fV[i] - vV);
        double slope = h;
        if (in_.grad_beta != nullptr) slope += static_cast<double>(in_.grad_beta[clip_.frames[i]]) * sigmoid[i];
        const double slope_of_z = slope * rest[i];
        C += slope_of_z;
        dz[i] = static_cast<A>(slope_of_z);
        ds[i] = static_cast<A>(h);
      }
      for (int64_t i = 0; i < n; ++i) f_dg[i] = static_cast<A>(f_dg[i] + C * u[i]);
      if (n > 0) {
        const T* const g = in_.out + b * width + dim;
        const A *const q1b = q_.q1.data() + dim, weight = static_cast<A>(C), *const weights = &weight;
        A* const dq1b = dq1a + dim;
        weighted_sums<T>(&g, 1, dim, 0, &weights, 1, &dq1b);
        weighted_sums<A>(&q1b, 1, dim, 0, &weights, 1, &dg);
      }
      sums.b1 += C;
    } else {
      dot_rows<T, A>(clips_, clip_.rows, 0, {dg}, {f_dg}, threads_);
      std::fill_n(ds, n, A(0));
    }

    sigmoids<A>(s, n, true, rest);  // 1 - alpha
    if (in_.grad_alpha != nullptr) sigmoids<A>(s, n, false, sigmoid);
    const double gdg = dot(p, f_dg, n);
    for (int64_t i = 0; i < n; ++i) {
      const double k = p[i] * (f_dg[i] - gdg);
      double slope = ds[i] + k;
      if (in_.grad_alpha != nullptr) slope += static_cast<double>(in_.grad_alpha[clip_.frames[i]]) * sigmoid[i];
      const double slope_of_s = slope * rest[i];
      sums.b0 += slope_of_s;
      ds[i] = static_cast<A>(slope_of_s);
    }

    if (relation) {
      add_rows<T, A>(clips_, clip_.rows, {ds, dz}, {dq0, dq1a}, threads_);
      write_features({p, ds, r, dz}, {dg, q_.q0.data(), V, q_.q1.data()});
    } else {
      add_rows<T, A>(clips_, clip_.rows, {ds}, {dq0}, threads_);
      write_features({p, ds}, {dg, q_.q0.data()});
    }
  }

 private:
  enum Array { kFV = saved_arrays(true), kFdg, kDs, kDz, kRest, kSigmoid, kArrays };

  // df_i = sum_k weights[k][i] vectors[k]
  template <size_t K>
  void write_features(const A* const (&weights)[K], const A* const (&vectors)[K]) {
    if (outputs_.features == nullptr) return;
    const int64_t n = clip_.size(), dim = clips_.dim;
    T* const base = outputs_.features;
    if (n < clip_.length) std::fill_n(base + clip_.first * dim, clip_.length * dim, T{});
    rows_.resize(n);
    for (int64_t i = 0; i < n; ++i) rows_[i] = base + clip_.frames[i] * dim;
    for_each_chunks(threads_, n, dim, [&](int64_t first, int64_t count) {
      const A* w[K];
      for (size_t k = 0; k < K; ++k) w[k] = weights[k] + first;
      combine<T>(rows_.data() + first, count, dim, w, vectors, K);
    });
  }

  const Clips<T>& clips_;
  const WideParameters<T>& q_;
  const BackwardInputs<T>& in_;
  const BackwardOutputs<T>& outputs_;
  const Threads& threads_;
  Clip<T> clip_;
  std::vector<T*> rows_;
  Numbers<A> grad_;
};

// A large result is new memory, which the system zeroes at the first touch: in pages as large as it has.
void prefer_large_pages(void* memory, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr int64_t kPage = 4096, kWorthIt = 4 << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  if (bytes >= kWorthIt) madvise(reinterpret_cast<void*>(begin), bytes - kPage, MADV_HUGEPAGE);
#else
  static_cast<void>(memory), static_cast<void>(bytes);
#endif
}

// Many clips: a thread takes whole clips. Few clips: the threads share the chunks of one clip after the other.
template <typename Body>
void for_each_clip(const Threads& threads, int64_t count, int64_t grain, const Body& body) {
  if (count >= threads.count) {
    for_each(threads, count, grain, body);
  } else {
    body(0, count);
  }
}

template <typename T>
int64_t clips_per_thread(const Clips<T>& clips) {
  const int64_t elements = std::max<int64_t>(clips.total_frames * clips.dim, 1);
  return std::max<int64_t>(kGrainElements * clips.clips / elements, 1);
}

}  // namespace

template <typename T>
void frame_attention_forward(const Clips<T>& clips, const Parameters<T>& parameters, const ForwardOutputs<T>& outputs,
                             const Threads& threads) {
  const WideParameters<T> wide(parameters, clips.dim);
  for_each_stray_range(
      clips, [&](int64_t first, int64_t count) { clear_frames(clips, outputs, wide.relation(), first, count); });
  for_each_clip(threads, clips.clips, clips_per_thread(clips), [&](int64_t begin, int64_t end) {
    Forward<T> forward(clips, wide, outputs, threads);
    forward.run(begin, end);
  });
}

template <typename T>
void frame_attention_backward(const Clips<T>& clips, const Parameters<T>& parameters, const BackwardInputs<T>& inputs,
                              const BackwardOutputs<T>& outputs, const Threads& threads) {
  const WideParameters<T> wide(parameters, clips.dim);
  if (outputs.features != nullptr) {
    prefer_large_pages(outputs.features, clips.total_frames * clips.dim * sizeof(T));
    for_each_stray_range(clips, [&](int64_t first, int64_t count) {
      std::fill_n(outputs.features + first * clips.dim, count * clips.dim, T{});
    });
  }
  const int64_t group_size = std::max<int64_t>((clips.clips + kClipGroups - 1) / kClipGroups, 1);
  const int64_t group_count = std::max<int64_t>((clips.clips + group_size - 1) / group_size, 1);
  std::vector<ParameterSums<Accumulator<T>>> groups(group_count);
  const int64_t grain = (clips_per_thread(clips) + group_size - 1) / group_size;
  for_each_clip(threads, group_count, grain, [&](int64_t begin, int64_t end) {
    Backward<T> backward(clips, wide, inputs, outputs, threads);
    for (int64_t group = begin; group < end; ++group) {
      groups[group].weights.resize((wide.relation() ? 3 : 1) * clips.dim);
      const int64_t last = std::min((group + 1) * group_size, clips.clips);
      for (int64_t b = group * group_size; b < last; ++b) backward.run(b, groups[group]);
    }
  });

  ParameterSums<Accumulator<T>>& sums = groups[0];
  for (int64_t group = 1; group < group_count; ++group) sums.add(groups[group]);
  const Accumulator<T> b0 = sums.b0, b1 = sums.b1;
  write<T>(sums.weights.data(), clips.dim, outputs.self_weight);
  write<T>(sums.weights.data() + clips.dim, 2 * clips.dim, outputs.relation_weight);
  write<T>(&b0, 1, outputs.self_bias);
  write<T>(&b1, 1, outputs.relation_bias);
}

#define FAN_INSTANTIATE(T)                                                                                   \
  template void frame_attention_forward<T>(const Clips<T>&, const Parameters<T>&, const ForwardOutputs<T>&,  \
                                           const Threads&);                                                  \
  template void frame_attention_backward<T>(const Clips<T>&, const Parameters<T>&, const BackwardInputs<T>&, \
                                            const BackwardOutputs<T>&, const Threads&);
FAN_INSTANTIATE(float)
FAN_INSTANTIATE(double)
FAN_INSTANTIATE(Half)
FAN_INSTANTIATE(BFloat16)

}  // namespace fan::cpu
