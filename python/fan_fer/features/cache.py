"""Tensors that take long to compute, kept in a file under a key that says what they were computed from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from fan_fer.base.errors import OutputError
from fan_fer.base.files import atomic_write, read_file, text_path
from fan_fer.base.finite import not_finite


def cached(path: Path | None, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors at ``path`` if they were stored under the same ``key``; otherwise computed and stored.

    A damaged file counts as none, and so does one with numbers that are not finite. None for the path: computed, not
    stored. Raises OutputError where the file cannot be written, and for tensors that are not finite.
    """
    if path is None:
        return compute()
    with (
        suppress(OSError, SafetensorError),
        text_path(path) as name,
        safe_open(name, framework="pt") as file,
    ):
        if (file.metadata() or {}).get("key") == key:
            tensors = load_file(name)
            if not_finite(tensors) is None:
                return tensors
    tensors = compute()
    broken = not_finite(tensors)
    if broken is not None:
        raise OutputError(f"{path}: not written, as {broken} is not finite")
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, {"key": key}))
    return tensors


def fingerprint(*parts: object) -> str:
    """A key for :func:`cached`: files count by their bytes, everything else by its text."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(read_file(part) if isinstance(part, Path) else json.dumps(part).encode())
    return digest.hexdigest()
