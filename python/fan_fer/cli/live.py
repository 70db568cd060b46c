"""``fan-fer live``: the emotion of the person before a camera as it changes, and the weight of every frame."""

from __future__ import annotations

import argparse
import math
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from fan_fer.base.errors import FanFerError, OutputError, VideoError, one_line
from fan_fer.base.streams import note, write_output
from fan_fer.cli.options import add_abstain, add_weights, check_abstain
from fan_fer.cli.outcome import DONE, warn

if TYPE_CHECKING:
    from fan_fer.output.live import LivePanel
    from fan_fer.output.window import LiveWindow
    from fan_fer.prediction import ClipPrediction
    from fan_fer.recognizer import Recognizer
    from fan_fer.video.frame import Frame

EXAMPLE = """\
example:
  fan-fer live
  fan-fer live rtsp://192.168.1.20/stream --window 10
  fan-fer live clip.mp4 --show terminal
  fan-fer live --json-lines --seconds 60 > minute.jsonl

Of a camera, or an address that has no end, the newest picture is read; a video plays at its own pace, and with
--json-lines as fast as it can be read. Ctrl-C ends it; in a window q, Esc or closing it too.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    live = commands.add_parser(
        "live",
        help="the emotion before a camera as it changes, and the weight of every frame",
        description="Reads a camera, a stream or a video, and shows the emotion of the last seconds as it changes.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    live.set_defaults(run=run)
    live.add_argument(
        "source",
        nargs="?",
        default="0",
        metavar="SOURCE",
        help="number of a camera (default: 0, the first), an address such as rtsp://..., or a video",
    )
    output = live.add_mutually_exclusive_group()
    output.add_argument(
        "--show",
        choices=("auto", "window", "terminal"),
        default="auto",
        help="where: a window with the picture, or the terminal; auto (default): a window if there is a display",
    )
    output.add_argument(
        "--json-lines", action="store_true", help="instead, write a line of JSON for every frame on standard output"
    )
    live.add_argument(
        "--window", type=float, default=5.0, metavar="SECONDS", help="how far a reading looks back (default: 5)"
    )
    add_abstain(live)
    live.add_argument("--seconds", type=float, metavar="N", help="end after so many seconds of the source")
    add_weights(live)
    live.add_argument(
        "--detector", default="mtcnn", metavar="NAME", help="face detector: mtcnn (default) or yunet:FILE.onnx"
    )
    live.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def run(arguments: argparse.Namespace) -> int:
    for option, seconds in (("--window", arguments.window), ("--seconds", arguments.seconds)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise FanFerError(f"{option} {seconds:g}: seconds, above 0, are wanted")
    check_abstain(arguments.abstain)
    with suppress(KeyboardInterrupt):  # the usual way to end it
        _show(arguments)
    return DONE


def _show(arguments: argparse.Namespace) -> None:
    from fan_fer.base.terminal import working
    from fan_fer.recognizer import load_recognizer
    from fan_fer.video.ahead import paced
    from fan_fer.video.sources import open_clip

    clip = open_clip(int(arguments.source) if arguments.source.isdecimal() else arguments.source)
    windowed = not arguments.json_lines and _windowed(arguments.show)
    with working("loading the network"):
        recognizer = load_recognizer(arguments.weights, arguments.device, arguments.detector)
        _ = recognizer.detector
    as_it_comes = arguments.json_lines or clip.live or not clip.consecutive
    readings = recognizer.stream(clip if as_it_comes else paced(clip), arguments.window, abstain=arguments.abstain)
    frame = None
    with _view(arguments, recognizer, windowed) as view, closing(readings):
        for frame, prediction in readings:
            if arguments.seconds is not None and frame.time >= arguments.seconds:
                return
            if not view.show(frame, prediction):
                return
    if frame is None:
        raise VideoError(f"{clip.name}: gives no picture")
    for warning in clip.warnings:
        warn(warning)
    if clip.live:
        note(f"fan-fer live: {one_line(clip.name)} has ended")


def _windowed(show: str) -> bool:
    """Whether a window is shown. Raises OutputError where one is asked for and cannot be."""
    from fan_fer.output.window import check_window

    if show == "terminal":
        return False
    try:
        check_window()
    except OutputError:
        if show == "window":
            raise
        return False
    return True


class _JsonLines:
    def __enter__(self) -> _JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, frame: Frame, prediction: ClipPrediction | None) -> bool:
        from fan_fer.output.json_csv import live_json

        write_output(f"{live_json(frame, prediction)}\n")
        return True


def _view(arguments: argparse.Namespace, recognizer: Recognizer, windowed: bool) -> _JsonLines | LivePanel | LiveWindow:
    from fan_fer.base.terminal import console
    from fan_fer.output.live import LivePanel
    from fan_fer.output.window import LiveWindow

    if arguments.json_lines:
        return _JsonLines()
    name = f"camera {arguments.source}" if arguments.source.isdecimal() else one_line(arguments.source)
    if windowed:
        return LiveWindow(name, arguments.window)
    return LivePanel(name, recognizer.card.classes, arguments.window, console())
