"""The exported ONNX file beside torch: whether it reads the same, how fast it is, and what int8 costs.

    python benchmarks/bench_onnx.py CLIP... [--ferplus ferplus.npz] [--turns 20] [--threads 1 2]

The clips, cut into 20 pieces, are read by torch in float32 and by the files. int8 is fitted to the faces of the clips.
Timed is a clip of 64 faces, from bytes to probabilities, all ways in turn: the least milliseconds a face, and the
median over the turns of the time of torch in float32 by that of each. With --ferplus (arrays valid_images and
valid_votes, as of FER+) also how often each is right on single faces.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from fan_fer.attention.export import export_int8, export_onnx
from fan_fer.attention.scoring import score_clip
from fan_fer.attention.weights import load_weights
from fan_fer.evaluation.text import markdown_table
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.subject import subject_crops
from fan_fer.features.embedding import Embedder, Features
from fan_fer.video.sources import open_clip

PIECES = 20
FACES = 64  # of the clip that is timed
FERPLUS = ("Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear")  # the first of its ten columns

Faces = NDArray[np.uint8]
Reader = Callable[[Faces], NDArray[np.float64]]  # a clip's faces (n, S, S, 3) to the probabilities of its classes


class Torch:
    """As ``fan-fer`` reads a clip whose faces are known."""

    def __init__(self, precision: str) -> None:
        self._network, card = load_weights()
        self._embedder = Embedder(
            self._network.backbone, self._network.feature_size, card.preprocessing, "cpu", precision
        )

    def __call__(self, faces: Faces) -> NDArray[np.float64]:
        features = Features(self._embedder)
        features.add(faces)
        return score_clip(self._network, features.all()).probabilities


class Onnx:
    def __init__(self, file: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def __call__(self, faces: Faces) -> NDArray[np.float64]:
        return self.each(faces[None])[0]

    def each(self, clips: Faces) -> NDArray[np.float64]:
        """Of several clips (B, N, S, S, 3)."""
        (logits,) = self._session.run(["logits"], {"frames": clips, "mask": np.ones(clips.shape[:2], bool)})
        return np.asarray(torch.from_numpy(logits).double().softmax(-1).numpy())


def pieces(clips: list[Path]) -> list[Faces]:
    """The faces of the subjects, in 20 runs of frames about as long as each other."""
    _, card = load_weights()
    settings, detector = card.preprocessing, load_detector("mtcnn")
    runs = []
    for clip in clips:
        runs.append(np.stack([*subject_crops(open_clip(clip), detector, settings.size, settings.template).values()]))
    shares = [1] * len(runs)
    while sum(shares) < PIECES:
        longest = max(range(len(runs)), key=lambda i: len(runs[i]) / shares[i])
        shares[longest] += 1
    return [part for run, share in zip(runs, shares, strict=True) for part in np.array_split(run, share)]


def likeness(name: str, read: Reader, wanted: list[NDArray[np.float64]], clips: list[Faces]) -> list[str]:
    got = [read(clip) for clip in clips]
    same = sum(int(a.argmax() == b.argmax()) for a, b in zip(got, wanted, strict=True))
    apart = [float(abs(a - b).max()) for a, b in zip(got, wanted, strict=True)]
    return [name, f"{same} of {len(clips)}", f"{max(apart):.2g}", f"{statistics.mean(apart):.2g}"]


def timed(readers: dict[str, Reader], faces: Faces, turns: int) -> dict[str, tuple[float, float]]:
    """Of each the least milliseconds a face, and the median ratio of the first's time to its."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for read in readers.values():
        read(faces)
    for _ in range(turns):
        for name, read in readers.items():
            start = time.perf_counter()
            read(faces)
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds.values()))
    return {
        name: (1000 * min(times) / len(faces), statistics.median(a / b for a, b in zip(first, times, strict=True)))
        for name, times in seconds.items()
    }


def ferplus(path: Path, files: dict[str, Path]) -> list[list[str]]:
    """How often each file is right on the faces of which most people say the same of the seven emotions."""
    _, card = load_weights()
    with np.load(path) as data:
        images, votes = data["valid_images"], data["valid_votes"].astype(int)
    votes[votes == 1] = 0
    best = votes.argmax(1)
    clear = (2 * votes.max(1) > votes.sum(1)) & (best < len(FERPLUS))
    labels = np.array([card.classes.index(FERPLUS[column]) for column in best[clear]])
    side = card.preprocessing.size
    faces = np.stack([cv2.resize(image, (side, side)) for image in images[clear]])
    answers = {}
    for name, file in files.items():
        session = Onnx(file, 1)
        parts = np.array_split(faces, len(faces) // 16)
        answers[name] = np.concatenate([session.each(part[:, None, :, :, None].repeat(3, -1)) for part in parts])
    plain = next(iter(answers.values()))
    return [
        [
            name,
            f"{len(labels)}",
            f"{(got.argmax(1) == labels).mean():.2%}",
            f"{(got.argmax(1) == plain.argmax(1)).mean():.2%}",
            f"{abs(got - plain).max(1).mean():.4f}",
        ]
        for name, got in answers.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--ferplus", type=Path, metavar="FILE")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    clips = pieces(arguments.clips)
    everyone = np.concatenate(clips)
    network, card = load_weights()
    with tempfile.TemporaryDirectory() as folder:
        files = {"ONNX, float32": Path(folder) / "plain.onnx", "ONNX, int8": Path(folder) / "int8.onnx"}
        export_onnx(files["ONNX, float32"], network, card)
        export_int8(files["ONNX, int8"], network, card, [*everyone[:: max(1, len(everyone) // 256)]])

        def readers(threads: int) -> dict[str, Reader]:
            of_torch = {f"torch, {precision}": Torch(precision) for precision in ("float32", "bfloat16")}
            return {**of_torch, **{name: Onnx(file, threads) for name, file in files.items()}}

        torch.set_num_threads(1)
        reading = readers(1)
        wanted = [reading["torch, float32"](clip) for clip in clips]
        rows = [likeness(name, read, wanted, clips) for name, read in reading.items()]
        lengths = [len(clip) for clip in clips]
        print(f"{len(clips)} clips of {min(lengths)} to {max(lengths)} faces\n")
        print(markdown_table(["", "the label of torch, float32", "probabilities apart, at most", "in the mean"], rows))
        times = {}
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            times[threads] = timed(readers(threads), everyone[:FACES], arguments.turns)
        head = ["", *(f"{threads} thread{'s' * (threads > 1)}: ms a face, ratio" for threads in times)]
        rows = [[name, *(f"{of[name][0]:.2f}, {of[name][1]:.2f}" for of in times.values())] for name in reading]
        print(markdown_table(head, rows))
        if arguments.ferplus:
            head = ["", "faces", "right", "the label of float32", "probabilities apart, in the mean"]
            print(markdown_table(head, ferplus(arguments.ferplus, files)))


if __name__ == "__main__":
    main()
