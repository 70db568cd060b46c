r"""Trains a backbone on single FER+ faces, with the voters' label distributions as targets.

    python -m pretraining.backbone --data ferplus.npz --out runs/teacher --network face29 \
        --start dlib_face_recognition_resnet_model_v1.dat --sizes 104x30 --lr 0.03
    python -m pretraining.backbone --data ferplus.npz --out runs/student --sizes 72x10,96x20 \
        --teacher runs/teacher/backbone.safetensors --distil 0.7 --device cuda

Writes ``last.pt`` (everything needed to go on), ``log.jsonl`` and ``backbone.safetensors`` (averaged weights)
after each epoch. The same command goes on where a killed run stopped, also with another ``--device``. The log's figures
are of the tuning half of the valid faces: what is chosen by them is reported on the other half.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fan_fer.base.checkpoint import load_checkpoint, save_checkpoint
from fan_fer.base.device import find_device
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, first_line
from fan_fer.base.files import atomic_write
from fan_fer.base.terminal import progress_bar, run_main
from fan_fer.features.backbones import BACKBONES
from fan_fer.features.cache import fingerprint
from fan_fer.features.face29 import Face29
from fan_fer.features.resnet import ResNet18
from pretraining.augment import augment
from pretraining.ferplus import FaceSet, load_ferplus
from pretraining.identity import load_identity
from pretraining.matrix_conv import use_matrix_products

MEAN, STD = 0.508, 0.255  # of the FER2013 training faces
CALIBRATED = 512  # faces that the batch norms of dlib's network take their statistics from


@dataclass(frozen=True)
class BackboneSettings:
    network: str = "resnet18"  # or "face29"
    sizes: str = "64x20"  # side of the square faces in pixels x epochs, one after the other: "64x20,96x10"
    batch: int = 128
    lr: float = 0.1  # highest, after the warm-up
    weight_decay: float = 5e-4
    average: float = 0.998  # decay of the running average of the weights, per step
    mixup: float = 0.0  # parameter of the Beta distribution that faces, and their labels, are mixed by; 0: not
    balance: float = 0.0  # 0: every face once an epoch; 1: every emotion as often; between: by its count to this power
    distil: float = 0.0  # share of the targets that the networks of --teacher give, the voters giving the rest
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network not in BACKBONES:
            raise FanFerError(f"--network {self.network}: wanted one of {', '.join(BACKBONES)}")
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*(,[1-9]\d*x[1-9]\d*)*", self.sizes):
            raise FanFerError(f"--sizes {self.sizes}: wanted side x epochs, one or more, such as 64x20 or 64x20,96x10")
        if not 0 <= self.distil <= 1:
            raise FanFerError(f"--distil {self.distil}: wanted a share of the targets, 0 to 1")

    def size_of_epochs(self) -> list[int]:
        """The side of the faces in each epoch of the run."""
        stages = (map(int, stage.split("x")) for stage in self.sizes.split(","))
        return [size for size, epochs in stages for _ in range(epochs)]


def normalise(faces: Tensor) -> Tensor:
    """Grey faces (B, 1, H, W) in [0, 1] to what the network sees: (B, 3, H, W), standardised."""
    return ((faces - MEAN) / STD).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 faces (B, H, W) to float ones (B, 1, size, size) in [0, 1]."""
    return nn.functional.interpolate(images.unsqueeze(1).float() / 255, size=(size, size), mode="bilinear")


