"""Trains frame attention and the classifier over a frozen backbone, and writes the weights file.

    python -m pretraining.attention --data ferplus.npz --clips ict-afew/Train_AFEW \
        --valid-clips ict-afew/Val_AFEW --detector yunet:yunet_n_640_640.onnx \
        --backbone runs/backbone/backbone.safetensors --out runs/attention

Four losses, added: clips of a video set; brief clips of FER+ faces, whose informative frames are known and ought to
weigh most; plain clips of such faces, all of which show one emotion; and FER+ faces on their own, half of whose target
is what the backbone's head says of them, so that the classifier stays one of single frames too. Its confidence is then
set right on half of the FER+ valid faces. Faces and features are computed once and kept in ``--out``; the weights file
there is named after the backbone: ``fan_resnet18.safetensors``. The same command goes on where a killed run stopped.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard, load_weights, save_weights
from fan_fer.base.checkpoint import load_checkpoint, save_checkpoint
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, first_line
from fan_fer.base.terminal import progress_bar, run_main
from fan_fer.recognizer import load_recognizer
from pretraining.calibration import divide_logits, fit_temperature
from pretraining.features import load_backbone, set_name
from pretraining.mixed_clips import NEUTRAL
from pretraining.pooling import Clips, clip_loss, make_heads, pad_clips
from pretraining.score import Prepared, measure, prepare
from pretraining.training_data import (
    TrainingData,
    add_arguments,
    features_source,
    load_clip_faces,
    load_training_data,
    preprocessing_of,
)

LICENSE = "research use: trained on FER2013 images; a network that began as dlib's (CC0) taught the backbone"


@dataclass(frozen=True)
class AttentionSettings:
    epochs: int = 20
    steps: int = 60  # per epoch
    batch: int = 64  # clips of each kind in a step; four times as many single faces
    frames: int = 64  # of each video clip that a step sees, drawn at random; all, where there are fewer
    augmented: float = 0.2  # share of the video clips that are seen through augmented copies of their frames
    lr: float = 3e-3  # highest, of the heads; of the classifier, which starts as the backbone's head, a third
    attention_lr: float = 10.0  # how many times as fast the attention learns
    smoothing: float = 0.1  # of the clips' labels
    size: int = 128  # side of the square faces, pixels: the one the backbone was trained at last
    brief: float = 0.3  # weight of the loss of clips few of whose faces show the emotion
    follow: float = 1.0  # of that of their informative frames' share in the weights, within the former
    plain: float = 0.3  # weight of the loss of clips all of whose faces show the emotion
    neutral: float = 0.5  # share of neutral ones among these, in place of each emotion as often
    faces: float = 6.0  # weight of the loss of single faces
    distil: float = 0.5  # how much of their target is what the backbone's head says of them
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.distil <= 1:
            raise FanFerError(f"--distil {self.distil:g}: wanted a share of the targets, 0 to 1")


def distilled(data: TrainingData, weight: Tensor, bias: Tensor, share: float) -> TrainingData:
    """Single faces whose target is, to ``share``, what the backbone's head, weight (C, D), bias (C,), says."""
    said = F.linear(data.faces.features, weight, bias).softmax(dim=1)
    return replace(data, faces=replace(data.faces, labels=torch.lerp(data.faces.labels, said, share)))


def draw_clips(data: TrainingData, count: int, frames: int, augmented: float, rng: Generator) -> Clips:
    """``count`` clips, up to ``frames`` of the frames of each, mirrored or not; a share of them ``augmented``."""
    clips = data.clips
    chosen = torch.randint(0, len(clips), (count,), generator=rng)
    rows, shown = [], []
    for clip in chosen.tolist():
        start, end = int(clips.offsets[clip]), int(clips.offsets[clip + 1])
        places = start + torch.randperm(end - start, generator=rng)[:frames]
        views = data.augmented if torch.rand((), generator=rng) < augmented else (clips.frames, data.mirrored)
        source = views[int(torch.randint(0, len(views), (), generator=rng))]
        rows.append(source[places])
        shown.append(data.intensities[places])
    return pad_clips(rows, clips.labels[chosen], shown)


def plain_emotions(count: int, neutral: float) -> list[int]:
    """``count`` emotions: to a share ``neutral``, the others in turn."""
    return [NEUTRAL if number < neutral * count else number % len(EMOTIONS) for number in range(count)]


