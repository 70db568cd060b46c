"""Weights from elsewhere: torchvision's names, the published checkpoints, our own files. Nothing is loaded silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.torch_files import read_torch_file
from fan_fer.attention.weights import (
    DEFAULT_WEIGHTS,
    ModelCard,
    as_floats,
    find_weights,
    is_safetensors,
    packaged_file,
)
from fan_fer.base.errors import WeightsError, first_line
from fan_fer.base.files import is_file, text_path
from fan_fer.base.names import name_key
from fan_fer.faces.align import TEMPLATE
from fan_fer.features.backbones import BACKBONES, is_backbone, make_backbone, wanted_backbones
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.features.timm_backbones import is_timm

PACKAGED = "packaged"  # stands for a file in the package
PRETRAINED = "pretrained"  # stands for the weights that timm publishes
AUTO = "auto"  # stands for the backbone of the weights that a training starts with
# Classes of the published networks, in the order of their outputs.
PUBLISHED_CLASSES = {
    "ckplus": ("Happy", "Angry", "Disgust", "Fear", "Sad", "Contempt", "Surprise"),
    "afew": ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise"),
    "mead": ("Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise", "Contempt"),  # docs/compare.md
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
    backbone: str  # its name
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
        keys = [name_key(name) for name in classes]
        published = next((names for names in PUBLISHED_CLASSES.values() if set(map(name_key, names)) == set(keys)), ())
        own = self.card.classes if self.card is not None else published if self.classifiers else ()
        places = {name_key(name): place for place, name in enumerate(own)}
        if sorted(places) != sorted(keys):
            known = f"is for {', '.join(own)}" if own else "does not say which classes it is for"
            raise WeightsError(
                f"{self.path}: its classifier {known}; the set has {', '.join(classes)}; take the backbone alone"
            )

        def order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: tensor[[places[key] for key in keys]]
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


def read_checkpoint(path: Path, backbone: str = AUTO) -> Checkpoint:
    """The tensors of a safetensors file, or of a torch checkpoint (opened with ``weights_only``).

    Known are this project's networks; backbones, a ResNet18 under torchvision's names or a face29, wherever they lie in
    the checkpoint and whatever stands before their names, such as the published ``Resnet18_FER+`` and ``MS1M`` ones;
    and trained published networks (``alpha``, ``beta``, ``pred_fc``). Where ``backbone`` is one of timm's, a file
    without a card is taken for such a one, under timm's names. Raises WeightsError, one line, for anything else.
    """
    if not is_file(path):
        raise WeightsError(f"{path}: no such file; a .safetensors file or a torch checkpoint is wanted")
    if not is_safetensors(path):
        return _rename(path, read_torch_file(path), backbone)
    tensors, card = _read_safetensors(path)
    if card is not None:
        if not is_backbone(card.backbone):
            raise WeightsError(f"{path}: its backbone is {card.backbone}; one of {wanted_backbones()} is wanted")
        kind = f'network of fan_fer, variant "{card.variant}", backbone {card.backbone}'
        return Checkpoint(path, kind, card.backbone, tensors, card=card)
    return _rename(path, {"": tensors}, backbone)


def load_checkpoint_into(network: FrameAttentionNetwork, checkpoint: Checkpoint, heads: bool) -> ImportReport:
    """Loads the backbone and, with ``heads``, attention and classifier where the file has such of the same shape.

    Raises WeightsError where the backbone is incomplete or another one.
    """
    if checkpoint.backbone != network.backbone_name:
        raise WeightsError(
            f"{checkpoint.path}: its backbone is {checkpoint.backbone}; weights for {network.backbone_name} are wanted"
        )
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
        elif (value := as_floats(checkpoint.path, name, tensor)).shape != expected[name].shape:
            if not name.startswith(_HEADS):
                raise WeightsError(
                    f"{checkpoint.path}: {name} is {tuple(tensor.shape)}; {tuple(expected[name].shape)} is wanted, "
                    f"as in {network.backbone_name}"
                )
            skipped[name] = f"its shape {tuple(tensor.shape)} is not {tuple(expected[name].shape)}"
        elif not value.isfinite().all():
            raise WeightsError(f"{checkpoint.path}: NaN or infinite values in {name}")
        else:
            loaded[name] = value
    # Checkpoints of old versions of torch do not count batches; nothing depends on that number.
    absent = [n for n in expected if n not in loaded and not n.endswith("num_batches_tracked")]
    lacking = [name for name in absent if not name.startswith(_HEADS)]
    if lacking:
        raise WeightsError(
            f"{checkpoint.path}: without {', '.join(lacking[:4])}{' and more' if len(lacking) > 4 else ''}; "
            f"a whole {network.backbone_name} is wanted"
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
    network = FrameAttentionNetwork(variant, outputs, checkpoint.backbone)
    report = load_checkpoint_into(network, checkpoint, heads=True)
    if report.missing:
        raise WeightsError(f"{path}: without {', '.join(report.missing)}; a complete network is wanted")
    try:
        card = checkpoint.card or ModelCard(
            variant, PUBLISHED_INPUT, checkpoint.backbone, classes, trained_on="a published checkpoint"
        )
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
    return network.eval(), card, report


def init_path(init: str, backbone: str) -> Path | None:
    """The file that ``--init`` names, with which to start a network of this backbone: None for "none", "pretrained".

    "packaged" is the network with that backbone that ships, of "auto" the default one. Raises WeightsError.
    """
    if init in ("none", PRETRAINED):
        return None
    if init == PACKAGED and is_timm(backbone):
        raise WeightsError(
            f"{backbone}: no network with it ships; --init pretrained or a file is wanted, "
            "or none where the backbone learns too"
        )
    if init == PACKAGED:
        return DEFAULT_WEIGHTS if backbone == AUTO else packaged_file(backbone)
    return find_weights(init)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], ModelCard | None]:
    try:
        with text_path(path) as name, safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        card = ModelCard.from_json(metadata["card"]) if "card" in metadata else None
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path}: not a safetensors file, or a damaged one ({first_line(error)[:160]})") from error
    return tensors, card


def _rename(path: Path, found: Mapping[str, Mapping[str, Tensor]], wanted: str) -> Checkpoint:
    """found: sets of named tensors, by where they lie in the file. The one with most of a backbone's names is taken."""
    names = {backbone: _names(backbone) for backbone in ((wanted,) if is_timm(wanted) else BACKBONES)}
    prefixes = {
        (where, backbone): _prefix(tensors, names[backbone]) for where, tensors in found.items() for backbone in names
    }
    # Averaged weights come last of those that have as many.
    where, backbone = max(prefixes, key=lambda at: (prefixes[at][1], "ema" not in at[0].lower()))
    tensors, expected, (prefix, count) = found[where], names[backbone], prefixes[where, backbone]
    if not count:
        whose = wanted if is_timm(wanted) else "torchvision's resnet18, or of face29"
        raise WeightsError(
            f"{path}: none of its {len(tensors)} tensors has a name of {whose} "
            f"(it has {', '.join(list(tensors)[:3])}, ...)"
        )
    same = [f"{other}.*" for other in found if other != where and prefixes[other, backbone][1] == count]
    unused = dict.fromkeys(same, "another set of the same names")
    features: dict[str, Tensor] = {}
    heads: dict[str, Tensor] = {}
    classifiers: dict[str, dict[str, Tensor]] = {}
    for original, tensor in tensors.items():
        name = original.removeprefix(prefix.partition("backbone.")[0])
        layer, _, part = name.rpartition(".")
        if original.startswith(prefix) and original[len(prefix) :] in expected:
            features[f"backbone.{original[len(prefix) :]}"] = tensor
        elif name in _PUBLISHED_NAMES:
            heads[_PUBLISHED_NAMES[name]] = as_floats(path, name, tensor).reshape(-1)
        elif name.startswith(_HEADS):
            heads[name] = tensor
        elif layer in _PUBLISHED_CLASSIFIERS and part in ("weight", "bias"):
            classifiers.setdefault(_PUBLISHED_CLASSIFIERS[layer], {})[f"classifier.{part}"] = tensor
        elif layer.removeprefix("backbone.") == "fc":
            unused[original] = "the classifier of the data that the backbone was trained on"
        else:
            unused[original] = "unknown"
    kind = "a published frame attention network" if classifiers else f"a {backbone} backbone"
    lies = f", under {where}" if where not in ("", "state_dict") else ""
    return Checkpoint(path, kind + lies, backbone, features | heads, classifiers, unused)


def _names(backbone: str) -> set[str]:
    """Of the tensors of a backbone."""
    with torch.device("meta"):
        return set(make_backbone(backbone)[0].state_dict())


def _prefix(tensors: Mapping[str, Tensor], expected: set[str]) -> tuple[str, int]:
    """What stands before most of the expected names ("module.", "model.encoder.", ...), and how many those are."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for begin in range(len(parts)):
            if ".".join(parts[begin:]) in expected:
                counts["".join(f"{part}." for part in parts[:begin])] += 1
    return counts.most_common(1)[0] if counts else ("", 0)


def _grouped(names: tuple[str, ...] | list[str]) -> str:
    """Names by their first parts, with the number of tensors: "backbone (120), attention.self_weight"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.removeprefix("module.").split(".")[0], []).append(name)
    return ", ".join(
        ", ".join(members) if len(members) <= 4 else f"{group} ({len(members)} tensors)"
        for group, members in groups.items()
    )
