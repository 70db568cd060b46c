#include "launch.cuh"

namespace fan::cuda {
FAN_INSTANTIATE(float)
}  // namespace fan::cuda
