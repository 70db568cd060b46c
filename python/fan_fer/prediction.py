"""What a recognizer says about a clip and its frames, and the dictionary that becomes JSON (docs/prediction.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA_VERSION = 1
NOT_SURE = "not sure"  # where a label is shown and there is none


@dataclass(frozen=True, slots=True)
class FramePrediction:
    """One decoded frame. Without a face everything but ``index`` and ``time`` is None.

    index: number of the frame in the video, from 0.
    time: seconds from the start of the video; None for faces that came without a video.
    box: (x, y, width, height) of the face in pixels of the upright picture; None for faces that came without a video.
    landmarks: (x, y) in pixels of the eye at image left, the eye at image right, the nose, the mouth corner at image
        left and the one at image right; None where box is None.
    alpha: self-attention weight, 0 to 1; None for a network without attention.
    beta: relation-attention weight, 0 to 1; None for a network without relation-attention.
    weight: the frame's share in the clip's prediction; the shares of a clip sum to 1.
    emotion: the most probable class when the frame is taken as a clip of its own; None below ``abstain``.
    probabilities: of every class, for the frame as a clip of its own.
    segment: the frame's place in the clip's ``segments``, from 0.
    segment_weight: the frame's share in the segment's prediction; the shares of a segment sum to 1.
    """

    index: int
    time: float | None
    box: tuple[float, float, float, float] | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None
    alpha: float | None = None
    beta: float | None = None
    weight: float | None = None
    emotion: str | None = None
    probabilities: Mapping[str, float] | None = None
    segment: int | None = None
    segment_weight: float | None = None

    @property
    def has_face(self) -> bool:
        return self.weight is not None

    @property
    def confidence(self) -> float | None:
        """The probability of the most probable class; None without a face."""
        return None if self.probabilities is None else max(self.probabilities.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values under the names of the JSON schema, rounded to what they are good for."""
        return {
            "index": self.index,
            "time": None if self.time is None else round(self.time, 6),
            "box": None if self.box is None else [round(value, 2) for value in self.box],
            "landmarks": None if self.landmarks is None else [[round(x, 2), round(y, 2)] for x, y in self.landmarks],
            "alpha": _significant(self.alpha, 6),
            "beta": _significant(self.beta, 6),
            # Significant digits, not decimals: the rounded weights of a clip of any length still sum to 1.
            "weight": _significant(self.weight, 9),
            "emotion": self.emotion,
            "probabilities": None if self.probabilities is None else _rounded(self.probabilities),
            "segment": self.segment,
            "segment_weight": _significant(self.segment_weight, 9),
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a clip with a reading of its own, which is what the network says of its frames alone.

    first, last: numbers of its first and its last frame; both show the face.
    start, end: their times in seconds; None for faces that came without a video.
    frames_with_face: how many of its frames show the face.
    label: the most probable class; None below the clip's ``abstain``.
    probabilities: of every class; they sum to 1.
    """

    first: int
    last: int
    start: float | None
    end: float | None
    frames_with_face: int
    label: str | None
    probabilities: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return max(self.probabilities.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values under the names of the JSON schema."""
        return {
            "first": self.first,
            "last": self.last,
            "start": None if self.start is None else round(self.start, 6),
            "end": None if self.end is None else round(self.end, 6),
            "frames_with_face": self.frames_with_face,
            "label": self.label,
            "confidence": round(self.confidence, 7),
            "probabilities": _rounded(self.probabilities),
        }


@dataclass(frozen=True, repr=False)
class ClipPrediction:
    """One clip: its emotion, and every decoded frame.

    video: the path as it was given; None for faces that came without a video.
    label: the most probable class; None below ``abstain``.
    probabilities: of every class, in the network's class order; they sum to 1.
    fps: the video's frames per second; None for faces that came without a video.
    frames: one entry per decoded frame, in order.
    frames_total, frames_with_face: how many frames were decoded, and how many of them show the subject's face.
    weights_file: where the network came from.
    model: ``variant``, ``backbone``, ``detector`` (None for faces that came without a video), ``trained_on`` and
        ``license``.
    warnings: one line for each thing that was wrong with the video and did not stop the work.
    track: the person's number, from 1, where everyone in the video is read; None where only the subject is.
    segments: its parts with a reading of their own, in order; one where the reading does not change.
    abstain: the probability below which nothing here has a label; None: everything has one.
    """

    video: str | None
    label: str | None
    probabilities: Mapping[str, float]
    fps: float | None
    frames: tuple[FramePrediction, ...]
    frames_total: int
    frames_with_face: int
    weights_file: str
    model: Mapping[str, str | None]
    warnings: tuple[str, ...] = ()
    track: int | None = None
    segments: tuple[Segment, ...] = ()
    abstain: float | None = None

    def __repr__(self) -> str:
        track = "" if self.track is None else f"track {self.track}, "
        said = f"{self.label or NOT_SURE} {self.confidence:.3f}"
        faces = f"{self.frames_with_face} of {self.frames_total} frames with a face"
        return f"<{type(self).__name__} {self.video or 'of faces'}: {track}{said}, {faces}>"

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return max(self.probabilities.values())

    def abstaining(self, below: float | None) -> Self:
        """The same without the labels, of the clip, its segments and its frames, that are less probable than ``below``.

        None: with all of them. Raises ValueError for what is no probability.
        """
        check_abstain(below)
        if below is self.abstain:
            return self
        return replace(
            self,
            label=most_probable(self.probabilities, below),
            segments=tuple(replace(part, label=most_probable(part.probabilities, below)) for part in self.segments),
            frames=tuple(
                frame
                if frame.probabilities is None
                else replace(frame, emotion=most_probable(frame.probabilities, below))
                for frame in self.frames
            ),
            abstain=below,
        )

    @property
    def span(self) -> tuple[FramePrediction, ...]:
        """The frames from the first to the last that shows the face."""
        seen = [index for index, frame in enumerate(self.frames) if frame.has_face]
        return self.frames[seen[0] : seen[-1] + 1]

    def heaviest(self, count: int) -> list[FramePrediction]:
        """The ``count`` frames that weigh most, heaviest first; of equal ones the earliest."""
        faces = [frame for frame in self.frames if frame.weight is not None]
        return sorted(faces, key=lambda frame: -(frame.weight or 0.0))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values under the names of the JSON schema, ``prediction.schema.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "video": self.video,
            "label": self.label,
            "abstain": self.abstain,
            "probabilities": _rounded(self.probabilities),
            "fps": None if self.fps is None else round(self.fps, 6),
            "segments": [segment.to_dict() for segment in self.segments],
            "frames": [frame.to_dict() for frame in self.frames],
            "frames_total": self.frames_total,
            "frames_with_face": self.frames_with_face,
            "weights_file": self.weights_file,
            "model": dict(self.model),
            "warnings": list(self.warnings),
        }


