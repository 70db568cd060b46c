"""From a video, or from aligned faces, to the clip's emotion and the weights of its frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import DEFAULT_WEIGHTS, ModelCard, load_weights
from fan_fer.base.device import find_device
from fan_fer.base.errors import VideoError
from fan_fer.base.timing import Profile
from fan_fer.faces.clip_faces import cut_out_everyone, find_everyone, find_subject
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector, Face
from fan_fer.features.embedding import Embedder
from fan_fer.prediction import ClipPrediction, FramePrediction
from fan_fer.video.sources import Source, open_clip

Image = NDArray[np.uint8]
Progress = Callable[[str, int, "int | None"], None]
"""Called after every frame with the stage ("faces", then "emotions"), the frames done, and how many there are
according to the video's header (None where it does not say)."""


def load_recognizer(
    weights: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    detector: str | Detector = "mtcnn",
    precision: str = "auto",
) -> Recognizer:
    """A recognizer with the weights file that ships in the package, or with ``weights``.

    device: "cpu" or "cuda".
    detector: "mtcnn", "yunet:FILE", or any object with ``name`` and ``detect(image) -> list[Face]``. A detector that
        is named is loaded when a video first needs it.
    precision: of the backbone, as for :class:`fan_fer.features.embedding.Embedder`.
    Raises WeightsError for a file that is not a complete network, FanFerError where there is no such device.
    """
    target = find_device(device)
    network, card = load_weights(weights)
    return Recognizer(
        network, card, weights_file=weights or DEFAULT_WEIGHTS, device=target, detector=detector, precision=precision
    )


