"""What the command costs around the network: its start, its memory over a long video, two of it side by side.

    python benchmarks/bench_system.py CLIP [--minutes 1 30]

Prints Markdown. The clip is repeated until the video is as long as wanted. Linux only: it reads peak memory as the
kernel counts it, and pins processes to cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

# Nothing large is imported here: a process's largest resident size is counted from its parent's on.
LOAD = ("-c", "import fan_fer; fan_fer.load_recognizer()")
COMMAND = ("-m", "fan_fer")


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds, and its largest resident size in megabytes (10^6 bytes)."""

    seconds: float
    megabytes: float


def cost(*arguments: str | Path, cores: Sequence[Sequence[int]] = ((),)) -> Cost:
    """Of Python with ``arguments``, a process for each of ``cores``: the numbers of those it may use, none for all.

    All start together; the seconds are until the last ends, the memory is the largest of one. Raises RuntimeError with
    what a failed process printed.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        running = []
        for own in cores:
            environment = {**os.environ, "OMP_NUM_THREADS": str(len(own))} if own else None
            process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env=environment)
            if own:
                os.sched_setaffinity(process.pid, own)  # before Python has started a thread
            running.append(process)
        largest = 0
        for process in running:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            largest = max(largest, usage.ru_maxrss)
        if any(process.returncode for process in running):
            log.seek(0)
            raise RuntimeError(log.read().decode(errors="replace"))
    return Cost(time.perf_counter() - start, 1024 * largest / 1e6)


def repeat(clip: Path, seconds: float, path: Path) -> int:
    """Writes the clip's frames, over and over, as a video of that length; returns how many it has."""
    import cv2

    from fan_fer.video.decoding import Video

    video = Video(clip)
    frames = [cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR) for frame in video]
    count = round(seconds * video.fps)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), video.fps, frames[0].shape[1::-1])
    for frame in islice(cycle(frames), count):
        writer.write(frame)
    writer.release()
    return count


def start_up(rounds: int) -> list[list[str]]:
    work = {
        "`import fan_fer; fan_fer.load_recognizer()`": LOAD,
        "`fan-fer --help`": (*COMMAND, "--help"),
    }
    found = {what: [cost(*arguments) for _ in range(rounds)] for what, arguments in work.items()}
    return [["start", f"seconds, median of {rounds}", "largest resident size, MB"]] + [
        [what, f"{statistics.median(one.seconds for one in costs):.2f}", f"{max(one.megabytes for one in costs):.0f}"]
        for what, costs in found.items()
    ]


def side_by_side(video: Path, rounds: int) -> list[list[str]]:
    cores = [[core] for core in sorted(os.sched_getaffinity(0))[:2]]
    if len(cores) < 2:
        return [["two processes"], ["not measured: there is one core"]]
    ratios = []
    for _ in range(rounds):
        alone = cost(*COMMAND, "predict", video, cores=cores[:1]).seconds
        ratios.append(2 * alone / cost(*COMMAND, "predict", video, cores=cores).seconds)
    return [
        ["side by side", f"videos a minute, median of {rounds}"],
        ["two processes, each on a core of its own, to one on one core",
         f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"],
    ]  # fmt: skip


def long_video(videos: Sequence[tuple[float, int, Path]]) -> list[list[str]]:
    rows = [["`fan-fer predict`", "frames", "largest resident size, MB", "change"]]
    smallest = None
    for minutes, frames, path in videos:
        found = cost(*COMMAND, "predict", path)
        smallest = smallest or found.megabytes
        rows.append([f"{minutes:g} min", str(frames), f"{found.megabytes:.0f}",
                     f"{100 * (found.megabytes / smallest - 1):+.0f} %"])  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, metavar="CLIP")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 30], help="lengths of the long video")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = []
        with get_context("spawn").Pool(1) as elsewhere:
            for minutes in arguments.minutes:
                path = Path(folder) / f"{minutes:g}.mp4"
                videos.append((minutes, elsewhere.apply(repeat, (arguments.clip, 60 * minutes, path)), path))
        tables = []
        for what, measure in (
            ("start", lambda: start_up(arguments.rounds)),
            ("two processes", lambda: side_by_side(videos[0][2], arguments.rounds)),
            ("long video", lambda: long_video(videos)),
        ):
            print(f"{what} ...", file=sys.stderr)
            tables.append(measure())

    from fan_fer.evaluation.text import markdown_table

    print("\n\n".join(markdown_table(head, rows) for head, *rows in tables))


if __name__ == "__main__":
    main()
