"""From video to label: our pipeline beside the straightforward one, in turn, on the same clips.

    python benchmarks/bench_video.py CLIP... [--rounds 3] [--device cuda]

The straightforward pipeline searches every frame for faces with the same detector, and takes one frame at a time
through the network, on the CPU, in float32 with channels first. Prints a Markdown table; the ratio is the median of the
rounds'.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from fan_fer.base.timing import STAGES, Profile
from fan_fer.evaluation.text import markdown_table
from fan_fer.faces.align import align_face
from fan_fer.recognizer import Recognizer, load_recognizer
from fan_fer.video.decoding import Video


@torch.inference_mode()
def straightforward(recognizer: Recognizer, path: Path) -> dict[str, float]:
    """Probabilities of the clip's emotion."""
    video, settings = Video(path), recognizer.card.preprocessing
    features = []
    for frame in video:
        faces = recognizer.detector.detect(frame.image)
        if faces:
            face = max(faces, key=lambda face: face.box[2] * face.box[3])
            crop = align_face(frame.image, face.landmarks, settings.size, np.array(settings.template, np.float32))
            features.append(recognizer.network.embed(settings(crop[None]).contiguous()))
    logits = recognizer.network.classify(torch.cat(features).unsqueeze(0)).logits[0]
    return dict(zip(recognizer.card.classes, logits.softmax(-1).tolist(), strict=True))


def compare(recognizer: Recognizer, path: Path, rounds: int) -> list[str]:
    """A row of the table."""
    ratios, ours, theirs = [], [], []
    for _ in range(rounds):
        start = time.perf_counter()
        expected = straightforward(recognizer, path)
        middle = time.perf_counter()
        profile = Profile()
        prediction = recognizer.predict(path, profile=profile)
        end = time.perf_counter()
        theirs.append(middle - start)
        ours.append(end - middle)
        ratios.append(theirs[-1] / ours[-1])
    frames = prediction.frames_total
    apart = max(abs(prediction.probabilities[name] - value) for name, value in expected.items())
    label = max(expected, key=lambda name: expected[name])
    return [
        path.name,
        str(frames),
        f"{frames / statistics.median(theirs):.1f}",
        f"{frames / statistics.median(ours):.1f}",
        f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        f"{label} / {prediction.label}",
        f"{apart:.3f}",
        ", ".join(f"{stage} {1000 * profile.seconds[stage] / frames:.1f}" for stage in STAGES),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="ours: cpu (default) or cuda")
    arguments = parser.parse_args()
    recognizer = load_recognizer(device=arguments.device)
    recognizer.predict(arguments.clips[0])  # the first steps of a process are slow
    head = ["clip", "frames", "frames/s, straightforward", "frames/s, ours", "ratio", "labels", "probabilities apart",
            "ms a frame, ours"]  # fmt: skip
    print(markdown_table(head, [compare(recognizer, path, arguments.rounds) for path in arguments.clips]))


if __name__ == "__main__":
    main()
