"""Features of a prepared set from a frozen backbone, computed once, and the scores of clips from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.cache import cached, fingerprint
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.errors import DataError
from fan_fer.network import FrameAttentionNetwork
from fan_fer.output import make_folder
from fan_fer.runs import progress_bar
from fan_fer.weights import Preprocessing

FACES = 128  # embedded at a time
FRAMES = 1 << 16  # classified at a time


@dataclass(frozen=True)
class PackedFeatures:
    """Clips of different length back to back: clip k is rows ``offsets[k]`` to ``offsets[k + 1]``."""

    features: Tensor  # (T, D) float32
    offsets: Tensor  # (K + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, clips: Sequence[int]) -> PackedFeatures:
        """These clips, in this order."""
        rows = [self.features[self.offsets[clip] : self.offsets[clip + 1]] for clip in clips]
        lengths = torch.tensor([0, *(len(row) for row in rows)])
        return PackedFeatures(torch.cat(rows) if rows else self.features[:0], lengths.cumsum(0))


@dataclass(frozen=True)
class ClipScores:
    """What a network says about clips.

    probabilities: (n, C), of the clips.
    weights: the final weights of each clip's frames, (n_i,), sum 1.
    frame_probabilities: (n_i, C), each frame as a clip of its own.
    """

    probabilities: NDArray[np.float64]
    weights: list[NDArray[np.float64]]
    frame_probabilities: list[NDArray[np.float64]]


def prepared_features(
    network: FrameAttentionNetwork,
    preprocessing: Preprocessing,
    prepared: PreparedSet,
    device: torch.device | str = "cpu",
    mirror: bool = False,
) -> PackedFeatures:
    """Features of every clip of the set, in its order; kept in DST/features/ under what they were computed from.

    mirror: of the mirrored faces. Raises DataError where the set's faces are aligned to another template.
    """
    check_alignment(preprocessing, prepared)
    lengths = torch.tensor([0, *(len(clip.numbers) for clip in prepared.clips)])

    def compute() -> dict[str, Tensor]:
        faces = (face for clip in prepared.clips for face in prepared.crops(clip))
        what = f"features of {prepared.folder.name}{', mirrored' if mirror else ''}"
        return {"features": embed_faces(network, preprocessing, faces, int(lengths.sum()), what, device, mirror)}

    key = fingerprint(backbone_key(network), prepared.key, asdict(preprocessing), mirror)
    folder = prepared.folder / "features"
    make_folder(folder)
    features = cached(folder / f"{key[:16]}.safetensors", key, compute)["features"]
    return PackedFeatures(features, lengths.cumsum(0))


@torch.no_grad()  # not inference mode: the backbone, whose layout changes here, may be trained on
def embed_faces(
    network: FrameAttentionNetwork,
    preprocessing: Preprocessing,
    faces: Iterable[NDArray[np.uint8]],
    count: int,
    what: str,
    device: torch.device | str = "cpu",
    mirror: bool = False,
) -> Tensor:
    """Features (count, D) in float32 on the CPU; ``faces`` are RGB uint8 (H, W, 3)."""
    backbone = network.backbone.to(device).to(memory_format=torch.channels_last).eval()
    result = torch.empty(count, network.feature_size)
    pending: list[NDArray[np.uint8]] = []
    done = 0

    def flush() -> None:
        nonlocal done
        images = preprocessing(np.stack(pending)).to(device, memory_format=torch.channels_last)
        result[done : done + len(pending)] = backbone(images.flip(-1) if mirror else images).float().cpu()
        done += len(pending)
        pending.clear()

    with progress_bar() as progress:
        for face in progress.track(faces, total=count, description=what):
            pending.append(face)
            if len(pending) == FACES:
                flush()
        if pending:
            flush()
    return result


@torch.inference_mode()
def classify(
    network: FrameAttentionNetwork, packed: PackedFeatures, clips: Sequence[int], formula: str = "paper"
) -> ClipScores:
    """The network's scores of these clips, all frames of each, in ragged batches."""
    network.eval()
    device = network.classifier.weight.device
    probabilities, weights, own = [], [], []
    for chosen in _chunks(packed, clips):
        batch = packed.select(chosen)
        lengths = batch.offsets.diff().tolist()
        features = batch.features.to(device)
        output = network.classify(features, offsets=batch.offsets.to(device), formula=formula)
        probabilities.append(output.logits.double().softmax(-1).cpu())
        share = output.weights.final.double().cpu()
        weights += [part / part.sum().clamp_min(1e-300) for part in share.split(lengths)]
        alone = network.classify(features.unsqueeze(1), formula=formula).logits.double().softmax(-1).cpu()
        own += list(alone.split(lengths))
    return ClipScores(
        torch.cat(probabilities).numpy() if probabilities else np.zeros((0, network.classifier.out_features)),
        [part.numpy() for part in weights],
        [part.numpy() for part in own],
    )


def check_alignment(preprocessing: Preprocessing, prepared: PreparedSet) -> None:
    """Raises DataError where a network wants faces placed otherwise than the set has them."""
    distance = np.abs(np.asarray(preprocessing.template) - np.asarray(prepared.template)).max()
    if distance > 0.01:
        raise DataError(
            f"{prepared.folder}: its faces are aligned to another template than the network's "
            f"(landmarks up to {distance:.0%} of the side apart); prepare it again"
        )


def backbone_key(network: FrameAttentionNetwork) -> str:
    """A digest of the backbone's tensors."""
    digest = hashlib.sha256()
    for name, tensor in network.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _chunks(packed: PackedFeatures, clips: Sequence[int]) -> Iterable[list[int]]:
    """The clips in order, in groups of at most FRAMES frames, but one clip at least."""
    lengths = packed.offsets.diff().tolist()
    group: list[int] = []
    frames = 0
    for clip in clips:
        if group and frames + lengths[clip] > FRAMES:
            yield group
            group, frames = [], 0
        group.append(clip)
        frames += lengths[clip]
    if group:
        yield group
