"""The network that a command is to use: ours, or a trained published checkpoint, which does not say its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import WeightsError, one_line

if TYPE_CHECKING:
    from fan_fer.attention.network import FrameAttentionNetwork
    from fan_fer.attention.weights import ModelCard

CLASSES_HELP = (
    "of a published checkpoint, which does not say: ckplus, afew, mead, or the names in the order of its outputs"
)


def load_network(
    weights: str | Path | None, classes: str | None, layout: str | None = None
) -> tuple[FrameAttentionNetwork, ModelCard, Path]:
    """The network, its card and its file; a published checkpoint has the classes of ``classes`` or of the set's layout.

    weights: a file, the name of a network that ships, or None for the first of these. Raises WeightsError.
    """
    from fan_fer.attention.checkpoints import PUBLISHED_CLASSES, import_network
    from fan_fer.attention.weights import find_weights, is_safetensors, load_weights
    from fan_fer.base.files import is_file
    from fan_fer.base.names import name_key, tidy
    from fan_fer.base.terminal import show, working

    path = find_weights(weights)
    published = is_file(path) and not is_safetensors(path)
    if classes and not published:
        raise WeightsError(f"{weights or path}: --classes is for published checkpoints; this network has its own")
    with working("loading the network"):
        if not published:
            return *load_weights(path), path
        names = name_key(classes or layout or "")
        if names not in PUBLISHED_CLASSES and "," not in names:
            raise WeightsError(
                f"{path}: does not say which classes it has; --classes ckplus, afew, mead, or NAME,NAME,... is wanted"
            )
        outputs = PUBLISHED_CLASSES.get(names) or tuple(map(tidy, (classes or "").split(",")))
        network, card, report = import_network(path, outputs)
    for line in (*report.lines(), f"its outputs are taken for {', '.join(card.classes)}"):
        show(one_line(line), stderr=True, style="dim", markup=False, highlight=False, soft_wrap=True)
    return network, card, path
