"""Weights from elsewhere: torchvision's names, the published checkpoints, our own files. Nothing is loaded silently."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import DEFAULT_WEIGHTS, ModelCard
from fan_fer.base.errors import WeightsError, first_line
from fan_fer.base.files import is_file, open_file, text_path
from fan_fer.faces.align import TEMPLATE
from fan_fer.features.preprocessing import Preprocessing

PACKAGED = "packaged"  # stands for the file in the package
# Classes of the published networks, in the order of their outputs.
PUBLISHED_CLASSES = {
    "ckplus": ("Happy", "Angry", "Disgust", "Fear", "Sad", "Contempt", "Surprise"),
    "afew": ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise"),
}
# What the published networks are fed: colour, in [0, 1].
PUBLISHED_INPUT = Preprocessing(
    size=224,
    grayscale=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    template=tuple((round(float(x), 3), round(float(y), 3)) for x, y in TEMPLATE),
)
_PUBLISHED_NAMES = {
    "alpha.0.weight": "attention.self_weight",
    "alpha.0.bias": "attention.self_bias",
    "beta.0.weight": "attention.relation_weight",
    "beta.0.bias": "attention.relation_bias",
}
# One file may hold the classifiers of both variants.
_PUBLISHED_CLASSIFIERS = {"pred_fc1": "self", "pred_fc2": "fan"}
_HEADS = ("attention.", "classifier.")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a file under this project's names."""

    path: Path
    kind: str  # in words
    tensors: Mapping[str, Tensor]  # backbone.*, attention.*, classifier.*
    classifiers: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)  # by variant, of published networks
    unused: Mapping[str, str] = field(default_factory=dict)  # name in the file: why it is of no use
    card: ModelCard | None = None

    def variant_of(self) -> str | None:
        """The richest variant that the tensors make complete; None for a backbone alone."""
        if self.card is not None:
            return self.card.variant
        for variant in ("fan", "self"):
            needed = {"attention.self_weight"} | ({"attention.relation_weight"} if variant == "fan" else set())
            if variant in self.classifiers and needed <= self.tensors.keys():
                return variant
        return None

    def for_variant(self, variant: str) -> dict[str, Tensor]:
        return {**self.tensors, **self.classifiers.get(variant, {})}

    def for_classes(self, classes: tuple[str, ...]) -> Checkpoint:
        """With the outputs of its classifiers in the order of ``classes``.

        A published network does not say which classes it has; they are those of the published set with these classes.
        Raises WeightsError where the classifier is for other classes, or nothing tells for which.
        """
        if not self.classifiers and "classifier.weight" not in self.tensors:
            return self
        published = next((names for names in PUBLISHED_CLASSES.values() if set(names) == set(classes)), ())
        own = self.card.classes if self.card is not None else published if self.classifiers else ()
        if sorted(own) != sorted(classes):
            known = f"is for {', '.join(own)}" if own else "does not say which classes it is for"
            raise WeightsError(
                f"{self.path}: its classifier {known}; the set has {', '.join(classes)}; take the backbone alone"
            )

        def order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: tensor[[own.index(label) for label in classes]]
                if name.startswith("classifier.") and len(tensor) == len(own)
                else tensor
                for name, tensor in tensors.items()
            }

        kind = self.kind if self.card is not None else f"{self.kind}, its outputs taken for {', '.join(own)}"
        classifiers = {variant: order(tensors) for variant, tensors in self.classifiers.items()}
        return replace(self, kind=kind, tensors=order(self.tensors), classifiers=classifiers)


