"""compute-sanitizer over one call of every regime, dtype and layout: memcheck, racecheck, initcheck and synccheck.

    python tests/gpu/sanitizer_check.py [--tool memcheck]... [--device cpu]

Ends with 1 if a tool reports an error, does not say that there is none, or a result is wrong; with 2 where the tool or
a GPU is missing. `--device cpu` tries the calls themselves out: the tools then have nothing to look at.
"""

from __future__ import annotations

import argparse
import os
import re
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
# Frames and D: registers of a warp and of a block, a block, unaligned rows; a cluster or parts, as the dtype decides;
# parts in every dtype, aligned and not.
SIZES = ((2, 64), (20, 64), (40, 64), (20, 31), (90, 512), (200, 512), (300, 512), (1000, 1024), (1000, 1023))
# Packed clips of a length that the host does not know: few, and one long one among many of a frame each.
UNKNOWN = ((20, 31), (300, 512))
# Packed clips with offsets of int32, and with parameters as narrow as the features.
NARROW = ((2, 64), (20, 31), (1000, 1024))
_FOUND = 9  # exit code of a tool that found something
# The last line of each tool, where there is nothing to report.
_NOTHING = re.compile(r"^=+ (?:ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards displayed)", re.MULTILINE)


def find_tool() -> str | None:
    """compute-sanitizer of the CUDA toolkit, or of its wheel."""
    folders = [Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin", *Path("/usr/local").glob("cuda*/bin")]
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))


def make_calls(device: str) -> None:
    """Forward and all gradients, against the float64 reference."""
    count = 0
    for what, frames, dim in make_list():
        for dtype in DTYPES:
            case = make_case(what if what in LAYOUTS else "packed", frames, dim, dtype)
            if what in ("unknown", "uneven"):
                del case.layout["max_frames"]
            if what == "uneven":
                case.layout["offsets"] = torch.tensor([0, *range(frames, len(case.features) + 1)])
            if what == "narrow":
                case.layout["offsets"] = case.layout["offsets"].int()
                case.parameters = [None if p is None else p.to(dtype) for p in case.parameters]
            assert_close(case.to(device).run(fan_ext.frame_attention), truth(case), dtype)
            count += 1
        print(f"{what}, {frames} x {dim}: right", flush=True)
    print(f"{count} calls on {device} are right")


def make_list() -> list[tuple[str, int, int]]:
    cases = [(layout, *size) for size in SIZES for layout in LAYOUTS]
    cases += [(what, *size) for what in ("unknown", "uneven") for size in UNKNOWN]
    return [*cases, *(("narrow", *size) for size in NARROW)]


def lie(device: str) -> None:
    """Packed clips whose offsets are wrong. A GPU computes anything, but touches nothing that is not theirs."""
    features = torch.randn(64, 512, device=device, requires_grad=True)
    q0, q1 = (torch.randn(n, device=device, requires_grad=True) for n in (512, 1024))
    for offsets in ([-5, 10, 10_000], [0, 50, 20], [64, 0, 64], [2**40, 2**41, 2**42], [-(2**40), 0, 2**40]):
        for longest in (None, 3, 20, 300, 3000):
            given = torch.tensor(offsets, device=device)
            out = fan_ext.frame_attention(features, q0, q1, offsets=given, max_frames=longest)
            torch.autograd.grad(out.sum(), (features, q0, q1))
    torch.cuda.synchronize()
    print("offsets that lie: nothing happens")


def run_tool(name: str, *command: str, **environment: str) -> str | None:
    """Runs Python under a tool, whose words are passed on line by line. What is wrong, or None."""
    tool = find_tool()
    if tool is None:
        raise FileNotFoundError("compute-sanitizer is not there: pip install 'nvidia-cuda-sanitizer-api==13.0.*'")
    # Each tensor in memory of its own: what torch's allocator keeps in store would hide accesses beyond a tensor.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1", **environment}
    # Of those that run side by side, each has ports of its own.
    port = 49152 + os.getpid() % 800 * 20
    whole = [tool, "--tool", name, "--error-exitcode", str(_FOUND), "--port", str(port), sys.executable, *command]
    output = ""
    with subprocess.Popen(
        whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            output += line
    if process.returncode == _FOUND:
        return "it reports errors:\n" + output
    if process.returncode != 0:
        return f"exit code {process.returncode}:\n{output}"
    return None if _NOTHING.search(output) else "it does not say that there is nothing to report"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="only this one; may be given again")
    parser.add_argument("--calls-only", action="store_true", help="without a tool: what a tool looks at")
    parser.add_argument("--lies", action="store_true", help="with --calls-only: packed clips of wrong offsets, too")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("sanitizer_check: no GPU that torch can use", file=sys.stderr)
        return 2
    if options.calls_only:
        make_calls(options.device)
        if options.lies:
            lie(options.device)
        sys.stdout.flush()
        os._exit(0)  # torch's threads of the backward pass may outlive the interpreter, and then end the process
    failed = []
    for name in options.tool or TOOLS:
        print(f"== {name}", flush=True)
        try:
            # What wrong offsets make of the results, and of work memory, only concerns who looks at it.
            lies = ["--lies"] if name == "memcheck" and options.device == "cuda" else []
            wrong = run_tool(name, __file__, "--calls-only", *lies, "--device", options.device)
        except FileNotFoundError as error:
            print(f"sanitizer_check: {error}", file=sys.stderr)
            return 2
        if wrong is not None:
            failed.append(f"{name} ({wrong.partition(':')[0]})")
    if failed:
        print(f"sanitizer_check: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
