// The library fan_ext/_native, called by ctypes: what was built, launch plans, and frame attention on plain arrays. It
// knows neither torch nor Python, so that one build serves every Python.
#include <cstdint>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "../cpu/frame_attention.h"
#include "../cuda/plan.h"

#define FAN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::vector<std::string> cpu_instruction_sets() {
#if defined(FAN_HAVE_TARGET_CLONES)
  return {"x86-64", "x86-64-v3", "x86-64-v4"};
#elif defined(__x86_64__)
  return {"x86-64"};
#elif defined(__aarch64__)
  return {"aarch64"};
#else
  return {"generic"};
#endif
}

std::string cpu_instruction_set_in_use() {
#if defined(FAN_HAVE_TARGET_CLONES)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
#endif
  return cpu_instruction_sets().front();
}

// Kept until the thread asks again. Texts have nothing that JSON would want escaped.
const char* kept(const std::ostringstream& json) {
  thread_local std::string text;
  text = json.str();
  return text.c_str();
}

void run_serially(int64_t begin, int64_t end, int64_t, void (*body)(int64_t, int64_t, void*), void* context) {
  if (begin < end) body(begin, end, context);
}

// Parameters and weights are of the accumulation type.
struct Call {
  const void *features, *self_weight, *relation_weight;
  double self_bias, relation_bias;
  const bool* mask;
  const int64_t* offsets;
  int64_t clips, frames, total_frames, dim;
  void *out, *alpha, *beta, *final;
};

template <typename T>
void forward(const Call& call) {
  using A = fan::Accumulator<T>;
  const bool relation = call.relation_weight != nullptr;
  fan::Clips<T> clips{};
  clips.features = static_cast<const T*>(call.features);
  clips.dim = clips.frame_stride = call.dim;
  clips.clips = call.clips;
  clips.total_frames = call.total_frames;
  clips.offsets = call.offsets;
  clips.mask = call.mask;
  clips.frames = call.offsets ? -1 : call.frames;
  clips.clip_stride = call.offsets ? 0 : call.frames * call.dim;
  const A b0 = static_cast<A>(call.self_bias), b1 = static_cast<A>(call.relation_bias);
  const fan::Parameters<T> parameters{
      {call.self_weight, false}, {call.relation_weight, false}, {&b0, false}, {&b1, false}};
  std::vector<A> saved(fan::saved_arrays(relation) * call.total_frames);
  const fan::ForwardOutputs<T> outputs{static_cast<T*>(call.out), saved.data(), static_cast<A*>(call.alpha),
                                       relation ? static_cast<A*>(call.beta) : nullptr, static_cast<A*>(call.final)};
  fan::cpu::frame_attention_forward(clips, parameters, outputs, fan::cpu::Threads{run_serially, 1});
}

}  // namespace

// JSON, as fan_ext/build.py gives it.
FAN_EXPORT const char* fan_ext_build_info() {
  std::ostringstream json;
  json << R"({"version": ")" << FAN_EXT_VERSION << R"(", "compiler": ")" << FAN_EXT_COMPILER << R"(", "torch": ")"
       << FAN_EXT_TORCH_VERSION << R"(", "cpu": [)";
  const char* comma = "";
  for (const std::string& name : cpu_instruction_sets()) {
    json << comma << '"' << name << '"';
    comma = ", ";
  }
  json << R"(], "cpu_in_use": ")" << cpu_instruction_set_in_use() << R"(", "cuda": )";
#ifdef FAN_EXT_CUDA_TOOLKIT
  json << R"({"toolkit": ")" << FAN_EXT_CUDA_TOOLKIT << R"(", "architectures": [)";
  std::istringstream names(FAN_EXT_CUDA_ARCHITECTURES);
  comma = "";
  for (std::string name; names >> name; comma = ", ") json << comma << '"' << name << '"';
  json << "]}}";
#else
  json << "null}";
#endif
  return kept(json);
}

// JSON, as fan_ext/cuda.py, which checks the arguments, gives it. frames and total_frames: -1 for None.
FAN_EXPORT const char* fan_ext_cuda_launch_plan(int64_t batch, int64_t frames, int64_t dim, int type,
                                                int compute_capability, bool backward, bool relation,
                                                int64_t total_frames) {
  using namespace fan::cuda;
  Request request{};
  request.clips = batch;
  request.frames = frames;
  request.dim = dim;
  request.type = static_cast<DataType>(type);
  request.target = {compute_capability, compute_capability >= 90};
  request.backward = backward;
  request.relation = relation;
  request.packed = total_frames >= 0;
  request.total_frames = request.packed ? total_frames : batch * frames;
  request.copy_bytes = alignment_of({static_cast<uintptr_t>(dim * element_size(request.type))});
  request.aligned = request.copy_bytes == 16;
  const Plan plan = make_plan(request);
  std::ostringstream json;
  json << R"({"regime": ")" << name_of(plan.regime) << R"(", "launches": )" << plan.launches << R"(, "kernels": [)";
  for (int k = 0; k < plan.launches; ++k) {
    const Launch& launch = plan.launch[k];
    json << (k ? ", " : "") << R"({"name": ")" << launch.kernel << R"(", "grid": )" << launch.blocks << R"(, "block": )"
         << launch.threads << R"(, "shared_bytes": )" << launch.shared_bytes << '}';
  }
  json << R"(], "grid": )" << plan.launch[0].blocks << R"(, "block": )" << plan.launch[0].threads
       << R"(, "shared_bytes": )" << plan.launch[0].shared_bytes << R"(, "cluster": )" << plan.cluster
       << R"(, "clips_per_block": )" << plan.clips_per_block << R"(, "rows_in_shared": )" << plan.layout.rows
       << R"(, "part_frames": )" << plan.layout.part_rows << R"(, "copy_bytes": )" << plan.layout.copy_bytes
       << R"(, "workspace_bytes": )" << plan.workspace * accumulator_size(request.type) << '}';
  return kept(json);
}

// Arguments are checked and laid out by fan_ext/numpy.py; the types are those of csrc/cuda/plan.h but for bfloat16.
// False: there is no memory left.
FAN_EXPORT bool fan_ext_frame_attention(int type, const void* features, const void* self_weight,
                                        const void* relation_weight, double self_bias, double relation_bias,
                                        const bool* mask, const int64_t* offsets, int64_t clips, int64_t frames,
                                        int64_t total_frames, int64_t dim, void* out, void* alpha, void* beta,
                                        void* final) {
  using fan::cuda::DataType;
  const Call call{features, self_weight, relation_weight, self_bias, relation_bias,
                  mask,     offsets,     clips,           frames,    total_frames,
                  dim,      out,         alpha,           beta,      final};
  try {
    switch (static_cast<DataType>(type)) {
      case DataType::kFloat32:
        forward<float>(call);
        break;
      case DataType::kFloat64:
        forward<double>(call);
        break;
      default:
        forward<fan::Half>(call);
    }
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}
