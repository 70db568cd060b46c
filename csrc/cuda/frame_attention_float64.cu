#include "launch.cuh"

namespace fan::cuda {
FAN_INSTANTIATE(double)
}  // namespace fan::cuda
