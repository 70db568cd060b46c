"""The ways to make one answer of a clip's frames that are compared over the same features.

fan            self-attention and relation-attention
self           self-attention only
score-fusion   every frame classified on its own, the probabilities averaged
mean           the plain mean of the features, classified
oracle         their mean weighted by how strongly each frame really shows the clip's emotion: a bound, no method
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fan_fer.attention.network import FrameAttentionNetwork

POOLINGS = ("fan", "self", "score-fusion", "mean", "oracle")
_FAINTEST = 1e-4  # weight of an uninformative frame of the oracle, for clips that have no other


@dataclass(frozen=True)
class Clips:
    """Clips padded to the longest."""

    features: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, True where there is a frame
    labels: Tensor  # (B,) int64
    informative: (
        Tensor  # (B, N) float, 0 to 1: how strongly the frame shows the clip's emotion; for the oracle and for `follow`
    )


def pad_clips(rows: list[Tensor], labels: Tensor, informative: list[Tensor]) -> Clips:
    """Clips of features (n, D) with labels (B,) and each frame's ``informative`` (n,)."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return Clips(pad_sequence(rows, True), mask, labels, pad_sequence(informative, True))


def make_heads(network: FrameAttentionNetwork, pooling: str, weight: Tensor, bias: Tensor) -> FrameAttentionNetwork:
    """A network with ``network``'s backbone. Its classifier starts as the head ``weight`` (C, D), ``bias`` (C,) of
    single faces, its attention as a plain mean."""
    variant = pooling if pooling in ("fan", "self") else "score-fusion"
    made = FrameAttentionNetwork(variant, backbone=network.backbone_name)
    made.backbone = network.backbone
    with torch.no_grad():
        if made.attention is not None:
            for parameter in made.attention.parameters():
                parameter.zero_()
        # The classifier of "fan" sees two means, [v : g].
        made.classifier.weight.copy_(torch.cat([weight, weight], dim=1) / 2 if variant == "fan" else weight)
        made.classifier.bias.copy_(bias)
    return made.eval()


def clip_logits(network: FrameAttentionNetwork, pooling: str, clips: Clips) -> Tensor:
    """Logits (B, C)."""
    if pooling not in ("mean", "oracle"):
        return network.classify(clips.features, clips.mask).logits
    weights = clips.mask.float()
    if pooling == "oracle":
        weights = weights * clips.informative.clamp_min(_FAINTEST)
    pooled = torch.einsum("bn,bnd->bd", weights / weights.sum(dim=1, keepdim=True), clips.features)
    return network.classifier(pooled)  # type: ignore[no-any-return]


def clip_loss(
    network: FrameAttentionNetwork, pooling: str, clips: Clips, smoothing: float, follow: float = 0.0
) -> Tensor:
    """Cross-entropy of the clips' labels; for score fusion of the label in every frame, as the paper trains it.

    follow: where there is attention, the weight of minus the logarithm of the share that informative frames have in
        the final weights.
    """
    if pooling == "score-fusion":
        logits = network.classifier(clips.features[clips.mask])
        return F.cross_entropy(logits, clips.labels.repeat_interleave(clips.mask.sum(1)), label_smoothing=smoothing)
    if network.attention is None or follow == 0:
        return F.cross_entropy(clip_logits(network, pooling, clips), clips.labels, label_smoothing=smoothing)
    logits, weights = network.classify(clips.features, clips.mask)
    final = weights.alpha if weights.beta is None else weights.alpha * weights.beta
    share = (final * clips.informative).sum(dim=1) / final.sum(dim=1).clamp_min(_FAINTEST)
    loss = F.cross_entropy(logits, clips.labels, label_smoothing=smoothing)
    return loss - follow * share.clamp_min(_FAINTEST).log().mean()
