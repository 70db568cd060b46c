"""``fan-fer compare``: generated clips of faces beside the real ones that they stand for."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fan_fer.base.errors import one_line
from fan_fer.base.extras import need
from fan_fer.base.streams import note
from fan_fer.cli import options
from fan_fer.cli.network import CLASSES_HELP, load_network
from fan_fer.cli.options import (
    add_aligned,
    add_recognizer,
    add_time_limit,
    add_weights,
    check_count,
    recognizer_options,
)
from fan_fer.cli.outcome import DONE, SOME_FAILED, warn

if TYPE_CHECKING:
    from fan_fer.evaluation.comparison import Comparison
    from fan_fer.evaluation.pairs import Pairing, Side
    from fan_fer.evaluation.readings import Reading
    from fan_fer.recognizer import Recognizer

CACHE = "cache"

EXAMPLE = """\
example:
  fan-fer compare real.csv generated.csv --out report
  fan-fer compare real/ generated/ --out report
  fan-fer compare real.csv generated.csv --pair take --by subject --label-map happiness=Happy,contempt=- --out report

exit code: 0 all done, 1 some clips failed (they count as wrong), 2 nothing could be done
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="generated clips beside the real ones: emotion, distance over time, Frechet distance",
        description="Compares generated clips of faces with the real ones that they stand for, and writes one report.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(run=run)
    clips = (
        "a CSV with the columns video[,label,generator,intensity,...], or a folder of videos or of folders of pictures"
    )
    compare.add_argument("real", type=Path, metavar="REAL", help=clips)
    compare.add_argument("generated", type=Path, metavar="GENERATED", help="likewise; several may have one real clip")
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="write report.md, report.json, pairs.csv and report.png there"
    )
    compare.add_argument(
        "--pair", metavar="COLUMN", help="clips with the same value in this column belong together (default: by name)"
    )
    compare.add_argument(
        "--label-map",
        metavar="MAP",
        help="which class each label is: LABEL=CLASS,LABEL=- ('-': left out) or a JSON file",
    )
    compare.add_argument(
        "--by", metavar="COLUMN", action="append", default=[], help="scores of every value of this column, too"
    )
    add_weights(compare)
    compare.add_argument("--classes", metavar="NAMES", help=CLASSES_HELP)
    add_recognizer(compare)
    add_aligned(compare)
    compare.add_argument("--workers", type=int, metavar="N", help="processes that read clips (default: 1)")
    add_time_limit(compare)


def run(arguments: argparse.Namespace) -> int:
    need("train", "compare")
    from dataclasses import replace

    from fan_fer.base.device import find_device
    from fan_fer.base.files import check_folder, make_folder
    from fan_fer.base.workers import check_time_limit
    from fan_fer.evaluation.clips import with_truths
    from fan_fer.evaluation.comparison import check_columns, compare
    from fan_fer.evaluation.comparison_files import FILES, write_comparison
    from fan_fer.evaluation.labels import parse_label_map
    from fan_fer.evaluation.pairs import make_pairs, read_side
    from fan_fer.evaluation.pins import pins
    from fan_fer.recognizer import Recognizer

    check_time_limit(arguments.time_limit)
    check_count("--workers", arguments.workers)
    label_map = None if arguments.label_map is None else parse_label_map(arguments.label_map)
    find_device(arguments.device)
    if arguments.out:
        check_folder(arguments.out, FILES)
    real, generated = read_side(arguments.real), read_side(arguments.generated)
    for warning in (*real.warnings, *generated.warnings):
        warn(warning)
    check_columns(make_pairs(real, generated, arguments.pair), arguments.by)

    network, card, path = load_network(arguments.weights, arguments.classes)
    labelled = with_truths([*real.clips, *generated.clips], card.classes, label_map)
    real = replace(real, clips=tuple(labelled[: len(real.clips)]))
    generated = replace(generated, clips=tuple(labelled[len(real.clips) :]))
    pairing = make_pairs(real, generated, arguments.pair)
    recognizer = Recognizer(network, card, weights_file=path, **recognizer_options(arguments))
    about = {
        "real": str(arguments.real),
        "generated": str(arguments.generated),
        "pairing": pairing.how,
        **pins(recognizer, path),
    }
    readings = _read(recognizer, real, generated, pairing, arguments, about)
    found = compare(about, card.classes, pairing, readings, arguments.by)
    if arguments.out:
        make_folder(arguments.out)
        write_comparison(arguments.out, found)
    _print(found, arguments.out)
    for warning in (line for lines in found.warnings.values() for line in lines):
        warn(warning)
    return SOME_FAILED if any(found.failures.values()) else DONE


def _read(
    recognizer: Recognizer,
    real: Side,
    generated: Side,
    pairing: Pairing,
    arguments: argparse.Namespace,
    about: dict[str, Any],
) -> list[tuple[Reading, Reading]]:
    """The readings of every pair, with a progress bar; those of an earlier, interrupted command are there already."""
    from fan_fer.base.terminal import progress_bar
    from fan_fer.base.texts import to_json
    from fan_fer.evaluation.readings import read_clips

    paths = [(real.folder / pair.real.name, generated.folder / pair.generated.name) for pair in pairing.pairs]
    todo = list(dict.fromkeys(path for pair in paths for path in pair))
    network = {name: about[name] for name in ("detector", "device", "precision", "versions")}
    settings = to_json([about["model"]["sha256"], arguments.classes, arguments.detector, network])
    workers = arguments.workers or options.WORKERS
    cache = arguments.out / CACHE if arguments.out else None
    with progress_bar() as bars:
        bar = bars.add_task("clips", total=len(todo))
        try:
            found = read_clips(
                recognizer, todo, partial(bars.advance, bar), settings, cache, workers, arguments.time_limit
            )
        except KeyboardInterrupt:
            if cache is not None:
                note("fan-fer: what is read is kept; the same command goes on")
            raise
    return [(found[first], found[second]) for first, second in paths]


def _print(found: Comparison, out: Path | None) -> None:
    from rich.markdown import Markdown
    from rich.text import Text

    from fan_fer.base.terminal import console, show
    from fan_fer.evaluation.comparison_files import FILES
    from fan_fer.evaluation.comparison_text import comparison_markdown

    markdown = comparison_markdown(found)
    show(Markdown(markdown) if console().is_terminal else Text(markdown))
    if out:
        show(f"in {one_line(out)}: {', '.join(FILES)}; {CACHE}/ may be deleted", markup=False)
