"""``predict_manifest``: :func:`fan_fer.predict_many` on a Ray cluster, by its address."""

from __future__ import annotations

import os
from typing import Any

from fan_fer.evaluation.summary import Summary
from fan_fer.many.predict import predict_many
from fan_fer.many.ray_workers import LOCAL


def predict_manifest(
    manifest: str | os.PathLike[str], out: str | os.PathLike[str], *, address: str = LOCAL, **options: Any
) -> Summary:
    """:func:`fan_fer.predict_many` with its options."""
    return predict_many(manifest, out, address=address, **options)
