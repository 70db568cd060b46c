"""A prediction as JSON and as a table, in CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fan_fer.base.csv_files import write_table
from fan_fer.base.files import readable
from fan_fer.base.parquet_files import write_parquet
from fan_fer.faces.face import LANDMARKS
from fan_fer.prediction import SCHEMA_VERSION, ClipPrediction, tracks_to_dict
from fan_fer.video.frame import Frame

# Columns of a frame's row that are no numbers with a fraction.
TYPES: dict[str, type] = {
    **dict.fromkeys(("video", "label", "emotion", "segment_label"), str),
    **dict.fromkeys(("track", "frame", "segment"), int),
}


def clip_json(prediction: ClipPrediction | Sequence[ClipPrediction]) -> str:
    """One clip as JSON, a line for every frame: the subject, or everyone as ``Recognizer.predict_faces`` gives them."""
    return _object_json(prediction, indent="") + "\n"


def batch_json(predictions: Sequence[ClipPrediction | Sequence[ClipPrediction]], failures: Mapping[Any, str]) -> str:
    """Several clips as JSON; ``failures`` maps the videos that could not be done to what was wrong."""
    clips = ",\n".join("    " + _object_json(prediction, indent="    ") for prediction in predictions)
    errors = json.dumps([{"video": str(video), "error": error} for video, error in failures.items()])
    return f'{{\n  "schema_version": {SCHEMA_VERSION},\n  "clips": [\n{clips}\n  ],\n  "failures": {errors}\n}}\n'


def live_json(frame: Frame, prediction: ClipPrediction | None) -> str:
    """One line for a frame and the prediction for the seconds that end with it, as ``Recognizer.stream`` gives them."""
    frames = [] if prediction is None else [seen.to_dict() for seen in prediction.frames]
    own = frames[-1] if frames else {}
    part = prediction.segments[-1].to_dict() if prediction and prediction.segments else None
    members = {
        "index": frame.index,
        "time": round(frame.time, 6),
        "label": prediction and prediction.label,
        "probabilities": prediction and {name: round(value, 7) for name, value in prediction.probabilities.items()},
        "weight": own.get("weight"),
        "box": own.get("box"),
        "weights": [[seen["index"], seen["weight"]] for seen in frames],
        "frames_with_face": prediction.frames_with_face if prediction else 0,
        "segment": part and {name: part[name] for name in ("label", "confidence", "first", "start")},
    }
    return json.dumps(members, allow_nan=False)


def write_csv(path: Path, predictions: Iterable[ClipPrediction]) -> None:
    """One row per frame of every clip, empty cells where there is no face. Raises OutputError.

    Predictions of tracks have a column more, with the track's number, and one row per frame of the track's span.
    """
    rows = list(frame_rows(predictions))
    write_table(path, list(rows[0]) if rows else [], rows)


def write_frames_parquet(path: Path, predictions: Sequence[ClipPrediction]) -> None:
    """The rows of :func:`write_csv`, numbers as numbers and null for empty cells. Raises OutputError, LibraryError."""
    rows = list(frame_rows(predictions))
    types = {name: TYPES.get(name, float) for name in rows[0]}
    write_parquet(path, types, rows, about_table(predictions[0]))


def about_table(prediction: ClipPrediction) -> dict[str, Any]:
    """What a Parquet file says of itself: the version of its columns, and the network behind the numbers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "weights_file": readable(prediction.weights_file),
        **prediction.model,
        "abstain": prediction.abstain,
    }


def frame_rows(predictions: Iterable[ClipPrediction]) -> Iterator[dict[str, Any]]:
    """The rows of :func:`write_csv`, by the names of their columns."""
    for prediction in predictions:
        track = {} if prediction.track is None else {"track": prediction.track}
        for frame in (frame.to_dict() for frame in (prediction.span if track else prediction.frames)):
            row = {"video": prediction.video, **track, "label": prediction.label}
            row |= {"frame": frame["index"], "time": frame["time"]}
            row |= dict(zip(("x", "y", "width", "height"), frame["box"] or [None] * 4, strict=True))
            for name, point in zip(LANDMARKS, frame["landmarks"] or [(None, None)] * 5, strict=True):
                row |= {f"{name}_x": point[0], f"{name}_y": point[1]}
            row |= {name: frame[name] for name in ("alpha", "beta", "weight", "emotion")}
            own = frame["probabilities"] or {}
            row |= {f"p_{name}": own.get(name) for name in prediction.probabilities}
            part = None if frame["segment"] is None else prediction.segments[frame["segment"]]
            row |= {"segment": frame["segment"], "segment_label": part and part.label}
            yield row | {"segment_weight": frame["segment_weight"]}


def _object_json(prediction: ClipPrediction | Sequence[ClipPrediction], indent: str) -> str:
    members = prediction.to_dict() if isinstance(prediction, ClipPrediction) else tracks_to_dict(prediction)
    return _layout(members, indent)


def _layout(members: Mapping[str, Any], indent: str) -> str:
    """An object as JSON with a line for each member, each segment, each frame and each member of a track."""
    lines = []
    for name, value in members.items():
        if name in ("segments", "frames"):
            items = [json.dumps(item, allow_nan=False) for item in value]
        elif name == "tracks":
            items = [_layout(track, indent + "    ") for track in value]
        else:
            lines.append(f'{indent}  "{name}": {json.dumps(value, allow_nan=False)}')
            continue
        inner = f",\n{indent}    ".join(items)
        lines.append(f'{indent}  "{name}": [\n{indent}    {inner}\n{indent}  ]')
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
