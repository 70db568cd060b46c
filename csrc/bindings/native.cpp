// The pybind11 module fan_ext._native: what was built, and frame attention on NumPy arrays. It does not know torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "../cpu/frame_attention.h"
#include "../cuda/plan.h"

namespace py = pybind11;

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

py::dict build_info() {
  py::dict info;
  info["version"] = FAN_EXT_VERSION;
  info["compiler"] = FAN_EXT_COMPILER;
  info["torch"] = FAN_EXT_TORCH_VERSION;
  info["cpu"] = cpu_instruction_sets();
  info["cpu_in_use"] = cpu_instruction_set_in_use();
#ifdef FAN_EXT_CUDA_TOOLKIT
  py::dict cuda;
  cuda["toolkit"] = FAN_EXT_CUDA_TOOLKIT;
  cuda["architectures"] = py::str(FAN_EXT_CUDA_ARCHITECTURES).attr("split")();
  info["cuda"] = cuda;
#else
  info["cuda"] = py::none();
#endif
  return info;
}

// Arguments are checked by fan_ext/cuda.py.
py::dict cuda_launch_plan(int64_t batch, int64_t frames, int64_t dim, int type, int compute_capability, bool backward,
                          bool relation, int64_t total_frames) {
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
  py::list kernels;
  for (int k = 0; k < plan.launches; ++k) {
    const Launch& launch = plan.launch[k];
    py::dict kernel;
    kernel["name"] = launch.kernel;
    kernel["grid"] = launch.blocks;
    kernel["block"] = launch.threads;
    kernel["shared_bytes"] = launch.shared_bytes;
    kernels.append(kernel);
  }
  py::dict result;
  result["regime"] = name_of(plan.regime);
  result["launches"] = plan.launches;
  result["kernels"] = kernels;
  for (const char* key : {"grid", "block", "shared_bytes"}) result[key] = kernels[0][key];
  result["cluster"] = plan.cluster;
  result["clips_per_block"] = plan.clips_per_block;
  result["rows_in_shared"] = plan.layout.rows;
  result["part_frames"] = plan.layout.part_rows;
  result["copy_bytes"] = plan.layout.copy_bytes;
  result["workspace_bytes"] = plan.workspace * accumulator_size(request.type);
  return result;
}

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

void run_serially(int64_t begin, int64_t end, int64_t, void (*body)(int64_t, int64_t, void*), void* context) {
  if (begin < end) body(begin, end, context);
}

// Arguments are checked and laid out by fan_ext/numpy.py. Half precision comes as uint16 bits (T is Half).
template <typename T, typename Stored>
py::tuple forward(const Array<Stored>& features, const Array<fan::Accumulator<T>>& self_weight,
                  const std::optional<Array<fan::Accumulator<T>>>& relation_weight, double self_bias,
                  double relation_bias, const std::optional<Array<bool>>& mask,
                  const std::optional<Array<int64_t>>& offsets) {
  using A = fan::Accumulator<T>;
  const bool relation = relation_weight.has_value();
  fan::Clips<T> clips{};
  clips.features = reinterpret_cast<const T*>(features.data());
  clips.dim = features.shape(features.ndim() - 1);
  clips.frame_stride = clips.dim;
  if (offsets) {
    clips.offsets = offsets->data();
    clips.frames = -1;
    clips.clips = offsets->shape(0) - 1;
    clips.total_frames = features.shape(0);
  } else {
    clips.clips = features.shape(0);
    clips.frames = features.shape(1);
    clips.clip_stride = clips.frames * clips.dim;
    clips.total_frames = clips.clips * clips.frames;
    clips.mask = mask ? mask->data() : nullptr;
  }
  const A b0 = static_cast<A>(self_bias), b1 = static_cast<A>(relation_bias);
  const fan::Parameters<T> parameters{
      {self_weight.data(), false}, {relation ? relation_weight->data() : nullptr, false}, {&b0, false}, {&b1, false}};
  std::vector<py::ssize_t> frames(features.shape(), features.shape() + features.ndim() - 1);
  Array<Stored> out(std::vector<py::ssize_t>{clips.clips, (relation ? 2 : 1) * clips.dim});
  Array<A> alpha(frames), beta(relation ? frames : std::vector<py::ssize_t>{0}), final_weight(frames);
  std::vector<A> saved(fan::saved_arrays(relation) * clips.total_frames);
  const fan::ForwardOutputs<T> outputs{reinterpret_cast<T*>(out.mutable_data()), saved.data(), alpha.mutable_data(),
                                       relation ? beta.mutable_data() : nullptr, final_weight.mutable_data()};
  {
    py::gil_scoped_release release;
    fan::cpu::frame_attention_forward(clips, parameters, outputs, fan::cpu::Threads{run_serially, 1});
  }
  return py::make_tuple(out, alpha, beta, final_weight);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.def("build_info", &build_info);
  module.def("cuda_launch_plan", &cuda_launch_plan);
  module.def("frame_attention_float32", &forward<float, float>);
  module.def("frame_attention_float64", &forward<double, double>);
  module.def("frame_attention_float16", &forward<fan::Half, uint16_t>);
}
