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
// Beyond this a clip's gradient sums stay in global memory, where there is a place for one row group's only. Several
// groups never come to that: they are threads / vectors, so the sums of all of them are at most three vectors a thread,
// each of 16 bytes of features in accumulators of up to twice the size.
constexpr int64_t kMaxSumsBytes = 32 * kKiB;
static_assert(kMaxThreads * 3 * 16 * 2 <= kMaxSumsBytes);
// Frames of a part of a split clip: a step for each of a block's warps.
constexpr int64_t kPartRows = kMaxWarps * kRowsPerStep;
// Of so few packed clips each may be as long as all of them: even clusters of the most blocks run at once.
constexpr int64_t kFewClips = 16;
// Of blocks with little to do each: several times as many as run at once.
constexpr int64_t kManyBlocks = 8192;

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

// Threads that together cover a row, 16 bytes each, and the rows they cover at a time.
int64_t row_groups(int64_t vectors, int threads) {
  return std::max<int64_t>(threads / std::max<int64_t>(vectors, 1), 1);
}

// Of a row in shared memory.
int64_t pitch_bytes(const Request& request) {
  return round_up(request.dim * element_size(request.type), 16);
}

Layout make_layout(const Request& request, int64_t rows, int threads, Scope scope) {
  const int64_t accumulator = accumulator_size(request.type), width = 16 / element_size(request.type);
  const int64_t groups = row_groups(ceil_div(request.dim, width), threads);
  Layout layout{};
  layout.rows = rows;
  layout.copy_bytes = request.copy_bytes;
  layout.aligned = request.aligned;
  int64_t at = kTileArrays * (scope == Scope::kWarp ? kWarpTile : kBlockTile) * accumulator;
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
  at = round_up(at, 16);
  layout.rows_at = static_cast<int32_t>(at);
  layout.team_bytes = static_cast<int32_t>(at + rows * pitch_bytes(request));
  return layout;
}

// A power of two, so that it divides the tile; small clips get fewer threads.
int block_threads(int64_t frames, int64_t vectors) {
  int threads = kWarpSize;
  while (threads < kMaxThreads && threads * 8 < frames * vectors) threads *= 2;
  return threads;
}

// Rows that fit beside the rest in so much of a block's shared memory.
int64_t fitting_rows(const Request& request, int64_t shared_bytes, int threads, Scope scope) {
  const int64_t rest = make_layout(request, 0, threads, scope).team_bytes;
  return std::max<int64_t>(shared_bytes - rest, 0) / pitch_bytes(request);
}

// Two blocks on a multiprocessor: one loads while the other computes.
int64_t half_of(int64_t shared_bytes) {
  return shared_bytes / 2 - kKiB;
}

// Each of these fills in the plan's regime, cluster, clips_per_block and layout and returns the threads of a block, or
// returns 0 where the clips do not fit.
int plan_warps(const Request& request, int64_t shared_per_block, Plan& plan) {
  if (request.frames > kFewFrames || request.frames * pitch_bytes(request) >= shared_per_block) return 0;
  plan.layout = make_layout(request, request.frames, kWarpSize, Scope::kWarp);
  const int64_t fitting = half_of(shared_per_block) / plan.layout.team_bytes;
  if (fitting < 2 || (request.backward && plan.layout.sums < 0)) return 0;
  plan.regime = Regime::kWarpPerClip;
  plan.clips_per_block = static_cast<int>(std::min<int64_t>(fitting, kMaxWarps));
  return plan.clips_per_block * kWarpSize;
}

int plan_resident(const Request& request, int64_t shared_per_block, int64_t vectors, Plan& plan) {
  const int threads = block_threads(request.frames, vectors);
  if (request.frames > fitting_rows(request, shared_per_block, threads, Scope::kBlock)) return 0;
  plan.regime = Regime::kResident;
  plan.layout = make_layout(request, request.frames, threads, Scope::kBlock);
  return threads;
}

int plan_cluster(const Request& request, int64_t shared_per_block, int64_t vectors, Plan& plan) {
  if (!request.target.clusters) return 0;
  const int threads = block_threads(rows_of_part(request.frames, kMaxClusterBlocks), vectors);
  const int64_t fitting = fitting_rows(request, shared_per_block, threads, Scope::kCluster);
  // No more blocks than it takes, but two at least.
  int blocks = 2;
  while (blocks < kMaxClusterBlocks && rows_of_part(request.frames, blocks) > fitting) blocks *= 2;
  const int64_t rows = rows_of_part(request.frames, blocks);
  if (rows > fitting) return 0;
  plan.regime = Regime::kCluster;
  plan.cluster = blocks;
  plan.layout = make_layout(request, rows, threads, Scope::kCluster);
  return threads;
}

