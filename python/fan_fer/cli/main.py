"""The command ``fan-fer``: its commands are in ``fan_fer.cli``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from fan_fer.base.errors import FanFerError, OutputError, first_line
from fan_fer.base.streams import check_output, note, open_streams, write
from fan_fer.cli import (
    app,
    compare,
    evaluate,
    export,
    features,
    live,
    predict,
    predict_many,
    prepare,
    serve,
    table,
    train,
    weights,
)
from fan_fer.cli.outcome import BAD_INPUT, BROKEN_PIPE, INTERRUPTED, complain, show_warnings

COMMANDS = (
    predict,
    predict_many,
    features,
    live,
    app,
    serve,
    prepare,
    train,
    evaluate,
    compare,
    table,
    export,
    weights,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    open_streams()
    show_warnings()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a file name need not be text that the terminal knows
    try:
        arguments = _parser().parse_args(predict_many.from_predict(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:
        sys.exit(_end(int(end.code or 0)))
    return _end(_run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.run(arguments))
    except FanFerError as error:
        complain(error)
        return BAD_INPUT
    except ImportError as error:
        complain(f"a library cannot be loaded: {first_line(error)}")
        return BAD_INPUT
    except KeyboardInterrupt:
        note("fan-fer: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
        return BAD_INPUT


def _end(code: int) -> int:
    """The exit code, when all that is printed has been written."""
    try:
        check_output()
    except BrokenPipeError:  # who reads our output has seen enough
        return BROKEN_PIPE
    except OutputError as error:
        complain(error)
        return code or BAD_INPUT
    return code


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="fan-fer",
        description="Facial expressions in video, with frame attention networks.",
        epilog=predict.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        write(file or sys.stderr, message)


class _Version(argparse.Action):
    """Looks the version up when it is asked for, not at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        write(sys.stdout, f"fan-fer {version('fan_ext')}\n")
        parser.exit()
