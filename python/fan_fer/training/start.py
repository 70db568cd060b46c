"""The network that a run starts with, and how its input is made."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fan_fer.attention.checkpoints import AUTO, ImportReport, load_checkpoint_into, read_checkpoint
from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard
from fan_fer.base.errors import TrainingError
from fan_fer.datasets.features import check_alignment
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.features.backbones import check_size
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.features.timm_backbones import is_timm, timm_input
from fan_fer.training.spec import RunSpec


@dataclass(frozen=True)
class Start:
    network: FrameAttentionNetwork
    preprocessing: Preprocessing  # that of the imported weights, else of timm's backbone, else of the recipe
    card: ModelCard | None  # of the file that the weights come from
    report: ImportReport | None


def start_network(prepared: PreparedSet, spec: RunSpec) -> Start:
    """Random values that the seed determines, and over them what ``spec.init`` holds.

    Raises TrainingError, WeightsError or DataError where that does not fit the set or the recipe.
    """
    settings = spec.settings(prepared)
    if spec.init is None and not spec.pretrained and spec.frozen(prepared):
        raise TrainingError(
            "a frozen backbone of random weights learns nothing; weights to start from (--init) are wanted, "
            "or a recipe that trains the backbone too"
        )
    backbone = settings.backbone
    checkpoint = None if spec.init is None else read_checkpoint(spec.init, backbone)
    if backbone == AUTO:
        backbone = "resnet18" if checkpoint is None else checkpoint.backbone
    torch.manual_seed(spec.seed)
    try:
        network = FrameAttentionNetwork(
            spec.variant,
            len(prepared.classes),
            backbone,
            score_dropout=settings.score_dropout,
            dropout=settings.dropout,
            pretrained=spec.pretrained,
        )
    except ValueError as error:
        raise TrainingError(str(error)) from None
    report = card = None
    if checkpoint is not None:
        card = checkpoint.card
        if spec.init_heads:
            checkpoint = checkpoint.for_classes(prepared.classes)
        report = load_checkpoint_into(network, checkpoint, spec.init_heads)
    if card is not None:
        check_alignment(card.preprocessing, prepared)
        return Start(network, card.preprocessing, card, report)
    if is_timm(backbone):
        return Start(network, timm_input(network.backbone, prepared.template), None, report)
    try:
        check_size(backbone, settings.size)
    except ValueError as error:
        raise TrainingError(f"{spec.recipe.source}: {error}") from None
    own = Preprocessing(settings.size, settings.grayscale, settings.mean, settings.std, prepared.template)
    return Start(network, own, None, report)
