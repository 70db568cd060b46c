"""Poolings by name: those that ship, those of installed packages, and those that a program registers. Needs no torch.

A pooling is made with the number of features D and is a ``torch.nn.Module`` with

    out_features            what the classifier sees of a clip
    forward(features, mask) (B, N, D), (B, N) bool -> (B, out_features), and the frames' shares (B, N) or None

Absent frames, where the mask is False, are zeros and must not count; the shares of a clip sum to 1. None says that the
pooling gives no shares: equal ones are reported. What comes of a clip without any frame does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    from torch import nn

PAPER = ("fan", "self", "score-fusion")
SHIPPED = ("mean", "max", "softmax", "abmil", "top-k", "gru")
GROUP = "fan_fer.poolings"  # of entry points

Make = TypeVar("Make", bound="Callable[[int], nn.Module]")


@dataclass(frozen=True)
class Pooling:
    """title: in tables and pictures. make: gives the module for D features."""

    title: str
    make: Callable[[int], nn.Module]


_registered: dict[str, Pooling] = {}


def register_pooling(name: str, title: str | None = None) -> Callable[[Make], Make]:
    """Registers a pooling, a class or a function of D, under a name that ``--variant``, recipes and cards then take.

    title: in tables and pictures; the name where there is none.
    Raises ValueError for a name that is taken by the paper's three or by another pooling, or that cannot be one.

    Example:
        >>> @fan_fer.register_pooling("last", "last frame")
        ... class LastPooling(torch.nn.Module):
        ...     def __init__(self, features):
        ...         super().__init__()
        ...         self.out_features = features
        ...
        ...     def forward(self, features, mask):
        ...         last = mask.long().cumsum(1).argmax(1)
        ...         return features[torch.arange(len(last)), last], None
    """
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"pooling: got {name!r}; a name of small letters, digits and hyphens is wanted")

    def register(make: Make) -> Make:
        before = _registered.get(name)
        # A module that is loaded anew registers anew.
        taken = before is not None and _place(before.make) != _place(make)
        if name in PAPER or taken or (name in SHIPPED and _place(make)[0] != _home(name)):
            raise ValueError(f"pooling: got {name!r}, which is taken; another name is wanted")
        _registered[name] = Pooling(title or name, make)
        return make

    return register


def pooling_names() -> tuple[str, ...]:
    """Of all poolings that :func:`find_pooling` knows, those that ship first."""
    return tuple(dict.fromkeys([*SHIPPED, *_registered, *sorted(_installed().names)]))


def variant_names() -> tuple[str, ...]:
    """What a network may be: the paper's three, and the poolings."""
    return *PAPER, *pooling_names()


def find_pooling(name: str) -> Pooling:
    """Raises ValueError for a name that is unknown, or is that of a package that cannot be loaded."""
    if name in SHIPPED:
        import_module(_home(name))
    elif name not in _registered:
        for point in _installed().select(name=name):
            try:
                register_pooling(name)(point.load())
            except Exception as error:  # whatever a package's own code raises
                raise ValueError(f"variant: {name!r}, of {point.value}, cannot be loaded ({error})") from error
    if name not in _registered:
        raise ValueError(f"variant: got {name!r}; wanted one of {', '.join(variant_names())}")
    return _registered[name]


def _home(name: str) -> str:
    """The module of a pooling that ships, which is loaded when it is wanted."""
    return f"fan_fer.attention.poolings.{name.replace('-', '_')}"


def _installed() -> EntryPoints:
    from importlib.metadata import entry_points  # which `fan-fer --help` does without

    return entry_points(group=GROUP)


def _place(make: object) -> tuple[str, str]:
    return getattr(make, "__module__", ""), getattr(make, "__qualname__", repr(make))
