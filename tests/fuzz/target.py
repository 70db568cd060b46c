"""A kind of input, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Target:
    """inputs: how they are made. check: fails where something does not hold; has a folder to itself.
    share: how many of ten thousand inputs are of this kind.
    """

    inputs: Callable[[], SearchStrategy[Any]]
    check: Callable[[Any, Path], None]
    share: int
