"""What attention and classifier are trained on: features of video clips and of single faces, computed once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.csv_files import read_table
from fan_fer.base.device import find_device
from fan_fer.base.errors import DataError
from fan_fer.base.opencv import cv2
from fan_fer.base.terminal import progress_bar
from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.detectors import load_detector
from fan_fer.features.cache import cached, fingerprint
from fan_fer.features.embedding import BATCH, Embedder
from fan_fer.features.preprocessing import Preprocessing
from pretraining.augment import augment, degrade
from pretraining.backbone import MEAN, STD, normalise, resize
from pretraining.features import FRAME_TRUTH, ClipSet, embed_clips, load_faces
from pretraining.ferplus import FaceSet, load_ferplus
from pretraining.mixed_clips import ClipMaker, FacePool

VIEWS = 4  # augmented copies of every frame of the video clips


@dataclass(frozen=True)
class TrainingData:
    clips: ClipSet  # features (T, D)
    mirrored: Tensor  # (T, D): the same of the mirror images
    augmented: Tensor  # (V, T, D): of V augmented copies of each frame, as a camera, a codec or a hand might change it
    intensities: Tensor  # (T,): how strongly each frame shows its clip's emotion; only the oracle looks
    mixed: ClipMaker
    faces: FacePool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name the data."""
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--clips", type=Path, required=True, help="folder with a folder of videos per emotion")
    parser.add_argument("--valid-clips", type=Path, required=True, help="the same, of other people")
    parser.add_argument("--detector", default="mtcnn", help='"mtcnn" or "yunet:FILE"')
    parser.add_argument("--backbone", type=Path, required=True, help="what the backbone script wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory for features, checkpoints and results")
    parser.add_argument("--device", type=find_device, default="cpu", metavar="NAME", help="cpu (default) or cuda")


def preprocessing_of(size: int) -> Preprocessing:
    """How faces get into a network that the backbone script trained at ``size`` pixels."""
    template = tuple((round(x, 3), round(y, 3)) for x, y in TEMPLATE.tolist())
    return Preprocessing(size, grayscale=True, mean=(MEAN,) * 3, std=(STD,) * 3, template=template)


def load_training_data(paths: argparse.Namespace, network: FrameAttentionNetwork, size: int, seed: int) -> TrainingData:
    """The data that :func:`add_arguments` named, through the frozen ``network``; kept in ``paths.out``."""
    settings = preprocessing_of(size)
    faces = load_ferplus(paths.data, "train")
    clips = load_clip_faces(paths, paths.clips, settings)
    source = features_source(paths, size)
    flipped = replace(clips, frames=clips.frames.flip(2))

    def embed_all() -> dict[str, Tensor]:
        what = f"frames of {paths.clips.name}"
        return {
            "frames": embed_clips(network, clips, settings, what, paths.device),
            "mirrored": embed_clips(network, flipped, settings, f"{what}, mirrored", paths.device),
            "augmented": embed_augmented(network, clips, size, seed, paths.device),
        }

    features = cached(paths.out / "features_clips.safetensors", f"{source} seed {seed}", embed_all)
    pool = FacePool(**cached(
        paths.out / "features_faces.safetensors",
        f"{source} seed {seed}",
        lambda: face_pool(network, faces, size, seed, paths.device),
    ))  # fmt: skip
    return TrainingData(
        replace(clips, frames=features["frames"]),
        features["mirrored"],
        features["augmented"],
        load_intensities(paths.clips / FRAME_TRUTH, clips),
        ClipMaker(pool),
        pool,
    )


def load_clip_faces(paths: argparse.Namespace, folder: Path, settings: Preprocessing) -> ClipSet:
    """The aligned faces of a folder of clips; kept in ``paths.out``."""
    cache = paths.out / f"faces_{folder.name}.safetensors"
    return load_faces(folder, load_detector(paths.detector, paths.device), settings, cache)


def features_source(paths: argparse.Namespace, size: int) -> str:
    """Identifies the features: what was computed with another backbone, of other data, is not used."""
    return fingerprint(paths.backbone, paths.data, str(paths.clips), asdict(preprocessing_of(size)))[:12]


def embed_augmented(
    network: FrameAttentionNetwork, clips: ClipSet, size: int, seed: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Features (VIEWS, T, D) of augmented copies of every face of ``clips``, made grey."""
    rng = torch.Generator(device).manual_seed(seed)
    embedder = Embedder(network.backbone, network.feature_size, preprocessing_of(size), device)
    grey = torch.from_numpy(np.stack([cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in clips.frames.numpy()]))
    with progress_bar() as progress:
        batches = progress.track(grey.repeat(VIEWS, 1, 1).split(BATCH), description="augmented frames")
        features = [embedder.embed_preprocessed(normalise(augment(batch.to(device), size, rng))) for batch in batches]
    return torch.cat(features).view(VIEWS, len(clips.frames), -1)


def face_pool(
    network: FrameAttentionNetwork, faces: FaceSet, size: int, seed: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Features of ``faces`` as they are and augmented, and of blurred or covered copies of a third of them."""
    rng = torch.Generator(device).manual_seed(seed)
    embedder = Embedder(network.backbone, network.feature_size, preprocessing_of(size), device)
    images = faces.images.to(device)

    def run(change: Callable[[Tensor], Tensor], images: Tensor, what: str) -> Tensor:
        with progress_bar() as progress:
            batches = progress.track(images.split(BATCH), description=what)
            return torch.cat([embedder.embed_preprocessed(normalise(change(batch))) for batch in batches])

    third = torch.randperm(len(faces), generator=rng, device=rng.device)[: max(1, len(faces) // 3)]
    as_they_are = run(lambda images: resize(images, size), images, "FER+ faces")
    augmented = run(lambda images: augment(images, size, rng), images, "augmented FER+ faces")
    return {
        "features": torch.cat([as_they_are, augmented]),
        "labels": faces.labels.repeat(2, 1),
        "degraded": run(lambda images: degrade(images, size, rng), images[third], "degraded FER+ faces"),
    }


def load_intensities(path: Path, clips: ClipSet) -> Tensor:
    """(T,): how strongly each frame of ``clips`` shows its clip's emotion, 0 to 1, as the set tells; 1 without a file.

    Raises DataError.
    """
    if not path.is_file():
        return torch.ones(len(clips.frames))
    try:
        rows = read_table(path, ("clip", "frame", "intensity"), "a row per frame is wanted").rows
        truth = {(row["clip"], int(row["frame"])): float(row["intensity"]) for _, row in rows}
        numbers = clips.frame_numbers.split(clips.offsets.diff().tolist())
        return torch.tensor([
            truth[name, number] for name, frames in zip(clips.names, numbers, strict=True) for number in frames.tolist()
        ])  # fmt: skip
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: {error!r}; a row with clip, frame and intensity for every frame is wanted") from None
