"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800)
FIRST_GUESS = 10.0  # seconds for a clip, before one is read
LONGEST_WAIT = 600  # seconds that a client is told to wait, at most


class Metrics:
    """Counts of one desk since it was opened.

    workers: processes that read. clips, ready: ask how many clips are in each state, and how many processes can read.
    """

    def __init__(self, workers: int, clips: Callable[[], Mapping[str, int]], ready: Callable[[], int]) -> None:
        self._workers = workers
        self._registry = CollectorRegistry()
        self._registry.register(_Now(clips, ready))
        self.requests = self._counter("requests", "Answers, by route and status code.", "method", "route", "code")
        self.received = self._counter("received_bytes", "Bytes of clips that came in.")
        self.finished = self._counter("clips_finished", "Clips that are done or failed.", "state")
        self.frames = self._counter("frames_read", "Frames of clips that are done.")
        self.seconds = Histogram(
            "fan_fer_reading_seconds",
            "Seconds from the begin of a clip's reading to its end.",
            buckets=SECONDS,
            registry=self._registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"fan_fer_{name}", text, labels, registry=self._registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def wait(self) -> int:
        """Whole seconds after which one clip more may be finished, by how long clips took so far."""
        found = {sample.name: sample.value for metric in self.seconds.collect() for sample in metric.samples}
        read = found["fan_fer_reading_seconds_count"]
        mean = found["fan_fer_reading_seconds_sum"] / read if read else FIRST_GUESS
        return max(1, min(LONGEST_WAIT, round(mean / max(1, self._workers))))


class _Now(Collector):
    """How things stand when they are asked for."""

    def __init__(self, clips: Callable[[], Mapping[str, int]], ready: Callable[[], int]) -> None:
        self._clips, self._ready = clips, ready

    def collect(self) -> Iterable[Metric]:
        clips = GaugeMetricFamily("fan_fer_clips", "Clips at hand, by state.", labels=["state"])
        for state, count in self._clips().items():
            clips.add_metric([state], count)
        yield clips
        yield GaugeMetricFamily("fan_fer_readers_ready", "Processes that can read.", self._ready())
