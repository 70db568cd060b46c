"""Optimizer and learning rate of a recipe."""

from __future__ import annotations

import math

import torch
from torch import nn

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.training.recipe import TrainingSettings


def make_optimizer(network: FrameAttentionNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Over what learns: each part with its own multiple of the learning rate."""
    parts: list[tuple[nn.Module | None, float]] = [
        (network.attention, settings.attention_lr),
        (network.backbone, settings.backbone_lr),
        (network.classifier, 1.0),
    ]
    groups = []
    for module, scale in parts:
        parameters = [p for p in module.parameters() if p.requires_grad] if module is not None else []
        if parameters:
            groups.append({"params": parameters, "scale": scale})
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: TrainingSettings, epoch: float) -> None:
    """That of a moment in the run, in epochs from 0."""
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * lr_factor(settings, epoch) * group["scale"]


def lr_factor(settings: TrainingSettings, epoch: float) -> float:
    """The learning rate at a moment, as a part of its highest."""
    if epoch < settings.warmup:
        return (epoch + 1) / (settings.warmup + 1)
    if settings.schedule == "step":
        return float(settings.gamma ** (int(epoch) // settings.step))
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (epoch - settings.warmup) / max(1, settings.epochs - settings.warmup)))
    return 1.0
