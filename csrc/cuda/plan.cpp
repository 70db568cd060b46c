#include "plan.h"

#include <algorithm>

namespace fan::cuda {
namespace {

struct Device {
  int compute_capability;
  int multiprocessors;            // of the largest common card: sizes grids whose blocks take clips in turn
  int64_t shared_per_block;       // the most a block may ask for
  int most_threads, most_blocks;  // on a multiprocessor
};

constexpr int64_t kKiB = 1024;
constexpr int64_t kRegisters = 65536;  // of a multiprocessor
// A thread's, at most, where two blocks of the most threads are to fit; see the kernels' launch bounds.
constexpr int64_t kRegistersPerThread = kRegisters / (2 * kMaxThreads);
// Beyond this a block's gradient sums stay in global memory.
constexpr int64_t kMaxSumsBytes = 32 * kKiB;
// Frames of a part of a split clip: some for each of a block's warps.
constexpr int64_t kPartRows = kMaxWarps * kQuantum;
// Of so few packed clips each may be as long as all of them: even clusters of the most blocks run at once.
constexpr int64_t kFewClips = 16;
constexpr int64_t kFewFrames = 16;
// Of blocks that combine parts: several times as many as run at once.
constexpr int64_t kManyBlocks = 1024;

constexpr Device kDevices[] = {
    {70, 80, 96 * kKiB, 2048, 32},   {75, 40, 64 * kKiB, 1024, 16},    {80, 108, 163 * kKiB, 2048, 32},
    {86, 84, 99 * kKiB, 1536, 16},   {87, 16, 163 * kKiB, 1536, 16},   {89, 128, 99 * kKiB, 1536, 24},
    {90, 132, 227 * kKiB, 2048, 32}, {100, 148, 227 * kKiB, 2048, 32}, {103, 148, 227 * kKiB, 2048, 32},
    {120, 170, 99 * kKiB, 1536, 24},
};

// A device not in the list has at least what the smaller ones of its time have.
Device find_device(int compute_capability) {
  for (const Device& device : kDevices) {
    if (device.compute_capability == compute_capability) return device;
  }
  return {compute_capability, 64, compute_capability >= 80 ? 99 * kKiB : 48 * kKiB, 1024, 16};
}

// A request, and what follows from it.
struct Planner {
  const Request& request;
  Device device;
  int64_t width;  // elements in 16 bytes
  Plan plan{};

  int64_t pieces(int64_t columns) const { return ceil_div(columns, width); }

  // Lanes that share a row of so many pieces, a few each, at least so many.
  static int lanes_for(int64_t pieces, int64_t each, int64_t least) {
    int64_t lanes = least;
    while (lanes < kWarpSize && lanes * each < pieces) lanes *= 2;
    return static_cast<int>(lanes);
  }

  // A power of two. Small clips get fewer threads, none of whose warps is without rows or columns.
  int block_threads(int64_t frames) const {
    const int64_t row = pieces(request.dim), step = rows_per_step(16 / width);
    const int64_t useful = std::max(ceil_div(frames, kWarpSize / lanes_for(row, 1, step) * step) * kWarpSize, row);
    int threads = kWarpSize;
    while (threads < kMaxThreads && threads * 8 < frames * row && threads < useful) threads *= 2;
    return threads;
  }

  // frames: whose numbers are kept, of which rows are there at a time, and of these so many columns.
  void set_layout(int64_t frames, int64_t rows, int64_t columns, int threads, Scope scope) {
    Layout& layout = plan.layout;
    const bool in_registers = plan.regime == Regime::kWarp;
    const int64_t accumulator = accumulator_size(request.type), row = pieces(columns) * width;
    layout.frames = static_cast<int32_t>(round_up(frames, 4));
    layout.rows = static_cast<int32_t>(rows);
    layout.columns = static_cast<int32_t>(columns);
    layout.lanes = in_registers ? lanes_for(pieces(columns), kWarpPieces(), width)
                                : lanes_for(pieces(columns), 1, rows_per_step(16 / width));
    layout.copy_bytes = request.copy_bytes;
    layout.aligned = request.aligned;
    const int64_t step = in_registers ? layout.lanes : std::min<int64_t>(pieces(columns), threads);
    int64_t numbers[kAreas] = {};
    numbers[kReduced] = 2 * (kMaxWarps + 1) * kMaxReduced;
    numbers[kFrames] = kFrameArrays * layout.frames;
    numbers[kVectors] = (request.relation ? 3 : 1) * (in_registers ? layout.lanes * kWarpPieces() * width : row);
    if (!request.backward && !in_registers && (threads >= 2 * step || scope == Scope::kCluster)) {
      numbers[kVectors] = std::max(numbers[kVectors], (request.relation ? 2 : 1) * width * threads);
    }
    const int64_t sums = ceil_div(pieces(columns), step) * (request.relation ? 3 : 1) * width * threads;
    if (request.backward && (in_registers || (columns == request.dim && sums * accumulator <= kMaxSumsBytes)))
      numbers[kSums] = sums;
    for (int k = 0; k < kAreas; ++k) {
      const int64_t bytes = k == kRows ? rows * row * element_size(request.type) : numbers[k] * accumulator;
      layout.at[k + 1] = static_cast<int32_t>(layout.at[k] + round_up(bytes, 16));
    }
  }
  int64_t kWarpPieces() const { return 16 / width; }

