"""``fan-fer weights``: what a weights file says about itself, and which networks ship."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fan_fer.cli.network import CLASSES_HELP, load_network
from fan_fer.cli.outcome import DONE

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = (0.5, 0.8, 0.95)  # of the probabilities that were measured


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    weights = commands.add_parser(
        "weights",
        help="the card of a weights file: what it was trained on, its scores, its licence",
        description="Prints the card of a weights file, after checking that the file is whole, and the networks that "
        "ship.",
    )
    weights.set_defaults(run=run)
    weights.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a file, the name of a network that ships (default: resnet18), or a trained published checkpoint",
    )
    weights.add_argument("--classes", metavar="NAMES", help=CLASSES_HELP)
    weights.add_argument(
        "--save", type=Path, metavar="OUT", help="write it as a file of fan-fer, which every command takes"
    )


def run(arguments: argparse.Namespace) -> int:

    from rich.table import Table

    from fan_fer.attention.weights import packaged_weights, save_weights, weights_digest
    from fan_fer.base.errors import one_line
    from fan_fer.base.terminal import show

    network, card, path = load_network(arguments.file, arguments.classes)
    if arguments.save:
        save_weights(arguments.save, network, card)
        path = arguments.save
    parameters = sum(parameter.numel() for parameter in network.parameters())
    image = card.preprocessing
    rows = {
        "file": f"{one_line(path)}, {_size(path)}",
        "sha256": weights_digest(path),
        "network": f"{card.backbone}, variant {card.variant}, {parameters:,} parameters",
        "classes": ", ".join(card.classes),
        "input": f"aligned faces, {image.size} x {image.size}, {'grey' if image.grayscale else 'colour'}",
        "trained on": card.trained_on or "not said",
        "temperature": f"{card.temperature:.3g}, already in the classifier",
        "licence": card.license or "not said",
    }
    rows |= {name.replace("_", " "): f"{value:.4g}" for name, value in card.scores.items()}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    show(table, highlight=False)
    if answered := _answered(path, rows["sha256"]):
        show("", "right of those with a label (and how many have one), with --abstain P:", answered, sep="\n")
    ship = ", ".join(f"{name} ({_size(file)})" for name, file in packaged_weights().items())
    show("", f"networks that ship: {ship}", sep="\n", highlight=False, soft_wrap=True)
    return DONE


def _answered(path: Path, digest: str) -> Table | None:
    """What was measured of this very file, where that lies beside it."""
    from rich import box
    from rich.table import Table

    from fan_fer.base.files import is_file, read_file
    from fan_fer.base.texts import parse_json

    measured = path.with_suffix(".answered.json")
    told = parse_json(read_file(measured)) if is_file(measured) else {}
    if told.get("sha256") != digest:
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", overflow="fold")
    for abstain in SHOWN:
        table.add_column(f"P = {abstain:g}", justify="right", no_wrap=True)
    for name, parts in told["sets"].items():
        by = {part["abstain"]: part for part in parts if part["answered"]}
        table.add_row(name, *(_share(by[abstain]) if abstain in by else "-" for abstain in SHOWN))
    return table


def _share(part: dict[str, Any]) -> str:
    return f"{part['accuracy']:.1%} ({part['answered'] / part['clips']:.0%})"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
