"""The tables of docs/cuda.md: what a GPU would be asked to do, and the least time that its memory allows.

    python benchmarks/launch_table.py [--capability 9.0] [--bandwidth 3.35] [--dtype float32]...

Everything comes from fan_ext.cuda_launch_plan, the registers of the built library and arithmetic; nothing is measured,
and no GPU is needed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from baselines import SIZES, Size, compulsory_bytes, eager, eager_without_concatenation, make_arguments
from torch.utils._python_dispatch import TorchDispatchMode

import fan_ext


class Device(NamedTuple):
    """TB/s of a card's memory, and what a multiprocessor has (CUDA programming guide, compute capabilities)."""

    name: str
    bandwidth: float
    shared_kib: int
    threads: int
    blocks: int


DEVICES = {
    "7.5": Device("T4", 0.32, 64, 1024, 16),
    "8.0": Device("A100 80 GB", 2.04, 164, 2048, 32),
    "8.6": Device("RTX 3090", 0.94, 100, 1536, 16),
    "8.9": Device("L40S", 0.86, 100, 1536, 24),
    "9.0": Device("H100 SXM", 3.35, 228, 2048, 32),
    "10.0": Device("B200", 8.0, 228, 2048, 32),
}
DTYPES = {"float32": 4, "float16": 2}
PASSES = ("forward", "backward")
_REGISTERS = 65536  # of a multiprocessor
_MAX_THREADS = {"reduce_kernel": 1024}  # launch bounds; 256 for all others


class _CountKernels(TorchDispatchMode):
    """Counts the operations that compute something: not views, which alias their input, nor bare allocations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        self.count += not views and "empty" not in func.__name__ and "view" not in func.__name__
        return func(*args, **(kwargs or {}))


@functools.cache
def eager_launches(which: str, concatenation: bool = True) -> int:
    """The ATen operations that an eager form dispatches. A GPU launches a kernel for each, for some of them more."""
    function = eager if concatenation else eager_without_concatenation
    arguments = make_arguments(Size(2, 5, 8), torch.float32, requires_grad=which == "backward")
    if which == "forward":
        with _CountKernels() as counter:
            function(*arguments)
        return counter.count
    out = function(*arguments)
    grad_out = torch.ones_like(out)
    with _CountKernels() as counter:
        torch.autograd.grad(out, arguments, grad_out)
    return counter.count


@functools.cache
def _resources(architecture: str) -> dict[str, int] | None:
    """Registers a thread of the kernels in the built library, by mangled name; None where that cannot be read."""
    folders = [Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin", *Path("/usr/local").glob("cuda*/bin")]
    tool = shutil.which("cuobjdump", path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))
    spec = importlib.util.find_spec("fan_ext")
    assert spec is not None
    libraries = [f for folder in spec.submodule_search_locations or () for f in Path(folder).glob("_torch_ops*.so")]
    if tool is None or not libraries or fan_ext.build_info()["cuda"] is None:
        return None
    command = [tool, "-res-usage", "-arch", architecture, str(libraries[0])]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"Function (\S+):\s*\n\s*REG:(\d+)", text)
    return {name: int(registers) for name, registers in found} or None


def registers(kernel: str, dtype: str, capability: str) -> int | None:
    """Of a thread of the kernel in the built library; None where it is not built or not to be read."""
    resources = _resources(f"sm_{capability.replace('.', '')}")
    if resources is None:
        return None
    kind = {"float32": "f", "float64": "d", "float16": "NS_4HalfE", "bfloat16": "NS_8BFloat16E"}[dtype]
    # Template arguments: type, and with relation-attention or without.
    pattern = re.compile(rf"\d{kernel}I{kind}(Lb1E)?E")
    matches = [r for name, r in resources.items() if pattern.search(name)]
    return matches[0] if len(matches) == 1 else None


def blocks_on_multiprocessor(device: Device, threads: int, shared_bytes: int, registers: int) -> int:
    """As many as shared memory, threads and registers allow. Registers are given to warps, 256 at a time."""
    of_warp = -(-registers * 32 // 256) * 256
    by_registers = _REGISTERS // of_warp // (threads // 32)
    reserved = 1024 if device.shared_kib > 64 else 0  # of each block, from compute capability 8.0 on
    by_shared = device.shared_kib * 1024 // (shared_bytes + reserved) if shared_bytes + reserved else device.blocks
    return min(by_registers, by_shared, device.threads // threads, device.blocks)


def moved_bytes(size: Size, itemsize: int, which: str, plan: dict[str, Any]) -> int:
    """To and from global memory: as if L2 served none of the second reads of a feature."""
    features = size.clips * size.frames * size.dim * itemsize
    out = size.clips * 2 * size.dim * itemsize
    saved = 5 * size.clips * size.frames * 4  # of each frame, in float32
    read = features * (2 if plan["regime"] == "split" else 1)
    workspace = plan["workspace_bytes"]
    # The workspace is written once and read once.
    return read + saved + 2 * workspace + (out if which == "forward" else features + 2 * out)


def row(size: Size, dtype: str, which: str, capability: str, bandwidth: float) -> list[str]:
    device = DEVICES[capability]
    major, minor = map(int, capability.split("."))
    plan = fan_ext.cuda_launch_plan(size.clips, size.frames, size.dim, dtype, (major, minor), which == "backward")
    grids, shared, occupancy = [], [], []
    for kernel in plan["kernels"]:
        threads, kib = kernel["block"], kernel["shared_bytes"] / 1024
        known = registers(kernel["name"], dtype, capability)
        at_most = _REGISTERS // _MAX_THREADS.get(kernel["name"], 256)
        together = blocks_on_multiprocessor(device, threads, kernel["shared_bytes"], known or at_most)
        grids.append(f"{kernel['grid']} x {threads}")
        shared.append(f"{kib:.0f}")
        occupancy.append(f"{together} ({100 * together * threads / device.threads:.0f} %)" + ("" if known else "?"))
    moved = moved_bytes(size, DTYPES[dtype], which, plan)
    needed = compulsory_bytes(size, DTYPES[dtype], which)
    return [
        f"{size.clips} x {size.frames}",
        dtype,
        which,
        plan["regime"] + (f" of {plan['cluster']}" if plan["cluster"] > 1 else ""),
        f"{plan['launches']} / {eager_launches(which)} / {eager_launches(which, concatenation=False)}",
        ", ".join(grids),
        ", ".join(shared),
        ", ".join(occupancy),
        f"{moved / 1e6:.1f} / {needed / 1e6:.1f}",
        f"{moved / bandwidth / 1e6:.0f}",
    ]


HEADER = (
    *("clips x frames", "dtype", "pass", "regime", "launches / eager / no concatenation", "blocks x threads"),
    *("shared KiB a block", "blocks on a multiprocessor (occupancy)", "MB moved / compulsory", "predicted us"),
)


def table(capability: str, bandwidth: float, dtypes: Sequence[str]) -> str:
    rows = [row(size, dtype, which, capability, bandwidth) for dtype in dtypes for size in SIZES for which in PASSES]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEADER, ["---"] * len(HEADER), *rows))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", choices=DEVICES, default="9.0", help="of the device (default: 9.0)")
    parser.add_argument("--bandwidth", type=float, help="of its memory, TB/s (default: of a usual card)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="only this one; may be given again")
    options = parser.parse_args(arguments)
    print(
        table(
            options.capability,
            options.bandwidth or DEVICES[options.capability].bandwidth,
            options.dtype or list(DTYPES),
        )
    )


if __name__ == "__main__":
    main()
