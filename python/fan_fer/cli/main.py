"""The command ``fan-fer``: its commands are in ``fan_fer.cli``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from fan_fer.base.errors import FanFerError, FanFerWarning, first_line
from fan_fer.cli import app, evaluate, export, live, predict, predict_many, prepare, table, train, weights
from fan_fer.cli.outcome import BAD_INPUT, BROKEN_PIPE, INTERRUPTED, complain

COMMANDS = (predict, predict_many, live, app, prepare, train, evaluate, table, export, weights)
_format_warning = warnings.formatwarning


def _in_one_line(message: Warning | str, category: type[Warning], *place: Any) -> str:
    """A warning of ours as errors are printed; others as Python does."""
    if issubclass(category, FanFerWarning):
        return f"fan-fer: warning: {message}\n"
    return _format_warning(message, category, *place)


warnings.formatwarning = _in_one_line  # type: ignore[assignment]  # in workers too, which import this


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a file name need not be text that the terminal knows
    arguments = _parser().parse_args(predict_many.from_predict(sys.argv[1:] if argv is None else argv))
    try:
        return int(arguments.run(arguments))
    except FanFerError as error:
        complain(error)
        return BAD_INPUT
    except ImportError as error:
        complain(f"a library cannot be loaded: {first_line(error)}")
        return BAD_INPUT
    except KeyboardInterrupt:
        print("fan-fer: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads our output has seen enough. Python flushes stdout once more at exit: let it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:  # such as a name that is too long for the file system
        complain(f"{error.filename}: {error.strerror}" if error.filename else error)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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


class _Version(argparse.Action):
    """Looks the version up when it is asked for, not at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"fan-fer {version('fan_ext')}")
        parser.exit()
