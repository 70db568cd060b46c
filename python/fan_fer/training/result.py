"""What a finished run leaves: its history, and the scores of the test clips from its best and its last epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fan_fer.attention.scoring import ClipScores
from fan_fer.base.errors import TrainingError
from fan_fer.base.files import atomic_write, read_file, text_path
from fan_fer.base.finite import not_finite
from fan_fer.base.texts import parse_json, write_json

FORMAT = 1
RESULT_FILE, SCORES_FILE = "result.json", "scores.safetensors"
KEPT_EPOCHS = ("last", "best")  # "best" is the one with the highest accuracy on the test clips
CHOSEN = "chosen"  # of runs with a validation part, the epoch with the highest accuracy on that
EPOCHS = {"last": "last epoch", CHOSEN: "chosen epoch", "best": "best-on-test epoch"}


@dataclass(frozen=True)
class RunResult:
    """A finished run, as result.json and scores.safetensors in its folder hold it."""

    folder: Path
    values: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> RunResult:
        """Raises TrainingError for a file that is missing, damaged or of another version."""
        path = folder / RESULT_FILE
        try:
            values = parse_json(read_file(path))
            version = values["format"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{path}: not the result of a training run ({error})") from error
        if version != FORMAT:
            raise TrainingError(f"{path}: format {version}; this version of fan_fer reads {FORMAT}")
        return cls(folder, values)

    @classmethod
    def save(cls, folder: Path, values: dict[str, Any], scores: dict[str, list[ClipScores]]) -> RunResult:
        """Writes both files, result.json last: where it is, the run is whole."""
        lengths = [len(clip.weights) for clip in scores["last"]]
        tensors = {"offsets": torch.tensor([0, *lengths]).cumsum(0)}
        for which, clips in scores.items():
            tensors[f"{which}.probabilities"] = torch.from_numpy(np.stack([clip.probabilities for clip in clips]))
            tensors[f"{which}.weights"] = torch.from_numpy(np.concatenate([clip.weights for clip in clips]))
            tensors[f"{which}.frame_probabilities"] = torch.from_numpy(np.concatenate([clip.own for clip in clips]))
        broken = not_finite(tensors)
        if broken is not None:
            raise TrainingError(f"{folder / SCORES_FILE}: not written, as {broken} is not finite")
        with atomic_write(folder / SCORES_FILE) as temporary:
            temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        write_json(folder / RESULT_FILE, {"format": FORMAT, **values}, indent=1)
        return cls.load(folder)

    @property
    def labels(self) -> list[int]:
        """Of the test clips, as indices into the classes."""
        return list(self.values["labels"])

    @property
    def kept(self) -> tuple[str, ...]:
        """The epochs that scores are kept of."""
        return (*KEPT_EPOCHS, CHOSEN) if CHOSEN in self.values else KEPT_EPOCHS

    def accuracy(self, which: str) -> float:
        """Of the test clips; ``which`` is one of ``kept``."""
        return float(self.values[which]["accuracy"])

    def scores(self, which: str) -> list[ClipScores]:
        """Of the test clips, all frames of each; ``which`` is one of ``kept``."""
        path = self.folder / SCORES_FILE
        try:
            with text_path(path) as name:
                tensors = load_file(name)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{path}: cannot be read ({error}); delete the folder and train again") from error
        broken = not_finite(tensors)
        if broken is not None:
            raise TrainingError(f"{path}: {broken} is not finite; delete the folder and train again")
        lengths = tensors["offsets"].diff().tolist()
        parts = (
            tensors[f"{which}.probabilities"],
            tensors[f"{which}.weights"].split(lengths),
            tensors[f"{which}.frame_probabilities"].split(lengths),
        )
        return [ClipScores(*(part.numpy() for part in clip)) for clip in zip(*parts, strict=True)]
