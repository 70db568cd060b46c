"""Features of a prepared set from a frozen backbone, computed once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fan_fer.attention.scoring import PackedFeatures
from fan_fer.base.errors import DataError
from fan_fer.base.files import make_folder
from fan_fer.datasets.cross import CrossSet
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.features.cache import cached, fingerprint
from fan_fer.features.embedding import Embedder
from fan_fer.features.preprocessing import Preprocessing


def prepared_features(embedder: Embedder, prepared: PreparedSet, mirror: bool = False) -> PackedFeatures:
    """Features of every clip of the set, in its order; kept in DST/features/ under what they were computed from.
    Those of two sets in one are kept with each.

    mirror: of the mirrored faces. Raises DataError where the set's faces are aligned to another template.
    """
    check_alignment(embedder.preprocessing, prepared)
    lengths = torch.tensor([0, *(len(clip.numbers) for clip in prepared.clips)])
    if isinstance(prepared, CrossSet):
        parts = [prepared_features(embedder, part, mirror) for part in prepared.parts]
        return PackedFeatures(torch.cat([part.features for part in parts]), lengths.cumsum(0))

    def compute() -> dict[str, Tensor]:
        faces = (face for clip in prepared.clips for face in prepared.crops(clip))
        what = f"features of {prepared.folder.name}{', mirrored' if mirror else ''}"
        return {"features": embedder.embed_all(faces, what, int(lengths.sum()), mirror)}

    key = fingerprint(embedder.key, prepared.key, mirror)
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
