"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from fan_fer.base.workers import TIME_LIMIT

WORKERS = 1  # processes that read several clips: a decoder that dies of one takes none of the others along


def add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="network to use: a file (default: the one that ships)",
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


def add_time_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="give a video up that gets no frame further for so long (default: %(default)g)",
    )
