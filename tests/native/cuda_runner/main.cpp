// Runs one case of frame attention with the CUDA kernels on the CPU. Reads it from standard input, as fields of eight
// bytes and arrays of raw bytes behind their length, and writes the results, as such arrays, to standard output.
// tests/native/cuda_kernels.py is the other end.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "csrc/cuda/kernels.cuh"

namespace {

using namespace fan;
using namespace fan::cuda;

int64_t read_integer() {
  int64_t value;
  if (std::fread(&value, sizeof(value), 1, stdin) != 1) std::exit(2);
  return value;
}

// Arrays of their exact size, so that the sanitizer sees what lies beyond. A null one has length -1. A displaced one
// does not start at a multiple of 16 bytes.
class Array {
 public:
  explicit Array(int64_t bytes, int64_t displacement = 0) : bytes_(bytes), displacement_(displacement) {
    if (bytes >= 0) memory_.reset(static_cast<unsigned char*>(std::malloc(bytes + displacement)));
    if (bytes > 0) std::memset(data(), 0xff, bytes);
  }
  static Array read(int64_t displacement = 0) {
    Array array(read_integer(), displacement);
    if (array.bytes_ > 0 && std::fread(array.data(), array.bytes_, 1, stdin) != 1) std::exit(2);
    return array;
  }
  void write() const {
    std::fwrite(&bytes_, sizeof(bytes_), 1, stdout);
    if (bytes_ > 0) std::fwrite(data(), bytes_, 1, stdout);
  }
  unsigned char* data() const { return bytes_ < 0 ? nullptr : memory_.get() + displacement_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  int64_t bytes_, displacement_;
  std::unique_ptr<unsigned char, Free> memory_;
};

struct Case {
  int64_t backward, type, order, seed, capability;
  int64_t clips, frames, total_frames, dim, clip_stride, frame_stride;
  int64_t relation, return_weights, features_need_grad, displacement, first_block, max_blocks, shared_per_block;
  int64_t short_offsets, narrow;  // narrow: which of the parameters are, a bit each
};

struct Launcher {
  const Case& test;

  template <typename Call>
  void operator()(void (*kernel)(Call), const Launch& launch, const Call& call) const {
    const cuda_on_cpu::Launch on_cpu{launch.blocks,
                                     launch.threads,
                                     launch.shared_bytes,
                                     launch.cluster,
                                     static_cast<cuda_on_cpu::Order>(test.order),
                                     static_cast<unsigned>(test.seed),
                                     test.seed % 2 == 0,
                                     test.first_block};
    cuda_on_cpu::run(on_cpu, [&] { kernel(call); });
  }
};

// Which regime it was, for the test to know.
void write_plan(const Plan& plan) {
  const int64_t facts[] = {static_cast<int64_t>(plan.regime),
                           plan.launch[0].blocks,
                           plan.launch[0].threads,
                           plan.launch[0].shared_bytes,
                           plan.layout.rows,
                           plan.layout.aligned,
                           plan.cluster,
                           plan.launches,
                           plan.layout.part_rows,
                           plan.layout.copy_bytes};
  Array array(sizeof(facts));
  std::memcpy(array.data(), facts, sizeof(facts));
  array.write();
}

template <typename T>
void run(const Case& test) {
  using A = Accumulator<T>;
  const Array features = Array::read(test.displacement), mask = Array::read(), offsets = Array::read(),
              self_weight = Array::read(), relation_weight = Array::read(), self_bias = Array::read(),
              relation_bias = Array::read();
  const int64_t width = (test.relation ? 2 : 1) * test.dim;
  const Clips<T> clips{features.as<T>(),        test.clip_stride, test.frame_stride, mask.as<bool>(),   offsets.data(),
                       test.short_offsets != 0, test.clips,       test.frames,       test.total_frames, test.dim};
  const auto narrow = [&](int parameter) { return (test.narrow >> parameter & 1) != 0; };
  const Parameters<T> parameters{{self_weight.data(), narrow(0)},
                                 {relation_weight.data(), narrow(1)},
                                 {self_bias.data(), narrow(2)},
                                 {relation_bias.data(), narrow(3)}};
  const auto accumulators = [](int64_t count, bool wanted = true) {
    return Array(wanted ? count * int64_t{sizeof(A)} : -1);
  };
  const Target target{static_cast<int>(test.capability), test.capability >= 90};
  std::unique_ptr<Array> workspace;
  // Runs the call and writes its plan.
  const auto run_and_write_plan = [&](const auto& call) {
    const auto make = [&](Request request) {
      request.shared_per_block = test.shared_per_block;
      request.max_blocks = test.max_blocks;
      return make_plan(request);
    };
    const auto allocate = [&](int64_t bytes) -> void* {
      workspace = std::make_unique<Array>(bytes);
      return workspace->data();
    };
    write_plan(run_call(call, target, make, allocate, Launcher{test}));
  };

  if (!test.backward) {
    const Array out(test.clips * width * int64_t{sizeof(T)}),
        saved = accumulators(saved_arrays(test.relation) * test.total_frames),
        alpha = accumulators(test.total_frames, test.return_weights),
        beta = accumulators(test.total_frames, test.return_weights && test.relation),
        final_weight = accumulators(test.total_frames, test.return_weights);
    const ForwardOutputs<T> outputs{out.as<T>(), saved.as<A>(), alpha.as<A>(), beta.as<A>(), final_weight.as<A>()};
    run_and_write_plan(ForwardCall<T>{{clips, parameters, {}, nullptr}, outputs});
    for (const Array* array : {&out, &saved, &alpha, &beta, &final_weight}) array->write();
    return;
  }

  const Array grad_out = Array::read(), grad_alpha = Array::read(), grad_beta = Array::read(), out = Array::read(),
              saved = Array::read();
  const BackwardInputs<T> inputs{grad_out.as<T>(), grad_alpha.as<A>(), grad_beta.as<A>(), out.as<T>(), saved.as<A>()};
  const auto gradient_of = [&](int parameter, const Array& array, int64_t count) {
    const size_t size = narrow(parameter) ? sizeof(Narrow<T>) : sizeof(A);
    return Array(array.data() == nullptr ? -1 : count * static_cast<int64_t>(size));
  };
  const Array grad_features(test.features_need_grad ? test.total_frames * test.dim * int64_t{sizeof(T)} : -1),
      grad_q0 = gradient_of(0, self_weight, test.dim), grad_q1 = gradient_of(1, relation_weight, 2 * test.dim),
      grad_b0 = gradient_of(2, self_bias, 1), grad_b1 = gradient_of(3, relation_bias, 1);
  const BackwardOutputs<T> outputs{grad_features.as<T>(),
                                   {grad_q0.data(), narrow(0)},
                                   {grad_q1.data(), narrow(1)},
                                   {grad_b0.data(), narrow(2)},
                                   {grad_b1.data(), narrow(3)}};
  run_and_write_plan(BackwardCall<T>{{clips, parameters, {}, nullptr}, inputs, outputs});
  for (const Array* array : {&grad_features, &grad_q0, &grad_q1, &grad_b0, &grad_b1}) array->write();
}

}  // namespace

int main() {
  Case test;
  for (int64_t* field = &test.backward; field <= &test.narrow; ++field) *field = read_integer();
  switch (static_cast<DataType>(test.type)) {
    case DataType::kFloat32:
      run<float>(test);
      break;
    case DataType::kFloat64:
      run<double>(test);
      break;
    case DataType::kFloat16:
      run<Half>(test);
      break;
    case DataType::kBFloat16:
      run<BFloat16>(test);
      break;
  }
}
