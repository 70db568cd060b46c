"""How fast the operator is on a GPU, beside PyTorch's forms and what memory allows: report.md, report.json and plots.

    python benchmarks/gpu_report.py [--output benchmarks/results/NAME-OF-THE-DEVICE] [--seconds 300]

Forward, backward and both, of dense and packed clips in three dtypes (gpu_cases.py says which), each beside a clone of
the same features, the ceiling, and their sum, which only reads: the floor of a forward pass. gpu_clock.py says how
times are taken. torch.profiler names the kernels of every call; the report ends with 1 where those of ours are others
than fan_ext.cuda_launch_plan announces, such as those of a call that fell back to plain PyTorch, or where results are
off.

The report is written again after every case. With --seconds, the last cases may be left out, and are named.
``--device cpu`` tries the script itself out: it measures the CPU, and says so in every file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
import torch._functorch.config
from baselines import PASSES, Size, compiled
from gpu_cases import (
    CASES,
    COMPILED,
    DENSE,
    DTYPES,
    FORMS,
    FUSED,
    FUSED_SELF,
    NEAREST,
    OURS,
    PACKED,
    PADDED,
    UNKNOWN,
    Case,
    functions,
    make_call,
    make_inputs,
    needed_bytes,
)
from gpu_clock import Clock
from gpu_kernels import kernels_seen, planned

import fan_ext
from fan_fer.base.errors import FanFerError
from fan_fer.base.files import atomic_write, write_text

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# What is compared with torch.compile must be able to go backward twice.
torch._functorch.config.donated_buffer = False

# Of the largest element: eager's own rounding, in the features' type.
_OFF = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}


class Compiler:
    """Compiles until so many seconds have gone into it."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def best(self, rows: Sequence[dict[str, Any]]) -> str | None:
        """The form that is the faster one in these rows, if there is time to compile it."""
        times = {row["implementation"]: row["us"] for row in rows if row["implementation"] in FORMS and row["us"]}
        return min(times, key=lambda name: times[name]) if times and self.left > 0 else None

    @contextlib.contextmanager
    def charged(self):
        begin = time.monotonic()
        try:
            yield
        finally:
            self.left -= time.monotonic() - begin


def measure_case(clock: Clock, case: Case, dtype: str, device: str, compiler: Compiler) -> list[dict[str, Any]]:
    """A row for each pass and implementation."""
    torch.compiler.reset()  # every case is compiled for itself
    of_type = DTYPES[dtype]
    inputs = [make_inputs(case, of_type, device)]

    def input_of(k: int):
        while len(inputs) <= k:
            inputs.append(make_inputs(case, of_type, device, len(inputs)))
        return inputs[k]

    features = inputs[0].leaves[0]
    features_bytes = features.numel() * features.element_size()
    clone = clock.time(lambda k: input_of(k).leaves[0].detach().clone, features_bytes)
    total = clock.time(lambda k: input_of(k).leaves[0].detach().sum, features_bytes)
    names = list(functions(case, inputs[0]))
    rows: list[dict[str, Any]] = []
    for passes in PASSES:
        for name in [*names, COMPILED] if case.layout == DENSE else names:
            needed = needed_bytes(case, of_type, passes, name)
            row = {"clips": case.size.clips, "frames": case.size.frames, "dim": case.size.dim, "layout": case.layout}
            row |= {"dtype": dtype, "pass": passes, "implementation": name, "bytes": needed, "us": None, "how": None}
            row |= {"user_us": None, "clone_us": clone.us, "sum_us": total.us, "regime": None, "kernels": None}
            row |= {"launches": None, "error": None}
            rows.append(row)
            form = compiler.best([r for r in rows if r["pass"] == passes]) if name == COMPILED else name
            if form is None:
                continue

            def make(k: int, name: str = name, form: str = form, passes: str = passes) -> Callable[[], object]:
                function, leaves = functions(case, input_of(k))[form]
                return make_call(compiled(function) if name == COMPILED else function, leaves, passes)

            try:
                if name == COMPILED:
                    row["form"] = form
                    with compiler.charged():
                        make(0)()
                timing = clock.time(make, features_bytes)
                row |= timing._asdict()
                row["gb_per_s"] = needed / timing.us / 1e3
                row["share_of_clone"] = (needed / timing.us) / (2 * features_bytes / clone.us)
                row["call"] = make(0)
            except Exception as error:  # of whatever kind: the others are worth a figure
                row["error"] = (str(error).splitlines() or [type(error).__name__])[0]
    ours = {row["pass"]: row["us"] for row in rows if row["implementation"] == FUSED}
    for row in rows:
        row["times_fused"] = row["us"] and ours[row["pass"]] and row["us"] / ours[row["pass"]]
    calls = [(row, row.pop("call")) for row in rows if "call" in row]
    if clock.cuda:
        name_kernels(case, dtype, calls)
    check_results(case, dtype, calls)
    return rows


