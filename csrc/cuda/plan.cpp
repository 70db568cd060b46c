#include "plan.h"

#include <algorithm>

namespace fan::cuda {
namespace {

struct Device {
  int compute_capability;
  int multiprocessors;       // of the largest common card: sizes the backward pass's grid, nothing depends on it
  int64_t shared_per_block;  // the most a block may ask for
};

constexpr int64_t kKiB = 1024;
constexpr int64_t kFewFrames = 16;
constexpr int64_t kBlocksPerMultiprocessor = 4;
// Beyond this a clip's gradient sums stay in global memory.
constexpr int64_t kMaxSumsBytes = 32 * kKiB;

constexpr Device kDevices[] = {
    {70, 80, 96 * kKiB},  {75, 40, 64 * kKiB},   {80, 108, 163 * kKiB},  {86, 84, 99 * kKiB},    {87, 16, 163 * kKiB},
    {89, 128, 99 * kKiB}, {90, 132, 227 * kKiB}, {100, 148, 227 * kKiB}, {103, 148, 227 * kKiB}, {120, 170, 99 * kKiB},
};

// A device not in the list has at least what the smaller ones of its time have.
Device find_device(int compute_capability) {
  for (const Device& device : kDevices) {
    if (device.compute_capability == compute_capability) return device;
  }
  return {compute_capability, 64, compute_capability >= 80 ? 99 * kKiB : 48 * kKiB};
}

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Threads that together cover a row, 16 bytes each, and the rows they cover at a time.
int64_t row_groups(int64_t vectors, int threads) {
  return std::max<int64_t>(threads / std::max<int64_t>(vectors, 1), 1);
}

Layout make_layout(const Request& request, int64_t rows, int threads, Scope scope) {
  const int64_t accumulator = accumulator_size(request.type), width = 16 / element_size(request.type);
  const int64_t groups = row_groups(ceil_div(request.dim, width), threads);
  Layout layout{};
  layout.rows = rows;
  int64_t at = layout.rows * request.dim * element_size(request.type);
  layout.tile = static_cast<int32_t>(at);
  at += kTileArrays * (scope == Scope::kWarp ? kWarpTile : kBlockTile) * accumulator;
  layout.reduced = static_cast<int32_t>(at);
  at += scope == Scope::kWarp ? 0 : 2 * (kMaxWarps + 1) * kMaxReduced * accumulator;
  layout.row_groups = static_cast<int32_t>(at);
  if (!request.backward && (groups > 1 || scope == Scope::kCluster)) at += 2 * width * threads * accumulator;
  layout.sums = -1;
  const int64_t sums = groups * 3 * request.dim * accumulator;
  if (request.backward && sums <= kMaxSumsBytes) {
    layout.sums = static_cast<int32_t>(at);
    at += sums;
  }
  layout.team_bytes = static_cast<int32_t>(round_up(at, 16));
  return layout;
}

// A power of two, so that it divides the tile; small clips get fewer threads.
int block_threads(int64_t frames, int64_t vectors) {
  if (frames < 0) return kMaxThreads;
  int threads = kWarpSize;
  while (threads < kMaxThreads && threads * 8 < frames * vectors) threads *= 2;
  return threads;
}

}  // namespace

// Nothing here but the number of blocks depends on the number of clips: a clip's bits are the same in every batch.
Plan make_plan(const Request& request) {
  Device device = find_device(request.compute_capability);
  if (request.shared_per_block > 0) device.shared_per_block = request.shared_per_block;
  const int64_t vectors = ceil_div(request.dim, 16 / element_size(request.type));
  const int64_t row_bytes = request.dim * element_size(request.type);
  const bool known = request.frames >= 0;
  const int64_t clip_bytes = known ? request.frames * row_bytes : 0;

  Plan plan{};
  plan.aligned = request.aligned;
  plan.cluster = 1;
  plan.launches = request.backward ? 2 : 1;
  plan.regime = Regime::kStreamed;
  if (known && request.aligned && clip_bytes < device.shared_per_block) {
    if (request.frames <= kFewFrames) {
      plan.layout = make_layout(request, request.frames, kWarpSize, Scope::kWarp);
      // Two blocks on a multiprocessor: one loads while the other computes.
      const int64_t fitting = (device.shared_per_block / 2 - kKiB) / plan.layout.team_bytes;
      const bool sums_fit = !request.backward || plan.layout.sums >= 0;
      if (fitting >= 2 && sums_fit) {
        plan.regime = Regime::kWarpPerClip;
        plan.clips_per_block = static_cast<int>(std::min<int64_t>(fitting, kMaxWarps));
        plan.threads = plan.clips_per_block * kWarpSize;
      }
    }
    if (plan.regime == Regime::kStreamed) {
      plan.threads = block_threads(request.frames, vectors);
      plan.layout = make_layout(request, request.frames, plan.threads, Scope::kBlock);
      if (plan.layout.team_bytes <= device.shared_per_block) plan.regime = Regime::kResident;
    }
  }
  if (plan.regime == Regime::kStreamed && known && request.aligned && request.compute_capability >= 90) {
    plan.regime = Regime::kCluster;
    plan.threads = block_threads(rows_of_part(request.frames, kMaxClusterBlocks), vectors);
    const int64_t without_rows = make_layout(request, 0, plan.threads, Scope::kCluster).team_bytes;
    const int64_t fitting = std::max<int64_t>(device.shared_per_block - without_rows, 0) / row_bytes;
    // No more blocks than it takes, but two at least.
    plan.cluster = 2;
    while (plan.cluster < kMaxClusterBlocks && rows_of_part(request.frames, plan.cluster) > fitting) plan.cluster *= 2;
    const int64_t rows = std::min(rows_of_part(request.frames, plan.cluster), fitting);
    plan.layout = make_layout(request, rows, plan.threads, Scope::kCluster);
  }
  if (plan.regime == Regime::kStreamed) {
    plan.threads = block_threads(request.frames, vectors);
    plan.layout = make_layout(request, 0, plan.threads, Scope::kBlock);
  }
  if (plan.regime != Regime::kWarpPerClip) plan.clips_per_block = 1;
  plan.shared_bytes = static_cast<int64_t>(plan.layout.team_bytes) * plan.clips_per_block;

  plan.blocks = std::max<int64_t>(ceil_div(request.clips, plan.clips_per_block), 1);
  // Each block of the backward pass leaves a row of partial sums; a block takes clips in turn to leave few of them.
  plan.blocks *= plan.cluster;
  const int64_t limit = kBlocksPerMultiprocessor * device.multiprocessors / kMaxClusterBlocks * kMaxClusterBlocks;
  if (request.backward) plan.blocks = std::min(plan.blocks, limit);
  return plan;
}

const char* name_of(Regime regime) {
  switch (regime) {
    case Regime::kWarpPerClip:
      return "warp per clip";
    case Regime::kResident:
      return "resident";
    case Regime::kCluster:
      return "cluster";
    case Regime::kStreamed:
      return "streamed";
  }
  return "unknown";
}

int64_t element_size(DataType type) {
  return type == DataType::kFloat64 ? 8 : type == DataType::kFloat32 ? 4 : 2;
}

int64_t accumulator_size(DataType type) {
  return type == DataType::kFloat64 ? 8 : 4;
}

}  // namespace fan::cuda
