"""Options that several commands have."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from fan_fer.base.errors import FanFerError
from fan_fer.base.workers import TIME_LIMIT

WORKERS = 1  # processes that read several clips: a decoder that dies of one takes none of the others along


def add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="network to use: a file (default: the one that ships)",
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detector",
        default="mtcnn",
        metavar="NAME",
        help="face detector: mtcnn (default), yunet:FILE.onnx, scrfd:FILE.onnx, or one of an installed package",
    )


def add_aligned(parser: argparse.ArgumentParser) -> None:
    """After ``--detector``, in whose place it stands."""
    parser.add_argument(
        "--aligned",
        dest="detector",
        action="store_const",
        const="aligned",
        default=argparse.SUPPRESS,
        help="every frame is a face already, cut out and upright: none is looked for",
    )


def add_recognizer(parser: argparse.ArgumentParser) -> None:
    """What finds the faces, and how the backbone runs: see :func:`recognizer_options`."""
    add_detector(parser)
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default: a GPU where there is one), cpu, cuda or mps"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="faces that the backbone takes at a time (default: 16, on a GPU 64)"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        metavar="NAME",
        help="of the backbone: auto (default), float32, bfloat16 or float16",
    )


def recognizer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`add_recognizer` as ``load_recognizer`` takes them."""
    return {name: getattr(arguments, name) for name in ("detector", "device", "precision", "batch_size")}


def check_count(option: str, count: int | None) -> None:
    """Raises FanFerError for a number below 1."""
    if count is not None and count < 1:
        raise FanFerError(f"{option} {count}: at least 1 is wanted")


def add_time_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="give a video up that gets no frame further for so long (default: %(default)g)",
    )


def add_abstain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--abstain",
        type=float,
        metavar="P",
        help="not sure: no label where the most probable class has a probability below P (docs/model-card.md says "
        "how often it is right above)",
    )


def add_min_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-segment",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="how long a reading lasts at least that is a segment of its own (default: %(default)g)",
    )


def check_min_segment(seconds: float) -> None:
    """Raises FanFerError for what is no time."""
    if not 0 < seconds < math.inf:
        raise FanFerError(f"--min-segment {seconds:g}: seconds, above 0, are wanted")


def check_abstain(abstain: float | None) -> None:
    """Raises FanFerError for what is no probability."""
    if abstain is not None and not 0 <= abstain <= 1:
        raise FanFerError(f"--abstain {abstain:g}: a probability, 0 to 1, is wanted")
