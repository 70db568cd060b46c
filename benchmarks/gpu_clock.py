"""Times calls on a device. On a GPU only its own work counts, and inputs take turns: none is in L2 when it is read."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

Call = Callable[[], object]

_SHORT_US = 100.0  # calls below this are timed as a graph of many
_ROUND_US = 500.0  # the least work between two events
_CYCLES_A_US = 2000  # no card's clock is faster: a wait is at least as long as it says
_MOST_INPUTS = 32
_MOST_QUEUED = 8  # calls with gaps of the host, which must not fill the stream's queue


class Timing(NamedTuple):
    """Medians, in microseconds."""

    us: float  # of the device
    how: str
    user_us: float | None = None  # call after call with the host's part, as a user sees them; of short calls


class Clock:
    """On a GPU for work on ``stream``: a backward pass runs, and is captured, where its forward pass ran."""

    def __init__(self, device: str, rounds: int) -> None:
        self.cuda = device == "cuda"
        self.rounds = rounds
        if self.cuda:
            self.stream = torch.cuda.Stream()
            self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size

    def inputs(self, input_bytes: int) -> int:
        """So many that between two readings of one thrice what L2 holds is read. Fewer of those below 5 MB."""
        return min(math.ceil(3 * self._cache_bytes / input_bytes) + 1, _MOST_INPUTS) if self.cuda else 1

    def time(self, make: Callable[[int], Call], input_bytes: int) -> Timing:
        """Times the calls make(k), with an input of its own each. make(0)() may take its time: it compiles."""
        first = make(0)
        first()
        if not self.cuda:
            return Timing(statistics.median(_on_host(first) for _ in range(self.rounds)), "host")
        rough, host = self._roughly(first)
        count = self.inputs(input_bytes)
        calls = [first, *(make(k) for k in range(1, count if rough < _SHORT_US else min(count, _MOST_QUEUED)))]
        for call in calls:
            call()
        if rough >= _SHORT_US:
            return Timing(self._queued(calls, rough, host), f"{len(calls)} inputs in turn")
        try:
            us, how = self._in_a_graph(calls, rough), "in a graph"
        except RuntimeError as error:
            us, how = self._queued(calls[:_MOST_QUEUED], rough, host), f"not in a graph ({_first_line(error)})"
        return Timing(us, f"{len(calls)} inputs in turn, {how}", self._as_seen(calls, rough))

    def _roughly(self, call: Call) -> tuple[float, float]:
        """Microseconds of the device, and of the host that gives it the work."""
        host = min(_on_host(call) for _ in range(3))
        return self._between_events(lambda: [call() for _ in range(3)], 5 * host) / 3, host

    @staticmethod
    def _between_events(work: Call, busy_us: float, before: Call = lambda: None) -> float:
        """Microseconds of the device. It is kept busy first, so that the host gets ahead and its gaps do not count."""
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int((100 + busy_us) * _CYCLES_A_US))
        before()
        first.record()
        work()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) * 1e3

    def _median(self, work: Call, busy_us: float, before: Call, us: float) -> float:
        rounds = min(self.rounds, max(5, int(2e4 / us)))
        return statistics.median(self._between_events(work, busy_us, before) for _ in range(rounds))

    def _queued(self, calls: list[Call], rough: float, host: float) -> float:
        count = _whole_turns(min(_MOST_QUEUED, _ROUND_US / rough), calls)
        # Kept for a turn, so that a call does not write where L2 still holds what the one before it has written.
        kept: list[object] = [None] * len(calls)

        def work() -> None:
            for k in range(count):
                kept[k % len(calls)] = calls[k % len(calls)]()

        return self._median(work, 1.5 * count * host, lambda: calls[-1](), count * rough) / count

    def _in_a_graph(self, calls: list[Call], rough: float) -> float:
        count = _whole_turns(_ROUND_US / rough, calls)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            kept = [calls[k % len(calls)]() for k in range(count)]  # each writes to a place of its own
        # The replay before leaves L2 as every other does.
        us = self._median(graph.replay, 100, graph.replay, count * rough)
        del kept
        return us / count

    def _as_seen(self, calls: list[Call], rough: float) -> float:
        count = _whole_turns(max(20, min(500, 2e4 / rough)), calls)

        def microseconds() -> float:
            torch.cuda.synchronize()
            begin = time.perf_counter_ns()
            for k in range(count):
                calls[k % len(calls)]()
            torch.cuda.synchronize()
            return (time.perf_counter_ns() - begin) / 1e3 / count

        return statistics.median(microseconds() for _ in range(3))


def _whole_turns(wanted: float, calls: list[Call]) -> int:
    return math.ceil(wanted / len(calls)) * len(calls)


def _on_host(call: Call) -> float:
    begin = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin) / 1e3


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
