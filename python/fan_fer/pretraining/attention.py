"""Trains frame attention and the classifier over a frozen backbone, and writes the weights file.

    python -m fan_fer.pretraining.attention --data ferplus.npz --clips ict-afew/Train_AFEW \
        --valid-clips ict-afew/Val_AFEW --detector yunet:yunet_n_640_640.onnx \
        --backbone runs/backbone/backbone.safetensors --out runs/attention

Three losses, added: clips of a video set, clips mixed from FER+ faces, and FER+ faces on their own, so that the
classifier stays one of single frames too. Faces and features are computed once and kept in ``--out``; the weights
file there is ``fan_resnet18.safetensors``. The same command goes on where a killed run stopped.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fan_fer.align import TEMPLATE
from fan_fer.cache import cached, fingerprint
from fan_fer.errors import first_line
from fan_fer.faces import load_detector
from fan_fer.network import FrameAttentionNetwork
from fan_fer.pretraining.augment import augment, degrade
from fan_fer.pretraining.backbone import MEAN, STD, normalise, resize
from fan_fer.pretraining.features import (
    ClipSet,
    embed,
    embed_clips,
    load_backbone,
    load_faces,
    set_name,
)
from fan_fer.pretraining.ferplus import FaceSet, load_ferplus
from fan_fer.pretraining.mixed_clips import ClipMaker, FacePool
from fan_fer.pretraining.score import measure
from fan_fer.recognizer import load_recognizer
from fan_fer.runs import load_checkpoint, progress_bar, run_main, save_checkpoint
from fan_fer.weights import ModelCard, Preprocessing, save_weights

LICENSE = "research use: trained on FER2013 images"


@dataclass(frozen=True)
class Settings:
    epochs: int = 40
    steps: int = 100  # per epoch
    batch: int = 64  # clips of each kind in a step; four times as many single faces
    lr: float = 3e-3  # of the attention; the classifier, which starts as the backbone's head, learns at a third
    smoothing: float = 0.1  # of the clips' labels
    size: int = 64  # side of the square faces, pixels: the one the backbone was trained at
    faces: float = 10.0  # weight of the single faces' loss
    seed: int = 0
    uniform: bool = False  # leave every frame the same weight, as a baseline


@dataclass(frozen=True)
class TrainingData:
    clips: ClipSet  # features
    mixed: ClipMaker
    faces: FacePool


def face_pool(network: FrameAttentionNetwork, faces: FaceSet, size: int, seed: int) -> dict[str, Tensor]:
    """Features of ``faces`` as they are and augmented, and of blurred or covered copies of a third of them."""
    rng = torch.Generator().manual_seed(seed)

    def run(change: Callable[[Tensor], Tensor], images: Tensor, what: str) -> Tensor:
        return embed(network, lambda start, end: normalise(change(images[start:end])), len(images), what)

    third = torch.randperm(len(faces), generator=rng)[: max(1, len(faces) // 3)]
    as_they_are = run(lambda images: resize(images, size), faces.images, "FER+ faces")
    augmented = run(lambda images: augment(images, size, rng), faces.images, "augmented FER+ faces")
    return {
        "features": torch.cat([as_they_are, augmented]),
        "labels": faces.labels.repeat(2, 1),
        "degraded": run(lambda images: degrade(images, size, rng), faces.images[third], "degraded FER+ faces"),
    }


def draw_clips(clips: ClipSet, count: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """``count`` clips, each a random half or more of its frames: features (B, N, D), mask (B, N), labels (B,)."""
    chosen = torch.randint(0, len(clips), (count,), generator=rng)
    rows = []
    for clip in chosen.tolist():
        start, end = int(clips.offsets[clip]), int(clips.offsets[clip + 1])
        length = end - start
        kept = int(torch.randint((length + 1) // 2, length + 1, (1,), generator=rng))
        rows.append(clips.frames[start + torch.randperm(length, generator=rng)[:kept]])
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask, clips.labels[chosen]


def train_epoch(
    network: FrameAttentionNetwork,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    epoch: int,
    settings: Settings,
) -> float:
    """``settings.steps`` steps; mean loss. A resumed run repeats it: its randomness comes from seed and epoch alone."""
    rng = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
    total = 0.0
    for step in range(settings.steps):
        progress = (epoch * settings.steps + step) / (settings.epochs * settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * 0.5 * (1 + math.cos(math.pi * progress))
        features, mask, labels = draw_clips(data.clips, settings.batch, rng)
        mixed = data.mixed.draw(settings.batch, rng)
        single = torch.randint(0, len(data.faces.labels), (4 * settings.batch,), generator=rng)
        loss = (
            F.cross_entropy(network.classify(features, mask).logits, labels, label_smoothing=settings.smoothing)
            + F.cross_entropy(
                network.classify(mixed.features, mixed.mask).logits,
                mixed.labels,
                label_smoothing=settings.smoothing,
            )
            + settings.faces
            * F.cross_entropy(
                network.classify(data.faces.features[single].unsqueeze(1)).logits, data.faces.labels[single]
            )
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / settings.steps


def start_from_backbone(network: FrameAttentionNetwork, weight: Tensor, bias: Tensor) -> None:
    """The clip classifier starts as the backbone's head on the mean of both halves, attention as a plain average."""
    attention = network.attention
    assert attention is not None
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
        network.classifier.weight.copy_(torch.cat([weight, weight], dim=1) / 2)
        network.classifier.bias.copy_(bias)


