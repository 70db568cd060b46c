"""The networks that turn a face into features, by name."""

from __future__ import annotations

from fan_fer.features.face29 import Face29
from fan_fer.features.resnet import ResNet18

BACKBONES: dict[str, type[ResNet18] | type[Face29]] = {"resnet18": ResNet18, "face29": Face29}