def check_abstain(below: float | None) -> None:
    """Raises ValueError for what is no probability."""
    if below is not None and not 0 <= below <= 1:
        raise ValueError(f"abstain: got {below}; a probability, 0 to 1, is wanted")


def most_probable(probabilities: Mapping[str, float], below: float | None = None) -> str | None:
    """The class; None where it is less probable than ``below``."""
    name, value = max(probabilities.items(), key=lambda item: item[1])
    return None if below is not None and value < below else name


def tracks_to_dict(tracks: Sequence[ClipPrediction]) -> dict[str, Any]:
    """Everyone in one video, as ``Recognizer.predict_faces`` gives them, under the names of the JSON schema.

    A track holds the frames of its span only.
    """
    video = replace(tracks[0], frames=()).to_dict()
    for name in ("label", "probabilities", "segments", "frames", "frames_with_face"):
        del video[name]
    return {**video, "tracks": [_track_to_dict(track) for track in tracks]}


def _track_to_dict(track: ClipPrediction) -> dict[str, Any]:
    frames = [frame.to_dict() for frame in track.span]
    return {
        "track": track.track,
        "label": track.label,
        "probabilities": _rounded(track.probabilities),
        "start": frames[0]["time"],
        "end": frames[-1]["time"],
        "frames_with_face": track.frames_with_face,
        "segments": [segment.to_dict() for segment in track.segments],
        "frames": frames,
    }


def _rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 7) for name, value in probabilities.items()}


def _significant(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