def name_kernels(case: Case, dtype: str, calls: Sequence[tuple[dict[str, Any], Callable[[], object]]]) -> None:
    try:
        seen = kernels_seen([call for _, call in calls])
    except RuntimeError as error:
        for row, _ in calls:
            row["error"] = str(error).splitlines()[0]
        return
    for (row, _), kernels in zip(calls, seen, strict=True):
        row |= {"kernels": kernels, "launches": len(kernels)}
        if row["implementation"] not in OURS:
            continue
        shape = (case.size.clips, case.longest, case.size.dim, dtype, torch.cuda.get_device_capability())
        relation = row["implementation"] == FUSED
        row["regime"], wanted = planned(row["pass"], *shape, relation=relation, total_frames=case.total_frames)
        if kernels != wanted:
            row["error"] = f"its kernels are {', '.join(kernels) or 'none'}, expected {', '.join(wanted)}"


def check_results(case: Case, dtype: str, calls: Sequence[tuple[dict[str, Any], Callable[[], Any]]]) -> None:
    """The operator's results beside eager's: a wrong one has no speed."""
    forward = {row["implementation"]: (row, call) for row, call in calls if row["pass"] == "forward"}
    other = PADDED if case.layout != DENSE else next(iter(FORMS))
    if FUSED not in forward or other not in forward:
        return
    actual, expected = (forward[name][1]().float() for name in (FUSED, other))
    off = ((actual - expected).abs().max() / expected.abs().max()).item()
    if not off <= _OFF[dtype]:  # nor NaN
        row = forward[FUSED][0]
        row["error"] = "; ".join(filter(None, [row["error"], f"its results are {off:.2g} off eager's"]))


def describe_run(clock: Clock, device: str) -> dict[str, Any]:
    def git(*arguments: str) -> str:
        if shutil.which("git") is None:
            return ""
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=here).stdout.strip()

    run: dict[str, Any] = {"device_type": device, "torch": torch.__version__, "fan_ext": fan_ext.build_info()}
    if clock.cuda:
        properties = torch.cuda.get_device_properties(0)
        run |= {"device": properties.name, "capability": f"{properties.major}.{properties.minor}"}
        run |= {"multiprocessors": properties.multi_processor_count, "l2_bytes": properties.L2_cache_size}
        run |= {"cuda": torch.version.cuda, "as_found": card_state()}
    else:
        run |= {"device": f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"}
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    # Sources that travel without their history can be told what they are.
    commit = os.environ.get("FAN_COMMIT") or git("rev-parse", "HEAD") + changed or "unknown"
    return run | {"commit": commit, "python": platform.python_version(), "rounds": clock.rounds}


def card_state() -> dict[str, str]:
    """Driver, clocks, power and temperature, which are read and left as they are."""
    names = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.draw,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"nvidia-smi": str(error)}
    return dict(zip(names.split(","), (value.strip() for value in answer.split(",")), strict=False))


# --- the report ---------------------------------------------------------------


def case_of(row: dict[str, Any]) -> Case:
    return Case(Size(row["clips"], row["frames"], row["dim"]), row["layout"])


