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
// Beyond this a block's gradient sums stay in global memory.
constexpr int64_t kMaxSumsBytes = 32 * kKiB;
// Frames of a part of a split clip: twice as many as a block's warps take at a time.
constexpr int64_t kPartRows = 2 * kMaxWarps * kQuantum;
// Of so few packed clips each may be as long as all of them: even clusters of the most blocks run at once.
constexpr int64_t kFewClips = 16;
constexpr int64_t kFewFrames = 16;
// The most blocks of a cluster. Of more, parts of the clip are quicker, though they are read twice (docs/cuda.md,
// section 5).
constexpr int kMaxForwardCluster = 4, kMaxBackwardCluster = 2;
// The longest clips in registers. In half precision shared memory is quicker sooner (docs/cuda.md, section 4).
constexpr int64_t kMaxRegisterFrames = 32;
constexpr int64_t kMaxHalfRegisterFrames = 8;
// The least lanes that share a row in registers: one for each of their rows.
constexpr int64_t kRegisterRowLanes = 4;
// Of blocks that combine parts: several times as many as run at once.
constexpr int64_t kManyBlocks = 1024;

constexpr Device kDevices[] = {
    {70, 80, 96 * kKiB, 2048, 32},   {75, 40, 64 * kKiB, 1024, 16},    {80, 108, 163 * kKiB, 2048, 32},
    {86, 84, 99 * kKiB, 1536, 16},   {87, 16, 163 * kKiB, 1536, 16},   {89, 128, 99 * kKiB, 1536, 24},
    {90, 132, 227 * kKiB, 2048, 32}, {100, 148, 227 * kKiB, 2048, 32}, {103, 148, 227 * kKiB, 2048, 32},
    {120, 170, 99 * kKiB, 1536, 24},
};

// A device not in the list has at least what the smaller ones of its time have.
Device find_device(const Request& request) {
  const int capability = request.target.compute_capability;
  Device found{capability, 64, capability >= 80 ? 99 * kKiB : 48 * kKiB, 1024, 16};
  for (const Device& device : kDevices) {
    if (device.compute_capability == capability) found = device;
  }
  if (request.shared_per_block > 0) found.shared_per_block = request.shared_per_block;
  return found;
}

// Lanes that share a row of so many pieces, a few each, at least so many.
int lanes_for(int64_t pieces, int64_t each, int64_t least) {
  int64_t lanes = least;
  while (lanes < kWarpSize && lanes * each < pieces) lanes *= 2;
  return static_cast<int>(lanes);
}

struct Planner {
  const Request& request;
  const Device device = find_device(request);
  const int64_t width = 16 / element_size(request.type);  // elements of a piece
  const int64_t register_pieces = register_pieces_of(element_size(request.type));
  const int64_t accumulator = accumulator_size(request.type);
  const int64_t weights = request.relation ? 3 : 1;  // vectors of parameters
  const int64_t pieces = ceil_div(request.dim, width);
  Plan plan{};
  int threads = 0;
  int64_t bytes = 0;  // of shared memory

  // frames: whose numbers are kept, of which rows are there at a time, and of these so many columns. Whether they fit.
  bool lay_out(int64_t frames, int64_t rows, int64_t columns) {
    Layout& layout = plan.layout;
    const bool in_registers = plan.regime == Regime::kRegisters;
    const int64_t row = ceil_div(columns, width);  // pieces
    const int64_t step =
        in_registers ? lanes_for(row, register_pieces, kRegisterRowLanes) : std::min<int64_t>(row, threads);
    int64_t sums = ceil_div(row, step) * weights * width * threads;
    bool keeps_sums =
        request.backward && (in_registers || (columns == request.dim && sums * accumulator <= kMaxSumsBytes));
    int64_t vectors = weights * width * (in_registers ? step * register_pieces : row);
    if (!request.backward) {
      const int64_t of_groups = std::min<int64_t>(weights, 2) * width * threads;
      if (in_registers) {
        sums = of_groups * register_pieces;
        keeps_sums = layout.team > step;
      } else if (threads >= 2 * step || plan.regime == Regime::kCluster) {
        vectors = std::max(vectors, of_groups);
      }
    }
    layout.lanes =
        static_cast<int32_t>(in_registers ? step : lanes_for(row, 1, rows_per_step(element_size(request.type))));
    layout.frames = static_cast<int32_t>(round_up(frames, 4));
    layout.rows = static_cast<int32_t>(rows);
    layout.columns = static_cast<int32_t>(columns);
    const int64_t of_areas[kAreas] = {2 * (kMaxWarps + 1) * kMaxReduced * accumulator,
                                      kFrameArrays * layout.frames * accumulator, vectors * accumulator,
                                      keeps_sums ? sums * accumulator : 0, rows * row * 16};
    bytes = 0;
    for (int k = 0; k < kAreas; ++k) {
      bytes += round_up(of_areas[k], 16);
      layout.at[k + 1] = static_cast<int32_t>(bytes);
    }
    return bytes <= device.shared_per_block;
  }

