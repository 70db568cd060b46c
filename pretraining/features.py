"""Features of faces and clips from a frozen backbone, computed once and kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError
from fan_fer.base.terminal import progress_bar
from fan_fer.faces.face import Detector
from fan_fer.faces.subject import subject_crops
from fan_fer.features.cache import cached, fingerprint
from fan_fer.features.embedding import Embedder
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.video.sources import list_videos, open_clip
from pretraining.backbone import read_backbone

FRAME_TRUTH = "frames.csv"  # in a folder of clips, where the set tells what each frame shows


@dataclass(frozen=True)
class ClipSet:
    """Clips of different length back to back: clip k is rows ``offsets[k]`` to ``offsets[k + 1]``."""

    frames: Tensor  # (T, ...): faces, or their features
    frame_numbers: Tensor  # (T,) int64, each frame's number in its video
    offsets: Tensor  # (K + 1,) int64
    labels: Tensor  # (K,) int64, index in EMOTIONS
    names: list[str]  # "<emotion>/<clip>"

    def __len__(self) -> int:
        return len(self.names)


def load_backbone(path: Path) -> tuple[FrameAttentionNetwork, Tensor, Tensor]:
    """A "fan" network around the backbone that the backbone script wrote, and that backbone's head: weight, bias."""
    name, tensors = read_backbone(path)
    weight, bias = tensors.pop("fc.weight"), tensors.pop("fc.bias")
    network = FrameAttentionNetwork("fan", backbone=name)
    network.backbone.load_state_dict(tensors)
    return network.eval(), weight, bias


def set_name(folder: Path) -> str:
    """A set's name with its parent's, since splits of different sets are often named alike."""
    return "/".join(folder.resolve().parts[-2:])


def load_faces(folder: Path, detector: Detector, settings: Preprocessing, cache: Path | None = None) -> ClipSet:
    """The subjects' aligned faces, RGB uint8 (T, size, size, 3), in a folder with a folder of videos per emotion.

    Frames without the subject's face are left out, and clips without any. Kept at ``cache``, where that is given.
    """
    classes = [name for name in EMOTIONS if (folder / name).is_dir()]
    if not classes:
        raise FanFerError(f"{folder}: no folder named after an emotion; wanted {folder}/Happy/*.avi and the like")
    videos = [video for name in classes for video in list_videos([folder / name])]
    names = [f"{video.parent.name}/{video.stem}" for video in videos]

    def compute() -> dict[str, Tensor]:
        crops: list[np.ndarray] = []
        numbers: list[int] = []
        offsets = [0]
        with progress_bar() as progress:
            for path in progress.track(videos, description=f"faces of {folder.name}"):
                found = subject_crops(open_clip(path), detector, settings.size, settings.template)
                crops += found.values()
                numbers += found
                offsets.append(len(crops))
        if not crops:
            raise FanFerError(f"{folder}: {detector.name} finds no face in any of the {len(videos)} videos")
        return {
            "frames": torch.from_numpy(np.stack(crops)),
            "numbers": torch.tensor(numbers),
            "offsets": torch.tensor(offsets),
        }

    stored = cached(cache, fingerprint(str(folder), names, detector.name, settings.size, settings.template), compute)
    lengths = stored["offsets"].diff()
    kept = [index for index in range(len(names)) if lengths[index] > 0]
    return ClipSet(
        stored["frames"],
        stored["numbers"],
        torch.cat([torch.zeros(1, dtype=torch.int64), lengths[kept].cumsum(0)]),
        torch.tensor([EMOTIONS.index(names[index].split("/")[0]) for index in kept]),
        [names[index] for index in kept],
    )


def embed_clips(
    network: FrameAttentionNetwork,
    faces: ClipSet,
    settings: Preprocessing,
    what: str,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Features (T, D) of every face in ``faces``."""
    embedder = Embedder(network.backbone, network.feature_size, settings, device)
    return embedder.embed_all(faces.frames.numpy(), what, len(faces.frames))