class Recognizer:
    """A trained network and the face detector in front of it."""

    def __init__(
        self,
        network: FrameAttentionNetwork,
        card: ModelCard,
        *,
        weights_file: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        detector: str | Detector = "mtcnn",
        precision: str = "auto",
    ) -> None:
        # Stays on the CPU, for its attention and classifier: a clip's features are a few kilobytes.
        self.network = network.eval()
        self._embed = Embedder(network, card.preprocessing, torch.device(device), precision)
        self.card = card
        self.weights_file = os.fspath(weights_file)
        self.device = torch.device(device)
        self._detector = detector

    @property
    def detector(self) -> Detector:
        """The face detector, loaded on first use. Raises DetectorError."""
        if isinstance(self._detector, str):
            self._detector = load_detector(self._detector)
        return self._detector

    def predict(self, path: Source, progress: Progress | None = None, profile: Profile | None = None) -> ClipPrediction:
        """The emotion of the person in a video, and what every frame contributed.

        The video is decoded twice, to find the faces and to look at the chosen one, so that memory holds a few frames,
        a batch of face crops, and 512 numbers per frame, whatever the length. A frame without the subject's face
        counts as absent. ``profile`` learns where the time went. Raises VideoError where the video cannot be read or
        shows no face.
        """
        return self._predict(path, False, progress, profile)[0]

    def predict_faces(
        self, path: Source, progress: Progress | None = None, profile: Profile | None = None
    ) -> list[ClipPrediction]:
        """The emotion of everyone in a video: one prediction per person, numbered in ``track`` from 1.

        The order is that of the faces' total area, the largest first. Each prediction has all frames of the video;
        those in which that person's face is not seen count as absent. Someone out of sight for up to two seconds
        keeps the number; one who comes back later is given a new one. Memory, ``progress``, ``profile`` and errors
        are as for :meth:`predict`, the 512 numbers being kept per face and frame.
        """
        people = self._predict(path, True, progress, profile)
        return [replace(person, track=number) for number, person in enumerate(people, start=1)]

    def _predict(
        self,
        path: Source,
        everyone: bool,
        progress: Progress | None,
        profile: Profile | None,
    ) -> list[ClipPrediction]:
        """A prediction for each person whose face can be cut out, at least one; or for the subject alone."""
        report = progress or (lambda stage, done, total: None)
        profile = profile or Profile()
        detector = self.detector
        video = open_clip(path)

        def found(done: int) -> None:
            report("faces", done, video.frame_count)

        people: list[list[Face | None]]
        if everyone:
            times, people = find_everyone(video, detector, found, profile)
        else:
            times, subject = find_subject(video, detector, found, profile)
            people = [subject] if any(subject) else []
        seen: list[list[int]] = [[] for _ in people]  # numbers of the frames with each person's face
        owners: list[int] = []  # whose the crops are, in their order

        def crops() -> Iterator[Image]:
            settings = self.card.preprocessing
            for index, faces in cut_out_everyone(video, people, settings.size, settings.template, profile):
                for person, crop in enumerate(faces):
                    if crop is not None:
                        seen[person].append(index)
                        owners.append(person)
                        yield crop
                report("emotions", index + 1, len(times))

        count = sum(face is not None for faces in people for face in faces)
        features = self._embed(crops(), count, profile)
        if not owners:
            raise VideoError(
                f"{video.name or 'the clip'}: no face found in any of the {len(times)} frames; "
                "a clip that shows a face, not too small and not turned away, is wanted"
            )
        with profile.measure("pool"):
            owner = torch.tensor(owners)
            shown = [person for person in range(len(people)) if seen[person]]
            scores = [self._score(features if len(shown) == 1 else features[owner == person]) for person in shown]
            del features  # of a long video they are the most that memory holds
            predictions = [
                self._prediction(own, times, seen[person], people[person])
                for person, own in zip(shown, scores, strict=True)
            ]
        return [
            replace(
                prediction,
                video=video.name,
                fps=video.fps,
                model={**prediction.model, "detector": detector.name},
                warnings=tuple(video.warnings),
            )
            for prediction in predictions
        ]

    def classify_clip(
        self, faces: Image | Sequence[Image], mask: Sequence[bool] | NDArray[np.bool_] | None = None
    ) -> ClipPrediction:
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
        features = self._embed((crops[index] for index in seen), len(seen))
        return self._prediction(self._score(features), [None] * len(crops), seen)

    def classify_faces(self, faces: Image | Sequence[Image]) -> NDArray[np.float32]:
        """Probabilities (N, C) of each face on its own, in the class order of ``card.classes``.

        faces: as for :meth:`classify_clip`. Raises TypeError or ValueError that names the argument.
        """
        crops = _check_faces(faces)
        if not crops:
            return np.zeros((0, len(self.card.classes)), np.float32)
        return self._frame_probabilities(self._embed(crops, len(crops))).numpy()

    @torch.inference_mode()
    def _frame_probabilities(self, features: Tensor) -> Tensor:
        """(N, C): every frame classified as a clip of one frame."""
        rows = features.split(1024)  # whose pooled features are few megabytes
        return torch.cat([self.network.classify(part.unsqueeze(1)).logits.softmax(-1) for part in rows])

    @torch.inference_mode()
    def _score(self, features: Tensor) -> _Scores:
        """What the network says of a clip of faces with ``features`` (n, D), and of each face alone."""
        logits, weights = self.network.classify(features.unsqueeze(0))
        alpha, beta = (None if w is None else w[0] for w in (weights.alpha, weights.beta))
        return _Scores(logits[0], alpha, beta, weights.final[0], self._frame_probabilities(features))

    def _prediction(
        self,
        scores: _Scores,
        times: Sequence[float | None],
        seen: list[int],
        faces: Sequence[Face | None] | None = None,
    ) -> ClipPrediction:
        """The prediction for a clip of frames at ``times``, ``scores`` being those of its frames ``seen``."""
        classes = self.card.classes
        frames = [FramePrediction(index, time) for index, time in enumerate(times)]
        share = scores.final.double()
        share /= share.sum()
        alpha, beta = ([None] * len(seen) if w is None else w.tolist() for w in (scores.alpha, scores.beta))
        for row, (index, own) in enumerate(zip(seen, scores.own.tolist(), strict=True)):
            face = None if faces is None else faces[index]
            frames[index] = FramePrediction(
                index,
                times[index],
                box=None if face is None else face.box,
                landmarks=None if face is None else tuple((float(x), float(y)) for x, y in face.landmarks),
                alpha=alpha[row],
                beta=beta[row],
                weight=float(share[row]),
                emotion=classes[int(np.argmax(own))],
                probabilities=dict(zip(classes, own, strict=True)),
            )
        probabilities = scores.logits.double().softmax(-1).tolist()
        return ClipPrediction(
            video=None,
            label=classes[int(np.argmax(probabilities))],
            probabilities=dict(zip(classes, probabilities, strict=True)),
            fps=None,
            frames=tuple(frames),
            frames_total=len(frames),
            frames_with_face=len(seen),
            weights_file=self.weights_file,
            model={
                "variant": self.card.variant,
                "backbone": self.card.backbone,
                "detector": None,
                "trained_on": self.card.trained_on,
                "license": self.card.license,
            },
        )


class _Scores(NamedTuple):
    """What a network says of a clip of n faces."""

    logits: Tensor  # (C,)
    alpha: Tensor | None  # (n,)
    beta: Tensor | None  # (n,)
    final: Tensor  # (n,)
    own: Tensor  # (n, C), probabilities of each face as a clip of its own


def _check_faces(faces: Image | Sequence[Image]) -> list[Image]:
    wanted = "wanted RGB crops (N, H, W, 3) of uint8, or a list of crops (H, W, 3)"
    if isinstance(faces, np.ndarray):
        if faces.ndim != 4:
            hint = "; for one crop give faces[None]" if faces.ndim == 3 else ""
            raise ValueError(f"faces: got an array of shape {faces.shape}; {wanted}{hint}")
    elif not isinstance(faces, (list, tuple)):
        raise TypeError(f"faces: got {type(faces).__name__}; {wanted}")
    for index, crop in enumerate(faces):
        if not isinstance(crop, np.ndarray):
            raise TypeError(f"faces[{index}]: got {type(crop).__name__}; {wanted}")
        if crop.dtype != np.uint8:
            raise TypeError(f"faces[{index}]: got dtype {crop.dtype}; {wanted}")
        if crop.ndim != 3 or crop.shape[2] != 3 or 0 in crop.shape:
            raise ValueError(f"faces[{index}]: got shape {crop.shape}; {wanted}")
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