  // Rows that fit beside the rest in so much of a block's shared memory.
  int64_t fitting_rows(int64_t frames, int64_t columns, int64_t bytes, int threads, Scope scope) {
    set_layout(frames, 0, columns, threads, scope);
    return std::max<int64_t>(bytes - plan.layout.at[kAreas], 0) / (pieces(columns) * 16);
  }

  // Two blocks on a multiprocessor: one loads while the other computes.
  int64_t half() const { return device.shared_per_block / 2 - kKiB; }

  // Blocks of so many threads and bytes that run at once on the device.
  int64_t resident_blocks(int threads, int64_t bytes) const {
    const int64_t registers = request.type == DataType::kFloat64 ? 2 * kRegistersPerThread : kRegistersPerThread;
    const int64_t each =
        std::min({kRegisters / (registers * threads), (device.shared_per_block + kKiB) / (bytes + kKiB),
                  int64_t{device.most_threads / threads}, int64_t{device.most_blocks}});
    return device.multiprocessors * std::max<int64_t>(each, 1);
  }

  // Each of these lays out the plan and returns the threads of a block, or 0 where the clips do not fit.
  int plan_warp(int64_t frames) {
    if (frames > width || pieces(request.dim) > kWarpSize * kWarpPieces()) return 0;
    plan.regime = Regime::kWarp;
    set_layout(0, 0, request.dim, kWarpThreads, Scope::kBlock);
    if (plan.layout.at[kAreas] > device.shared_per_block) return 0;
    plan.clips_per_block = kWarpThreads / plan.layout.lanes;
    return kWarpThreads;
  }

  int plan_block(int64_t frames) {
    plan.regime = Regime::kBlock;
    const int threads = block_threads(frames);
    if (frames > fitting_rows(frames, request.dim, device.shared_per_block, threads, Scope::kBlock)) return 0;
    set_layout(frames, frames, request.dim, threads, Scope::kBlock);
    return threads;
  }

  int plan_cluster(int64_t frames) {
    if (!request.target.clusters) return 0;
    plan.regime = Regime::kCluster;
    const int threads = block_threads(rows_of_block(frames, kMaxClusterBlocks));
    // No more blocks than it takes, but two at least.
    for (int blocks = 2; blocks <= kMaxClusterBlocks; blocks *= 2) {
      const int64_t rows = rows_of_block(frames, blocks);
      if (rows > fitting_rows(rows, request.dim, device.shared_per_block, threads, Scope::kCluster)) continue;
      plan.cluster = blocks;
      set_layout(rows, rows, request.dim, threads, Scope::kCluster);
      return threads;
    }
    return 0;
  }

  int plan_split() {
    plan.regime = Regime::kSplit;
    // Of packed clips nobody knows, the average one is what threads and shared memory are for: one of twice its length
    // is read once where so many rows fit. A longer clip has parts.
    const int64_t typical =
        request.frames >= 0 ? request.frames : ceil_div(request.total_frames, std::max<int64_t>(request.clips, 1));
    const int64_t wanted =
        request.frames >= 0 ? kPartRows : std::clamp(2 * typical, int64_t{kQuantum}, int64_t{kMaxPartRows});
    const int threads = block_threads(std::min(typical, wanted));
    int64_t columns = request.dim, rows = 0;
    for (;; columns = round_up(ceil_div(columns, 2), width)) {
      rows = fitting_rows(kMaxPartRows, columns, half(), threads, Scope::kBlock);
      if (rows < wanted / 2)
        rows = fitting_rows(kMaxPartRows, columns, device.shared_per_block, threads, Scope::kBlock);
      if (rows >= kQuantum || columns <= width) break;
    }
    rows = std::clamp<int64_t>(rows / kQuantum * kQuantum, 1, round_up(wanted, kQuantum));
    set_layout(kMaxPartRows, rows, columns, threads, Scope::kBlock);
    // Forward rows stay where they are only if a part has no more of them; the backward pass does not come back to
    // them.
    const bool longer = request.backward || columns < request.dim;
    const int64_t least = std::max<int64_t>(columns < request.dim ? 0 : rows, longer ? kPartRows : kQuantum);
    plan.layout.part_rows = request.packed ? least : part_rows_of(request.frames, least);
    // See first_slot.
    plan.layout.slots = request.packed ? request.total_frames / least + request.clips
                                       : request.clips * ceil_div(request.frames, plan.layout.part_rows);
    return threads;
  }

