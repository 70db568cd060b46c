"""How fast the operator is on a GPU, beside eager PyTorch and torch.compile: report.md, report.json and plots.

    python benchmarks/gpu_report.py [--output benchmarks/results/NAME-OF-THE-DEVICE]

Forward, backward and both, over sizes and dtypes. Times are medians of CUDA events over many rounds, in which the
implementations take turns and L2 is flushed before each. The peak bandwidth is that of a large copy in the same run; an
implementation's share of it counts only the bytes that nobody can do without. Launches are those that torch.profiler
sees. `--device cpu` tries the script itself out: it measures the CPU, and says so in every file.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from baselines import PASSES, SIZES, Function, Size, compulsory_bytes, implementations, make_arguments
from rich.progress import track

import fan_ext
from fan_fer.errors import FanFerError
from fan_fer.output import atomic_write, write_text

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Clock:
    """Times calls on a device: with events on a GPU, so that only what it computes counts."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        # Twice the largest L2 there is; writing it leaves nothing of what was there.
        self._flush = torch.empty(256 << 20 if self.cuda else 1 << 20, dtype=torch.uint8, device=device)

    def microseconds(self, call: Callable[[], object]) -> Callable[[], float]:
        """Runs the call after a flush of the caches. The result, to be asked for later, waits for the device."""
        self._flush.zero_()
        if not self.cuda:
            begin = time.perf_counter_ns()
            call()
            elapsed = (time.perf_counter_ns() - begin) / 1e3
            return lambda: elapsed
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()

        def result() -> float:
            last.synchronize()
            return first.elapsed_time(last) * 1e3

        return result


