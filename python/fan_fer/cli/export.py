"""``fan-fer export``: a network as ONNX, or compiled for torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from fan_fer.base.errors import OutputError, one_line
from fan_fer.cli.options import add_weights
from fan_fer.cli.outcome import DONE

EXAMPLE = """\
example:
  fan-fer export --onnx fan.onnx
  fan-fer export --aot fan.pt2 --weights best.safetensors
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser(
        "export",
        help="the network as ONNX, or compiled for torch (AOTInductor)",
        description="Writes the network, from aligned faces to logits and the frames' weights, for other programs.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.set_defaults(run=run, usage_error=export.error)
    export.add_argument("--onnx", type=Path, metavar="FILE", help="write it as ONNX (.onnx), standard operators only")
    export.add_argument(
        "--aot",
        type=Path,
        metavar="FILE",
        help="compile it into a package (.pt2) that torch loads, with fan_ext",
    )
    export.add_argument(
        "--frames",
        choices=("uint8", "float32"),
        default="uint8",
        help="what goes in: uint8 (default), aligned RGB faces (B, N, S, S, 3); or float32, faces preprocessed by "
        "the caller (B, N, 3, S, S)",
    )
    add_weights(export)


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.base.files import check_writable

    if arguments.onnx is None and arguments.aot is None:
        arguments.usage_error("--onnx FILE or --aot FILE is wanted")
    for path, suffix in ((arguments.onnx, ".onnx"), (arguments.aot, ".pt2")):
        if path is not None:
            if path.suffix != suffix:
                raise OutputError(f"{path}: the name of such a file ends in {suffix}")
            check_writable(path)

    from fan_fer.attention.export import export_aot, export_onnx
    from fan_fer.attention.weights import load_weights
    from fan_fer.base.terminal import working

    network, card = load_weights(arguments.weights)
    if arguments.onnx is not None:
        with working(f"writing {one_line(arguments.onnx.name)}"):
            difference = export_onnx(arguments.onnx, network, card, arguments.frames)
        _report(arguments.onnx, "onnxruntime's", difference)
    if arguments.aot is not None:
        with working(f"compiling {one_line(arguments.aot.name)}"):
            difference = export_aot(arguments.aot, network, card, arguments.frames)
        _report(arguments.aot, "its", difference)
    return DONE


def _report(path: Path, whose: str, difference: float | None) -> None:
    from fan_fer.base.terminal import show

    if difference is None:
        check = "not compared with torch, as onnxruntime is not installed"
    else:
        check = f"{whose} logits for random frames differ from torch's by at most {difference:.1g}"
    line = f"{one_line(path)}: {path.stat().st_size / 1e6:.1f} MB; {check}"
    show(line, markup=False, highlight=False, soft_wrap=True)
