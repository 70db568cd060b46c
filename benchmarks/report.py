"""Writes a page with plots from what bench_operator.py, bench_video.py and bench_system.py measured.

python benchmarks/report.py OPERATOR.json... --video VIDEO.md --system SYSTEM.md --out docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import matplotlib
import torch
from baselines import PASSES
from cpu_cases import FLOOR, FORMS, FUSED

from fan_fer.base.files import atomic_write, write_text
from fan_fer.evaluation.text import markdown_table
from fan_fer.output.colors import BLUE, ORANGE

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@dataclass(frozen=True)
class Point:
    """One size, dtype, layout and pass on so many threads."""

    size: tuple[int, int, int]
    dtype: str
    layout: str
    passes: str
    threads: int
    seconds: dict[str, float]
    memory: str = "fresh"  # "kept" where the process keeps what memory it has used

    @property
    def speedup(self) -> float:
        """Times as fast as the fastest of PyTorch's forms."""
        forms = [seconds for name, seconds in self.seconds.items() if name not in (FUSED, FLOOR)]
        return min(forms) / self.seconds[FUSED]

    @property
    def over_floor(self) -> float:
        return self.seconds[FUSED] / self.seconds[FLOOR]

    @property
    def name(self) -> str:
        return " x ".join(map(str, self.size))


def read_points(paths: Iterable[Path]) -> list[Point]:
    """What bench_operator.py left."""
    points = []
    for path in paths:
        for benchmark in json.loads(path.read_text())["benchmarks"]:
            values: dict[str, Any] = dict(benchmark["extra_info"])
            points.append(Point(**(values | {"size": tuple(values["size"])})))
    return points


def machine() -> str:
    """Processor, threads, versions and commit, in a line."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    levels = torch.backends.cpu.get_cpu_capability()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return f"{model} ({levels}), {torch.get_num_threads()} cores, torch {torch.__version__}, commit {commit}"


def threads_text(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def summary(points: Sequence[Point]) -> str:
    """Geometric mean and worst of the speed-ups, by pass, dtype and number of threads."""
    groups = defaultdict(list)
    for point in points:
        groups[point.threads, point.passes, point.dtype].append(point)
    rows = []
    for (threads, passes, dtype), members in sorted(
        groups.items(), key=lambda item: (item[0][0], PASSES.index(item[0][1]))
    ):
        worst = min(members, key=lambda point: point.speedup)
        rows.append([
            f"{passes}, {dtype}, {threads_text(threads)}",
            f"{geometric_mean(point.speedup for point in members):.1f}",
            f"{worst.speedup:.1f} ({worst.name}, {worst.layout})",
            f"{geometric_mean(point.over_floor for point in members):.1f}",
        ])  # fmt: skip
    headings = ["", "times as fast as the fastest form, geometric mean", "worst", "times the floor, geometric mean"]
    return markdown_table(headings, rows)


def targets(points: Sequence[Point]) -> str:
    """What was aimed at, and what was reached on each number of threads."""
    rows = []
    for threads in sorted({point.threads for point in points}):
        ours = [point for point in points if point.threads == threads]

        def only(passes: str, ours: Sequence[Point] = ours) -> list[Point]:
            return [point for point in ours if point.passes == passes]

        def floor(size: tuple[int, int, int], ours: Sequence[Point] = ours) -> str:
            chosen = [p for p in ours if (p.size, p.passes, p.dtype, p.layout) == (size, "forward", "float32", "dense")]
            return f"{chosen[0].over_floor:.2f}" if chosen else "-"

        seconds = {(p.dtype, (p.size, p.layout, p.passes)): p.seconds[FUSED] for p in ours}
        halved = [value / seconds["float32", case] for (dtype, case), value in seconds.items() if dtype == "bfloat16"]
        rows += [
            [f"forward, {threads_text(threads)}: geometric mean of times as fast as the fastest form", "7",
             f"{geometric_mean(point.speedup for point in only('forward')):.1f}"],
            [f"forward and backward, {threads_text(threads)}: the same", "4",
             f"{geometric_mean(point.speedup for point in only('both')):.1f}"],
            [f"any point, {threads_text(threads)}", "2", f"{min(point.speedup for point in ours):.1f}; "
             f"{sum(point.speedup < 2 for point in ours)} of {len(ours)} points below 2"],
            [f"bfloat16, {threads_text(threads)}: largest of its times as long as float32", "1",
             f"{max(halved):.2f}; {sum(ratio > 1 for ratio in halved)} of {len(halved)} above 1" if halved else "-"],
            *([f"forward, {' x '.join(map(str, size))}, float32, {threads_text(threads)}: times torch.sum", most,
               floor(size)] for size, most in (((256, 64, 512), "1.5"), ((1, 3, 512), "3"))),
        ]  # fmt: skip
    return markdown_table(["", "target", "reached"], rows)


def reused(fresh: Sequence[Point], kept: Sequence[Point]) -> str:
    """The backward pass where the gradient's memory is new, and where it was used before."""
    before = {
        (p.size, p.threads): p for p in fresh if (p.passes, p.dtype, p.layout) == ("backward", "float32", "dense")
    }
    rows = []
    for point in kept:
        new = before[point.size, point.threads]
        rows.append([
            f"{point.name}, {threads_text(point.threads)}",
            *(f"{1e6 * p.seconds[FUSED]:.0f} ({p.over_floor:.1f}; {p.speedup:.1f})" for p in (new, point)),
        ])  # fmt: skip
    headings = ["us (times the floor; times as fast as the fastest form)", "new memory", "memory used before"]
    return markdown_table(headings, rows)