def markdown(run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    on_gpu = run["device_type"] == "cuda"
    lines = [f"# Frame attention on {run['device']}", ""]
    if not on_gpu:
        lines += ["**Measured on a CPU, to try the script out. No figure here is a GPU's.**", ""]
    cuda = f", CUDA {run['cuda']}, compute capability {run['capability']}" if on_gpu else ""
    lines += [f"torch {run['torch']}{cuda}, commit {run['commit']}.", ""]
    for when in ("as_found", "at_the_end"):
        if state := run.get(when):
            lines += [f"The card {when.replace('_', ' ')}: {', '.join(f'{k} {v}' for k, v in state.items())}.", ""]
    lines += [
        "Times are medians. Bytes are those that nobody can do without: features read, results and the features' "
        "gradient written. Their share is of the rate at which a clone of the same features moves bytes, in the same "
        "run. A sum of the features only reads them. *Seen* is a call's time with the host's part, for short calls. "
        "Forms of PyTorch: times as long as fused. How each time was taken is in report.json.",
    ]
    for passes in PASSES:
        for dtype in DTYPES:
            chosen = [row for row in rows if (row["pass"], row["dtype"]) == (passes, dtype)]
            if chosen:
                lines += ["", f"## {passes.capitalize()}, {dtype}", "", *_table(chosen, on_gpu)]
    if on_gpu:
        lines += ["", "## Kernels of the fused operator", "", *_kernels(rows)]
    if left_out := run.get("left_out"):
        lines += ["", f"Not measured, for want of time: {'; '.join(left_out)}."]
    if again := run.get("again"):
        lines += ["", f"The first forward pass again, at the end: {again:.1f} us."]
    errors = [row for row in rows if row["error"]]
    lines += ["", *(f"- {_name(row)}: {row['error']}" for row in errors)]
    return "\n".join(lines).rstrip() + "\n"


def _name(row: dict[str, Any]) -> str:
    return f"{row['implementation']}, {case_of(row)}, {row['dtype']}, {row['pass']}"


def _table(rows: Sequence[dict[str, Any]], on_gpu: bool) -> list[str]:
    others = [*FORMS, COMPILED, PADDED]
    header = ["B x N x D", "regime", "fused, us", "GB/s", "of clone", "clone, us", "sum, us", "seen, us", *others]
    header += ["self-attention only, us", f"{NEAREST} (softmax), us", "launches: fused / eager / compiled"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for case in dict.fromkeys(map(case_of, rows)):
        of = {row["implementation"]: row for row in rows if case_of(row) == case}
        fused = of[FUSED]
        share = f"{100 * fused['share_of_clone']:.0f} %" if fused["us"] else "-"
        cells = [str(case), fused["regime"] or "-", _number(fused, "us", 1), _number(fused, "gb_per_s", 0), share]
        cells += [_number(fused, "clone_us", 1), _number(fused, "sum_us", 1), _number(fused, "user_us", 1)]
        cells += [_number(of.get(name), "times_fused", 2) for name in others]
        cells += [_number(of.get(name), "us", 1) for name in (FUSED_SELF, NEAREST)]
        eager = of.get(next(iter(FORMS))) or of.get(PADDED)
        cells.append(" / ".join(_number(row, "launches", 0) for row in (fused, eager, of.get(COMPILED))))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _kernels(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| B x N x D | dtype | pass | regime | kernels seen |", "|---|---|---|---|---|"]
    for row in rows:
        if row["implementation"] == FUSED and row["pass"] != "both":
            seen = "-" if row["kernels"] is None else ", ".join(row["kernels"])
            lines.append(f"| {case_of(row)} | {row['dtype']} | {row['pass']} | {row['regime']} | {seen} |")
    return lines


def _number(row: dict[str, Any] | None, key: str, digits: int) -> str:
    if row is None:
        return "-"
    if row["us"] is None and row["error"]:
        return "failed"
    return "-" if row.get(key) is None else f"{row[key]:.{digits}f}"


def plot(run: dict[str, Any], rows: Sequence[dict[str, Any]], dtype: str, path: Path) -> None:
    """Times above, the share of the clone's rate below; a column for each pass."""
    figure, axes = plt.subplots(2, len(PASSES), figsize=(18, 10), sharex=True, squeeze=False, layout="constrained")
    what = "" if run["device_type"] == "cuda" else " (a CPU: to try the script out)"
    figure.suptitle(f"Frame attention, {dtype}, on {run['device']}{what}")
    chosen = [row for row in rows if row["dtype"] == dtype]
    cases = sorted(dict.fromkeys(map(case_of, chosen)), key=lambda case: (math.prod(case.size), case))
    for k, passes in enumerate(PASSES):
        of_pass = [row for row in chosen if row["pass"] == passes]
        for name in dict.fromkeys(row["implementation"] for row in of_pass):
            of = {case_of(row): row for row in of_pass if row["implementation"] == name and row["us"]}
            at = [i for i, case in enumerate(cases) if case in of]
            style = {"marker": "o", "markersize": 4, "label": name, "linewidth": 2.5 if name == FUSED else 1}
            axes[0][k].plot(at, [of[cases[i]]["us"] for i in at], **style)
            axes[1][k].plot(at, [100 * of[cases[i]]["share_of_clone"] for i in at], **style)
        bounds = {case_of(row): row for row in of_pass}
        for name, key in (("clone", "clone_us"), ("sum", "sum_us")):
            axes[0][k].plot([bounds[case][key] for case in cases], "k:" if name == "clone" else "k--", label=name)
        axes[1][k].axhline(100, color="black", linestyle=":", linewidth=1)
        axes[0][k].set(title=passes, yscale="log")
        axes[1][k].set_ylim(bottom=0)
        labels = [f"{b} x {n} x {d}" + ("" if layout == DENSE else f"\n{layout}") for (b, n, d), layout in cases]
        axes[1][k].set_xticks(range(len(cases)), labels, rotation=90, fontsize=8)
        for axis in axes[:, k]:
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("microseconds")
    axes[1][0].set_ylabel("needed bytes a second, % of a clone's")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    plt.close(figure)


def write_report(
    folder: Path, run: dict[str, Any], rows: Sequence[dict[str, Any]], pictures: Sequence[str] = ()
) -> None:
    listed = ",\n".join(json.dumps(row) for row in rows)
    write_text(folder / "report.json", f'{{"run": {json.dumps(run, indent=1)},\n"results": [\n{listed}\n]}}\n')
    shown = [f"\n![{dtype}: time and share of a clone's rate]({dtype}.png)\n" for dtype in pictures]
    write_text(folder / "report.md", markdown(run, rows) + "".join(shown))


# --- running ------------------------------------------------------------------


def parse_case(text: str) -> Case:
    size, _, layout = text.lower().partition(":")
    parts = size.split("x")
    layouts = {"": DENSE, "packed": PACKED, "unknown": UNKNOWN}
    if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) > 0 for p in parts) or layout not in layouts:
        raise argparse.ArgumentTypeError(
            f"{text} is no size, expected CLIPSxFRAMESxDIM such as 64x300x512, with :packed or :unknown after it or not"
        )
    return Case(Size(*map(int, parts)), layouts[layout])


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, help="folder of the report (default: benchmarks/results/DEVICE)")
    parser.add_argument(
        "--size",
        type=parse_case,
        action="append",
        help="CLIPSxFRAMESxDIM; :packed or :unknown (their longest) after it",
    )
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="may be given again (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="of each measurement, at most (default: 20)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no case after so long")
    parser.add_argument("--compile-seconds", type=float, default=math.inf, help="compile nothing more after so long")
    options = parser.parse_args(given)
    try:
        if options.rounds < 1:
            raise FanFerError(f"--rounds is {options.rounds}, expected 1 or more")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise FanFerError("no GPU that torch can use, expected one; --device cpu tries the script itself out")
        clock = Clock(options.device, options.rounds)
        work = [(case, dtype) for case in options.size or CASES for dtype in options.dtype or DTYPES]
        with torch.cuda.stream(clock.stream) if clock.cuda else contextlib.nullcontext():
            errors = report(clock, work, options)
    except FanFerError as error:
        print(f"gpu_report: {error}", file=sys.stderr)
        return 2
    return 1 if errors else 0


