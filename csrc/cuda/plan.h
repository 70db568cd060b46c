// How a call is laid out on the device: which regime, how many blocks and threads, what lies where in shared memory.
// Plain host code, so that it can be asked for, and tested, without a device; the launcher calls the same function.
#pragma once

#include <cstdint>

namespace fan::cuda {

enum class DataType : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 3 };

enum class Regime : int {
  kWarpPerClip,  // few frames: a warp takes a clip, a block several clips; features are read once
  kResident,     // a block takes a clip, which fits in its shared memory; features are read once
  kCluster,      // a cluster of blocks takes a clip, which fits in their shared memory together; features are read once
  kSplit,        // a block takes a part of a clip, several kernels one step; clips of several parts are read twice
};

// The threads that share a clip, a team. In the split regime a block takes a part of a clip.
enum class Scope { kWarp, kBlock, kCluster, kPart };

constexpr int kWarpSize = 32;
constexpr int kMaxThreads = 256;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
// Rows a warp takes at a time: each vector of parameters it loads serves that many.
constexpr int kRowsPerStep = 4;
// Frames whose scalars are in shared memory together; a multiple of every team's size.
constexpr int kBlockTile = kMaxThreads;
constexpr int kWarpTile = kWarpSize;
constexpr int kTileArrays = 6;
constexpr int kMaxReduced = 5;
// What every device with clusters can run.
constexpr int kMaxClusterBlocks = 8;
// Columns that a block adds up over rows of partial sums, a warp's width of them; of few rows a block's.
constexpr int kSumColumns = kWarpSize;
constexpr int64_t kFewParts = kMaxWarps;
constexpr int kReduceThreads = 1024;
// More parts than so many make the parts of a clip longer instead: each block looks at what all parts of its clip have
// left.
constexpr int64_t kManyParts = 1024;

// How kernels find their way. Offsets are bytes from the start of the team's memory; a cluster has as much in each of
// its blocks.
struct Layout {
  int64_t rows;  // features that fit in shared memory, from the first frame of the clip, or of the block's part of it
  int64_t part_rows;   // split: see part_rows_of
  int64_t slots;       // split: places for the partial results of parts
  int32_t copy_bytes;  // rows of features start at multiples of it: 16, 8, 4 or 2
  bool aligned;     // all other rows, of results and parameters, start at multiples of 16 bytes; all end at some, too
  int32_t tile;     // kTileArrays arrays of scalars per frame
  int32_t reduced;  // partial results of reductions
  int32_t row_groups;  // partial sums of the row groups and of the cluster's blocks (forward)
  int32_t sums;        // gradients of the parameters summed over the team's clips (backward), or -1: in global memory
  int32_t rows_at;     // the features, last: kernels that keep none ask for less
  int32_t team_bytes;  // of all of it
};

struct Launch {
  const char* kernel;
  int64_t blocks;
  int threads;
  int64_t shared_bytes;
};

constexpr int kMaxLaunches = 3;

struct Plan {
  Regime regime;
  int cluster;  // blocks
  int clips_per_block;
  Layout layout;
  int launches;
  Launch launch[kMaxLaunches];  // in this order
  int64_t partial_rows;         // backward: rows of partial sums of the parameters' gradients
  int64_t workspace;            // accumulators
};

struct Target {
  int compute_capability;  // of the device, 90 for 9.0
  bool clusters;           // the kernels are compiled for a device that has them
};

struct Request {
  int64_t clips;
  int64_t frames;  // of the longest clip, or -1: not known
  int64_t total_frames;
  int64_t dim;
  bool packed;
  bool relation;
  DataType type;
  Target target;
  bool backward;
  int copy_bytes;  // see Layout
  bool aligned;
  // For tests of a small device. What a block may ask for, and the most blocks, or clusters, that share out the clips
  // of the backward pass; 0: as the device has it.
  int64_t shared_per_block = 0;
  int64_t max_blocks = 0;
};

Plan make_plan(const Request& request);

constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Frames of a clip that each block of a cluster takes, but for the last ones.
constexpr int64_t rows_of_part(int64_t frames, int64_t blocks) {
  return ceil_div(ceil_div(frames, kRowsPerStep), blocks) * kRowsPerStep;
}

// Frames of a part of a split clip, but for its last one; at least so many.
constexpr int64_t part_rows_of(int64_t frames, int64_t least) {
  const int64_t wanted = round_up(ceil_div(frames, kManyParts), kRowsPerStep);
  return wanted < least ? least : wanted < kBlockTile ? wanted : kBlockTile;
}

// Columns of clips of so many parts that a block combines; of packed clips, whose parts the host cannot count (0), the
// fewest.
constexpr int combined_columns(int64_t parts) {
  return 0 < parts && parts <= kFewParts ? kMaxThreads : kSumColumns;
}

const char* name_of(Regime regime);
int64_t element_size(DataType type);
int64_t accumulator_size(DataType type);

// The backward pass's parameter gradients, one row a block: self_weight, both halves of relation_weight, both biases.
constexpr int64_t partial_width(int64_t dim, bool relation) {
  return relation ? 3 * dim + 2 : dim + 1;
}

// What a part of a clip leaves in its slot: scalars, and forward the sums of its rows.
constexpr int kForwardScalars = 5;
constexpr int kBackwardScalars = 10;

// An array over the slots, and a row of sums, keep what follows at a multiple of 16 bytes.
constexpr int64_t padded_slots(int64_t slots) {
  return round_up(slots, 4);
}
constexpr int64_t padded_dim(int64_t dim) {
  return round_up(dim, 8);
}

}  // namespace fan::cuda