def train(network: FrameAttentionNetwork, data: TrainingData, out: Path, settings: Settings, source: str = "") -> None:
    """Trains ``network`` from where it is, or goes on from the checkpoint in ``out``.

    source: identifies the features; a checkpoint trained on others is refused.
    """
    made_with = asdict(settings) | {"source": source}
    assert network.attention is not None
    attention = [] if settings.uniform else list(network.attention.parameters())
    groups = [{"params": list(network.classifier.parameters()), "highest": settings.lr / 3}]
    if attention:
        groups.append({"params": attention, "highest": settings.lr})
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=1e-2)
    heads = torch.nn.ModuleDict({"attention": network.attention, "classifier": network.classifier})

    checkpoint = load_checkpoint(out / "last.pt", made_with)
    first_epoch = 0
    if checkpoint is not None:
        first_epoch = checkpoint["epoch"]
        heads.load_state_dict(checkpoint["heads"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    with progress_bar() as progress:
        task = progress.add_task("attention", total=settings.epochs, completed=first_epoch)
        for epoch in range(first_epoch, settings.epochs):
            loss = train_epoch(network, optimizer, data, epoch, settings)
            save_checkpoint(out / "last.pt", {
                "epoch": epoch + 1, "settings": made_with,
                "heads": heads.state_dict(), "optimizer": optimizer.state_dict(),
            })  # fmt: skip
            progress.update(task, advance=1, description=f"attention, loss {loss:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="fan_fer.pretraining.attention", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--clips", type=Path, required=True, help="folder with a folder of videos per emotion")
    parser.add_argument("--valid-clips", type=Path, required=True, help="the same, of other people")
    parser.add_argument("--detector", default="mtcnn", help='"mtcnn" or "yunet:FILE"')
    parser.add_argument("--backbone", type=Path, required=True, help="what the backbone script wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory for features, checkpoint and weights")
    for name, default in asdict(Settings()).items():
        if isinstance(default, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    paths = {name: arguments.pop(name) for name in ("data", "clips", "valid_clips", "detector", "backbone", "out")}
    out: Path = paths["out"]
    settings = Settings(**arguments)
    template = tuple((round(x, 3), round(y, 3)) for x, y in TEMPLATE.tolist())
    preprocessing = Preprocessing(settings.size, grayscale=True, mean=(MEAN,) * 3, std=(STD,) * 3, template=template)

    faces = load_ferplus(paths["data"], "train")
    network, weight, bias = load_backbone(paths["backbone"])
    detector = load_detector(paths["detector"])
    source = fingerprint(paths["backbone"], paths["data"], str(paths["clips"]), asdict(preprocessing))[:12]
    load_checkpoint(out / "last.pt", asdict(settings) | {"source": source})  # refuses now, not after minutes
    out.mkdir(parents=True, exist_ok=True)
    clips, valid_clips = (
        load_faces(paths[name], detector, preprocessing, out / f"faces_{paths[name].name}.safetensors")
        for name in ("clips", "valid_clips")
    )
    clip_features = cached(
        out / "features_clips.safetensors",
        source,
        lambda: {"frames": embed_clips(network, clips, preprocessing, f"frames of {paths['clips'].name}")},
    )
    pool = FacePool(**cached(
        out / "features_faces.safetensors",
        f"{source} seed {settings.seed}",
        lambda: face_pool(network, faces, settings.size, settings.seed),
    ))  # fmt: skip

    start_from_backbone(network, weight, bias)
    data = TrainingData(replace(clips, frames=clip_features["frames"]), ClipMaker(pool), pool)
    train(network, data, out, settings, source)

    card = ModelCard(
        variant="fan",
        preprocessing=preprocessing,
        trained_on=f"FER+ train faces; attention also on the clips of {set_name(paths['clips'])}",
        license=LICENSE,
    )
    weights_file = out / "fan_resnet18.safetensors"
    save_weights(weights_file, network, card, half=True)
    scores = measure(load_recognizer(weights_file), paths["data"], paths["valid_clips"], valid_clips)
    save_weights(weights_file, network, replace(card, scores=scores), half=True)
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    run_main(main)
