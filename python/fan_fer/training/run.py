"""One training run: a variant, a partition of a prepared set, a seed, a recipe. It resumes to the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from fan_fer.attention.weights import ModelCard, save_weights
from fan_fer.base.checkpoint import check_settings, load_checkpoint
from fan_fer.base.files import exists, make_folder, readable, real_path, text_path
from fan_fer.base.terminal import progress_bar
from fan_fer.base.threads import one_thread
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.features.timm_backbones import PREFIX, timm_license
from fan_fer.training.fabric import make_fabric
from fan_fer.training.recipe import Recipe, TrainingSettings
from fan_fer.training.result import CHOSEN, KEPT_EPOCHS, RESULT_FILE, RunResult
from fan_fer.training.spec import RunSpec
from fan_fer.training.start import Start, start_network
from fan_fer.training.trainer import Trainer

CHECKPOINT_FILE = "last.pt"
# What a run that knew no such key was trained with.
DEFAULTS = {field.name: field.default for field in fields(TrainingSettings) if field.default is not MISSING}
NETWORKS = {which: f"{which}.safetensors" for which in KEPT_EPOCHS}


def train_run(
    prepared: PreparedSet,
    spec: RunSpec,
    out: Path,
    device: str = "auto",
    *,
    keep_networks: bool = True,
    tensorboard: bool = False,
    workers: int = 0,
    report: Callable[[str], None] | None = None,
) -> RunResult:
    """Trains, or goes on training, in the folder ``out``; a finished run with the same settings is only read.

    device: "auto", "cpu" or "cuda". Started by torchrun, all its processes take part.
    keep_networks: write best.safetensors and last.safetensors, also of a finished run that was made without them.
    workers: processes that read faces, where the backbone learns too.
    report: gets lines for people: what was loaded from ``spec.init``, how fast it was.
    Raises FanFerError where ``out`` holds a run with other settings, and where the set, the weights or the recipe are
    not as wanted.
    """
    identity = spec.identity(prepared)
    if exists(out / RESULT_FILE):
        result = RunResult.load(out)
        check_settings(out, result.values["settings"], identity, DEFAULTS)
        if not keep_networks or all(exists(out / name) for name in NETWORKS.values()):
            return result
    checkpoint = load_checkpoint(out / CHECKPOINT_FILE, identity, DEFAULTS)
    fabric = make_fabric(device, spec.settings(prepared).precision)
    start = start_network(prepared, spec)
    tell = report if report is not None and fabric.is_global_zero else _say_nothing
    for line in start.report.lines() if start.report is not None else ():
        tell(line)
    if prepared.size < start.preprocessing.size and not spec.frozen(prepared):
        tell(
            f"the set's faces of {prepared.size} pixels are enlarged to the network's {start.preprocessing.size}; "
            f"fan-fer prepare --size {start.preprocessing.size} keeps more of them"
        )
    trainer = Trainer(prepared, spec, start, fabric, workers)
    if trainer.told:
        tell(f"soft labels for {trainer.told} clips; the others keep their label")
    if checkpoint is not None:
        trainer.restore(checkpoint)
    make_folder(out)
    curves = _tensorboard(out, trainer.epoch) if tensorboard and fabric.is_global_zero else nullcontext()
    name = f"{spec.variant} {spec.partition} seed {spec.seed}"
    # Steps on features are too small to share: waiting for the other threads takes longer than the work.
    with curves as writer, progress_bar() as progress, one_thread() if trainer.frozen else nullcontext():
        task = progress.add_task(name, total=trainer.settings.epochs, completed=trainer.epoch)
        while trainer.epoch < trainer.settings.epochs:
            entry = trainer.run_epoch()
            trainer.save(out / CHECKPOINT_FILE, identity)
            if writer is not None:
                for key in ("loss", "train_accuracy", "accuracy"):
                    writer.add_scalar(key, entry[key], trainer.epoch)
            line = f"{name}: loss {entry['loss']:.3f}, {entry['accuracy']:.1%}"
            progress.update(task, advance=1, description=line)
    if trainer.seconds > 0:
        what = "frames" if spec.variant == "score-fusion" else "clips"
        tell(f"{trainer.seen / trainer.seconds:.0f} {what} a second in training steps")
    return _finish(out, trainer, start, identity, keep_networks)


def config_name(recipe: Recipe, backbone: str | None) -> str:
    """What the runs of a recipe lie below: its name, with that of a ``backbone`` in place of its own."""
    return recipe.name if backbone is None else f"{recipe.name}-{backbone.replace(':', '-')}"


def run_folder(folder: Path, spec: RunSpec) -> Path:
    """Where a run of the set in ``folder`` lies unless the user says otherwise."""
    config = config_name(spec.recipe, spec.backbone)
    return folder / "runs" / config / spec.variant / spec.partition / f"seed-{spec.seed}"


def _finish(out: Path, trainer: Trainer, start: Start, identity: dict[str, Any], keep_networks: bool) -> RunResult:
    """Scores the last and the best network and writes the result."""
    prepared, spec = trainer.prepared, trainer.spec
    scores, accuracy = {}, {}
    kept = {"last": trainer.learnt(), "best": trainer.best["network"]}
    if trainer.validation:
        kept[CHOSEN] = trainer.chosen["network"]
    for which, learnt in kept.items():
        trainer.network.load_state_dict(learnt, strict=False)
        scores[which] = trainer.evaluate()
        accuracy[which] = trainer.accuracy(scores[which])
        if keep_networks:
            _save_network(out / f"{which}.safetensors", trainer, start, accuracy[which])
    if trainer.fabric.is_global_zero:
        RunResult.save(
            out,
            {
                "variant": spec.variant,
                "partition": spec.partition,
                "seed": spec.seed,
                "recipe": spec.recipe.name,
                "backbone": trainer.network.backbone_name,
                "settings": identity,
                "init": None if start.report is None else start.report.lines(),
                "classes": list(prepared.classes),
                "clips": [prepared.clips[index].name for index in trainer.partition.test],
                "labels": [trainer.labels[index] for index in trainer.partition.test],
                "epochs": trainer.history,
                "best": {"epoch": trainer.best["epoch"], "accuracy": accuracy["best"]},
                "last": {"epoch": trainer.epoch, "accuracy": accuracy["last"]},
                **(
                    {CHOSEN: {"epoch": trainer.chosen["epoch"], "accuracy": accuracy[CHOSEN]}} if CHOSEN in kept else {}
                ),
            },
            scores,
        )
    trainer.fabric.barrier()
    return RunResult.load(out)


def _save_network(path: Path, trainer: Trainer, start: Start, accuracy: float) -> None:
    if not trainer.fabric.is_global_zero:
        return
    name, partition = readable(real_path(trainer.prepared.folder).name), trainer.partition.name
    source = "random weights" if start.card is None and start.report is None else "an imported file"
    license = start.card.license if start.card is not None else ""
    if start.card is not None:
        source = start.card.trained_on or source
    elif trainer.spec.pretrained:
        source = f"timm's weights of {trainer.network.backbone_name.removeprefix(PREFIX)}"
        license = timm_license(trainer.network.backbone)
    card = ModelCard(
        variant=trainer.spec.variant,
        preprocessing=start.preprocessing,
        backbone=trainer.network.backbone_name,
        classes=trainer.prepared.classes,
        trained_on=f"{name}, tested on {partition}; started from: {source}",
        scores={f"{name}_{partition}_accuracy": round(accuracy, 4)},
        license=license,
    )
    save_weights(path, trainer.network, card)


def _say_nothing(line: str) -> None:
    pass


@contextmanager
def _tensorboard(out: Path, epoch: int) -> Iterator[Any]:
    from torch.utils.tensorboard import SummaryWriter

    make_folder(out / "tensorboard")
    with text_path(out / "tensorboard") as folder, SummaryWriter(str(folder), purge_step=epoch + 1) as writer:
        yield writer
