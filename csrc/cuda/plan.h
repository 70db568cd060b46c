// How a call is laid out on the device: which regime, how many blocks and threads, what lies where in shared memory.
// Plain host code, so that it can be asked for, and tested, without a device; the launcher calls the same function.
#pragma once

#include <cstdint>

namespace fan::cuda {

enum class DataType : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 3 };

enum class Regime : int {
  kWarpPerClip,  // few frames: a warp takes a clip, a block several clips; features are read once
  kResident,     // a block takes a clip, which fits in its shared memory; features are read once
  kCluster,      // a cluster of blocks takes a clip; what fits in their shared memory together is read once
  kStreamed,     // a block takes a clip of any length; the second read of the features is left to L2
};

// The threads that share a clip, a team.
enum class Scope { kWarp, kBlock, kCluster };

constexpr int kWarpSize = 32;
constexpr int kMaxThreads = 256;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
// Rows a warp takes at a time: each vector of parameters it loads serves that many.
constexpr int kRowsPerStep = 4;
// Frames whose scalars are in shared memory together; a multiple of every team's size.
constexpr int kBlockTile = kMaxThreads;
constexpr int kWarpTile = kWarpSize;
constexpr int kTileArrays = 6;
constexpr int kMaxReduced = 4;
// What every device with clusters can run.
constexpr int kMaxClusterBlocks = 8;

// Offsets are bytes from the start of the team's memory; a cluster has as much in each of its blocks.
struct Layout {
  int64_t rows;  // features that fit in shared memory, from the first frame of the clip, or of the block's part of it
  int32_t tile;  // kTileArrays arrays of scalars per frame
  int32_t reduced;     // partial results of reductions
  int32_t row_groups;  // partial sums of the row groups and of the cluster's blocks (forward)
  int32_t sums;        // gradients of the parameters summed over the team's clips (backward), or -1: in global memory
  int32_t team_bytes;  // of all of it
};

struct Plan {
  Regime regime;
  int64_t blocks;
  int threads;
  int clips_per_block;
  int64_t shared_bytes;
  int cluster;  // blocks
  int launches;
  bool aligned;
  Layout layout;
};

struct Request {
  int64_t clips;
  int64_t frames;  // of the longest clip, or -1: not known
  int64_t dim;
  DataType type;
  int compute_capability;  // 90 for 9.0
  bool backward;
  bool aligned;                  // all rows start at multiples of 16 bytes and dim is a multiple of a vector
  int64_t shared_per_block = 0;  // what a block may ask for, or 0: as much as the device has
};

Plan make_plan(const Request& request);

// Frames of a clip that each block of a cluster takes, but for the last ones.
constexpr int64_t rows_of_part(int64_t frames, int64_t blocks) {
  const int64_t steps = (frames + kRowsPerStep - 1) / kRowsPerStep;
  return (steps + blocks - 1) / blocks * kRowsPerStep;
}

const char* name_of(Regime regime);
int64_t element_size(DataType type);
int64_t accumulator_size(DataType type);

// The backward pass's parameter gradients, one row a block: self_weight, both halves of relation_weight, both biases.
constexpr int64_t partial_width(int64_t dim, bool relation) {
  return relation ? 3 * dim + 2 : dim + 1;
}

// Accumulators the backward pass needs as workspace: a row of partial sums a block, then two scalars a frame.
inline int64_t workspace_size(const Plan& plan, int64_t dim, bool relation, int64_t total_frames) {
  return plan.blocks * partial_width(dim, relation) + 2 * total_frames;
}

}  // namespace fan::cuda