def train_epoch(
    network: FrameAttentionNetwork,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    epoch: int,
    settings: AttentionSettings,
    pooling: str,
) -> float:
    """``settings.steps`` steps; mean loss. A resumed run repeats it: its randomness comes from seed and epoch alone."""
    rng = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
    total = 0.0
    for step in range(settings.steps):
        progress = (epoch * settings.steps + step) / (settings.epochs * settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * 0.5 * (1 + math.cos(math.pi * progress))
        clips = draw_clips(data, settings.batch, settings.frames, settings.augmented, rng)
        loss = clip_loss(network, pooling, clips, settings.smoothing)
        if settings.brief:
            brief = data.mixed.draw_brief(settings.batch, rng)
            loss = loss + settings.brief * clip_loss(network, pooling, brief, settings.smoothing, settings.follow)
        if settings.plain:
            plain = data.mixed.draw_plain(plain_emotions(settings.batch, settings.neutral), rng)
            loss = loss + settings.plain * clip_loss(network, pooling, plain, smoothing=0)
        if settings.faces:
            single = torch.randint(0, len(data.faces.labels), (4 * settings.batch,), generator=rng)
            logits = network.classify(data.faces.features[single].unsqueeze(1)).logits
            loss = loss + settings.faces * F.cross_entropy(logits, data.faces.labels[single])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / settings.steps


def train(
    network: FrameAttentionNetwork,
    data: TrainingData,
    out: Path,
    settings: AttentionSettings,
    pooling: str = "fan",
    source: str = "",
) -> None:
    """Trains the heads of ``network`` from where they are, or goes on from the checkpoint in ``out``.

    pooling: one of :mod:`pretraining.pooling`, that ``network`` was made for.
    source: identifies the features; a checkpoint trained on others is refused.
    """
    made_with = asdict(settings) | {"pooling": pooling, "source": source}
    groups = [{"params": list(network.classifier.parameters()), "highest": settings.lr / 3}]
    heads = torch.nn.ModuleDict({"classifier": network.classifier})
    if network.attention is not None:
        heads["attention"] = network.attention
        groups.append({"params": list(network.attention.parameters()), "highest": settings.lr * settings.attention_lr})
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=1e-2)

    checkpoint = load_checkpoint(out / "last.pt", made_with)
    first_epoch = 0
    if checkpoint is not None:
        first_epoch = checkpoint["epoch"]
        heads.load_state_dict(checkpoint["heads"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    with progress_bar() as progress:
        task = progress.add_task(pooling, total=settings.epochs, completed=first_epoch)
        for epoch in range(first_epoch, settings.epochs):
            loss = train_epoch(network, optimizer, data, epoch, settings, pooling)
            save_checkpoint(out / "last.pt", {
                "epoch": epoch + 1, "settings": made_with,
                "heads": heads.state_dict(), "optimizer": optimizer.state_dict(),
            })  # fmt: skip
            progress.update(task, advance=1, description=f"{pooling}, loss {loss:.3f}")


def calibrate(network: FrameAttentionNetwork, prepared: Prepared) -> float:
    """Sets the network's confidence right on the tuning half of the FER+ valid faces; the temperature it took."""
    tuning = ~prepared.report
    with torch.inference_mode():
        logits = network.classify(prepared.faces[tuning].unsqueeze(1)).logits.double().numpy()
    temperature = fit_temperature(logits, prepared.answers[tuning].numpy())
    divide_logits(network, temperature)
    return round(temperature, 4)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """An option for each of :class:`AttentionSettings`."""
    for name, default in asdict(AttentionSettings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)


def settings_of(arguments: argparse.Namespace) -> AttentionSettings:
    """What :func:`add_settings` read."""
    return AttentionSettings(**{field.name: getattr(arguments, field.name) for field in fields(AttentionSettings)})


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.attention", description=first_line(__doc__))
    add_arguments(parser)
    add_settings(parser)
    paths = parser.parse_args()
    settings = settings_of(paths)
    out: Path = paths.out

    network, weight, bias = load_backbone(paths.backbone)
    source = features_source(paths, settings.size)
    # Refuses now, not after minutes.
    load_checkpoint(out / "last.pt", asdict(settings) | {"pooling": "fan", "source": source})
    out.mkdir(parents=True, exist_ok=True)
    data = load_training_data(paths, network, settings.size, settings.seed)
    data = distilled(data, weight, bias, settings.distil)
    network = make_heads(network, "fan", weight, bias)
    train(network, data, out, settings, "fan", source)

    card = ModelCard(
        variant="fan",
        preprocessing=preprocessing_of(settings.size),
        backbone=network.backbone_name,
        trained_on=f"FER+ train faces; attention also on the clips of {set_name(paths.clips)}",
        license=LICENSE,
    )
    weights_file = out / f"fan_{network.backbone_name}.safetensors"
    save_weights(weights_file, network, card, half=True)
    recognizer = load_recognizer(weights_file, str(paths.device))  # measured is what was rounded
    clips = load_clip_faces(paths, paths.valid_clips, card.preprocessing)
    prepared = prepare(recognizer.embedder, paths.data, paths.valid_clips, clips)
    network = recognizer.network.cpu()
    card = replace(card, temperature=calibrate(network, prepared))
    save_weights(weights_file, network, card, half=True)
    figures = measure(load_weights(weights_file)[0], prepared)
    save_weights(weights_file, network, replace(card, scores=figures.to_scores()), half=True)
    print(figures.to_markdown())


if __name__ == "__main__":
    run_main(main)