@dataclass(frozen=True)
class ImportReport:
    """What became of the tensors of a file, and of those of the network that the file does not have."""

    file: str
    kind: str
    loaded: tuple[str, ...]
    skipped: Mapping[str, str]  # name in the file: why
    missing: tuple[str, ...]  # of the network; they keep their starting values

    def lines(self) -> list[str]:
        """For people: groups of tensors, not each of them."""
        lines = [f"{self.file}: {self.kind}", f"loaded: {_grouped(self.loaded)}"]
        reasons = dict.fromkeys(self.skipped.values())
        for reason in reasons:
            lines.append(f"not used, {reason}: {_grouped([n for n, r in self.skipped.items() if r == reason])}")
        if self.missing:
            lines.append(f"left at starting values: {_grouped(self.missing)}")
        return lines


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a .safetensors file, or of a torch checkpoint (opened with ``weights_only``).

    Known are this project's networks and backbones; a ResNet18 under torchvision's names, in a ``state_dict`` and with
    the prefix ``module.`` or not, such as the published ``Resnet18_FER+`` and ``MS1M`` ones; and trained published
    networks (``alpha``, ``beta``, ``pred_fc``). Raises WeightsError, one line, for anything else.
    """
    if not is_file(path):
        raise WeightsError(f"{path}: no such file; a .safetensors file or a torch checkpoint is wanted")
    card = None
    if path.suffix == ".safetensors":
        tensors, card = _read_safetensors(path)
    else:
        tensors = _read_torch(path)
    if card is not None:
        return Checkpoint(path, f'network of fan_fer, variant "{card.variant}"', tensors, card=card)
    return _rename(path, tensors)


def load_checkpoint_into(network: FrameAttentionNetwork, checkpoint: Checkpoint, heads: bool) -> ImportReport:
    """Loads the backbone and, with ``heads``, attention and classifier where the file has such of the same shape.

    Raises WeightsError where the backbone is incomplete or of another architecture.
    """
    offered = checkpoint.for_variant(network.variant)
    expected = network.state_dict()
    loaded: dict[str, Tensor] = {}
    skipped = dict(checkpoint.unused)
    for layer, variant in _PUBLISHED_CLASSIFIERS.items():
        if variant != network.variant:
            why = f'it is for variant "{variant}"' if heads else "only the backbone is wanted"
            parts = checkpoint.classifiers.get(variant, {})
            skipped |= {name.replace("classifier", layer): why for name in parts}
    for name, tensor in offered.items():
        if name.startswith(_HEADS) and not heads:
            skipped[name] = "only the backbone is wanted"
        elif name not in expected:
            skipped[name] = f'this network, variant "{network.variant}", has none'
        elif tensor.shape != expected[name].shape:
            if not name.startswith(_HEADS):
                raise WeightsError(
                    f"{checkpoint.path}: {name} is {tuple(tensor.shape)}; {tuple(expected[name].shape)} is wanted, "
                    "as in torchvision's resnet18"
                )
            skipped[name] = f"its shape {tuple(tensor.shape)} is not {tuple(expected[name].shape)}"
        elif not tensor.isfinite().all():
            raise WeightsError(f"{checkpoint.path}: NaN or infinite values in {name}")
        else:
            loaded[name] = tensor
    # Checkpoints of old versions of torch do not count batches; nothing depends on that number.
    absent = [n for n in expected if n not in loaded and not n.endswith("num_batches_tracked")]
    lacking = [name for name in absent if not name.startswith(_HEADS)]
    if lacking:
        raise WeightsError(
            f"{checkpoint.path}: without {', '.join(lacking[:4])}{' and more' if len(lacking) > 4 else ''}; "
            "a whole ResNet18 is wanted"
        )
    network.load_state_dict(loaded, strict=False)
    return ImportReport(str(checkpoint.path), checkpoint.kind, tuple(loaded), skipped, tuple(absent))


def import_network(path: Path, classes: tuple[str, ...]) -> tuple[FrameAttentionNetwork, ModelCard, ImportReport]:
    """A trained published network, complete and in evaluation mode, with the card it lacks.

    classes: in the order of the network's outputs; :data:`PUBLISHED_CLASSES` has those of the published ones.
    Raises WeightsError where anything is missing: no part of it starts at random.
    """
    checkpoint = read_checkpoint(path)
    variant = checkpoint.variant_of()
    if variant is None:
        raise WeightsError(
            f"{path}: {checkpoint.kind}, without trained attention and classifier; a complete network is wanted "
            "(fan-fer train --init trains one from a backbone)"
        )
    outputs = len(checkpoint.for_variant(variant)["classifier.bias"])
    if outputs != len(classes):
        raise WeightsError(f"{path}: the classifier has {outputs} outputs, for the {len(classes)} classes {classes}")
    network = FrameAttentionNetwork(variant, outputs)
    report = load_checkpoint_into(network, checkpoint, heads=True)
    if report.missing:
        raise WeightsError(f"{path}: without {', '.join(report.missing)}; a complete network is wanted")
    card = checkpoint.card or ModelCard(variant, PUBLISHED_INPUT, classes=classes, trained_on="a published checkpoint")
    return network.eval(), card, report


def init_path(init: str) -> Path | None:
    """ "packaged", "none" or a file, as ``--init`` takes them."""
    if init == "none":
        return None
    return DEFAULT_WEIGHTS if init == PACKAGED else Path(init)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], ModelCard | None]:
    try:
        with text_path(path) as name, safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
        card = ModelCard.from_dict(json.loads(metadata["card"])) if "card" in metadata else None
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path}: not a safetensors file, or a damaged one ({first_line(error)[:160]})") from error
    return tensors, card


def _read_torch(path: Path) -> dict[str, Tensor]:
    # Training scripts store their accuracy beside the tensors, sometimes as a number of numpy's.
    scalar = getattr(np, "_core", None) or np.core  # numpy 2, numpy 1
    harmless: list[Any] = [scalar.multiarray.scalar, np.dtype, type(np.dtype("f8")), type(np.dtype("f4"))]
    try:
        with open_file(path) as file, torch.serialization.safe_globals(harmless):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        # What torch says of a pickle is how to run its code all the same.
        unpickled = isinstance(error, pickle.UnpicklingError)
        why = "it holds other objects of Python, or is damaged" if unpickled else first_line(error)[:160]
        raise WeightsError(
            f"{path}: not a torch checkpoint of tensors alone ({why}); a .safetensors file or a state_dict is wanted"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds {type(content).__name__}, not named tensors; a state_dict is wanted")
    return {str(name): tensor for name, tensor in content.items()}


def _rename(path: Path, tensors: Mapping[str, Tensor]) -> Checkpoint:
    backbone: dict[str, Tensor] = {}
    heads: dict[str, Tensor] = {}
    classifiers: dict[str, dict[str, Tensor]] = {}
    unused: dict[str, str] = {}
    backbone_names = {
        n.removeprefix("backbone.") for n in FrameAttentionNetwork("self").state_dict() if "backbone." in n
    }
    for original, tensor in tensors.items():
        name = original.removeprefix("module.")
        layer, _, part = name.rpartition(".")
        value = tensor.float() if tensor.is_floating_point() else tensor
        if name.removeprefix("backbone.") in backbone_names:
            backbone[f"backbone.{name.removeprefix('backbone.')}"] = value
        elif name in _PUBLISHED_NAMES:
            heads[_PUBLISHED_NAMES[name]] = value.reshape(-1)
        elif name.startswith(_HEADS):
            heads[name] = value
        elif layer in _PUBLISHED_CLASSIFIERS and part in ("weight", "bias"):
            classifiers.setdefault(_PUBLISHED_CLASSIFIERS[layer], {})[f"classifier.{part}"] = value
        elif layer == "fc":
            unused[original] = "the classifier of the data that the backbone was trained on"
        else:
            unused[original] = "unknown"
    if not backbone:
        raise WeightsError(
            f"{path}: none of its {len(tensors)} tensors has a name of torchvision's resnet18 "
            f"(it has {', '.join(list(tensors)[:3])}, ...)"
        )
    kind = "a published frame attention network" if classifiers else "a ResNet18 backbone"
    return Checkpoint(path, kind, backbone | heads, classifiers, unused)


def _grouped(names: tuple[str, ...] | list[str]) -> str:
    """Names by their first parts, with the number of tensors: "backbone (120), attention.self_weight"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.removeprefix("module.").split(".")[0], []).append(name)
    return ", ".join(
        ", ".join(members) if len(members) <= 4 else f"{group} ({len(members)} tensors)"
        for group, members in groups.items()
    )
