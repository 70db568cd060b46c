"""Checkpoints that survive a kill, and the settings that a run must share with what it goes on from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from fan_fer.base.errors import FanFerError, OutputError, first_line
from fan_fer.base.files import atomic_write, exists, open_file
from fan_fer.base.finite import not_finite

EMPTY: Mapping[str, Any] = MappingProxyType({})


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """A kill while it writes leaves the old file or the new one, nothing between.

    Raises OutputError, also for a number that is not finite.
    """
    broken = not_finite(checkpoint)
    if broken is not None:
        raise OutputError(f"{path}: not written, as {broken} is not finite")
    with atomic_write(path) as temporary:
        torch.save(checkpoint, temporary)


def load_checkpoint(path: Path, settings: dict[str, Any], defaults: Mapping[str, Any] = EMPTY) -> dict[str, Any] | None:
    """The checkpoint a run with the same settings left at ``path``; None where there is none. See check_settings."""
    if not exists(path):
        return None
    try:
        with open_file(path) as file:
            checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        found = checkpoint["settings"]
    except Exception as error:  # what a damaged pickle raises can be anything
        why = "damaged, or of another program" if isinstance(error, pickle.UnpicklingError) else first_line(error)
        raise FanFerError(f"{path}: no checkpoint of a run ({why}); delete it to begin anew") from error
    broken = not_finite(checkpoint)
    if broken is not None:
        raise FanFerError(f"{path}: {broken} is not finite; delete it to begin anew")
    check_settings(path, found, settings, defaults)
    return checkpoint


def check_settings(
    path: Path, found: dict[str, Any], wanted: dict[str, Any], defaults: Mapping[str, Any] = EMPTY
) -> None:
    """Raises FanFerError that names the settings in which what lies at ``path`` differs.

    defaults: what a setting was before there was a choice, for what an earlier version left.
    """
    found = {**defaults, **found}
    names = [*wanted, *(name for name in found if name not in wanted and name not in defaults)]
    changed = [
        f"{name} {found.get(name)} -> {wanted.get(name)}" for name in names if found.get(name) != wanted.get(name)
    ]
    if changed:
        raise FanFerError(f"{path}: made with other settings ({', '.join(changed)}); use those, or another --out")