def read_backbone(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Name and tensors, its head's among them, of a network that this script wrote."""
    if not path.is_file():
        raise FanFerError(f"{path}: no such file; wanted the backbone.safetensors that this script writes")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise FanFerError(f"{path}: not a backbone.safetensors of this script ({first_line(error)})") from error
    for name, make in BACKBONES.items():
        with torch.device("meta"):
            expected = make(num_classes=len(EMOTIONS)).state_dict()
        if _shapes(expected) == _shapes(tensors):
            return name, tensors
    raise FanFerError(f"{path}: not a backbone.safetensors of this script; wanted one of {', '.join(BACKBONES)}")


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def load_network(path: Path) -> ResNet18 | Face29:
    """The network that this script wrote, in evaluation mode."""
    name, tensors = read_backbone(path)
    network = BACKBONES[name](num_classes=len(EMOTIONS)).to(memory_format=torch.channels_last)
    network.load_state_dict(tensors)
    return network.eval()


def start_network(name: str, start: Path | None, faces: FaceSet, size: int) -> ResNet18 | Face29:
    """A network with random weights, those of a file of this script, or those of dlib's .dat."""
    if start is not None and start.suffix == ".dat":
        if name != "face29":
            raise FanFerError(f"{start}: dlib's network is face29; wanted --network face29")
        network: ResNet18 | Face29 = load_identity(start, normalise(resize(faces.images[:CALIBRATED], size)), MEAN, STD)
        network.fc = nn.Linear(Face29.feature_size, len(EMOTIONS))
    elif start is not None:
        found, tensors = read_backbone(start)
        if found != name:
            raise FanFerError(f"{start}: a {found}; wanted a {name}, or --network {found}")
        network = BACKBONES[name](num_classes=len(EMOTIONS))
        network.load_state_dict(tensors)
    else:
        network = BACKBONES[name](num_classes=len(EMOTIONS))
    return network


def place(network: ResNet18 | Face29, device: torch.device) -> nn.Module:
    """The network on that device, laid out as it is fast with."""
    if device.type == "cpu":
        use_matrix_products(network.layer4 if isinstance(network, ResNet18) else network.blocks[10:])
    return network.to(device).to(memory_format=torch.channels_last)


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Rises linearly over the first tenth of the run, then falls to zero along a cosine."""
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


@torch.inference_mode()
def scores(network: nn.Module, faces: FaceSet, size: int) -> Tensor:
    """(N, 7): the mean logits of each face and its mirror image."""
    network.eval()
    found = []
    for images in faces.images.split(256):
        inputs = normalise(resize(images, size))
        with torch.autocast(inputs.device.type, torch.bfloat16):
            found.append((network(inputs).float() + network(inputs.flip(-1)).float()) / 2)
    return torch.cat(found)


@torch.no_grad()
def taught(inputs: Tensor, labels: Tensor, teachers: Sequence[nn.Module], share: float) -> Tensor:
    """Labels that are, to ``share``, what teachers say of the very pictures the student sees (Beyer et al. 2022)."""
    if share == 0:
        return labels
    with torch.autocast(inputs.device.type, torch.bfloat16):
        said = [teacher(inputs).float().softmax(dim=1) for teacher in teachers]
    return torch.lerp(labels, torch.stack(said).mean(dim=0), share)


def accuracy(network: nn.Module, faces: FaceSet, size: int) -> tuple[float, float]:
    """How often the most voted emotion gets the highest score: share of the faces, and mean of the emotions' shares.

    The scores are those of a face and its mirror image, averaged.
    """
    answers = faces.labels.argmax(dim=1)
    right = scores(network, faces, size).argmax(dim=1) == answers
    recalls = [float(right[answers == emotion].float().mean()) for emotion in answers.unique()]
    return float(right.float().mean()), sum(recalls) / len(recalls)


def epoch_order(labels: Tensor, balance: float, rng: torch.Generator) -> Tensor:
    """As many faces as there are, in random order: each once, or drawn so that rare emotions come more often."""
    if balance == 0:
        return torch.randperm(len(labels), generator=rng, device=rng.device)
    emotion = labels.argmax(dim=1)
    weights = emotion.bincount(minlength=labels.shape[1]).clamp_min(1).double() ** -balance
    return torch.multinomial(weights[emotion], len(labels), replacement=True, generator=rng)


def mix(inputs: Tensor, labels: Tensor, alpha: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018): every face and its label blended with another of the batch, by one random share."""
    if alpha == 0:
        return inputs, labels
    share = torch._sample_dirichlet(torch.full((2,), alpha, device=rng.device), generator=rng)[0]  # Beta, of two
    other = torch.randperm(len(inputs), generator=rng, device=rng.device)
    return share * inputs + (1 - share) * inputs[other], share * labels + (1 - share) * labels[other]


@torch.no_grad()
def follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the weights of ``averaged``, and its batch norms' statistics, by 1 - decay towards those of ``network``."""
    pairs = zip(averaged.state_dict().values(), network.state_dict().values(), strict=True)
    ours, theirs = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
    get_ema_multi_avg_fn(decay)(ours, theirs, None)


def train(
    train_faces: FaceSet,
    valid_faces: FaceSet,
    out: Path,
    settings: BackboneSettings,
    start: Path | None = None,
    teachers: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    compiled: bool = False,
) -> nn.Module:
    """Trains, or goes on training, in the directory ``out``; returns the network with averaged weights.

    start: a file whose weights the training begins with, in place of random ones.
    device: where the faces lie and everything happens. A run may go on on another one; what stays on the CPU ends with
        the very weights of an unbroken run.
    compiled: with torch.compile.
    """
    if bool(settings.distil) != bool(teachers):
        raise FanFerError(
            f"--distil {settings.distil} with {len(teachers)} teachers: --teacher wants --distil, and it that"
        )
    made_with = asdict(settings) | {
        "start": None if start is None else fingerprint(start),
        "teachers": [fingerprint(teacher) for teacher in teachers],
    }
    device = torch.device(device)
    torch.backends.cudnn.benchmark = True  # sizes seldom change
    masters = [load_network(teacher).to(device) for teacher in teachers]
    smallest = max(made.smallest for made in (BACKBONES[settings.network], *masters))
    if min(settings.size_of_epochs()) < smallest:
        raise FanFerError(f"--sizes {settings.sizes}: faces of {smallest} pixels or more are wanted for these networks")
    torch.manual_seed(settings.seed)
    network = place(start_network(settings.network, start, train_faces, max(settings.size_of_epochs())), device)
    train_faces, valid_faces = train_faces.to(device), valid_faces.to(device)
    out.mkdir(parents=True, exist_ok=True)
    averaged = deepcopy(network)
    if compiled:
        for one in (network, *masters):
            one.compile(dynamic=False)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]  # biases and batch norm
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.lr, momentum=0.9, nesterov=True,
    )  # fmt: skip

    first_epoch = 0
    checkpoint = load_checkpoint(out / "last.pt", made_with)
    if checkpoint is not None:
        first_epoch = checkpoint["epoch"]
        network.load_state_dict(checkpoint["network"])
        averaged.load_state_dict(checkpoint["averaged"])
        optimizer.load_state_dict(checkpoint["optimizer"])

    for epoch, size in list(enumerate(settings.size_of_epochs()))[first_epoch:]:
        started = time.monotonic()
        loss = train_epoch(network, averaged, optimizer, train_faces, masters, epoch, settings)
        right, recall = accuracy(averaged, valid_faces, size)
        figures = {
            "epoch": epoch + 1,
            "size": size,
            "loss": round(loss, 4),
            "valid_accuracy": round(right, 4),
            "valid_mean_recall": round(recall, 4),
            "seconds": round(time.monotonic() - started, 1),
        }
        save_checkpoint(out / "last.pt", {
            "epoch": epoch + 1, "settings": made_with, "network": network.state_dict(),
            "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
        })  # fmt: skip
        weights = {name: value.cpu().contiguous() for name, value in averaged.state_dict().items()}
        with atomic_write(out / "backbone.safetensors") as temporary:
            save_file(weights, temporary)
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(figures) + "\n")
        print(json.dumps(figures), flush=True)
    return averaged