  // A power of two. Small clips get fewer threads, none of whose warps is without rows or columns.
  int block_threads(int64_t frames) const {
    const int64_t step = rows_per_step(element_size(request.type));
    const int64_t useful =
        std::max(ceil_div(frames, kWarpSize / lanes_for(pieces, 1, step) * step) * kWarpSize, pieces);
    int count = kWarpSize;
    while (count < kMaxThreads && count * 8 < frames * pieces && count < useful) count *= 2;
    return count;
  }

  bool fits_registers(int64_t frames) {
    plan.regime = Regime::kRegisters;
    const bool half = element_size(request.type) == 2;
    if (frames > (half ? kMaxHalfRegisterFrames : kMaxRegisterFrames) || pieces > kWarpSize * register_pieces ||
        request.copy_bytes < 16 || !request.aligned) {
      return false;
    }
    int team = lanes_for(pieces, register_pieces, kRegisterRowLanes);
    int64_t rows = register_rows_of(element_size(request.type));
    for (; rows < frames && team <= kMaxThreads; rows *= 2) team *= 2;
    if (team > kMaxThreads) return false;
    threads = team > kWarpSize ? team : kRegisterThreads;
    plan.layout.team = team;
    plan.layout.teams = threads / team;
    if (!lay_out(plan.layout.teams * rows, 0, request.dim)) return false;
    plan.clips_per_block = plan.layout.teams;
    return true;
  }

  bool fits_block(int64_t frames) {
    plan.regime = Regime::kBlock;
    threads = block_threads(frames);
    return lay_out(frames, frames, request.dim);
  }

  // No more blocks than it takes, but two at least.
  bool fits_cluster(int64_t frames) {
    if (!request.target.clusters) return false;
    plan.regime = Regime::kCluster;
    for (int blocks = 2; blocks <= (request.backward ? kMaxBackwardCluster : kMaxForwardCluster); blocks *= 2) {
      const int64_t rows = rows_of_block(frames, blocks);
      threads = block_threads(rows);
      plan.cluster = blocks;
      if (lay_out(rows, rows, request.dim)) return true;
    }
    return false;
  }

  void split() {
    plan.regime = Regime::kSplit;
    plan.cluster = 1;
    // Of packed clips nobody knows, the average one is what threads and shared memory are for: one of twice its length
    // is read once where so many rows fit. A longer clip has parts.
    const bool known = request.frames >= 0;
    const int64_t typical =
        known ? request.frames : ceil_div(request.total_frames, std::max<int64_t>(request.clips, 1));
    const int64_t wanted = known ? kPartRows : std::clamp<int64_t>(2 * typical, kQuantum, kMaxPartRows);
    threads = block_threads(std::min(typical, wanted));
    int64_t columns = request.dim, rows = 0;
    for (;; columns = round_up(ceil_div(columns, 2), width)) {
      lay_out(kMaxPartRows, 0, columns);
      const auto fitting = [&](int64_t all) {
        return std::max<int64_t>(all - bytes, 0) / (ceil_div(columns, width) * 16);
      };
      rows = fitting(device.shared_per_block / 2 - kKiB);  // of two blocks one loads while the other computes
      if (rows < wanted / 2) rows = fitting(device.shared_per_block);
      if (rows >= kQuantum || columns <= width) break;
    }
    rows = std::clamp<int64_t>(rows / kQuantum * kQuantum, 1, round_up(wanted, kQuantum));
    lay_out(kMaxPartRows, rows, columns);
    // Forward rows stay where they are only if a part has no more of them; the backward pass does not come back to
    // them.
    const bool all_columns = columns == request.dim;
    const int64_t least = std::max(all_columns ? rows : 0, request.backward || !all_columns ? kPartRows : kQuantum);
    plan.layout.part_rows = request.packed ? least : part_rows_of(request.frames, least);
    // See Parts::slot_of.
    plan.layout.slots = request.packed ? request.total_frames / least + request.clips
                                       : request.clips * ceil_div(request.frames, plan.layout.part_rows);
  }

