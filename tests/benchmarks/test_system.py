"""What processes cost is told; one that fails is no figure; a clip is repeated to the length wanted."""

from __future__ import annotations

import os
from pathlib import Path

import bench_system
import cv2
import numpy as np
import pytest

from fan_fer.video.decoding import Video


def test_time_and_memory_of_a_process() -> None:
    found = bench_system.cost("-c", "import time; kept = bytearray(b'1') * 300_000_000; time.sleep(0.3)")
    assert found.seconds >= 0.3
    assert found.megabytes >= 300


def test_processes_get_the_cores_they_are_given() -> None:
    core = min(os.sched_getaffinity(0))
    script = (
        "import os, time; time.sleep(0.2); "
        f"assert os.sched_getaffinity(0) == {{{core}}} and os.environ['OMP_NUM_THREADS'] == '1'"
    )
    bench_system.cost("-c", script, cores=[[core], [core]])


def test_a_process_that_fails_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        bench_system.cost("-c", "raise SystemExit('no such thing')")


def test_a_clip_is_repeated(tmp_path: Path) -> None:
    clip, long = tmp_path / "clip.mp4", tmp_path / "long.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for brightness in (20, 120, 220):
        writer.write(np.full((48, 64, 3), brightness, np.uint8))
    writer.release()
    assert bench_system.repeat(clip, 0.8, long) == 8
    video = Video(long)
    assert video.fps == pytest.approx(10)
    means = [frame.image.mean() for frame in video]
    assert means == pytest.approx([20, 120, 220, 20, 120, 220, 20, 120], abs=10)