def copy_bandwidth(clock: Clock, device: str, rounds: int) -> float:
    """Bytes a second of a large copy, read and written: the peak that everything is compared with."""
    source = torch.zeros((1 << 30) if clock.cuda else (1 << 24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [clock.microseconds(lambda: target.copy_(source)) for _ in range(rounds + 3)][3:]
    return 2 * len(source) / statistics.median(t() for t in times) * 1e6


def make_call(function: Function, which: str, arguments: list[torch.Tensor]) -> Callable[[], Callable[[], object]]:
    """What prepares a round, outside of the time, and gives the call to time."""
    if which == "forward":

        def forward() -> object:
            with torch.no_grad():
                return function(*arguments)

        return lambda: forward
    leaves = [a.detach().requires_grad_() for a in arguments]
    grad_out = torch.ones_like(function(*leaves))

    def both() -> object:
        return torch.autograd.grad(function(*leaves), leaves, grad_out)

    def backward() -> Callable[[], object]:
        out = function(*leaves)
        return lambda: torch.autograd.grad(out, leaves, grad_out)

    return backward if which == "backward" else lambda: both


def count_launches(call: Callable[[], object]) -> int:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize()
    on_device = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not e.name.startswith(("Memcpy", "Memset")) for e in on_device)


def measure(
    clock: Clock, size: Size, dtype: str, which: str, device: str, rounds: int, peak: float, with_compiled: bool
) -> list[dict[str, Any]]:
    arguments = make_arguments(size, DTYPES[dtype], device)
    needed = compulsory_bytes(size, arguments[0].element_size(), which)
    rows = []
    calls = {}
    for name, function in implementations(with_compiled).items():
        row = {"clips": size.clips, "frames": size.frames, "dim": size.dim, "dtype": dtype, "pass": which}
        row |= {"implementation": name, "compulsory_bytes": needed, "median_us": None, "error": None}
        row |= {"launches": None, "share_of_peak": None, "speed_up": None}
        rows.append(row)
        try:
            prepare = make_call(function, which, arguments)
            for _ in range(3):  # compiles, fills torch's allocator
                prepare()()
            row["launches"] = count_launches(prepare()) if clock.cuda else None
        except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
            if name == "fused":
                raise
            row["error"] = (str(error).splitlines() or [type(error).__name__])[0]
            continue
        calls[name] = prepare
    times: dict[str, list[Callable[[], float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, prepare in calls.items():
            times[name].append(clock.microseconds(prepare()))
    medians = {name: statistics.median(t() for t in results) for name, results in times.items()}
    for row in rows:
        median = medians.get(row["implementation"])
        if median is not None:
            row["median_us"] = median
            row["share_of_peak"] = needed / median * 1e6 / peak
            row["speed_up"] = median / medians["fused"]
    return rows


def describe_run(device: str, peak: float, rounds: int) -> dict[str, Any]:
    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=here).stdout.strip()

    run: dict[str, Any] = {"device_type": device, "torch": torch.__version__, "fan_ext": fan_ext.build_info()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        run |= {"device": properties.name, "capability": f"{properties.major}.{properties.minor}"}
        run |= {"multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda}
    else:
        run |= {"device": f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"}
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    commit = git("rev-parse", "HEAD")
    run |= {"commit": commit + changed if commit else "unknown", "rounds": rounds}
    return run | {"copy_bytes_per_second": peak, "python": platform.python_version()}


def markdown(run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    on_gpu = run["device_type"] == "cuda"
    lines = [f"# Frame attention on {run['device']}", ""]
    if not on_gpu:
        lines += ["**Measured on a CPU, to try the script out. No figure here is a GPU's.**", ""]
    facts = f"torch {run['torch']}, commit {run['commit']}, median of {run['rounds']} rounds"
    cuda = f", CUDA {run['cuda']}, compute capability {run['capability']}" if on_gpu else ""
    lines += [
        f"{facts}{cuda}. A large copy moves {run['copy_bytes_per_second'] / 1e9:.1f} GB/s: the peak. Shares of it "
        "count only the bytes that nobody can do without (features read, results and the features' gradient written).",
    ]
    for which in PASSES:
        for dtype in DTYPES:
            chosen = [row for row in rows if (row["pass"], row["dtype"]) == (which, dtype)]
            if not chosen:
                continue
            lines += ["", f"## {which.capitalize()}, {dtype}", ""]
            header = ["B x N x D", "fused, us", "of the peak", *(f"{n}, times as long" for n in names[1:])]
            header += ["launches: " + " / ".join(names)] if on_gpu else []
            lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
            sizes = list(dict.fromkeys((row["clips"], row["frames"], row["dim"]) for row in chosen))
            for size in sizes:
                of_size = {
                    row["implementation"]: row for row in chosen if (row["clips"], row["frames"], row["dim"]) == size
                }
                fused = of_size["fused"]
                cells = [str(Size(*size)), f"{fused['median_us']:.1f}", f"{100 * fused['share_of_peak']:.0f} %"]
                cells += [_speed_up(of_size[n]) for n in names[1:]]
                if on_gpu:
                    cells.append(
                        " / ".join("-" if r["launches"] is None else str(r["launches"]) for r in of_size.values())
                    )
                lines.append("| " + " | ".join(cells) + " |")
    errors = [r for r in rows if r["error"]]
    lines += [
        "",
        *(f"- {r['implementation']}, {r['clips']} x {r['frames']}, {r['dtype']}: {r['error']}" for r in errors),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _speed_up(row: dict[str, Any]) -> str:
    return "failed" if row["speed_up"] is None else f"{row['speed_up']:.2f}"


def plot(run: dict[str, Any], rows: Sequence[dict[str, Any]], dtype: str, path: Path) -> None:
    """Times above, the share of the peak bandwidth below; a column for each pass."""
    figure, axes = plt.subplots(2, len(PASSES), figsize=(13, 8), sharex=True, squeeze=False, layout="constrained")
    what = "" if run["device_type"] == "cuda" else " (a CPU: to try the script out)"
    figure.suptitle(f"Frame attention, {dtype}, on {run['device']}{what}")
    chosen = [row for row in rows if row["dtype"] == dtype]
    sizes = list(dict.fromkeys((row["clips"], row["frames"], row["dim"]) for row in chosen))
    for k, which in enumerate(PASSES):
        for name in dict.fromkeys(row["implementation"] for row in chosen):
            points = {
                (row["clips"], row["frames"], row["dim"]): row
                for row in chosen
                if (row["pass"], row["implementation"]) == (which, name) and row["median_us"]
            }
            at = [i for i, size in enumerate(sizes) if size in points]
            style = {"marker": "o", "label": name, "linewidth": 2.5 if name == "fused" else 1.2}
            axes[0][k].plot(at, [points[sizes[i]]["median_us"] for i in at], **style)
            axes[1][k].plot(at, [100 * points[sizes[i]]["share_of_peak"] for i in at], **style)
        axes[0][k].set(title=which, yscale="log")
        axes[1][k].set_ylim(bottom=0)
        axes[1][k].set_xticks(range(len(sizes)), [f"{b} x {n}\n({d})" for b, n, d in sizes], rotation=90, fontsize=8)
        for axis in axes[:, k]:
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("microseconds")
    axes[1][0].set_ylabel("compulsory bytes, % of the copy's bandwidth")
    figure.supxlabel("clips x frames (features)")
    axes[0][-1].legend(fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)


def parse_size(text: str) -> Size:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text} is no size, expected CLIPSxFRAMESxDIM such as 64x300x512")
    return Size(*map(int, parts))


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, help="folder of the report (default: benchmarks/results/DEVICE)")
    parser.add_argument("--size", type=parse_size, action="append", help="CLIPSxFRAMESxDIM; may be given again")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="may be given again (default: all)")
    parser.add_argument("--rounds", type=int, default=100, help="of each measurement (default: 100)")
    parser.add_argument("--without-compiled", action="store_true", help="leave torch.compile out")
    options = parser.parse_args(given)
    try:
        if options.rounds < 1:
            raise FanFerError(f"--rounds is {options.rounds}, expected 1 or more")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise FanFerError("no GPU that torch can use, expected one; --device cpu tries the script itself out")
        sizes, dtypes = options.size or SIZES, options.dtype or list(DTYPES)
        report(options.device, sizes, dtypes, options.rounds, options.output, not options.without_compiled)
    except FanFerError as error:
        print(f"gpu_report: {error}", file=sys.stderr)
        return 2
    return 0


@torch.no_grad()
def warm_up(device: str) -> None:
    """Brings the clocks up before the copy is measured."""
    a = torch.ones(1024, 1024, device=device)
    for _ in range(200 if device == "cuda" else 1):
        a = (a @ a).clamp_(0, 1)


def report(
    device: str, sizes: Sequence[Size], dtypes: Sequence[str], rounds: int, output: Path | None, with_compiled: bool
) -> None:
    clock = Clock(device)
    warm_up(device)
    peak = copy_bandwidth(clock, device, rounds)
    run = describe_run(device, peak, rounds)
    folder = output or Path(__file__).parent / "results" / run["device"].replace(" ", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FanFerError(f"{folder}: cannot be made ({error.strerror or error})") from None
    # Compiled code is kept for each size: not one for all.
    torch._dynamo.config.cache_size_limit = max(64, 8 * len(sizes) * len(dtypes))
    work = [(size, dtype, which) for dtype in dtypes for size in sizes for which in PASSES]
    one = functools.partial(measure, clock, device=device, rounds=rounds, peak=peak, with_compiled=with_compiled)
    rows = [row for size, dtype, which in track(work, "Measuring") for row in one(size, dtype, which)]
    write_text(folder / "report.json", json.dumps({"run": run, "results": rows}, indent=1) + "\n")
    pictures = []
    for dtype in dtypes:
        plot(run, rows, dtype, folder / f"{dtype}.png")
        pictures.append(f"\n![{dtype}: time and share of the peak bandwidth]({dtype}.png)\n")
    write_text(folder / "report.md", markdown(run, rows) + "".join(pictures))
    print(f"{folder / 'report.md'}")


if __name__ == "__main__":
    sys.exit(main())
