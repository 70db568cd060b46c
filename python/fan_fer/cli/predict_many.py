"""``fan-fer predict-many``: a table with a row for every video of a CSV file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import one_line
from fan_fer.base.streams import note
from fan_fer.cli.options import (
    add_abstain,
    add_aligned,
    add_recognizer,
    add_time_limit,
    add_weights,
    check_abstain,
    check_count,
    recognizer_options,
)
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED

if TYPE_CHECKING:
    from fan_fer.evaluation.summary import Summary

EXAMPLE = """\
example:
  fan-fer predict-many videos.csv --out results.csv
  fan-fer predict-many videos.csv --out results.csv --label-map joy=Happy,bored=- --retry-failed

exit code: 0 all done, 1 some videos have an error (the others are done), 2 nothing could be done
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    many = commands.add_parser(
        "predict-many",
        help="a table with a row for every video of a CSV file, on one machine or many",
        description="Predicts every video that a CSV file names, and goes on where it was when it is given again.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    many.set_defaults(run=run)
    many.add_argument("list", type=Path, metavar="LIST", help="a CSV with the columns video[,label,...]")
    many.add_argument(
        "--out", type=Path, metavar="FILE", required=True, help="write a row per video there: .csv or .parquet"
    )
    many.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    many.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="use the Ray cluster there: auto for the one of this machine, or HOST:PORT; local starts one here",
    )
    many.add_argument(
        "--label-map",
        metavar="MAP",
        help="which class each label is: LABEL=CLASS,LABEL=- ('-': left out) or a JSON file",
    )
    many.add_argument("--retry-failed", action="store_true", help="do videos again that have an error so far")
    add_abstain(many)
    add_time_limit(many)
    add_weights(many)
    add_recognizer(many)
    add_aligned(many)


def from_predict(arguments: Sequence[str]) -> list[str]:
    """``predict --manifest LIST`` as ``predict-many LIST``; other commands as they are."""
    if arguments[:1] == ["predict"] and any(word.startswith("--manifest") for word in arguments):
        return ["predict-many", *(word.removeprefix("--manifest=") for word in arguments[1:] if word != "--manifest")]
    return list(arguments)


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.evaluation.labels import parse_label_map
    from fan_fer.many.predict import predict_many

    check_count("--workers", arguments.workers)
    check_abstain(arguments.abstain)
    try:
        summary = predict_many(
            arguments.list,
            arguments.out,
            address=arguments.ray,
            workers=arguments.workers,
            weights=arguments.weights,
            **recognizer_options(arguments),
            label_map=None if arguments.label_map is None else parse_label_map(arguments.label_map),
            retry_failed=arguments.retry_failed,
            time_limit=arguments.time_limit,
            abstain=arguments.abstain,
        )
    except KeyboardInterrupt:
        note("fan-fer: what is done is kept; the same command goes on")
        raise
    _print(summary, arguments)
    failed = summary.counts()["failed"]
    if not failed:
        return DONE
    return SOME_FAILED if failed < len(summary.clips) else BAD_INPUT


def _print(summary: Summary, arguments: argparse.Namespace) -> None:
    from fan_fer.base.terminal import show
    from fan_fer.evaluation.report import confusion_report, predictions_report, summary_report

    if any(clip.label for clip in summary.clips):
        show(summary_report(summary))
        if summary.scores:
            show("", confusion_report(summary.scores), sep="\n")
    else:
        show(predictions_report(summary, arguments.abstain))
    failed = summary.counts()["failed"]
    show(
        f"{one_line(arguments.out)}: {len(summary.clips)} rows, {failed} of them with an error",
        style="dim",
        markup=False,
    )
