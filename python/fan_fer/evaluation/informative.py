"""Whether the weights of a clip's frames follow the frames that show its emotion, where the set tells which those are.

The measure is the area under the ROC curve (AUC) of a clip's weights against "the frame is informative": how often an
informative frame outweighs another; 0.5 is chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from fan_fer.base.csv_files import read_table
from fan_fer.base.errors import DataError
from fan_fer.base.names import name_key
from fan_fer.evaluation.metrics import Interval, bootstrap_interval

VISIBLE = 0.2  # a weaker emotion does not count as visible
COLUMNS = ("clip", "frame", "intensity", "occluded")


@dataclass(frozen=True)
class FrameTruth:
    """Which frames of which clips are informative, as :func:`load_truth` read it."""

    path: Path
    frames: Mapping[str, Mapping[int, bool]]  # clip -> frame number -> informative

    @cached_property
    def _by_key(self) -> dict[str, str]:
        """The clips by what their names are compared by, where that tells them apart."""
        keys = Counter(map(name_key, self.frames))
        return {name_key(name): name for name in self.frames if keys[name_key(name)] == 1}

    def check_clips(self, names: Iterable[str]) -> None:
        """Raises DataError where one of the clips is unknown."""
        missing = [name for name in names if self._find(name) is None]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"{self.path}: has no row for clip {missing[0]}{more}")

    def informative(self, name: str, numbers: Sequence[int]) -> NDArray[np.bool_]:
        """(n,): which of the frames ``numbers`` of a clip show its emotion. Raises DataError for unknown ones.

        A clip may be named with more of its path, or with its suffix: "Val_AFEW/Happy/1.avi" finds "Happy/1". Spellings
        of one name find each other.
        """
        frames = self._find(name)
        if frames is None:
            raise DataError(f"{self.path}: has no row for clip {name}")
        missing = [number for number in numbers if number not in frames]
        if missing:
            raise DataError(f"{self.path}: has no row for frame {missing[0]} of clip {name}")
        return np.array([frames[number] for number in numbers], bool)

    def _find(self, name: str) -> Mapping[int, bool] | None:
        for path in (PurePath(name), PurePath(name).with_suffix("")):
            for start in range(len(path.parts)):
                part = "/".join(path.parts[start:])
                found = part if part in self.frames else self._by_key.get(name_key(part))
                if found is not None:
                    return self.frames[found]
        return None


@dataclass(frozen=True)
class Ranking:
    """AUC of the weights, averaged over the clips that have frames of both kinds."""

    clips: int
    mean: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "clips": self.clips,
            "auc": self.mean,
            "interval": None if self.interval is None else list(self.interval),
        }


def load_truth(path: Path) -> FrameTruth:
    """Reads ``frames.csv``: a row per frame with ``clip``, ``frame``, ``intensity`` and ``occluded``.

    Informative is a frame in which the labelled emotion is visible (intensity above 0.2) and nothing covers the face.
    Raises DataError.
    """
    frames: dict[str, dict[int, bool]] = {}
    for line, row in read_table(path, COLUMNS, f"{','.join(COLUMNS)}, a row per frame, is wanted").rows:
        try:
            number, intensity, occluded = int(row["frame"]), float(row["intensity"]), int(row["occluded"])
            if not math.isfinite(intensity) or occluded not in (0, 1):
                raise ValueError
        except ValueError:
            raise DataError(
                f"{path}: line {line}: frame {row['frame']!r}, intensity {row['intensity']!r}, "
                f"occluded {row['occluded']!r}; a whole number, a number, and 0 or 1 are wanted"
            ) from None
        if number in frames.setdefault(row["clip"], {}):
            raise DataError(
                f"{path}: line {line}: frame {number} of clip {row['clip']!r} has a row already; one is wanted"
            )
        frames[row["clip"]][number] = intensity > VISIBLE and not occluded
    return FrameTruth(path, frames)


def frame_ranking(weights: ArrayLike, informative: ArrayLike) -> float:
    """AUC of one clip's weights (n,) against ``informative`` (n,) bool; NaN where all frames are of one kind."""
    kinds = np.asarray(informative, bool)
    if kinds.all() or not kinds.any():
        return float("nan")
    return float(roc_auc_score(kinds, np.asarray(weights)))


def rank(areas: NDArray[np.float64]) -> Ranking | None:
    """The mean and its interval over the clips of :func:`frame_ranking` values (S, n), one row per seed.

    Each clip's are averaged over the seeds first. None where no clip has both kinds of frames.
    """
    known = areas[:, ~np.isnan(areas).any(0)].mean(0)
    if not len(known):
        return None
    interval = bootstrap_interval(lambda clips: known[clips].mean(-1), len(known))
    return Ranking(len(known), float(known.mean()), interval)


@dataclass(frozen=True)
class Attention:
    """AUC against the informative frames: of the final weights, and of the plain rule "one minus p(neutral)"."""

    weights: Ranking | None = None
    rule: Ranking | None = None

    @classmethod
    def of(cls, areas: NDArray[np.float64]) -> Attention:
        """Of :func:`clip_areas` values (2, S, n), for S seeds."""
        return cls(rank(areas[0]), rank(areas[1]))

    def to_dict(self) -> dict[str, Any]:
        return {name: None if value is None else value.to_dict() for name, value in vars(self).items()}


def clip_areas(
    weights: Iterable[ArrayLike], own: Iterable[ArrayLike], informative: Iterable[ArrayLike], neutral: int | None
) -> NDArray[np.float64]:
    """(2, n): AUC of each clip's final weights and of the plain rule; NaN where there is none.

    weights, own, informative: of the frames of each of the n clips: (k,), (k, C) probabilities of each frame as a clip
        of its own, and (k,) bool.
    """
    areas: list[tuple[float, float]] = []
    for final, probabilities, kinds in zip(weights, own, informative, strict=True):
        rule = float("nan") if neutral is None else frame_ranking(1 - np.asarray(probabilities)[:, neutral], kinds)
        areas.append((frame_ranking(final, kinds), rule))
    return np.asarray(np.array(areas, np.float64).reshape(-1, 2).T)


def neutral_class(classes: Sequence[str]) -> int | None:
    """Which of the classes is neutral, if one is."""
    return next((index for index, name in enumerate(classes) if name_key(name) == "neutral"), None)
