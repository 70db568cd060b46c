"""FER+: the FER2013 faces (48 x 48, grey) with ten people's votes on each, as data for seven emotions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, first_line

VOTE_COLUMNS = (
    "Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear", "Contempt", "Unknown", "Not a face",
)  # fmt: skip
HALVES = ("tune", "report")  # of the valid faces, by turns


@dataclass(frozen=True)
class FaceSet:
    """Grey faces and their label distributions."""

    images: Tensor  # (N, H, W) uint8
    labels: Tensor  # (N, 7) float32, each row sums to 1, columns as EMOTIONS
    agreed: Tensor  # (N,) bool: more than half of the votes are for one emotion; published figures are of such faces

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> FaceSet:
        """The same faces on that device."""
        return FaceSet(self.images.to(device), self.labels.to(device), self.agreed.to(device))

    def every(self, step: int, first: int) -> FaceSet:
        """Every ``step``-th face from ``first`` on."""
        return FaceSet(self.images[first::step], self.labels[first::step], self.agreed[first::step])


def rgb(faces: FaceSet) -> NDArray[np.uint8]:
    """The faces as the recognizer takes them: RGB (N, H, W, 3)."""
    return np.repeat(faces.images.numpy()[..., None], 3, axis=-1)


def label_distributions(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes (N, 10) to label distributions (M, 7), the indices (M,) of the M images kept, and which of these M agree.

    A class with a single vote counts as noise. Images that more voters call contempt, unknown or not a face than
    any of the seven emotions are dropped. Voters agree where more than half of the votes are for one emotion: the
    "majority" rule of Barsoum et al. (ICMI 2016), by which other faces do not count in published accuracies.
    """
    counts = np.where(votes > 1, votes, 0).astype(np.float32)
    columns = [VOTE_COLUMNS.index(name) for name in EMOTIONS]
    emotions = counts[:, columns]
    others = np.delete(counts, columns, axis=1)
    kept = np.flatnonzero((emotions.max(axis=1) > 0) & (emotions.max(axis=1) >= others.max(axis=1)))
    agreed = emotions.max(axis=1) > counts.sum(axis=1) / 2
    return emotions[kept] / emotions[kept].sum(axis=1, keepdims=True), kept, agreed[kept]


def load_ferplus(path: Path, split: str) -> FaceSet:
    """The faces of a split: arrays ``{split}_images`` and ``{split}_votes`` of an .npz.

    split: "train"; "valid"; or half of the latter, "tune" to choose by and "report" to report what was chosen.
    """
    if split in HALVES:
        return load_ferplus(path, "valid").every(2, HALVES.index(split))
    wanted = f"an .npz with {split}_images and {split}_votes"
    if not path.is_file():
        raise FanFerError(f"{path}: no such file; the FER+ faces are wanted, {wanted}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, votes = arrays[f"{split}_images"], arrays[f"{split}_votes"]
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise FanFerError(f"{path}: not the FER+ faces ({first_line(error)}); wanted {wanted}") from error
    if images.ndim != 3 or images.dtype != np.uint8 or votes.shape != (len(images), len(VOTE_COLUMNS)):
        raise FanFerError(
            f"{path}: {split}_images is {images.dtype} {images.shape} and {split}_votes {votes.shape}; "
            f"wanted uint8 (N, H, W) and (N, {len(VOTE_COLUMNS)})"
        )
    labels, kept, agreed = label_distributions(votes)
    if len(kept) == 0:
        raise FanFerError(f"{path}: no {split} image has a majority for one of the seven emotions")
    return FaceSet(torch.from_numpy(images[kept]), torch.from_numpy(labels), torch.from_numpy(agreed))