  void add_launch(const char* kernel, int64_t blocks, int threads, int64_t shared_bytes) {
    plan.launch[plan.launches++] = {kernel, std::max<int64_t>(blocks, 1), threads, shared_bytes};
  }

  void add_forward_launches(int threads) {
    const Layout& layout = plan.layout;
    const int64_t bytes = layout.at[kAreas];
    if (plan.regime == Regime::kSplit) {
      const int64_t width_of_out = (request.relation ? 2 : 1) * request.dim;
      add_launch("logits_kernel", layout.slots, threads, bytes);
      if (request.relation) add_launch("sums_kernel", layout.slots, threads, bytes);
      const int64_t clips = std::clamp<int64_t>(request.clips, 1, kManyBlocks);
      plan.shares = static_cast<int>(std::clamp<int64_t>(kManyBlocks / clips, 1, ceil_div(width_of_out, kWarpSize)));
      add_launch("combine_kernel", clips * plan.shares, kMaxThreads,
                 layout.at[kVectors] + kMaxThreads * accumulator_size(request.type));
      plan.workspace = kForwardScalars * padded_slots(layout.slots) +
                       (request.relation ? 2 : 1) * layout.slots * padded_dim(request.dim);
    } else if (plan.regime == Regime::kWarp) {
      add_launch("warp_forward_kernel",
                 std::min(ceil_div(request.clips, plan.clips_per_block), resident_blocks(threads, bytes)), threads,
                 bytes);
    } else {
      add_launch("forward_kernel", std::max<int64_t>(request.clips, 1) * plan.cluster, threads, bytes);
    }
  }

  // Each block leaves a row of partial sums; it takes clips, or parts of them, in turn to leave few of these.
  void add_backward_launches(int threads) {
    const Layout& layout = plan.layout;
    const bool split = plan.regime == Regime::kSplit;
    const int64_t bytes = layout.at[kAreas], width = partial_width(request.dim, request.relation);
    const int64_t teams = std::max<int64_t>(split ? layout.slots : ceil_div(request.clips, plan.clips_per_block), 1);
    int64_t blocks = std::min(teams * plan.cluster, resident_blocks(threads, bytes) / plan.cluster * plan.cluster);
    if (request.max_blocks > 0) blocks = std::min(blocks, request.max_blocks * plan.cluster);
    if (split) {
      add_launch("gradient_sums_kernel", layout.slots, threads, bytes);
      plan.workspace = kBackwardScalars * padded_slots(layout.slots) + 2 * request.total_frames;
    }
    add_launch(split                          ? "gradients_kernel"
               : plan.regime == Regime::kWarp ? "warp_backward_kernel"
                                              : "backward_kernel",
               blocks, threads, bytes);
    add_launch("reduce_kernel", ceil_div(width, kWarpSize), kReduceThreads,
               kReduceThreads * accumulator_size(request.type));
    plan.partial_rows = blocks;
    plan.partial_at = plan.workspace;
    plan.workspace += blocks * width;
  }
};

}  // namespace

// Nothing here but numbers of blocks depends on the number of clips, unless they are packed and nobody says how long
// the longest is: a clip's bits are the same in every batch.
Plan make_plan(const Request& request) {
  Planner planner{request, find_device(request.target.compute_capability), 16 / element_size(request.type)};
  if (request.shared_per_block > 0) planner.device.shared_per_block = request.shared_per_block;
  planner.plan.cluster = planner.plan.clips_per_block = 1;
  const bool few = request.clips <= kFewClips || request.total_frames <= kFewFrames;
  const int64_t frames = request.frames >= 0 || !few ? request.frames : request.total_frames;
  int threads = 0;
  if (frames >= 0) {
    threads = planner.plan_warp(frames);
    if (threads == 0) threads = planner.plan_block(frames);
    if (threads == 0) threads = planner.plan_cluster(frames);
  }
  if (threads == 0) threads = planner.plan_split();
  if (request.backward) {
    planner.add_backward_launches(threads);
  } else {
    planner.add_forward_launches(threads);
  }
  return planner.plan;
}

const char* name_of(Regime regime) {
  switch (regime) {
    case Regime::kWarp:
      return "warp per clip";
    case Regime::kBlock:
      return "resident";
    case Regime::kCluster:
      return "cluster";
    case Regime::kSplit:
      return "split";
  }
  return "unknown";
}

}  // namespace fan::cuda
