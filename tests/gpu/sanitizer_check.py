"""compute-sanitizer over one call of every regime, dtype and layout: memcheck, racecheck, initcheck and synccheck.

    python tests/gpu/sanitizer_check.py [--device cpu]

Ends with 1 if a tool reports an error or a result is wrong, with 2 where the tool or a GPU is missing. `--device cpu`
tries the calls themselves out: the tools then have nothing to look at.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from operator_cases import DTYPES, assert_close, make_case, truth

import fan_ext

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
LAYOUTS = ("dense", "masked", "packed", "self-only")
# Frames and D: a warp per clip, a block, unaligned rows, a cluster or parts, parts: beyond a cluster in every dtype,
# aligned and not.
SIZES = ((3, 64), (20, 64), (20, 31), (300, 512), (1000, 1024), (1000, 1023))
# Packed clips of a length that the host does not know: few, and one long one among many of a frame each.
UNKNOWN = ((20, 31), (300, 512))
_FOUND = 9  # exit code of a tool that found something


def find_tool() -> str | None:
    """compute-sanitizer of the CUDA toolkit, or of its wheel."""
    folders = [Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin", *Path("/usr/local").glob("cuda*/bin")]
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))


def make_calls(device: str) -> None:
    """Forward and all gradients, against the float64 reference."""
    for frames, dim in SIZES:
        for layout in LAYOUTS:
            for dtype in DTYPES:
                case = make_case(layout, frames, dim, dtype)
                assert_close(case.to(device).run(fan_ext.frame_attention), truth(case), dtype)
    for frames, dim in UNKNOWN:
        for dtype in DTYPES:
            case = make_case("packed", frames, dim, dtype)
            del case.layout["max_frames"]
            assert_close(case.to(device).run(fan_ext.frame_attention), truth(case), dtype)
            case.layout["offsets"] = torch.tensor([0, *range(frames, len(case.features) + 1)])
            assert_close(case.to(device).run(fan_ext.frame_attention), truth(case), dtype)
    count = (len(SIZES) * len(LAYOUTS) + 2 * len(UNKNOWN)) * len(DTYPES)
    print(f"{count} calls on {device} are right")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--calls-only", action="store_true", help="without a tool: what a tool looks at")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("sanitizer_check: no GPU that torch can use", file=sys.stderr)
        return 2
    if options.calls_only:
        make_calls(options.device)
        return 0
    tool = find_tool()
    if tool is None:
        print(
            "sanitizer_check: compute-sanitizer is not there: pip install 'nvidia-cuda-sanitizer-api==13.0.*'",
            file=sys.stderr,
        )
        return 2
    # Each tensor in memory of its own: what torch's allocator keeps in store would hide accesses beyond a tensor.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    failed = []
    for name in TOOLS:
        print(f"== {name}", flush=True)
        command = [tool, "--tool", name, "--error-exitcode", str(_FOUND), sys.executable, __file__]
        command += ["--calls-only", "--device", options.device]
        code = subprocess.run(command, env=environment).returncode
        if code != 0:
            failed.append(f"{name} ({'it reports errors' if code == _FOUND else f'exit code {code}'})")
    if failed:
        print(f"sanitizer_check: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