def details(points: Sequence[Point]) -> str:
    """Every point of one pass."""
    rows = []
    for point in points:
        forms = [
            f"{point.seconds[name] / point.seconds[FUSED]:.1f}"
            for form in FORMS
            for name in (form, f"{form}, compiled")
        ]
        label = f"{point.name}, {point.dtype}, {point.layout}, {point.threads}"
        rows.append([label, f"{1e6 * point.seconds[FUSED]:.0f}", f"{point.over_floor:.1f}", *forms])
    headings = [
        "size, dtype, layout, threads",
        "ours, us",
        "floor",
        *(n for form in FORMS for n in (form, f"{form}, compiled")),
    ]
    return markdown_table(headings, rows)


def plot(points: Sequence[Point], path: Path) -> None:
    """Speed-up over the fastest form, dense float32 and bfloat16, a panel per pass."""
    threads = max(point.threads for point in points)
    figure, panels = plt.subplots(1, len(PASSES), figsize=(12, 4), sharey=True)
    for panel, passes in zip(panels, PASSES, strict=True):
        for dtype, color, offset in (("float32", BLUE, -0.2), ("bfloat16", ORANGE, 0.2)):
            chosen = [
                point for point in points
                if (point.threads, point.passes, point.dtype, point.layout) == (threads, passes, dtype, "dense")
            ]  # fmt: skip
            panel.bar(
                [k + offset for k in range(len(chosen))], [p.speedup for p in chosen], 0.4, color=color, label=dtype
            )
            panel.set_xticks(range(len(chosen)), [p.name for p in chosen], rotation=40, ha="right", fontsize=8)
        panel.axhline(1, color="#22262b", lw=0.8, ls="--")
        panel.set_title(passes, fontsize=11)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("times as fast as the fastest\nof PyTorch's four forms")
    panels[-1].legend(frameon=False)
    figure.tight_layout()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def page(points: Sequence[Point], video: str, system: str) -> str:
    fresh = [point for point in points if point.memory == "fresh"]
    kept = [point for point in points if point.memory == "kept"]
    parts = [
        "# Benchmarks",
        "`make bench` measures all of this and writes this page. " + machine() + ".",
        "Medians of at least fifteen rounds in which all implementations take turns. *Forms*: eager as the paper "
        "writes it; its best form, without [f : g] of every frame and with matrix products; torch.compile of both. "
        "*Floor*: `torch.sum` of the features for forward, `torch.add(features, 1, out=...)` for backward, one after "
        "the other for both. Packed clips are padded for PyTorch's forms; masked ones lack an eighth of their frames. "
        "What limits the operator is in [The operator](operator.md#4-what-limits-it-on-a-cpu).",
        "## The operator",
        targets(fresh),
        summary(fresh),
        "![Times as fast as the fastest form](benchmarks/operator.png)",
    ]
    if kept:
        parts += [
            "### Where the gradient's memory is new",
            "A large gradient comes in pages that the kernel has to zero at the first touch, whoever writes them; the "
            "floor writes where it wrote before. With `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=10000000000` the "
            "process keeps its memory, as a training loop's allocator mostly does. Backward, dense, float32:",
            reused(fresh, kept),
        ]
    note = "Ours in microseconds, how many times the floor that is, and how many times as long each form takes."
    for passes in PASSES:
        chosen = [point for point in fresh if point.passes == passes]
        parts += [f"### {passes.capitalize()}", note, details(chosen)]
    parts += [
        "## From video to label",
        "The straightforward pipeline searches every frame with the same detector and takes one frame at a time "
        "through the network, in float32 with channels first; both read the clip in turn, all cores at their hand. "
        "Stages overlap: decoding and embedding go on beside the rest, so that their times add up to more than the "
        "whole.",
        video.strip(),
        "## The command",
        system.strip(),
        "What grows with a video's length: the 512 features of every frame, 2 KB, which stay until the last frame is "
        "seen, because it may change the weight of the first; and where whose face was, 1 KB.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operator", nargs="+", type=Path, help="what bench_operator.py left, a file per thread count")
    parser.add_argument("--video", type=Path, required=True, help="what bench_video.py printed")
    parser.add_argument("--system", type=Path, required=True, help="what bench_system.py printed")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    points = read_points(arguments.operator)
    pictures = arguments.out.with_suffix("")
    pictures.mkdir(exist_ok=True)
    plot([point for point in points if point.memory == "fresh"], pictures / "operator.png")
    write_text(arguments.out, page(points, arguments.video.read_text(), arguments.system.read_text()))


if __name__ == "__main__":
    main()
