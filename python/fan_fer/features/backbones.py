"""The networks that turn a face into features, by name."""

from __future__ import annotations

from torch import nn

from fan_fer.base.errors import WeightsError
from fan_fer.features.face29 import Face29
from fan_fer.features.resnet import ResNet18
from fan_fer.features.timm_backbones import PREFIX, is_timm, make_timm

BACKBONES: dict[str, type[ResNet18] | type[Face29]] = {"resnet18": ResNet18, "face29": Face29}


def make_backbone(name: str, pretrained: bool = False) -> tuple[nn.Module, int]:
    """A network, faces (B, 3, H, W) to features (B, D), and D. Raises ValueError for another name.

    name: of one in BACKBONES, of random weights; or "timm:NAME", for which errors are those of
        :func:`fan_fer.features.timm_backbones.make_timm`.
    pretrained: with the weights that timm publishes. Raises WeightsError for others, which are none of timm's.
    """
    if is_timm(name):
        return make_timm(name, pretrained)
    if name not in BACKBONES:
        raise ValueError(f"backbone: got {name!r}; wanted one of {wanted_backbones()}")
    if pretrained:
        raise WeightsError(f"--init pretrained: is for a backbone of timm, --backbone {PREFIX}NAME; this is {name}")
    network = BACKBONES[name]()
    network.fc = nn.Identity()
    return network, network.feature_size


def is_backbone(name: str) -> bool:
    """Whether it may be the name of a backbone; timm is asked when it is made."""
    return name in BACKBONES or is_timm(name)


def wanted_backbones() -> str:
    """For messages."""
    return ", ".join([*BACKBONES, f"{PREFIX}NAME"])


def check_size(name: str, size: int) -> None:
    """Raises ValueError where faces of ``size`` pixels are too small for the backbone of that name, if there is one."""
    smallest = BACKBONES[name].smallest if name in BACKBONES else 1
    if size < smallest:
        raise ValueError(f"size: got {size}; faces of {smallest} pixels or more are wanted for {name}")
