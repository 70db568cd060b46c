"""Would compute-sanitizer notice? The operator without a barrier and a bound, under the tools that must report it.

    python tests/gpu/sanitizer_control.py FOLDER [--device cpu]

Builds the operator in FOLDER from a copy of the sources with two of the removals of tests/native/mutation_check.py,
for the architectures in CUDAARCHS. Ends with 1 if a tool has nothing to report of it. `--device cpu` builds it and
tries the calls out, without tools.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu.sanitizer_check import run_tool
from native.mutation_check import REPOSITORY, Mutation, find_mutations

_SOURCES = ("CMakeLists.txt", "LICENSE", "README.md", "cmake", "csrc", "fan_ext", "pyproject.toml", "python")
FRAMES, DIM = 20, 509  # rows that do not start at 16 bytes: not in registers


class Control(NamedTuple):
    """What is taken out, the first code of a file that looks so, and what the tool then says of the forward pass.

    racecheck names the function that reads or writes, whoever called it; memcheck the kernel, too.
    """

    file: str
    code: str
    says: str


CONTROLS = {
    # A barrier of a block's threads, between one's writing of a row group's sums to shared memory and others'
    # reading of them. racecheck compares what is accessed between two barriers, whichever came first: it reports this
    # in every run, also in one whose result is right.
    "racecheck": Control("forward.cuh", r"__syncthreads\(\);", r"Race reported between Write access at .*vectors\.cuh"),
    # A packed clip then ends where its offsets say: those of the call, 2 GB beyond the features. All tensors there are
    # have less, each in memory of its own, so that some access is outside of every one of them.
    "memcheck": Control(
        "clips.cuh",
        r"clamp\(offset, least, clips\.total_frames\)",
        r"Invalid __global__ (?:read|write)[\s\S]*forward\.cuh",
    ),
}


def find_removal(control: Control) -> Mutation:
    return next(m for m in find_mutations() if m.file == control.file and re.fullmatch(control.code, m.code))


def copy_without(folder: Path) -> Path:
    """The sources with both removals, which are in different files."""
    source = folder / "source"
    for name in _SOURCES:
        given = REPOSITORY / name
        if given.is_dir():
            shutil.copytree(given, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(given, source / name)
    for control in CONTROLS.values():
        (source / "csrc" / "cuda" / control.file).write_text(find_removal(control).text)
    return source


def build(folder: Path) -> Path:
    """The folder to import the altered operator from."""
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation"]
    command += ["--target", str(site), str(copy_without(folder))]
    subprocess.run(command, env={**os.environ, "FAN_EXT_CUDA": "ON"}, check=True)
    return site


def make_call(name: str, device: str, folder: Path) -> None:
    """What a tool looks at: ends well whatever the kernel does, so that the exit code is the tool's."""
    import fan_ext

    if not Path(fan_ext.__file__).is_relative_to(folder):
        sys.exit(f"sanitizer_control: {fan_ext.__file__} is not the altered operator")
    features = torch.randn(FRAMES, DIM, device=device)
    q0, q1 = torch.randn(DIM, device=device), torch.randn(2 * DIM, device=device)
    if name == "racecheck":
        fan_ext.frame_attention(features.unsqueeze(0), q0, q1)
    else:
        offsets = torch.tensor([0, 2**20], device=device)
        try:
            fan_ext.frame_attention(features, q0, q1, offsets=offsets, max_frames=FRAMES)
            if device == "cuda":
                torch.cuda.synchronize()
        except RuntimeError as error:  # on a GPU the tool ends the kernel; a CPU refuses such offsets
            print(str(error).splitlines()[0], flush=True)
            os._exit(0)  # memory cannot be given back to a device that has failed
    if device == "cuda":
        torch.cuda.synchronize()


def check(name: str, site: Path) -> str | None:
    """What is wrong with the tool, or None."""
    wrong = run_tool(name, __file__, str(site.parent), "--call", name, PYTHONPATH=str(site))
    if wrong is None or not re.search(CONTROLS[name].says, wrong):
        return f"{name} does not report what {CONTROLS[name].file} lacks"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--call", choices=CONTROLS, help="without building: what a tool looks at")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.call:
        make_call(options.call, options.device, folder)
        return 0
    site = build(folder)
    if options.device == "cpu":
        for name in CONTROLS:
            command = [sys.executable, __file__, str(folder), "--device", "cpu", "--call", name]
            subprocess.run(command, env={**os.environ, "PYTHONPATH": str(site)}, check=True)
        print("built and called; a CPU has no tools to check")
        return 0
    failed = [problem for problem in [check(name, site) for name in CONTROLS] if problem]
    print("; ".join(failed) or "both tools report what is missing")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
