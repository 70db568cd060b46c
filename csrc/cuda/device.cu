#include "check.h"
#include "frame_attention.h"

namespace fan::cuda {

int use_device(int device) {
  check(cudaSetDevice(device));
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return 10 * major + minor;
}

}  // namespace fan::cuda