def train_epoch(
    network: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, faces: FaceSet,
    teachers: Sequence[nn.Module], epoch: int, settings: BackboneSettings,
) -> float:  # fmt: skip
    """One pass over ``faces``; mean loss. A resumed run repeats it: its randomness comes from seed and epoch alone."""
    sizes = settings.size_of_epochs()
    device = faces.images.device
    rng = torch.Generator(device).manual_seed(settings.seed * 100_003 + epoch)
    batches = epoch_order(faces.labels, settings.balance, rng).split(settings.batch)
    if len(batches) > 1 and len(batches[-1]) < settings.batch:
        batches = batches[:-1]
    network.train()
    total = torch.zeros((), dtype=torch.float64, device=device)  # read once: a step does not wait for the one before
    with progress_bar() as progress:
        task = progress.add_task(f"epoch {epoch + 1} of {len(sizes)}", total=len(batches))
        for step, chosen in enumerate(batches, start=epoch * len(batches)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, len(sizes) * len(batches), settings.lr)
            inputs = normalise(augment(faces.images[chosen], sizes[epoch], rng))
            inputs, labels = mix(inputs, faces.labels[chosen], settings.mixup, rng)
            labels = taught(inputs, labels, teachers, settings.distil)
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(inputs)
            loss = nn.functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            follow(averaged, network, settings.average)
            total += loss.detach()
            progress.advance(task)
    return float(total) / len(batches)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.backbone", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--out", type=Path, required=True, help="directory for checkpoints and the log")
    parser.add_argument("--start", type=Path, help="backbone.safetensors, or dlib's .dat, to begin with")
    parser.add_argument("--teacher", type=Path, nargs="+", default=[], help="backbone.safetensors to learn from")
    parser.add_argument("--device", type=find_device, default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.add_argument(
        "--compile", action="store_true", help="with torch.compile: late to start, then faster on a GPU"
    )
    for name, default in asdict(BackboneSettings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    data, out, start, teachers = (arguments.pop(name) for name in ("data", "out", "start", "teacher"))
    device, compiled = (arguments.pop(name) for name in ("device", "compile"))
    settings = BackboneSettings(**arguments)
    train(load_ferplus(data, "train"), load_ferplus(data, "tune"), out, settings, start, teachers, device, compiled)


if __name__ == "__main__":
    run_main(main)
