// csrc/cuda/launch.cuh and device.cu, run against the CUDA runtime of cuda_runner/cuda_runtime_api.h: what they ask of
// the runtime, and what they make of its errors.
#undef NDEBUG
#include <cassert>
#include <string>

#define FAN_EXT_CUDA_ARCHITECTURES "75-real 90"
#include "csrc/cuda/device.cu"
#include "csrc/cuda/launch.cuh"

namespace {

using namespace fan::cuda;

void kernel(int64_t) {}

void check_launch(int64_t shared_bytes, int cluster, int shared_limit) {
  int stream;
  fake_cuda::shared_limit = 48 * 1024;
  fake_cuda::shared_preferred = false;
  queue_kernel(kernel, Launch{"kernel", 8, 96, shared_bytes, cluster}, int64_t{1}, Queue{0, &stream, nullptr, nullptr});
  const cudaLaunchConfig_t& noted = fake_cuda::launch;
  assert(noted.gridDim.x == 8 && noted.blockDim.x == 96 && fake_cuda::cluster == static_cast<unsigned>(cluster));
  assert(noted.dynamicSmemBytes == static_cast<size_t>(shared_bytes) && fake_cuda::shared_limit == shared_limit);
  assert(noted.stream == &stream && fake_cuda::shared_preferred == (shared_bytes > 12 * 1024));
}

void check_launches() {
  check_launch(0, 1, 48 * 1024);
  check_launch(48 * 1024, 4, 48 * 1024);
  // Not what this launch needs: of two threads of the host neither may lower the other's limit.
  check_launch(48 * 1024 + 16, 4, 227 * 1024);
  bool refused = false;
  try {
    queue_kernel(kernel, Launch{"kernel", (int64_t{1} << 32) + 1, 96, 0, 1}, int64_t{1}, Queue{});
  } catch (const std::runtime_error&) {
    refused = true;
  }
  assert(refused);  // not cut to 32 bits
}

void expect_problem(std::initializer_list<const char*> parts) {
  const char* const problem = fan_ext_cuda_problem(1);
  assert((problem != nullptr) == (parts.size() > 0));
  for (const char* part : parts) assert(std::string(problem).find(part) != std::string::npos);
  // This thread goes on as if nobody had asked.
  assert(fake_cuda::current_device == 0 && fake_cuda::last_error == cudaSuccess);
}

void check_problems() {
  expect_problem({});
  fake_cuda::driver_version = 12040;
  expect_problem({"driver is for CUDA 12.4", "need 13.0", "update the driver"});
  fake_cuda::driver_version = 13020;
  expect_problem({});
  fake_cuda::error_of_functions = cudaErrorNoKernelImageForDevice;
  expect_problem({"compute capability is 10.3", "compiled for 75-real 90", "CUDAARCHS set to 103"});
  fake_cuda::error_of_functions = cudaErrorInvalidValue;
  expect_problem({"CUDA error: refused"});
  fake_cuda::error_of_functions = cudaSuccess;
}

}  // namespace

int main() {
  check_launches();
  check_problems();
  // A device with clusters, and code that has none; and code that has.
  for (const int version : {80, 90}) {
    fake_cuda::ptx_version = version;
    const Target target = use_device(version);  // each is known once it has been asked
    assert(target.compute_capability == 103 && target.clusters == (version == 90));
    assert(fake_cuda::current_device == version);
  }
}