int plan_split(const Request& request, int64_t shared_per_block, int64_t vectors, Plan& plan) {
  plan.regime = Regime::kSplit;
  // Of packed clips nobody knows, the average one is what threads and shared memory are for. A longer clip has parts.
  const int64_t typical =
      request.frames >= 0 ? request.frames : ceil_div(request.total_frames, std::max<int64_t>(request.clips, 1));
  const int64_t wanted = part_rows_of(typical, kPartRows);
  const int threads = block_threads(std::min(typical, wanted), vectors);
  const auto fitting = [&](int64_t shared_bytes) {
    return fitting_rows(request, shared_bytes, threads, Scope::kBlock) / kRowsPerStep * kRowsPerStep;
  };
  int64_t rows = std::min(wanted, fitting(half_of(shared_per_block)));
  if (rows < wanted / 2) rows = std::min(wanted, fitting(shared_per_block));
  // The backward pass does not come back to what it copies; the forward pass would read rows without a place again.
  const int64_t least = request.backward ? kPartRows : std::clamp<int64_t>(rows, kRowsPerStep, kPartRows);
  // Less memory for each, more of short clips at a time.
  plan.layout = make_layout(request, std::min(rows, round_up(2 * typical, kRowsPerStep)), threads, Scope::kBlock);
  plan.layout.part_rows = request.packed ? least : part_rows_of(request.frames, least);
  // See first_slot.
  plan.layout.slots = request.packed ? request.total_frames / least + request.clips
                                     : request.clips * ceil_div(request.frames, plan.layout.part_rows);
  return threads;
}

void add_launch(Plan& plan, const char* kernel, int64_t blocks, int threads, int64_t shared_bytes) {
  plan.launch[plan.launches++] = {kernel, std::max<int64_t>(blocks, 1), threads, shared_bytes};
}

void add_forward_launches(const Request& request, int threads, Plan& plan) {
  const Layout& layout = plan.layout;
  if (plan.regime != Regime::kSplit) {
    const int64_t teams = std::max<int64_t>(ceil_div(request.clips, plan.clips_per_block), 1);
    const int64_t blocks = teams * plan.cluster;  // whole clusters, also of no clips
    add_launch(plan, "forward_kernel", blocks, threads, int64_t{layout.team_bytes} * plan.clips_per_block);
    return;
  }
  const int halves = request.relation ? 2 : 1;
  add_launch(plan, "self_parts_kernel", layout.slots, threads, layout.team_bytes);
  if (request.relation) add_launch(plan, "relation_parts_kernel", layout.slots, threads, layout.rows_at);
  const int64_t parts = request.packed ? 0 : ceil_div(request.frames, layout.part_rows);
  const int64_t chunks = ceil_div(halves * request.dim, combined_columns(parts));
  // Packed clips of one part are complete: where there are many clips a block looks at several.
  const int64_t share = request.packed ? ceil_div(request.clips * chunks, kManyBlocks) : 1;
  const int64_t groups = ceil_div(request.clips, std::clamp<int64_t>(share, 1, kWarpSize));
  add_launch(plan, "combine_parts_kernel", groups * chunks, kMaxThreads, layout.row_groups);
  plan.workspace = kForwardScalars * padded_slots(layout.slots) + halves * layout.slots * padded_dim(request.dim);
}

void add_backward_launches(const Request& request, const Device& device, int threads, Plan& plan) {
  const Layout& layout = plan.layout;
  const bool split = plan.regime == Regime::kSplit;
  // Each block leaves a row of partial sums; it takes clips, or parts of them, in turn to leave few of these.
  const int64_t teams = std::max<int64_t>(split ? layout.slots : ceil_div(request.clips, plan.clips_per_block), 1);
  const int64_t limit = kBlocksPerMultiprocessor * device.multiprocessors / kMaxClusterBlocks * kMaxClusterBlocks;
  int64_t blocks = std::min(teams * plan.cluster, limit);
  if (request.max_blocks > 0) blocks = std::min(blocks, request.max_blocks * plan.cluster);
  const int64_t width = partial_width(request.dim, request.relation);
  if (split) {
    add_launch(plan, "gradient_parts_kernel", layout.slots, threads, layout.team_bytes);
    plan.workspace = kBackwardScalars * padded_slots(layout.slots);
  }
  // The second sweep over parts keeps no rows; but a clip of one part has no other sweep.
  const bool keeps_rows = !split || request.packed || request.frames <= layout.part_rows;
  const int64_t shared_bytes = keeps_rows ? int64_t{layout.team_bytes} * plan.clips_per_block : layout.rows_at;
  add_launch(plan, "backward_kernel", blocks, threads, shared_bytes);
  add_launch(plan, "reduce_kernel", ceil_div(width, kSumColumns), kReduceThreads,
             kReduceThreads * accumulator_size(request.type));
  plan.partial_rows = blocks;
  plan.workspace += blocks * width + 2 * request.total_frames;
}

}  // namespace

// Nothing here but numbers of blocks depends on the number of clips, unless they are packed and nobody says how long
// the longest is: a clip's bits are the same in every batch.
Plan make_plan(const Request& request) {
  Device device = find_device(request.target.compute_capability);
  if (request.shared_per_block > 0) device.shared_per_block = request.shared_per_block;
  const int64_t shared = device.shared_per_block;
  const int64_t vectors = ceil_div(request.dim, 16 / element_size(request.type));
  Plan plan{};
  plan.cluster = 1;
  plan.clips_per_block = 1;
  Request bounded = request;
  if (request.frames < 0 && (request.clips <= kFewClips || request.total_frames <= kFewFrames)) {
    bounded.frames = request.total_frames;
  }
  int threads = 0;
  if (bounded.frames >= 0) {
    threads = plan_warps(bounded, shared, plan);
    if (threads == 0) threads = plan_resident(bounded, shared, vectors, plan);
    if (threads == 0) threads = plan_cluster(bounded, shared, vectors, plan);
  }
  if (threads == 0) threads = plan_split(request, shared, vectors, plan);
  if (request.backward) {
    add_backward_launches(request, device, threads, plan);
  } else {
    add_forward_launches(request, threads, plan);
  }
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
    case Regime::kSplit:
      return "split";
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
