"""The chain from a video to the clip's emotion and the weights of its frames: faces, features, attention."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.scoring import score_clip
from fan_fer.attention.segments import SHORTEST, SegmentScores, score_segments
from fan_fer.attention.weights import ModelCard, find_weights, load_weights
from fan_fer.base.device import find_device
from fan_fer.base.errors import VideoError
from fan_fer.base.threads import one_thread
from fan_fer.base.timing import Profile
from fan_fer.faces.aligned import Aligned, whole_frames
from fan_fer.faces.clip_faces import find_faces, frame_times, known_faces
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.tracking import Person, Sighting, Tracker
from fan_fer.features.embedding import Embedder, Features
from fan_fer.output.features import ClipFeatures
from fan_fer.output.prediction import Prediction, Tracks
from fan_fer.prediction import ClipPrediction, FramePrediction, Segment, check_abstain
from fan_fer.video.camera import Camera
from fan_fer.video.frame import FALLBACK_FPS, Clip, Frame, Progress
from fan_fer.video.images import check_image
from fan_fer.video.sources import Source, open_clip

Image = NDArray[np.uint8]
Faces = Sequence["Face | None"]
_loading = threading.Lock()  # of detectors

WINDOW = 5.0  # seconds that a stream looks back


def load_recognizer(
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    detector: str | Detector = "mtcnn",
    precision: str = "auto",
    batch_size: int | None = None,
) -> Recognizer:
    """A recognizer with the network that ships in the package, or with ``weights``.

    weights: a file, or the name of a network that ships, "resnet18".
    device: "cpu", "cuda", "cuda:1" (the second GPU), "mps" (Apple's), or "auto": a GPU where there is one.
    detector: "mtcnn", "yunet:FILE", "scrfd:FILE", "aligned" for clips whose frames are faces already, the name of one
        that an installed package brings, or any object with ``name`` and ``detect(image) -> list[Face]``. A detector
        that is named is loaded when a video first needs it.
    precision, batch_size: of the backbone, as for :class:`fan_fer.features.embedding.Embedder`.
    Raises WeightsError for a file that is not a complete network, FanFerError where there is no such device or it does
    not have the precision.
    """
    target = find_device(device)
    path = find_weights(weights)
    network, card = load_weights(path)
    return Recognizer(
        network, card,
        weights_file=path, device=target, detector=detector, precision=precision, batch_size=batch_size,
    )  # fmt: skip


class Recognizer:
    """A trained network and the face detector in front of it. Several threads may share one.

    The video is decoded once. In every frame all faces are found, followed, cut out and turned into features,
    which are what is kept; who is who, and whose emotion is wanted, is decided at the end.

    min_segment: seconds that a segment lasts at least; may be set to others.
    """

    def __init__(
        self,
        network: FrameAttentionNetwork,
        card: ModelCard,
        *,
        weights_file: str | os.PathLike[str],
        device: torch.device | str = "auto",
        detector: str | Detector = "mtcnn",
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        # Stays on the CPU, for its attention and classifier: a clip's features are a few kilobytes.
        self.network = network.eval()
        self.device = find_device(device)
        self.embedder = Embedder(
            network.backbone, network.feature_size, card.preprocessing, self.device, precision, batch_size
        )
        self.card = card
        self.weights_file = os.fspath(weights_file)
        self._detector = detector
        self.min_segment = SHORTEST

    @property
    def detector(self) -> Detector:
        """The face detector, loaded on first use. Raises DetectorError."""
        with _loading:
            if isinstance(self._detector, str):
                self._detector = load_detector(self._detector, self.device)
            return self._detector

    def predict(
        self,
        clip: Source,
        progress: Progress | None = None,
        profile: Profile | None = None,
        *,
        faces: Faces | ClipPrediction | None = None,
        abstain: float | None = None,
    ) -> Prediction:
        """The emotion of the person in a clip, and what every frame contributed: the first of :meth:`predict_faces`.

        clip: anything that :func:`fan_fer.video.sources.open_clip` opens: the path of a video or of a picture, a folder
            or list of pictures, an array (N, H, W, 3), an iterator of frames, the bytes of a file, a URL.
        progress: called after every frame with "faces", the frames done, and how many there are by the header.
        profile: learns where the time went.
        faces: where they are known, the face in each frame, or None: then no face is looked for. Those of an earlier
            prediction are taken where that is given.
        abstain: the probability below which there is no label, as :meth:`fan_fer.ClipPrediction.abstaining` says.

        Memory holds a few frames, a batch of face crops, and the features of every face, whatever the length. A frame
        without the person's face counts as absent. Raises VideoError where the clip cannot be read or shows no face,
        ValueError for a camera, which has no end.
        """
        check_abstain(abstain)
        watched = self._watch(clip, faces, progress, profile)
        return self._predictions(watched, watched.people[:1])[0].abstaining(abstain)

    def predict_faces(
        self,
        clip: Source,
        progress: Progress | None = None,
        profile: Profile | None = None,
        *,
        abstain: float | None = None,
    ) -> Tracks:
        """The emotion of everyone in a clip: one prediction per person, numbered in ``track`` from 1.

        The order is that of the faces' total area, the largest first. Each prediction has all frames of the clip; those
        in which that person's face is not seen count as absent. Someone out of sight for up to two seconds, or in
        another shot, keeps the number if they look alike; one who comes back otherwise is given a new one. Arguments,
        memory and errors are as for :meth:`predict`.
        """
        check_abstain(abstain)
        watched = self._watch(clip, None, progress, profile)
        predictions = self._predictions(watched, watched.people)
        return Tracks(
            replace(prediction, track=number).abstaining(abstain)
            for number, prediction in enumerate(predictions, start=1)
        )

    def features(
        self,
        clip: Source,
        progress: Progress | None = None,
        profile: Profile | None = None,
        *,
        faces: Faces | ClipPrediction | None = None,
    ) -> ClipFeatures:
        """What the backbone makes of every frame of a clip, with the prediction of :meth:`predict`.

        Arguments and errors are as for :meth:`predict`. Memory holds the features of the clip twice.
        """
        watched = self._watch(clip, faces, progress, profile)
        person = watched.people[0]
        embeddings = np.full((len(watched.frames), self.network.feature_size), np.nan, np.float32)
        places = {number: place for place, (number, _) in enumerate(watched.frames)}
        found = watched.features.take([sighting.row for sighting in person])
        embeddings[[places[sighting.frame] for sighting in person]] = found.numpy()
        return ClipFeatures(embeddings, self._predictions(watched, [person])[0])

    def stream(
        self, clip: Source, window: float = WINDOW, *, abstain: float | None = None
    ) -> Generator[tuple[Frame, Prediction | None], None, None]:
        """Each frame as it comes, with the prediction for the last ``window`` seconds that end with it.

        clip, abstain: as for :meth:`predict`; the clip also the number of a camera.
        The prediction is None while no face is in the window. It is what :meth:`predict` says of these frames, whose
        numbers go on counting; a face is turned into features once, and memory holds those of the window alone.
        Of a camera, or an address that has no end, the newest frame is read: the numbers of those that came while
        others were read are left out.
        Raises ValueError for a window that is not above 0, VideoError where the clip cannot be read.
        """
        if not window > 0:
            raise ValueError(f"window: got {window}; seconds, above 0, are wanted")
        check_abstain(abstain)
        settings, detector = self.card.preprocessing, self.detector
        tracker = Tracker()
        frames: deque[tuple[int, float]] = deque()
        features: dict[int, Tensor] = {}  # by row, in the order of time
        rows = 0
        found = find_faces(open_clip(clip), detector, settings.size, settings.template, at_once=True)
        with closing(found) as watched:
            for seen in watched:
                frame = seen.frame
                tracker.add(frame.index, frame.time, seen.faces, seen.looks, seen.change)
                if seen.crops:
                    with one_thread():  # done with a face sooner than several threads, that wait for each other, are
                        features.update(enumerate(self.embedder.embed(seen.crops), start=rows))
                    rows += len(seen.crops)
                frames.append((frame.index, frame.time))
                while frames[0][1] <= frame.time - window + 1e-9:
                    frames.popleft()
                tracker.forget(frames[0][1])
                people = tracker.people()
                for row in [row for row in features if row < tracker.first_row]:
                    del features[row]
                if not people:
                    yield frame, None
                    continue
                own = torch.stack([features[sighting.row] for sighting in people[0]])
                with one_thread():
                    prediction = self._prediction(own, frames, {seen.frame: seen for seen in people[0]})
                yield frame, prediction.abstaining(abstain)

    def classify_clip(
        self, faces: Image | Sequence[Image], mask: Sequence[bool] | NDArray[np.bool_] | None = None
    ) -> Prediction:
        """The emotion of a clip given as aligned faces, one per frame.

        faces: uint8 RGB crops (N, H, W, 3) of any size, or a list of crops (H, W, 3) of different sizes, aligned as
            ``fan_fer.faces.align.align_face`` does.
        mask: (N,) bool, True where the crop counts; the others may hold anything. At least one must be True.
        Raises TypeError or ValueError that names the argument.
        """
        crops = _check_faces(faces)
        present = _check_mask(mask, len(crops))
        seen = [index for index in range(len(crops)) if present[index]]
        if not seen:
            raise ValueError(
                f"{'mask' if crops else 'faces'}: none of {len(crops)} frames is present; wanted at least one"
            )
        features = Features(self.embedder)
        features.add(crops[index] for index in seen)
        frames = [(index, None) for index in range(len(crops))]
        return self._prediction(features.all(), frames, dict.fromkeys(seen))

    def classify_faces(self, faces: Image | Sequence[Image]) -> NDArray[np.float32]:
        """Probabilities (N, C) of each face on its own, in the class order of ``card.classes``.

        faces: as for :meth:`classify_clip`. Raises TypeError or ValueError that names the argument.
        """
        crops = _check_faces(faces)
        if not crops:
            return np.zeros((0, len(self.card.classes)), np.float32)
        features = Features(self.embedder)
        features.add(crops)
        return score_clip(self.network, features.all()).own.astype(np.float32)

    def _watch(
        self,
        source: Source,
        faces: Faces | ClipPrediction | None,
        progress: Progress | None,
        profile: Profile | None,
    ) -> _Watched:
        """Takes in all of a clip. Raises VideoError where it shows no face."""
        profile = profile or Profile()
        settings = self.card.preprocessing
        detector = self.detector if faces is None else None
        clip = open_clip(source)
        if isinstance(clip, Camera):
            raise ValueError(f"{clip.name}: has no end; Recognizer.stream reads it")
        if isinstance(detector, Aligned):
            seen_frames = whole_frames(clip, settings.template, profile)
        elif detector is not None:
            seen_frames = find_faces(clip, detector, settings.size, settings.template, profile)
        else:
            seen_frames = known_faces(clip, _check_known(faces or ()), settings.size, settings.template, profile)
        features = Features(self.embedder, profile=profile)
        follow = faces is None and not isinstance(detector, Aligned)
        tracker = Tracker()
        known: Person = []
        times: dict[int, float] = {}
        with closing(seen_frames):
            for seen in seen_frames:
                frame = seen.frame
                times[frame.index] = frame.time
                if follow:
                    tracker.add(frame.index, frame.time, seen.faces, seen.looks, seen.change)
                else:
                    known += [Sighting.of(frame.index, frame.time, len(features), face) for face in seen.faces]
                features.add(seen.crops)
                if progress is not None:
                    progress("faces", len(times), clip.frame_count)
        with profile.measure("pool"):
            people = tracker.people() if follow else [known] if known else []
        if not times and clip.damaged:
            raise VideoError(next(iter(clip.damaged.values())))
        if not people:
            raise VideoError(
                f"{clip.name or 'the clip'}: no face found in any of the {len(times)} frames; "
                "a clip that shows a face, not too small and not turned away, is wanted"
            )
        name = None if detector is None else detector.name
        return _Watched(clip, frame_times(times, clip.damaged), people, features, name, profile)

    def _predictions(self, watched: _Watched, people: Sequence[Person]) -> list[Prediction]:
        with watched.profile.measure("pool"):
            clip = watched.clip
            predictions = []
            for person in people:
                rows = [sighting.row for sighting in person]
                own = watched.features.take(rows, free=person is people[-1])
                prediction = self._prediction(own, watched.frames, {seen.frame: seen for seen in person})
                predictions.append(
                    replace(
                        prediction,
                        video=clip.name,
                        fps=clip.fps,
                        model={**prediction.model, "detector": watched.detector},
                        warnings=(*clip.warnings, *clip.damaged.values()),
                    )
                )
            return predictions

    def _prediction(
        self, features: Tensor, frames: Sequence[tuple[int, float | None]], seen: Mapping[int, Sighting | None]
    ) -> Prediction:
        """The prediction for a clip of ``frames``, numbers and times.

        features: of those that show the person's face, which are the keys of ``seen``, in their order.
        """
        classes = self.card.classes
        rows = dict(zip(seen, range(len(seen)), strict=True))
        times = {index: time for index, time in frames if index in rows}
        scores = score_clip(self.network, features)
        parts = score_segments(self.network, features, scores, _rate(frames), self.min_segment)
        place = np.repeat(np.arange(len(parts)), [part.end - part.first for part in parts])
        shares = np.concatenate([part.scores.weights for part in parts])

        def tell(index: int, time: float | None) -> FramePrediction:
            if index not in rows:
                return FramePrediction(index, time)
            row, sighting = rows[index], seen[index]
            own = scores.own[row].tolist()
            return FramePrediction(
                index,
                time,
                box=None if sighting is None else sighting.box,
                landmarks=None if sighting is None else tuple((x, y) for x, y in sighting.face.landmarks.tolist()),
                alpha=None if scores.alpha is None else float(scores.alpha[row]),
                beta=None if scores.beta is None else float(scores.beta[row]),
                weight=float(scores.weights[row]),
                emotion=classes[int(np.argmax(own))],
                probabilities=dict(zip(classes, own, strict=True)),
                segment=int(place[row]),
                segment_weight=float(shares[row]),
            )

        def tell_part(part: SegmentScores) -> Segment:
            first, last = numbers[part.first], numbers[part.end - 1]
            shown = part.scores.probabilities.tolist()
            return Segment(
                first,
                last,
                start=times[first],
                end=times[last],
                frames_with_face=part.end - part.first,
                label=classes[int(np.argmax(shown))],
                probabilities=dict(zip(classes, shown, strict=True)),
            )

        numbers = list(seen)
        told = tuple(tell(index, time) for index, time in frames)
        probabilities = scores.probabilities.tolist()
        return Prediction(
            video=None,
            label=classes[int(np.argmax(probabilities))],
            probabilities=dict(zip(classes, probabilities, strict=True)),
            fps=None,
            frames=told,
            frames_total=len(told),
            frames_with_face=len(seen),
            weights_file=self.weights_file,
            model={
                "variant": self.card.variant,
                "backbone": self.card.backbone,
                "detector": None,
                "trained_on": self.card.trained_on,
                "license": self.card.license,
            },
            segments=tuple(map(tell_part, parts)),
        )


@dataclass(frozen=True)
class _Watched:
    """What is known of a clip when its last frame has gone by."""

    clip: Clip
    frames: list[tuple[int, float]]  # numbers and times
    people: list[Person]
    features: Features
    detector: str | None
    profile: Profile


def _rate(frames: Sequence[tuple[int, float | None]]) -> float:
    """Frames a second, by half of the steps between them; where no times are known, as pictures are read."""
    times = [time for _, time in frames if time is not None]
    steps = np.diff(times)
    return 1 / float(np.median(steps)) if len(steps) else FALLBACK_FPS


def faces_of(prediction: ClipPrediction) -> list[Face | None]:
    """The person's face in every frame of a prediction, as ``faces`` of :meth:`Recognizer.predict` takes them."""
    return [
        None
        if frame.box is None or frame.landmarks is None
        else Face(frame.box, np.array(frame.landmarks, np.float32), 1.0)
        for frame in prediction.frames
    ]


def _check_known(faces: Faces | ClipPrediction) -> Faces:
    """Raises TypeError or ValueError that names what is no face."""
    if isinstance(faces, ClipPrediction):
        return faces_of(faces)
    for index, face in enumerate(faces):
        if not isinstance(face, Face | None):
            raise TypeError(
                f"faces[{index}]: got {type(face).__name__}; a Face, or None for a frame without, is wanted"
            )
        if face is not None and not face.is_finite:
            raise ValueError(f"faces[{index}]: has numbers that are not finite; finite ones are wanted")
    return faces


def _check_faces(faces: Image | Sequence[Image]) -> list[Image]:
    wanted = "wanted RGB crops (N, H, W, 3) of uint8, or a list of crops (H, W, 3)"
    if isinstance(faces, np.ndarray):
        if faces.ndim != 4:
            hint = "; for one crop give faces[None]" if faces.ndim == 3 else ""
            raise ValueError(f"faces: got an array of shape {faces.shape}; {wanted}{hint}")
    elif not isinstance(faces, (list, tuple)):
        raise TypeError(f"faces: got {type(faces).__name__}; {wanted}")
    for index, crop in enumerate(faces):
        check_image(crop, f"faces[{index}]", wanted)
    return list(faces)


def _check_mask(mask: Sequence[bool] | NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(count, bool)
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask: got dtype {array.dtype}; wanted bool, True where the crop counts")
    if array.shape != (count,):
        raise ValueError(f"mask: got shape {array.shape}; wanted ({count},), one value per crop")
    return array