  // Blocks that run at once on the device: 128 registers a thread, see the kernels' launch bounds, or twice as many.
  int64_t resident_blocks() const {
    const int64_t registers = threads * (request.type == DataType::kFloat64 ? 256 : 128);
    const int64_t each = std::min({kRegisters / registers, (device.shared_per_block + kKiB) / (bytes + kKiB),
                                   int64_t{device.most_threads / threads}, int64_t{device.most_blocks}});
    return device.multiprocessors * std::max<int64_t>(each, 1);
  }

  void add_launch(const char* kernel, int64_t blocks, int block_size, int64_t shared_bytes, int cluster = 1) {
    plan.launch[plan.launches++] = {kernel, std::max<int64_t>(blocks, cluster), block_size, shared_bytes, cluster};
  }

  void add_forward_launches() {
    Layout& layout = plan.layout;
    if (plan.regime == Regime::kRegisters) {
      const int64_t blocks = std::min(ceil_div(request.clips, plan.clips_per_block), resident_blocks());
      return add_launch("register_forward_kernel", blocks, threads, bytes);
    }
    add_launch("forward_kernel", layout.slots * plan.cluster, threads, bytes, plan.cluster);
    if (plan.regime != Regime::kSplit) return;
    if (request.relation) add_launch("sums_kernel", layout.slots, threads, bytes);
    const int64_t results = request.relation ? 2 : 1, clips = std::clamp<int64_t>(request.clips, 1, kManyBlocks);
    layout.shares =
        static_cast<int32_t>(std::clamp<int64_t>(kManyBlocks / clips, 1, ceil_div(results * request.dim, kWarpSize)));
    add_launch("combine_kernel", clips * layout.shares, kMaxThreads,
               layout.at[kVectors] + (kMaxThreads + kCombinedParts) * accumulator);
    plan.workspace = kForwardScalars * padded_slots(layout.slots) + results * layout.slots * padded_dim(request.dim);
  }

  // Each block leaves a row of partial sums; it takes clips, or parts of them, in turn to leave few of these.
  void add_backward_launches() {
    Layout& layout = plan.layout;
    int64_t teams = std::max<int64_t>(ceil_div(layout.slots, plan.clips_per_block), 1);
    teams = std::min(teams, resident_blocks() / plan.cluster);
    if (request.max_blocks > 0) teams = std::min(teams, request.max_blocks);
    if (plan.regime == Regime::kSplit) {
      add_launch("gradient_sums_kernel", layout.slots, threads, bytes);
      plan.workspace = kBackwardScalars * padded_slots(layout.slots) + 2 * request.total_frames;
    }
    layout.partial_rows = teams * plan.cluster;
    layout.partial_at = plan.workspace;
    const int64_t sums = partial_width(request.dim, request.relation);
    plan.workspace += layout.partial_rows * sums;
    add_launch(plan.regime == Regime::kRegisters ? "register_backward_kernel" : "backward_kernel", layout.partial_rows,
               threads, bytes, plan.cluster);
    add_launch("reduce_kernel", ceil_div(sums, kWarpSize), kReduceThreads, kReduceThreads * accumulator);
  }
};

}  // namespace

// Nothing here but numbers of blocks depends on the number of clips, unless they are packed and nobody says how long
// the longest is: a clip's bits are the same in every batch.
Plan make_plan(const Request& request) {
  Planner planner{request};
  Plan& plan = planner.plan;
  plan.cluster = plan.clips_per_block = 1;
  plan.layout.copy_bytes = request.copy_bytes;
  plan.layout.aligned = request.aligned;
  plan.layout.slots = request.clips;
  const bool few = request.clips <= kFewClips || request.total_frames <= kFewFrames;
  const int64_t frames = request.frames >= 0 || !few ? request.frames : request.total_frames;
  if (frames < 0 || !(planner.fits_registers(frames) || planner.fits_block(frames) || planner.fits_cluster(frames))) {
    planner.split();
  }
  if (request.backward) {
    planner.add_backward_launches();
  } else {
    planner.add_forward_launches();
  }
  return plan;
}

const char* name_of(Regime regime) {
  constexpr const char* kNames[] = {"registers", "resident", "cluster", "split"};
  return kNames[static_cast<int>(regime)];
}

}  // namespace fan::cuda
