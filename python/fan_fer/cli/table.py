"""``fan-fer table``: trains and evaluates the three variants on a set, as the paper's table does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.attention.poolings.registry import SHIPPED, pooling_names
from fan_fer.base.errors import TrainingError, one_line
from fan_fer.base.extras import need
from fan_fer.base.files import exists
from fan_fer.cli.outcome import DONE
from fan_fer.cli.train import add_recipe_options

if TYPE_CHECKING:
    from fan_fer.datasets.prepared import PreparedSet
    from fan_fer.paper.table import RunKey, Table
    from fan_fer.training.recipe import Recipe
    from fan_fer.training.result import RunResult

VARIANTS = ("score-fusion", "self", "fan")
FILES = MARKDOWN, JSON, PLOT = "table.md", "table.json", "table.png"

EXAMPLE = """\
example:
  fan-fer table ckplus/
  fan-fer table afew/ --seeds 5 --frame-truth Val_AFEW/frames.csv
  fan-fer table --cross ravdess/ crema-d/
  fan-fer table ckplus/ --config paper --init Resnet18_FER+_pytorch.pth.tar --device cuda

Interrupted, the same command goes on where it was.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    table = commands.add_parser(
        "table",
        help="the paper's table on a set: all three variants, all folds, several seeds",
        description="Trains and evaluates the variants over all folds, or on train and val, and writes the\n"
        "paper's table: table.md, table.json, table.png and a confusion matrix of each variant.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    table.set_defaults(run=run)
    table.add_argument("set", type=Path, nargs="?", metavar="DST", help="the folder that `fan-fer prepare` wrote")
    table.add_argument(
        "--cross",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="in place of DST: train on all of the prepared set A, test on all of B, which has the same classes",
    )
    table.add_argument(
        "--validation",
        action=argparse.BooleanOptionalAction,
        help="choose the epoch on one in five of the persons to train on, who are kept back for that (default: yes, "
        "but for ckplus and afew, whose table is the paper's)",
    )
    table.add_argument(
        "--variants",
        default=",".join(VARIANTS),
        metavar="NAMES",
        help="which to compare, such as fan,mean,abmil (default: %(default)s); other poolings: " + ", ".join(SHIPPED),
    )
    table.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each with other seeds (default: 3)")
    add_recipe_options(table)
    table.add_argument(
        "--frame-truth",
        type=Path,
        metavar="FILE",
        help="a CSV clip,frame,intensity,occluded: tells whether the weights follow the informative frames",
    )
    table.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the table and its runs (default: DST/runs/CONFIG, with --backbone DST/runs/CONFIG-BACKBONE, "
        "with --cross B/runs/CONFIG-from-A)",
    )


def run(arguments: argparse.Namespace) -> int:
    need("train", "table")
    from fan_fer.base.files import check_folder, real_path
    from fan_fer.datasets.cross import cross_sets
    from fan_fer.datasets.prepared import open_prepared
    from fan_fer.evaluation.informative import load_truth
    from fan_fer.paper.table import PUBLISHED, make_table, plan_runs
    from fan_fer.training.recipe import load_recipe
    from fan_fer.training.run import config_name

    variants = _variants(arguments.variants)
    if arguments.seeds < 1:
        raise TrainingError(f"--seeds {arguments.seeds}; 1 or more is wanted")
    if (arguments.set is None) == (arguments.cross is None):
        raise TrainingError("either DST, a prepared set, or --cross with two of them is wanted")
    recipe = load_recipe(arguments.config)
    name = config_name(recipe, arguments.backbone)
    if arguments.cross is None:
        prepared = open_prepared(arguments.set)
    else:
        prepared = cross_sets(*map(open_prepared, arguments.cross))
        name = f"{name}-from-{real_path(arguments.cross[0]).name}"
    if arguments.validation is None:
        arguments.validation = prepared.layout not in PUBLISHED or arguments.cross is not None
    partitions = prepared.partitions()
    truth = load_truth(arguments.frame_truth) if arguments.frame_truth else None
    if truth is not None:
        truth.check_clips([prepared.clips[index].name for partition in partitions for index in partition.test])
    out = arguments.out or prepared.folder / "runs" / name
    check_folder(out, [*FILES, *map(_confusion_file, variants)])

    keys = plan_runs(variants, [partition.name for partition in partitions], arguments.seeds)
    results = _train(arguments, prepared, recipe, keys, out)
    if _speaks():
        _report(make_table(prepared, recipe.name, results, truth), out)
    return DONE


def _speaks() -> bool:
    """Of the processes that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def _variants(names: str) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    known = (*VARIANTS, *pooling_names())
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise TrainingError(f"--variants {names}: some of {','.join(known)} are wanted")
    return list(dict.fromkeys(chosen))


def _train(
    arguments: argparse.Namespace, prepared: PreparedSet, recipe: Recipe, keys: Sequence[RunKey], out: Path
) -> dict[RunKey, RunResult]:
    """The results of all runs; finished ones are read, an interrupted one goes on."""
    from fan_fer.attention.checkpoints import PRETRAINED, init_path
    from fan_fer.base.terminal import progress_bar, show
    from fan_fer.training.result import EPOCHS, RESULT_FILE
    from fan_fer.training.run import train_run
    from fan_fer.training.spec import RunSpec

    results: dict[RunKey, RunResult] = {}
    told: set[str] = set()  # variants
    with progress_bar() as bars:

        def tell(line: str) -> None:
            if _speaks():
                show(one_line(line), stderr=True, style="dim", markup=False, highlight=False, soft_wrap=True)

        bar = bars.add_task("runs", total=len(keys))
        for variant, partition, seed in keys:
            spec = RunSpec(
                variant, partition, seed, recipe,
                freeze_backbone=arguments.freeze_backbone,
                backbone=arguments.backbone,
                pretrained=arguments.init == PRETRAINED,
                validation=arguments.validation,
            )  # fmt: skip
            spec = replace(spec, init=init_path(arguments.init, spec.settings(prepared).backbone))
            folder = out / variant / partition / f"seed-{seed}"
            is_new = not exists(folder / RESULT_FILE)
            try:
                # The networks are left out: a table has many, and `fan-fer train` makes the one that is wanted.
                result = train_run(
                    prepared, spec, folder, arguments.device,
                    keep_networks=False,
                    workers=arguments.workers,
                    report=None if variant in told else tell,
                )  # fmt: skip
            except KeyboardInterrupt:
                tell(f"{len(results)} of {len(keys)} runs are done; the same command goes on from here")
                raise
            if is_new:
                told.add(variant)
                figures = ", ".join(f"{EPOCHS[which]} {result.accuracy(which):.1%}" for which in result.kept)
                tell(f"{variant} {partition} seed {seed}: {figures}")
            results[variant, partition, seed] = result
            bars.advance(bar)
    return results


def _report(table: Table, out: Path) -> None:
    """Writes the table and its pictures, and shows it."""
    from rich.markdown import Markdown
    from rich.text import Text

    from fan_fer.base.files import make_folder, write_text
    from fan_fer.base.terminal import console, show
    from fan_fer.evaluation.pictures import write_confusion
    from fan_fer.paper.markdown import table_markdown
    from fan_fer.paper.picture import write_table_plot
    from fan_fer.training.result import EPOCHS

    make_folder(out)
    markdown = table_markdown(table)
    write_text(out / MARKDOWN, markdown, errors="backslashreplace")
    write_text(out / JSON, table.to_json(), errors="backslashreplace")
    write_table_plot(out / PLOT, table)
    for result in table.variants:
        title = f"{result.title} on {table.name}, {EPOCHS[table.main]}"
        write_confusion(out / _confusion_file(result.variant), result.scores[table.main], title)
    show(Markdown(markdown) if console().is_terminal else Text(markdown))
    files = ", ".join([*FILES, *(_confusion_file(result.variant) for result in table.variants)])
    show(f"in {one_line(out)}: {files}", markup=False)


def _confusion_file(variant: str) -> str:
    return f"confusion-{variant}.png"
