#include "launch.cuh"

namespace fan::cuda {
FAN_INSTANTIATE(Half)
}  // namespace fan::cuda
