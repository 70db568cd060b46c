"""The networks that turn a face into features, by name."""

from __future__ import annotations

from torch import nn

from fan_fer.features.face29 import Face29
from fan_fer.features.resnet import ResNet18

BACKBONES: dict[str, type[ResNet18] | type[Face29]] = {"resnet18": ResNet18, "face29": Face29}


def make_backbone(name: str) -> tuple[nn.Module, int]:
    """A network of random weights, faces (B, 3, H, W) to features (B, D), and D. Raises ValueError for another name."""
    if name not in BACKBONES:
        raise ValueError(f"backbone: got {name!r}; wanted one of {', '.join(BACKBONES)}")
    network = BACKBONES[name]()
    network.fc = nn.Identity()
    return network, network.feature_size


def check_size(name: str, size: int) -> None:
    """Raises ValueError where faces of ``size`` pixels are too small for the backbone of that name, if there is one."""
    smallest = BACKBONES[name].smallest if name in BACKBONES else 1
    if size < smallest:
        raise ValueError(f"size: got {size}; faces of {smallest} pixels or more are wanted for {name}")
