"""The clock's arithmetic, on a GPU that only counts: no time passes but that of the calls that it is given."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
from gpu_clock import Clock

_CACHE = 50 << 20


class CountingGpu:
    """In place of torch.cuda. What is captured takes no time until it is replayed."""

    def __init__(self, capture_fails: bool) -> None:
        self.now_ms = 0.0
        self.captured_ms: float | None = None
        self.replays = 0
        self.capture_fails = capture_fails

    def run(self, us: float) -> None:
        if self.captured_ms is None:
            self.now_ms += us / 1e3
        else:
            self.captured_ms += us / 1e3

    def Event(self, enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        event = SimpleNamespace(synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now_ms)
        event.elapsed_time = lambda other: other.at - event.at
        return event

    def CUDAGraph(self) -> SimpleNamespace:
        graph = SimpleNamespace(ms=0.0)

        def replay() -> None:
            self.replays += 1
            self.now_ms += graph.ms

        graph.replay = replay
        return graph

    @contextlib.contextmanager
    def graph(self, graph: SimpleNamespace, stream: object):
        if self.capture_fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        assert stream == "the clock's"
        self.captured_ms = 0.0
        yield
        graph.ms, self.captured_ms = self.captured_ms, None

    @staticmethod
    def Stream() -> str:
        return "the clock's"

    @staticmethod
    def get_device_properties(_: int) -> SimpleNamespace:
        return SimpleNamespace(L2_cache_size=_CACHE)

    @staticmethod
    def synchronize() -> None:
        pass

    def _sleep(self, cycles: int) -> None:
        assert cycles > 0
        self.now_ms += cycles / 1e6  # not the calls' time


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> CountingGpu:
    counting = CountingGpu(getattr(request, "param", False))
    monkeypatch.setattr(torch, "cuda", counting)
    return counting


@pytest.mark.parametrize("us", [3.0, 99.0, 101.0, 30_000.0])
@pytest.mark.parametrize("input_bytes", [6 << 10, 40 << 20, 2 << 30])
@pytest.mark.parametrize("gpu", [False, True], ids=["", "capture fails"], indirect=True)
def test_a_call_takes_what_it_takes(gpu: CountingGpu, us: float, input_bytes: int) -> None:
    used: list[int] = []

    def make(k: int):
        def call() -> None:
            used.append(k)
            gpu.run(us)

        return call

    clock = Clock("cuda", 20)
    timing = clock.time(make, input_bytes)
    assert timing.us == pytest.approx(us)
    short = us < 100
    assert (timing.user_us is not None) == short
    assert ("graph" in timing.how) == short
    assert ("not in a graph (operation not permitted when stream is capturing)" in timing.how) == (
        short and gpu.capture_fails
    )
    assert (gpu.replays > 0) == (short and not gpu.capture_fails)
    # Between two uses of an input so much is read that nothing of it is left in L2; but for the smallest.
    turn = len(set(used))
    assert used[-turn:] == sorted(set(used))
    assert (turn - 1) * input_bytes >= 3 * _CACHE or turn == (32 if short else 8)
    assert turn >= 2


def test_on_the_cpu_time_is_the_hosts() -> None:
    calls = []
    timing = Clock("cpu", 3).time(lambda k: lambda: calls.append(k), 100)
    assert calls == [0] * 4
    assert timing.how == "host"
    assert timing.us > 0
