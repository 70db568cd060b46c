"""Options that several commands have."""

from __future__ import annotations

import argparse
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


def add_recognizer(parser: argparse.ArgumentParser) -> None:
    """What finds the faces, and where: see :func:`recognizer_options`."""
    parser.add_argument(
        "--detector", default="mtcnn", metavar="NAME", help="face detector: mtcnn (default) or yunet:FILE.onnx"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def recognizer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`add_recognizer` as ``load_recognizer`` takes them."""
    return {name: getattr(arguments, name) for name in ("detector", "device")}


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


def check_abstain(abstain: float | None) -> None:
    """Raises FanFerError for what is no probability."""
    if abstain is not None and not 0 <= abstain <= 1:
        raise FanFerError(f"--abstain {abstain:g}: a probability, 0 to 1, is wanted")
