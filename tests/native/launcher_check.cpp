// csrc/cuda/launch.cuh and device.cu, run against the CUDA runtime of cuda_runner/cuda_runtime_api.h: what they ask of
// the runtime for each plan, and what they make of its errors. Prints what is wrong and ends with 1.
#include <cstdio>
#include <string>

#include "csrc/cuda/kernels.cuh"

#define FAN_EXT_CUDA_ARCHITECTURES "75-real 90"
#include "csrc/cuda/device.cu"
#include "csrc/cuda/launch.cuh"

namespace fan::cuda {
FAN_INSTANTIATE(float)
}  // namespace fan::cuda

namespace {

using namespace fan::cuda;

int failures = 0;

void expect(bool right, const std::string& what) {
  if (right) return;
  std::puts(what.c_str());
  ++failures;
}

Request make_request(int64_t clips, int64_t frames, Target target, bool backward) {
  Request request{};
  request.clips = clips;
  request.frames = frames;
  request.total_frames = clips * frames;
  request.dim = 512;
  request.relation = true;
  request.type = DataType::kFloat32;
  request.target = target;
  request.backward = backward;
  request.copy_bytes = 16;
  request.aligned = true;
  return request;
}

void* const stream = &fake_cuda::launches;

// The message with which the launcher refuses, or nothing.
std::string launch(const Request& request, const Plan& plan) {
  static const float q1 = 0;
  fake_cuda::launches.clear();
  const Parameters<float> parameters{{}, {&q1, false}, {}, {}};
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

void check_launches(const Request& request) {
  const Plan plan = make_plan(request);
  const std::string text = std::to_string(request.clips) + " clips of " + std::to_string(request.frames) + " frames, " +
                           std::to_string(request.target.compute_capability) + ": ";
  expect(launch(request, plan).empty(), text + "refused");
  expect(static_cast<int>(fake_cuda::launches.size()) == plan.launches, text + "other launches than planned");
  for (size_t k = 0; k < fake_cuda::launches.size(); ++k) {
    const auto& noted = fake_cuda::launches[k];
    const Launch& planned = plan.launch[k];
    const int cluster = std::string(planned.kernel) == "reduce_kernel" ? 1 : plan.cluster;
    expect(noted.blocks == planned.blocks && noted.threads == planned.threads &&
               noted.shared_bytes == planned.shared_bytes && noted.cluster == cluster,
           text + "another launch than planned");
    expect(noted.stream == stream, text + "another stream");
    // Never what this launch alone needs: of two threads of the host neither lowers the other's limit.
    const bool is_default = noted.shared_limit == 48 * 1024;
    expect(is_default ? noted.shared_bytes <= 48 * 1024 : noted.shared_limit == fake_cuda::shared_per_block,
           text + "another limit of shared memory");
  }
}

void expect_problem(std::initializer_list<const char*> parts) {
  const char* const problem = fan_ext_cuda_problem(1);
  expect((problem != nullptr) == (parts.size() > 0), "a problem, or none");
  for (const char* part : parts) {
    expect(problem != nullptr && std::string(problem).find(part) != std::string::npos, part);
  }
  expect(fake_cuda::current_device == 0 && fake_cuda::last_error == cudaSuccess, "this thread's state has changed");
}

void check_problems() {
  expect_problem({});
  fake_cuda::driver_version = 12040;
  expect_problem({"driver is for CUDA 12.4", "need 13.0", "update the driver"});
  fake_cuda::driver_version = 13020;
  expect_problem({});
  fake_cuda::error_of_functions = cudaErrorNoKernelImageForDevice;
  fake_cuda::capability = 103;
  expect_problem({"compute capability is 10.3", "compiled for 75-real 90", "CUDAARCHS set to 103"});
  fake_cuda::error_of_functions = cudaErrorInvalidValue;
  expect_problem({"CUDA error: refused"});
  fake_cuda::error_of_functions = cudaSuccess;
}

// A device with clusters, and code that has none.
void check_code_without_clusters() {
  fake_cuda::capability = 90;
  for (const int version : {80, 90}) {
    fake_cuda::ptx_version = version;
    const Target target = use_device(version);  // each is known once it has been asked
    expect(target.compute_capability == 90 && fake_cuda::current_device == version, "another device");
    expect((make_plan(make_request(2, 300, target, false)).regime == Regime::kCluster) == (version == 90),
           "clusters that the code has not");
  }
}

}  // namespace

int main() {
  for (const auto& [capability, shared_kib] : {std::pair{75, 64}, {80, 163}, {90, 227}}) {
    fake_cuda::shared_per_block = shared_kib * 1024;
    for (const int64_t clips : {0, 1, 5000}) {
      for (const int64_t frames : {0, 3, 60, 300, 3000}) {
        check_launches(make_request(clips, frames, {capability, capability >= 90}, false));
        check_launches(make_request(clips, frames, {capability, capability >= 90}, true));
      }
    }
  }
  check_problems();
  check_code_without_clusters();
  const Request request = make_request((int64_t{1} << 32) + 1, 60, {90, true}, false);
  expect(!launch(request, make_plan(request)).empty(), "a grid cut to 32 bits");
  return failures == 0 ? 0 : 1;
}
