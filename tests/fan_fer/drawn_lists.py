"""A list of drawn videos, and how its results are read."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from drawn_faces import SIZE, draw_face

from fan_fer import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard, save_weights

from .drawn_sets import write_pictures
from .fakes import PREPROCESSING

VIDEOS = {"happy.avi": "Happy", "sad.avi": "Sad", "angry.avi": "Angry", "fear.avi": "Fear"}
FAILING = {"blank.avi": "no face found", "dust.avi": "not a video", "gone.avi": "no such file"}
WHITE = "white.avi"


def draw_list(folder: Path) -> Path:
    """Four videos of a face, three that cannot be predicted, and one of the former again; returns the list of them."""
    folder.mkdir()
    for person, (name, emotion) in enumerate(VIDEOS.items()):
        write_pictures(folder / name, [draw_face(emotion, frame / 3, person) for frame in range(4)])
    write_pictures(folder / "blank.avi", [np.full((*SIZE[::-1], 3), 40, np.uint8)] * 2)
    (folder / "dust.avi").write_bytes(b"dust")
    rows = list(VIDEOS.items())
    rows[2:2] = [("blank.avi", "Happy"), ("dust.avi", "Sad"), ("gone.avi", ""), ("happy.avi", "")]
    return write_list(
        folder / "list.csv", [(name, label, f'"say {n}, please"') for n, (name, label) in enumerate(rows)]
    )


def write_list(path: Path, rows: list[tuple[str, ...]], header: str = "video,label,note") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def draw_white(path: Path) -> Path:
    """A video that kills whoever looks at it with ``DrawnFaces(deadly=True)``."""
    return write_pictures(path, [np.full((*SIZE[::-1], 3), 255, np.uint8)] * 2)


def random_weights(path: Path, seed: int = 0, backbone: str = "resnet18") -> Path:
    """A file of random weights that looks like a trained one."""
    torch.manual_seed(seed)
    network = FrameAttentionNetwork(backbone=backbone)
    preprocessing = PREPROCESSING if backbone == "resnet18" else replace(PREPROCESSING, size=72)
    card = ModelCard("fan", preprocessing, backbone, trained_on="x", license="MIT")
    save_weights(path, network, card, half=True)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
