"""Features of a prepared set from a frozen backbone, computed once, and the scores of clips from them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.scoring import PackedFeatures
from fan_fer.base.errors import DataError
from fan_fer.base.files import make_folder
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.features.cache import cached, fingerprint
from fan_fer.features.embedding import embed_faces
from fan_fer.features.preprocessing import Preprocessing


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
