"""A prediction that can be drawn, written and looked at as a table: what a recognizer returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import OutputError
from fan_fer.base.extras import load_pandas
from fan_fer.base.files import write_text
from fan_fer.output.json_csv import clip_json, frame_rows, write_csv, write_frames_parquet
from fan_fer.prediction import ClipPrediction

if TYPE_CHECKING:
    import pandas

SUFFIXES = ".json, .csv, .parquet, .png, .pdf, .svg, .jpg, .webp, .mp4"


@dataclass(frozen=True, repr=False)
class Prediction(ClipPrediction):
    """A :class:`fan_fer.ClipPrediction` with ways to write it.

    The pictures of :meth:`plot` and :meth:`annotate` are decoded from the clip again, so that they need one that is a
    file: they raise ValueError where ``video`` is None, VideoError where it cannot be read any more. All raise
    OutputError where the file cannot be written; what was there before is then left as it was.
    """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what the suffix says: .json, .csv, .parquet, a plot, or .mp4 for the annotated video.

        Raises LibraryError for Parquet without pyarrow.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            write_text(Path(path), clip_json(self))
        elif suffix == ".csv":
            write_csv(Path(path), [self])
        elif suffix == ".parquet":
            write_frames_parquet(Path(path), [self])
        elif suffix == ".mp4":
            self.annotate(path)
        elif suffix and suffix in SUFFIXES.split(", "):
            self.plot(path)
        else:
            raise OutputError(f"{path}: the name of what is saved ends in one of {SUFFIXES}")

    def plot(self, path: str | os.PathLike[str], faces: Mapping[int, NDArray[np.uint8]] | None = None) -> None:
        """Draws faces, weights and readings: .png, .pdf, .svg, .jpg or .webp.

        faces: RGB crops (H, W, 3) by frame number, at least those that :func:`fan_fer.output.figure.strip_frames`
            names; None: they are decoded again.
        """
        from fan_fer.output.figure import strip_frames
        from fan_fer.output.plot import video_faces, write_plot

        write_plot(Path(path), self, video_faces(self, strip_frames(self)) if faces is None else faces)

    def annotate(
        self, path: str | os.PathLike[str], progress: Callable[[str, int, int | None], None] | None = None
    ) -> None:
        """Writes the video (.mp4) with the face, the emotion and the weight drawn on every frame.

        progress: called after every frame with "annotate", the frames done and how many there are.
        """
        from fan_fer.output.annotate import annotate_video

        annotate_video(self, path, progress)

    def to_pandas(self) -> pandas.DataFrame:
        """The rows of the CSV file, one per frame: numbers as numbers, NaN where there is no face.

        Raises ImportError without pandas.
        """
        return load_pandas().DataFrame(list(frame_rows([self])))


class Tracks(list[Prediction]):
    """Everyone in a clip: a list of their predictions, which is also one table."""

    def to_pandas(self) -> pandas.DataFrame:
        """The rows of the CSV file, one per frame and person. Raises ImportError without pandas."""
        return load_pandas().DataFrame(list(frame_rows(self)))
