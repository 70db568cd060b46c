#include "launch.cuh"

namespace fan::cuda {
FAN_INSTANTIATE(BFloat16)
}  // namespace fan::cuda
