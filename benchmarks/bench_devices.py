"""A clip read on a GPU, or any device: frames a second by precision and batch size, beside the CPU in float32.

    python benchmarks/bench_devices.py CLIP [--device cuda] [--precisions float32 bfloat16] [--batch-sizes 1 16 64 256]

Prints two Markdown tables. The first: for each setting the first reading of the clip after loading, the median of
further ones, and how far the clip's and its frames' probabilities are from the CPU's. The second: single steps.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fan_fer.base.device import find_device
from fan_fer.base.timing import STAGES, Profile
from fan_fer.evaluation.text import markdown_table
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.output.prediction import Prediction
from fan_fer.recognizer import load_recognizer
from fan_fer.video.decoding import Video


def setting(
    clip: Path, device: str, precision: str, batch_size: int | None, rounds: int
) -> tuple[Prediction, list[str]]:
    """What is read in the end, and the row of the table but for what compares it."""
    recognizer = load_recognizer(device=device, precision=precision, batch_size=batch_size)
    _ = recognizer.detector
    seconds = []
    for _ in range(rounds + 1):
        profile = Profile()
        start = time.perf_counter()
        prediction = recognizer.predict(clip, profile=profile)
        seconds.append(time.perf_counter() - start)
    frames = prediction.frames_total
    stages = ", ".join(f"{stage} {1000 * profile.seconds[stage] / frames:.2f}" for stage in STAGES)
    first, further = frames / seconds[0], frames / statistics.median(seconds[1:])
    embedder = recognizer.embedder
    cells = [str(embedder.device), embedder.precision, str(embedder.batch_size), f"{first:.0f}", f"{further:.0f}"]
    return prediction, [*cells, stages, prediction.label]


def apart(one: Prediction, other: Prediction) -> list[str]:
    """How many frames' faces are in one alone, and the largest distances of the clip's and a frame's probabilities."""
    pairs = [(a, b) for a, b in zip(one.frames, other.frames, strict=True) if a.probabilities and b.probabilities]
    lone = sum(a.has_face != b.has_face for a, b in zip(one.frames, other.frames, strict=True))

    def distance(a: dict[str, float], b: dict[str, float]) -> float:
        return max(abs(a[name] - b[name]) for name in a)

    frames = max(distance(dict(a.probabilities or {}), dict(b.probabilities or {})) for a, b in pairs)
    return [str(lone), f"{distance(one.probabilities, other.probabilities):.4f}", f"{frames:.4f}"]


def milliseconds(call: Callable[[], object], rounds: int) -> list[str]:
    """Of the first call, and the median of the others."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return [f"{1000 * seconds[0]:.1f}", f"{1000 * statistics.median(seconds[1:]):.2f}"]


def steps(clip: Path, device: str, rounds: int) -> list[list[str]]:
    images = [frame.image for frame, _ in zip(Video(clip), range(64), strict=False)]
    rows = [["decoding the whole clip, without the rest", *milliseconds(partial(list, Video(clip)), 3)]]
    for where in dict.fromkeys(("cpu", device)):
        detector = MTCNN(device=where)
        faces = detector.detect(images[0])
        for what, call in (
            ("one picture searched", partial(detector.detect, images[0])),
            ("one face followed", partial(detector.follow, images[1], faces)),
        ):
            rows.append([f"MTCNN, {where}: {what}", *milliseconds(call, rounds)])
        recognizer = load_recognizer(device=where)
        embedder, size = recognizer.embedder, recognizer.card.preprocessing.size
        for count in (1, 16, 64, 256):
            crops = [images[index % len(images)][:size, :size] for index in range(count)]
            embedder.batch_size = count
            times = milliseconds(partial(embedder.embed, crops), 2 if where == "cpu" else rounds)
            rows.append([f"{where}, {embedder.precision}: {count} faces embedded", *times])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, metavar="CLIP")
    parser.add_argument("--device", default="cuda", metavar="NAME")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], metavar="NAME")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 16, 64, 256], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device = find_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{device}: {name}; torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    expected, cells = setting(arguments.clip, "cpu", "float32", None, 1)
    head = ["device", "precision", "batch", "frames/s, first", "frames/s, then", "ms a frame", "label",
            "faces in one alone", "clip's probabilities apart", "a frame's"]  # fmt: skip
    rows = [[*cells, *apart(expected, expected)]]
    for precision in arguments.precisions:
        for batch_size in arguments.batch_sizes:
            got, cells = setting(arguments.clip, arguments.device, precision, batch_size, arguments.rounds)
            rows.append([*cells, *apart(expected, got)])
    print(markdown_table(head, rows))
    print(markdown_table(["step", "first, ms", "then, ms"], steps(arguments.clip, arguments.device, 20)))


if __name__ == "__main__":
    main()
