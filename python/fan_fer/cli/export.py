"""``fan-fer export``: a network as ONNX, or compiled for torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import OutputError, one_line
from fan_fer.cli.options import add_weights
from fan_fer.cli.outcome import DONE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fan_fer.features.preprocessing import Preprocessing

FACES = 512  # that int8 is fitted to, at most

EXAMPLE = """\
example:
  fan-fer export --onnx fan.onnx
  fan-fer export --onnx fan-int8.onnx --int8 clips/
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
    export.add_argument(
        "--int8",
        nargs="+",
        metavar="CLIP",
        help="with --onnx: the backbone in int8, fitted to the faces in these videos or pictures: some hundred, of "
        "several people",
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

    if arguments.int8 and (arguments.onnx is None or arguments.frames != "uint8"):
        arguments.usage_error("--int8 goes with --onnx FILE and --frames uint8")

    from fan_fer.attention.export import export_aot, export_int8, export_onnx
    from fan_fer.attention.weights import load_weights
    from fan_fer.base.terminal import working
    from fan_fer.video.decoding import is_address
    from fan_fer.video.sources import list_videos

    network, card = load_weights(arguments.weights)
    if arguments.int8:
        videos = [
            video
            for clip in arguments.int8
            for video in ([clip] if is_address(clip) else map(str, list_videos([clip])))
        ]
        faces = _faces(videos, card.preprocessing)
        with working(f"writing {one_line(arguments.onnx.name)}"):
            same, apart = export_int8(arguments.onnx, network, card, faces)
        _show(
            f"{one_line(arguments.onnx)}: {arguments.onnx.stat().st_size / 1e6:.1f} MB; of the {len(faces)} faces "
            f"{same:.1%} get the label that they get in float32; probabilities differ by {apart:.3f} in the mean"
        )
    elif arguments.onnx is not None:
        with working(f"writing {one_line(arguments.onnx.name)}"):
            difference = export_onnx(arguments.onnx, network, card, arguments.frames)
        _report(arguments.onnx, "onnxruntime's", difference)
    if arguments.aot is not None:
        with working(f"compiling {one_line(arguments.aot.name)}"):
            difference = export_aot(arguments.aot, network, card, arguments.frames)
        _report(arguments.aot, "its", difference)
    return DONE


def _faces(clips: Sequence[str], preprocessing: Preprocessing) -> list[NDArray[np.uint8]]:
    """Up to FACES aligned faces of the clips, spread over all of each."""
    from fan_fer.base.errors import VideoError
    from fan_fer.base.terminal import working
    from fan_fer.faces.clip_faces import find_faces
    from fan_fer.faces.detectors import load_detector
    from fan_fer.video.sources import open_clip

    detector, faces = load_detector("mtcnn"), []
    with working("looking for faces"):
        for clip in map(open_clip, clips):
            found = find_faces(clip, detector, preprocessing.size, preprocessing.template)
            kept: list[NDArray[np.uint8]] = []
            step = 1
            for number, crop in enumerate(crop for seen in found for crop in seen.crops):
                if number % step == 0:
                    kept.append(crop)
                if len(kept) > max(1, FACES // len(clips)):
                    kept, step = kept[::2], 2 * step
            faces += kept
    if not faces:
        raise VideoError(f"{clips[0]}: no face in it; --int8 wants clips that show some hundred, of several people")
    return faces


def _report(path: Path, whose: str, difference: float | None) -> None:
    if difference is None:
        check = "not compared with torch, as onnxruntime is not installed"
    else:
        check = f"{whose} logits for random frames differ from torch's by at most {difference:.1g}"
    _show(f"{one_line(path)}: {path.stat().st_size / 1e6:.1f} MB; {check}")


def _show(line: str) -> None:
    from fan_fer.base.terminal import show

    show(line, markup=False, highlight=False, soft_wrap=True)
