"""Backbones of the library timm by its names, "timm:mobilenetv3_small_100"; it is loaded when one is wanted."""

from __future__ import annotations

import logging
import re
from typing import Any

from torch import nn

from fan_fer.base.errors import WeightsError, first_line
from fan_fer.base.extras import need
from fan_fer.features.preprocessing import Preprocessing

PREFIX = "timm:"


def is_timm(name: str | None) -> bool:
    """Whether a backbone's name is one of timm's, known there or not."""
    return name is not None and name.startswith(PREFIX)


def make_timm(name: str, pretrained: bool = False) -> tuple[nn.Module, int]:
    """timm's network without its classifier, faces (B, 3, S, S) to features (B, D), and D.

    pretrained: with the weights that timm publishes, of the tag in the name or of the first; else random ones.
    Raises LibraryError without timm, ValueError for a name that it does not have, and WeightsError where the weights
    cannot be had: they come from the network where they have not come before.
    """
    timm = _timm(name)
    own = name.removeprefix(PREFIX)
    if not re.fullmatch(r"\w+(\.\w+)?", own) or not timm.is_model(own):
        raise ValueError(f"backbone: got {name!r}, which timm {timm.__version__} does not have; its list_models() does")
    try:
        network = timm.create_model(own, num_classes=0)
    except Exception as error:  # whatever timm's many networks raise
        raise ValueError(f"backbone: {name!r} cannot be made ({first_line(error)})") from None
    channels, height, width = _input_size(network)
    if channels != 3 or height != width:
        taken = f"{channels} x {height} x {width}"
        raise ValueError(f"backbone: {name!r} takes {taken}; one for square pictures in colour is wanted")
    if pretrained:
        network = _pretrained(timm, name)
    # Some have a layer more between the pooling and the classifier.
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)


def timm_input(network: nn.Module, template: tuple[tuple[float, float], ...]) -> Preprocessing:
    """Size and normalisation that a network of timm was made for, of faces aligned to ``template``."""
    config = _config(network)
    mean, std = (tuple(float(value) for value in config[name]) for name in ("mean", "std"))
    return Preprocessing(_input_size(network)[1], False, mean, std, template)  # type: ignore[arg-type]


def timm_license(network: nn.Module) -> str:
    """Of the weights that timm publishes for it; empty where it does not say."""
    return str(getattr(network, "pretrained_cfg", {}).get("license") or "")


def _timm(name: str) -> Any:
    need("timm", f"backbone {name}")
    import timm

    return timm


def _pretrained(timm: Any, name: str) -> nn.Module:
    talk = logging.getLogger("huggingface_hub")  # which tells of every attempt
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        network: nn.Module = timm.create_model(name.removeprefix(PREFIX), pretrained=True, num_classes=0)
    except Exception as error:  # of the network, of the disk, of the file
        raise WeightsError(
            f"{name}: the weights that timm publishes cannot be had ({first_line(error)}); "
            "--init FILE takes them from a file; where the backbone learns too, --init none does without"
        ) from None
    finally:
        talk.setLevel(level)
    return network


def _config(network: nn.Module) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    return dict(resolve_model_data_config(network))


def _input_size(network: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width."""
    channels, height, width = _config(network)["input_size"]
    return int(channels), int(height), int(width)
