"""The table of docs/cuda.md: what a GPU would be asked to do, and the least time that its memory allows.

    python benchmarks/launch_table.py [--capability 9.0] [--bandwidth 3.35]

Everything comes from fan_ext.cuda_launch_plan and arithmetic; nothing is measured, and no GPU is needed.
"""

from __future__ import annotations

import argparse

import fan_ext

SHAPES = ((4096, 3), (4096, 16), (1024, 32), (256, 100), (64, 300), (16, 1000))
DIM = 512
BYTES = {"float32": 4, "float16": 2}


def moved_bytes(clips: int, frames: int, dtype: str, backward: bool, blocks: int) -> int:
    """Bytes to and from global memory, if features are read once."""
    features = clips * frames * DIM * BYTES[dtype]
    out = clips * 2 * DIM * BYTES[dtype]
    logits = 3 * clips * frames * 4  # saved in float32
    if not backward:
        return features + out + logits
    # Each block writes a row of partial gradients of the parameters, which the second launch reads.
    partial = 2 * blocks * (3 * DIM + 2) * 4
    return 2 * features + 2 * out + logits + partial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", default="9.0", help="compute capability of the device (default: 9.0)")
    parser.add_argument("--bandwidth", type=float, default=3.35, help="of its memory, TB/s (default: 3.35, an H100)")
    arguments = parser.parse_args()
    major, minor = map(int, arguments.capability.split("."))
    print("| clips x frames | dtype | pass | regime | blocks x threads | shared KiB a block | MB | predicted us |")
    print("|---|---|---|---|---|---|---|---|")
    for dtype in BYTES:
        for clips, frames in SHAPES:
            for backward in (False, True):
                plan = fan_ext.cuda_launch_plan(clips, frames, DIM, dtype, (major, minor), backward)
                regime = plan["regime"] + (f" of {plan['cluster']}" if plan["cluster"] > 1 else "")
                size = moved_bytes(clips, frames, dtype, backward, plan["grid"])
                print(
                    f"| {clips} x {frames} | {dtype} | {'backward' if backward else 'forward'} | {regime} "
                    f"| {plan['grid']} x {plan['block']} | {plan['shared_bytes'] / 1024:.0f} | {size / 1e6:.1f} "
                    f"| {size / arguments.bandwidth / 1e6:.0f} |"
                )


if __name__ == "__main__":
    main()
