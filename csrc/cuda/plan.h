// How a call is laid out on the device: which regime, how many blocks and threads, what lies where in shared memory.
// Plain host code, so that it can be asked for, and tested, without a device; the launcher calls the same function.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace fan::cuda {

enum class DataType : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 3 };

enum class Regime : int {
  kRegisters,  // few frames: a block, a warp or a part of one keeps a clip in its registers
  kBlock,      // a block takes a clip, which fits in its shared memory
  kCluster,    // a cluster of blocks takes a clip, which fits in their shared memory together
  kSplit,      // a block takes a part of a clip, several kernels one step; clips of several parts are read twice
};

constexpr int kWarpSize = 32;
constexpr int kMaxThreads = 256;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
// Rows that some lanes of a warp take at a time: each vector of parameters they load serves that many.
constexpr int rows_per_step(int64_t element_size) {
  return element_size == 2 ? 8 : 4;
}
// Blocks and parts share out a clip's frames by multiples of it.
constexpr int kQuantum = 4;
constexpr int kMaxReduced = 4;
constexpr int kMaxPartRows = 256;
// Clips in registers: the rows that some lanes share, the pieces of a row that each of them has, and the threads of a
// block whose warps take a clip or several.
constexpr int register_rows_of(int64_t element_size) {
  return element_size == 8 ? 2 : 4;
}
constexpr int register_pieces_of(int64_t element_size) {
  return element_size == 2 ? 2 : 4;
}
constexpr int kRegisterThreads = 128;
constexpr int kReduceThreads = 1024;
constexpr int kCombinedParts = 256;  // of a clip, whose weights are in shared memory at a time

// What lies in a block's shared memory, in this order.
enum Area {
  kReduced,  // partial results of reductions
  kFrames,   // kFrameArrays numbers of each frame
  kVectors,  // what rows are multiplied with; later, the sums of row groups (forward, but for clips in registers)
  kSums,     // each thread's part of the parameters' gradients (backward); the sums of row groups (clips in registers)
  kRows,     // the features
  kAreas
};
constexpr int kFrameArrays = 6;

// How kernels find their way.
struct Layout {
  int32_t at[kAreas + 1];  // bytes from the start of shared memory to an area; at last, the end
  int32_t frames;          // that kFrames has room for
  int32_t rows;            // of features in shared memory at a time
  int32_t columns;         // of these: all, unless so few rows would fit that the columns of split clips come in turn
  int32_t lanes;           // of a warp that share a row
  int32_t team, teams;     // threads that share a clip in registers, and how many of these teams a block has
  int32_t copy_bytes;      // rows of features start at multiples of it: 16, 8, 4 or 2
  bool aligned;            // all other rows, of results and parameters, start and end at multiples of 16 bytes
  int32_t shares;          // split, forward: blocks that combine the parts of a clip
  int64_t part_rows;       // split: see part_rows_of; else 0
  int64_t slots;           // clips; split: places for the partial results of parts
  int64_t partial_rows;    // backward: rows of partial sums of the parameters' gradients
  int64_t partial_at;      // where they begin in the workspace
};

struct Launch {
  const char* kernel;
  int64_t blocks;
  int threads;
  int64_t shared_bytes;
  int cluster;  // blocks
};

struct Plan {
  Regime regime;
  int cluster;
  int clips_per_block;
  Layout layout;
  int launches;
  Launch launch[3];   // in this order
  int64_t workspace;  // accumulators
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

const char* name_of(Regime regime);

// The largest power of two, up to 16, that divides all the addresses.
inline int alignment_of(std::initializer_list<uintptr_t> bytes) {
  uintptr_t bits = 16;
  for (const uintptr_t each : bytes) bits |= each;
  return static_cast<int>(bits & (~bits + 1));
}
constexpr int64_t element_size(DataType type) {
  return type == DataType::kFloat64 ? 8 : type == DataType::kFloat32 ? 4 : 2;
}
constexpr int64_t accumulator_size(DataType type) {
  return type == DataType::kFloat64 ? 8 : 4;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return ceil_div(value, multiple) * multiple;
}

// Frames of a clip that each block of a cluster takes, but for the last ones.
constexpr int64_t rows_of_block(int64_t frames, int64_t blocks) {
  return ceil_div(ceil_div(frames, kQuantum), blocks) * kQuantum;
}

// Frames of a part of a split clip, but for its last one; at least so many. A block looks at what all parts of its clip
// have left: where they would be too many they are longer.
constexpr int64_t part_rows_of(int64_t frames, int64_t least) {
  const int64_t wanted = round_up(ceil_div(frames, 1024), kQuantum);
  return wanted < least ? least : wanted < kMaxPartRows ? wanted : kMaxPartRows;
}

// A row of partial sums of the parameters' gradients: self_weight, both halves of relation_weight, both biases.
constexpr int64_t partial_width(int64_t dim, bool relation) {
  return relation ? 3 * dim + 2 : dim + 1;
}

// What a part of a clip leaves in its slot: scalars, and forward the sums of its rows, from a multiple of 16 bytes on.
constexpr int kForwardScalars = 6;
constexpr int kBackwardScalars = 7;
constexpr int64_t padded_slots(int64_t slots) {
  return round_up(slots, 4);
}
constexpr int64_t padded_dim(int64_t dim) {
  return round_up(dim, 8);
}

}  // namespace fan::cuda
