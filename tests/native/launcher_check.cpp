// csrc/cuda/launch.cuh and device.cu, run against the CUDA runtime of cuda_runner/cuda_runtime_api.h: what they ask of the
// runtime for each plan, and what they make of its errors. Prints what is wrong and ends with 1.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "csrc/cuda/kernels.cuh"

// In kernels names of the runner; here members of the runtime's structs.
#undef gridDim
#undef blockDim
#define FAN_EXT_CUDA_ARCHITECTURES "75-real 90"
#include "csrc/cuda/device.cu"
#include "csrc/cuda/launch.cuh"

namespace fan::cuda {
FAN_INSTANTIATE(float)
}  // namespace fan::cuda

namespace {

using namespace fan::cuda;

int failures = 0;

void expect(bool right, const char* what, const Request& request) {
  if (right) return;
  std::printf("%s: %ld clips, %ld frames, capability %d, %s\n", what, static_cast<long>(request.clips),
              static_cast<long>(request.frames), request.target.compute_capability, request.backward ? "backward" : "forward");
  ++failures;
}

Request make_request(int64_t clips, int64_t frames, int capability, bool backward) {
  Request request{};
  request.clips = clips;
  request.frames = frames;
  request.total_frames = clips * (frames < 0 ? 10 : frames);
  request.packed = frames < 0;
  request.dim = 512;
  request.relation = true;
  request.type = DataType::kFloat32;
  request.target = {capability, capability >= 90};
  request.backward = backward;
  request.copy_bytes = 16;
  request.aligned = true;
  return request;
}

// The message with which the launcher refuses, or nothing.
std::string launch(const Request& request, const Plan& plan) {
  static const float q1 = 0;
  fake_cuda::launches.clear();
  fake_cuda::limits.clear();
  const Parameters<float> parameters{{}, {&q1, false}, {}, {}};
  void* const stream = &fake_cuda::launches;
  try {
    if (request.backward) {
      frame_attention_backward<float>({}, parameters, {}, {}, plan, stream);
    } else {
      frame_attention_forward<float>({}, parameters, {}, plan, stream);
    }
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

void check_plan(int64_t clips, int64_t frames, int capability, int shared_kib, bool backward) {
  fake_cuda::shared_per_block = shared_kib * 1024;
  const Request request = make_request(clips, frames, capability, backward);
  const Plan plan = make_plan(request);
  expect(launch(request, plan).empty(), "refused", request);
  expect(static_cast<int>(fake_cuda::launches.size()) == plan.launches, "other launches than planned", request);
  for (size_t k = 0; k < fake_cuda::launches.size(); ++k) {
    const auto& noted = fake_cuda::launches[k];
    const Launch& planned = plan.launch[k];
    const bool reduces = std::string(planned.kernel) == "reduce_kernel";
    expect(noted.blocks == planned.blocks && noted.threads == planned.threads &&
               noted.shared_bytes == planned.shared_bytes && noted.cluster == (reduces ? 1 : plan.cluster),
           "another launch than planned", request);
    expect(noted.stream == static_cast<void*>(&fake_cuda::launches), "another stream", request);
  }
  // Whatever a launch needs: of two threads of the host neither lowers the other's limit.
  for (const int limit : fake_cuda::limits) expect(limit == fake_cuda::shared_per_block, "another limit", request);
}

void expect_problem(const char* what, std::initializer_list<const char*> parts) {
  const char* const problem = fan_ext_cuda_problem(1);
  bool right = (problem != nullptr) == (parts.size() > 0);
  for (const char* part : parts) right = right && std::string(problem).find(part) != std::string::npos;
  // This thread goes on as if nobody had asked.
  right = right && fake_cuda::current_device == 0 && fake_cuda::last_error == cudaSuccess;
  if (right) return;
  std::printf("%s: %s\n", what, problem == nullptr ? "no problem" : problem);
  ++failures;
}

void check_problems() {
  expect_problem("runs", {});
  fake_cuda::driver_version = 12040;
  expect_problem("old driver", {"driver is for CUDA 12.4", "need 13.0", "update the driver"});
  fake_cuda::driver_version = 13020;
  expect_problem("new driver", {});
  fake_cuda::error_of_functions = cudaErrorNoKernelImageForDevice;
  fake_cuda::capability = 103;
  expect_problem("no code", {"compute capability is 10.3", "compiled for 75-real 90", "CUDAARCHS set to 103"});
  fake_cuda::error_of_functions = cudaErrorInvalidValue;
  expect_problem("another error", {"CUDA error: refused"});
  fake_cuda::error_of_functions = cudaSuccess;
}

// A device with clusters, and code that has none.
void check_code_without_clusters() {
  fake_cuda::capability = 90;
  fake_cuda::shared_per_block = 227 * 1024;
  for (const int version : {80, 90}) {
    fake_cuda::ptx_version = version;
    for (const bool backward : {false, true}) {
      Request request = make_request(2, 300, 90, backward);
      request.target = use_device(version);  // each is known once it has been asked
      const Plan plan = make_plan(request);
      expect(request.target.compute_capability == 90, "another device", request);
      expect(fake_cuda::current_device == version, "not made current", request);
      expect((plan.regime == Regime::kCluster) == (version == 90), "another regime", request);
      expect(launch(request, plan).empty(), "refused", request);
    }
  }
}

}  // namespace

int main() {
  constexpr struct {
    int capability, shared_kib;
  } kDevices[] = {{75, 64}, {80, 163}, {86, 99}, {89, 99}, {90, 227}, {100, 227}, {120, 99}};
  for (const auto& device : kDevices) {
    for (const int64_t clips : {0, 1, 7, 5000}) {
      for (const int64_t frames : {-1, 0, 3, 16, 60, 300, 3000}) {
        for (const bool backward : {false, true}) {
          check_plan(clips, frames, device.capability, device.shared_kib, backward);
        }
      }
    }
  }

  check_problems();
  check_code_without_clusters();
  const Request request = make_request((int64_t{1} << 32) + 1, 60, 90, false);
  expect(!launch(request, make_plan(request)).empty(), "a grid cut to 32 bits", request);
  return failures == 0 ? 0 : 1;
}
