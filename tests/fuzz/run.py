"""Inputs at random, tried in processes whose death is a finding."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fuzz.target import Target

from fan_fer.base.processes import cpus
from fan_fer.base.terminal import progress_bar
from fan_fer.base.workers import Lost, run_tasks

INPUTS = 10_000
LIMIT = 600.0  # seconds
BATCH = 100  # inputs of one kind in a row
HANGS = 60.0  # seconds that one input may take
GROWTH = 50.0  # megabytes that a process may grow by in the second half, for each ten thousand inputs of the run


@dataclass(frozen=True)
class Batch:
    target: str
    seed: int
    count: int

    def __str__(self) -> str:
        return f"{self.target}, seed {self.seed}"


@dataclass
class Outcome:
    """What came of a batch: the inputs tried, the fault where there was one, and the process's memory afterwards."""

    tried: int
    fault: str
    process: int
    megabytes: float


@dataclass
class Summary:
    tried: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    growth: float = 0.0  # megabytes, of a process in the second half of a run

    def lines(self) -> Iterator[str]:
        for target, count in self.tried.items():
            yield f"{target}: {count}"
        yield f"{self.tried.total()} inputs in {self.seconds:.0f} s, {len(self.findings)} findings"
        yield f"a process grew by {self.growth:.0f} MB at most in the second half"


def fuzz(targets: Mapping[str, Target], inputs: int = INPUTS, limit: float = LIMIT, seed: int = 0) -> Summary:
    """Tries so many inputs, in processes whose death is a finding, and stops after ``limit`` seconds."""
    summary = Summary()
    folder = Path(tempfile.mkdtemp(prefix="fan-fuzz-"))
    begin = time.monotonic()
    faults: set[str] = set()
    memory: dict[int, list[float]] = {}  # of each process, after each batch
    batches = list(_batches(inputs, seed, {name: target.share for name, target in targets.items()}))
    tasks = run_tasks(partial(_begin, targets, folder), batches, cpus(), HANGS)
    try:
        with progress_bar() as bars:
            bar = bars.add_task("inputs", total=sum(batch.count for batch in batches))
            for batch, outcome in tasks:
                if isinstance(outcome, Lost):
                    kept = _keep(folder, batch)
                    summary.findings.append(f"{batch}: {outcome.why}; the input is in {kept}")
                    continue
                summary.tried[batch.target] += outcome.tried
                bars.advance(bar, batch.count)
                if outcome.fault and outcome.fault not in faults:
                    faults.add(outcome.fault)
                    summary.findings.append(f"{batch}: {outcome.fault}")
                memory.setdefault(outcome.process, []).append(outcome.megabytes)
                if time.monotonic() - begin > limit:
                    break
    finally:
        tasks.close()
        shutil.rmtree(folder)
    summary.seconds = time.monotonic() - begin
    # What each kind needs is loaded by the middle of a run.
    growth = [used[-1] - used[len(used) // 2] for used in memory.values() if len(used) > 2 * len(targets)]
    summary.growth = max(growth, default=0.0)
    if summary.growth > GROWTH * max(1.0, inputs / INPUTS):
        summary.findings.append(f"a process grew by {summary.growth:.0f} MB")
    return summary


def _batches(inputs: int, seed: int, shares: dict[str, int]) -> Iterator[Batch]:
    """In turn of all kinds, so that a run that is cut short has tried each."""
    left = {name: max(1, round(inputs * share / sum(shares.values()))) for name, share in shares.items()}
    while left:
        for name in list(left):
            seed += 1
            count = min(BATCH, left[name])
            yield Batch(name, seed, count)
            left[name] -= count
            if not left[name]:
                del left[name]


def _begin(targets: Mapping[str, Target], folder: Path) -> Callable[[Batch, Callable[..., None]], Outcome]:
    """What a process does: a batch of inputs; its latest input lies in a file, should it die."""
    import os

    import hypothesis
    from hypothesis import HealthCheck, Phase, given, settings

    own = folder / str(os.getpid())
    own.mkdir()

    def run(batch: Batch, report: Callable[..., None]) -> Outcome:
        target = targets[batch.target]
        tried = 0
        latest = folder / f"seed-{batch.seed}"

        @hypothesis.seed(batch.seed)
        @settings(
            max_examples=batch.count,
            database=None,
            report_multiple_bugs=False,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(target.inputs())
        def check(made: Any) -> None:
            nonlocal tried
            tried += 1
            latest.write_bytes(repr(made).encode("utf-8", "backslashreplace"))
            target.check(made, own)
            report(tried)

        fault = ""
        try:
            check()
        except BaseException as error:
            notes = " ".join(" ".join(note.split()) for note in getattr(error, "__notes__", ()))
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]} {notes[:1000]}"
        latest.unlink()
        with open("/proc/self/statm") as statm:  # noqa: PTH123, no file
            pages = int(statm.read().split()[1])
        return Outcome(tried, fault, os.getpid(), pages * 4096 / 1e6)

    return run


def _keep(folder: Path, batch: Batch) -> Path:
    """What a process was at when it died, put where it stays."""
    kept = Path("build/fuzz") / f"{batch.target.replace(' ', '-')}-{batch.seed}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    latest = folder / f"seed-{batch.seed}"
    kept.write_bytes(latest.read_bytes() if latest.exists() else b"")
    return kept