@torch.no_grad()
def warm_up(device: str) -> None:
    """Brings the clocks up before anything is measured."""
    a = torch.ones(1024, 1024, device=device)
    for _ in range(200 if device == "cuda" else 1):
        a = (a @ a).clamp_(0, 1)


def report(clock: Clock, work: Sequence[tuple[Case, str]], options: argparse.Namespace) -> int:
    """Measures; the number of cases in which ours is not what it should be."""
    begin = time.monotonic()
    run = describe_run(clock, options.device)
    folder = options.output or Path(__file__).parent / "results" / run["device"].replace(" ", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FanFerError(f"{folder}: cannot be made ({error.strerror or error})") from None
    warm_up(options.device)
    compiler = Compiler(options.compile_seconds)
    rows: list[dict[str, Any]] = []
    for done, (case, dtype) in enumerate(work):
        started = time.monotonic()
        if started - begin > options.seconds:
            run["left_out"] = [f"{case}, {dtype}" for case, dtype in work[done:]]
            break
        of_case = measure_case(clock, case, dtype, options.device, compiler)
        rows += of_case
        write_report(folder, run, rows)
        ours = [f"{row['pass']} {_number(row, 'us', 1)} us" for row in of_case if row["implementation"] == FUSED]
        print(f"{case}, {dtype}: {', '.join(ours)}; {time.monotonic() - started:.1f} s", flush=True)
    if clock.cuda:
        run["at_the_end"] = card_state()
        run["again"] = forward_again(clock, *work[0])
    pictures = list(dict.fromkeys(row["dtype"] for row in rows))
    for dtype in pictures:
        plot(run, rows, dtype, folder / f"{dtype}.png")
    write_report(folder, run, rows, pictures)
    wrong = [row for row in rows if row["error"] and row["implementation"] in OURS]
    for row in wrong:
        print(f"gpu_report: {_name(row)}: {row['error']}", file=sys.stderr)
    left_out = len(run.get("left_out", ()))
    print(f"{folder / 'report.md'}: {len(work) - left_out} of {len(work)} cases, {len(wrong)} errors of ours")
    return len(wrong)


def forward_again(clock: Clock, case: Case, dtype: str) -> float:
    """How far the same figure is from itself after all this time."""

    def make(k: int) -> Callable[[], object]:
        return make_call(*functions(case, make_inputs(case, DTYPES[dtype], "cuda", k))[FUSED], "forward")

    return clock.time(make, math.prod(case.size) * DTYPES[dtype].itemsize).us


if __name__ == "__main__":
    sys.exit(main())
