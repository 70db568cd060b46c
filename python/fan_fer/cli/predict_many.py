"""``fan-fer predict --manifest``: a table with a row for every video of a CSV file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import FanFerError
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED

if TYPE_CHECKING:
    from fan_fer.evaluation.summary import Summary

OPTIONS = ("manifest", "out", "workers", "ray", "label_map", "retry_failed")
SHARED = ("weights", "detector", "device")


def add_arguments(predict: argparse.ArgumentParser) -> None:
    predict.set_defaults(default_of=predict.get_default)
    group = predict.add_argument_group("many videos (docs/many-videos.md)")
    group.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="in place of CLIP: a CSV with the columns video[,label,...]; goes on where it was when it is given again",
    )
    group.add_argument("--out", type=Path, metavar="CSV", help="write a row per video there")
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="use the Ray cluster there: auto for the one of this machine, or HOST:PORT; local starts one here",
    )
    group.add_argument(
        "--label-map",
        metavar="MAP",
        help="which class each label is: LABEL=CLASS,LABEL=- ('-': left out) or a JSON file",
    )
    group.add_argument("--retry-failed", action="store_true", help="do videos again that have an error so far")


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether there is a manifest. Raises FanFerError for arguments that do not go together."""
    given = {name for name, value in vars(arguments).items() if value != arguments.default_of(name)} - {"clips"}
    if arguments.manifest is None:
        if not arguments.clips:
            raise FanFerError("a CLIP or --manifest is wanted")
        lost = [name for name in OPTIONS if name in given]
        if lost:
            raise FanFerError(f"{_option(lost[0])}: needs --manifest")
        return False
    if arguments.clips:
        raise FanFerError(f"{arguments.clips[0]}: with --manifest no CLIP is wanted, the manifest names them")
    if arguments.out is None:
        raise FanFerError("--manifest: needs --out, the name of the CSV file for the results")
    others = sorted(given - {*OPTIONS, *SHARED})
    if others:
        raise FanFerError(f"{_option(others[0])}: does not go with --manifest")
    return True


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.evaluation.labels import parse_label_map

    if arguments.workers is not None and arguments.workers < 1:
        raise FanFerError(f"--workers {arguments.workers}: at least 1 is wanted")
    options = {
        "workers": arguments.workers,
        "weights": arguments.weights,
        "detector": arguments.detector,
        "device": arguments.device,
        "label_map": parse_label_map(arguments.label_map) if arguments.label_map else None,
        "retry_failed": arguments.retry_failed,
    }
    try:
        if arguments.ray:
            from fan_fer.many import cluster as distributed

            summary = distributed.predict_manifest(arguments.manifest, arguments.out, address=arguments.ray, **options)
        else:
            from fan_fer.many import local as predict

            summary = predict.predict_manifest(arguments.manifest, arguments.out, **options)
    except KeyboardInterrupt:
        print("fan-fer: what is done is kept; the same command goes on", file=sys.stderr)
        raise
    _print(summary, arguments.out)
    failed = summary.counts()["failed"]
    if not failed:
        return DONE
    return SOME_FAILED if failed < len(summary.clips) else BAD_INPUT


def _print(summary: Summary, out: Path) -> None:
    from fan_fer.base.terminal import console
    from fan_fer.evaluation.report import confusion_report, predictions_report, summary_report

    screen = console()
    if any(clip.label for clip in summary.clips):
        screen.print(summary_report(summary))
        if summary.scores:
            screen.print("", confusion_report(summary.scores), sep="\n")
    else:
        screen.print(predictions_report(summary))
    failed = summary.counts()["failed"]
    screen.print(f"{out}: {len(summary.clips)} rows, {failed} of them with an error", style="dim", markup=False)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
