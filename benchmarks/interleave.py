"""Times several functions in turn, so that what slows the machine for a while slows them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Call = Callable[[], object]
SHORTEST = 300e-6  # seconds that one sample should last at least: shorter calls are repeated within it


def interleave(calls: Mapping[str, Call], seconds: float = 1.0, rounds: int = 15) -> dict[str, float]:
    """Median seconds of each call: at least ``rounds`` samples, more while ``seconds`` are not over.

    Each is called twice before, which also fills caches and compiles.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(SHORTEST / max(time.perf_counter() - start, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    while len(samples[next(iter(calls))]) < rounds or time.perf_counter() - begin < seconds:
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            samples[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(values) for name, values in samples.items()}
