"""The features of clips: arrays, and the files that other programs read them from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import OutputError
from fan_fer.base.extras import load_pandas
from fan_fer.base.files import atomic_write, readable
from fan_fer.base.parquet_files import is_parquet
from fan_fer.faces.face import LANDMARKS
from fan_fer.output.prediction import Prediction
from fan_fer.prediction import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".npz", ".parquet")

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """What the backbone makes of each of a clip's n decoded frames; NaN for those without the subject's face.

    embeddings: (n, D) float32.
    prediction: what the network says of them; it holds the frames' times, boxes, landmarks and weights.
    label: what a list of videos says of the clip; empty where nothing does.
    """

    embeddings: Floats
    prediction: Prediction
    label: str = ""

    @property
    def has_face(self) -> NDArray[np.bool_]:
        """(n,)."""
        return np.array([frame.has_face for frame in self.prediction.frames], bool)

    @property
    def frames(self) -> NDArray[np.int64]:
        """(n,), the numbers of the frames in the video."""
        return np.array([frame.index for frame in self.prediction.frames], np.int64)

    @property
    def times(self) -> NDArray[np.float64]:
        """(n,), seconds from the start of the video."""
        return np.array([frame.time for frame in self.prediction.frames], np.float64)

    @property
    def boxes(self) -> Floats:
        """(n, 4): x, y, width and height in pixels."""
        return np.array([frame.box or [np.nan] * 4 for frame in self.prediction.frames], np.float32)

    @property
    def landmarks(self) -> Floats:
        """(n, 5, 2): x and y in pixels, in the order of :class:`fan_fer.FramePrediction`."""
        return np.array([frame.landmarks or [(np.nan, np.nan)] * 5 for frame in self.prediction.frames], np.float32)

    @property
    def weights(self) -> Floats:
        """(n,), the frames' shares in the prediction."""
        return np.array([np.nan if frame.weight is None else frame.weight for frame in self.prediction.frames], "f4")

    def to_pandas(self) -> pandas.DataFrame:
        """As :meth:`FeatureSet.to_pandas`."""
        return FeatureSet((self,)).to_pandas()


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features of several clips, and by the names of the others what was wrong with them."""

    clips: tuple[ClipFeatures, ...]
    failures: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what the suffix says: .npz, or .parquet with a row per frame. Raises OutputError, LibraryError."""
        path = Path(path)
        check_features(path)
        if not self.clips:
            raise OutputError(f"{path}: not written, as there is no clip with features")
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            if path.suffix.lower() == ".npz":
                arrays: dict[str, Any] = {**self.arrays()}
                np.savez(file, **arrays)
            else:
                _write_parquet(file, self)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the .npz file holds, by name: clip k of K is rows ``offsets[k]`` to ``offsets[k + 1]`` of T."""
        lengths = [len(clip.embeddings) for clip in self.clips]
        rows: dict[str, list[NDArray[Any]]] = {
            "frame": [clip.frames for clip in self.clips],
            "time": [clip.times for clip in self.clips],
            "box": [clip.boxes for clip in self.clips],
            "landmarks": [clip.landmarks for clip in self.clips],
            "weight": [clip.weights for clip in self.clips],
            "embedding": [clip.embeddings for clip in self.clips],
        }
        return {
            "video": np.array([readable(clip.prediction.video or "") for clip in self.clips], np.str_),
            "label": np.array([clip.label for clip in self.clips], np.str_),
            "offsets": np.cumsum([0, *lengths], dtype=np.int64),
            **{name: np.concatenate(parts) for name, parts in rows.items()},
            "network": np.array(self.network(), np.str_),
        }

    def network(self) -> str:
        """Where the numbers come from: variant, backbone, detector, training and licence of the network, as JSON."""
        first = self.clips[0].prediction
        known = {"weights_file": readable(first.weights_file), **first.model}
        return json.dumps({"schema_version": SCHEMA_VERSION, **known})

    def to_pandas(self) -> pandas.DataFrame:
        """The rows of the Parquet file, one per frame: NaN, and no embedding, without a face.

        Raises ImportError without pandas.
        """
        made = self.arrays()
        lengths = np.diff(made["offsets"])
        columns = {name: np.repeat(made[name], lengths) for name in ("video", "label")}
        columns |= {name: made[name] for name in ("frame", "time")}
        columns |= _coordinates(made)
        columns |= {"weight": made["weight"]}
        embeddings = [
            None if np.isnan(weight) else row for row, weight in zip(made["embedding"], made["weight"], strict=True)
        ]
        return load_pandas().DataFrame(columns).assign(embedding=embeddings)


def check_features(path: Path) -> None:
    """Raises OutputError for the name of no file of features, LibraryError where what writes it is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: the name of a file of features ends in {' or '.join(SUFFIXES)}")
    is_parquet(path)


def _write_parquet(file: Any, features: FeatureSet) -> None:
    """A row per frame, under the names of the CSV table; empty where there is no face."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = features.arrays()
    lengths = np.diff(made["offsets"])
    absent = np.isnan(made["weight"])

    def floats(values: NDArray[Any]) -> Any:
        return pa.array(np.ascontiguousarray(values), mask=absent)

    columns = {name: _repeated(pa, made[name], lengths) for name in ("video", "label")}
    columns |= {"frame": pa.array(made["frame"]), "time": pa.array(made["time"])}
    columns |= {name: floats(values) for name, values in _coordinates(made).items()}
    columns["weight"] = floats(made["weight"])
    embedding = made["embedding"]
    starts = np.concatenate([[0], np.cumsum(~absent)]) * embedding.shape[1]
    # Not of a fixed size: pyarrow up to 25 cannot read such a column where a row is empty.
    columns["embedding"] = pa.LargeListArray.from_arrays(
        pa.array(starts), pa.array(embedding[~absent].reshape(-1)), mask=pa.array(absent)
    )
    table = pa.table(columns).replace_schema_metadata({"fan_fer": features.network()})
    pq.write_table(table, file)


def _coordinates(made: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns of box and landmarks, by their names in the CSV table."""
    columns = {name: made["box"][:, place] for place, name in enumerate(("x", "y", "width", "height"))}
    for place, name in enumerate(LANDMARKS):
        columns |= {f"{name}_{axis}": made["landmarks"][:, place, at] for at, axis in enumerate("xy")}
    return columns


def _repeated(pa: Any, names: NDArray[np.str_], lengths: Sequence[int] | NDArray[np.int64]) -> Any:
    """A column of texts, each as often as its clip has frames."""
    places = np.repeat(np.arange(len(names), dtype=np.int32), lengths)
    return pa.DictionaryArray.from_arrays(places, pa.array(names.tolist(), pa.string()))
