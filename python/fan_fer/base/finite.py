"""Numbers that are none: where they are in what is to be written, or was read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LARGEST = 3.4e38  # that float32 holds, in which networks compute


def is_number(value: Any) -> bool:
    """Whether the value is a number, at most LARGEST; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def not_finite(value: Any, name: str = "") -> str | None:
    """The name of the first number in ``value`` that is NaN or infinite, such as "epochs.3.loss"; None without one.

    value: a number, a tensor, or mappings and lists of such; everything else is passed over.
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else name
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        parts = (not_finite(part, f"{name}.{key}" if name else str(key)) for key, part in value.items())
        return next((part for part in parts if part is not None), None)
    if hasattr(value, "isfinite"):  # a tensor
        return None if bool(value.isfinite().all()) else name
    return None
