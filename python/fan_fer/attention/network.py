"""The network: a backbone embeds the frames, frame attention pools them, a linear layer classifies the clip."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fan_ext
from fan_ext.frame_weights import FrameWeights
from fan_fer.attention.poolings.registry import PAPER, find_pooling
from fan_fer.features.backbones import make_backbone

VARIANTS = PAPER
FORMULAS = ("paper", "official_eval")


class NetworkOutput(NamedTuple):
    """What the network says about a batch of clips."""

    logits: Tensor  # (B, C)
    weights: FrameWeights  # alpha, beta, final; shaped like the frames, (B, N) or (T,)


class FrameAttentionNetwork(nn.Module):
    """Frame attention network of Meng et al., ICIP 2019, and its two baselines.

    variant:
        "fan"           self-attention and relation-attention; the classifier sees [v : g], 2D numbers
        "self"          self-attention only; the classifier sees g, D numbers
        "score-fusion"  no attention: every frame is classified, the probabilities are averaged
        or the name of a pooling, such as "mean", "abmil" or one of your own (:func:`fan_fer.register_pooling`)

    backbone: what gives D features of a frame: "resnet18" (512), "face29" (256), or "timm:NAME" for one of timm's.
    pretrained: start such a one with the weights that timm publishes.
    score_dropout: in training, on what the two attention layers of "fan" and "self" see; the pooled features are not
        dropped.
    dropout: in training, on what the classifier sees.

    All parameters start at random values; :func:`fan_fer.attention.weights.load_weights` returns a trained network.
    """

    def __init__(
        self,
        variant: str = "fan",
        num_classes: int = 7,
        backbone: str = "resnet18",
        *,
        score_dropout: float = 0.0,
        dropout: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        pooling = None if variant in VARIANTS else find_pooling(variant)
        self.variant = variant
        self.backbone_name = backbone
        self.score_dropout = score_dropout
        self.dropout = nn.Dropout(dropout)
        self.backbone, self.feature_size = make_backbone(backbone, pretrained)
        self.attention: Any = None
        pooled = self.feature_size
        if pooling is not None:
            self.attention = pooling.make(self.feature_size)
            pooled = self.attention.out_features
        elif variant != "score-fusion":
            self.attention = fan_ext.FrameAttention(self.feature_size, relation=variant == "fan")
            pooled = self.attention.out_features
        self.classifier = nn.Linear(pooled, num_classes)

    def embed(self, frames: Tensor) -> Tensor:
        """Frames (..., 3, H, W), preprocessed, to features (..., D)."""
        features: Tensor = self.backbone(frames.reshape(-1, *frames.shape[-3:]))
        return features.view(*frames.shape[:-3], self.feature_size)

    def classify(
        self, features: Tensor, mask: Tensor | None = None, *, offsets: Tensor | None = None, formula: str = "paper"
    ) -> NetworkOutput:
        """Clips of features to class logits and frame weights.

        features: (B, N, D), with ``mask`` (B, N) bool, True where the frame is present; or (T, D) with
            ``offsets`` (B + 1,), clips of different length back to back. With score dropout, in training, (B, N, D).
        formula: "paper", or "official_eval" for what the published evaluation code computes, which leaves the
            relation-attention out of the numerator: sum alpha [f : g] / sum alpha beta.
        """
        if formula not in FORMULAS:
            raise ValueError(f"formula: got {formula!r}; wanted one of {', '.join(FORMULAS)}")
        if self.variant not in VARIANTS:
            return self._pool(features, mask, offsets)
        if self.attention is not None:
            if self.training and self.score_dropout > 0:
                pooled, weights = _attend_with_dropout(self.attention, features, mask, self.score_dropout)
            else:
                pooled, weights = self.attention(features, mask, offsets=offsets, return_weights=True)
            if formula == "official_eval" and weights.beta is not None:
                pooled = _published_pooling(pooled, weights, offsets)
            return NetworkOutput(self.classifier(self.dropout(pooled)), weights)
        if offsets is not None:
            return self._fuse_packed(features, offsets)
        return self._fuse_dense(features, mask)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> NetworkOutput:
        """Clips of frames (B, N, 3, H, W), preprocessed, to class logits and frame weights.

        mask: (B, N) bool, True where the frame is present; what the others hold does not matter.
        """
        features = self.embed(frames)
        if mask is not None:
            features = features.masked_fill(~mask.unsqueeze(-1), 0)
        return self.classify(features, mask)

    def _pool(self, features: Tensor, mask: Tensor | None, offsets: Tensor | None) -> NetworkOutput:
        """By a registered pooling, which knows nothing of packed clips."""
        if offsets is not None:
            clips = features.split(offsets.diff().tolist())
            made = [self._pool_dense(clip.unsqueeze(0), None) for clip in clips]
            pooled = torch.cat([pooled for pooled, _ in made]) if made else self.classifier.weight[:0]
            final = torch.cat([shares.squeeze(0) for _, shares in made]) if made else features[:, 0]
        else:
            pooled, final = self._pool_dense(features, mask)
        return NetworkOutput(self.classifier(self.dropout(pooled)), _without_attention(final))

    def _pool_dense(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pooled features (B, out_features) and shares (B, N), zeros for a clip without frames."""
        if mask is None:
            mask = features.new_ones(features.shape[:2], dtype=torch.bool)
        if features.shape[1] == 0:
            return features.new_zeros(len(features), self.classifier.in_features), features.new_zeros(mask.shape)
        pooled, shares = self.attention(features.masked_fill(~mask.unsqueeze(-1), 0), mask)
        if shares is None:
            shares = _equal_shares(mask, features.dtype)
        return pooled.masked_fill(~mask.any(1, keepdim=True), 0), shares.detach().masked_fill(~mask, 0)

    def _fuse_dense(self, features: Tensor, mask: Tensor | None) -> NetworkOutput:
        if mask is None:
            mask = features.new_ones(features.shape[:2], dtype=torch.bool)
        share = _equal_shares(mask, features.dtype)
        scores = self.classifier(self.dropout(features.masked_fill(~mask.unsqueeze(-1), 0))).softmax(dim=-1)
        return NetworkOutput(_log(torch.einsum("bn,bnc->bc", share, scores)), _without_attention(share))

    def _fuse_packed(self, features: Tensor, offsets: Tensor) -> NetworkOutput:
        lengths = offsets.diff()
        clip = torch.arange(len(lengths), device=features.device).repeat_interleave(lengths)
        share = (1 / lengths.to(features.dtype)).repeat_interleave(lengths)
        scores = share.unsqueeze(-1) * self.classifier(features).softmax(dim=-1)
        mean = scores.new_zeros(len(lengths), scores.shape[-1]).index_add(0, clip, scores)
        return NetworkOutput(_log(mean), _without_attention(share))


def _attend_with_dropout(
    attention: fan_ext.FrameAttention, features: Tensor, mask: Tensor | None, dropout: float
) -> tuple[Tensor, FrameWeights]:
    """Frame attention whose two layers see features with some elements dropped, while the full ones are pooled.

    Every frame loses other elements, so there is no one weight vector that the fused operator could take. Training
    clips are short: this is a few small operations.
    """
    if mask is None:
        mask = features.new_ones(features.shape[:2], dtype=torch.bool)
    features = features.masked_fill(~mask.unsqueeze(-1), 0)
    lowest = torch.finfo(features.dtype).min

    def normalise(logits: Tensor) -> Tensor:
        return logits.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0)

    def logits(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product = F.dropout(inputs, dropout) @ weight
        return product if bias is None else product + bias

    s = logits(features, attention.self_weight, attention.self_bias)
    alpha, self_share = s.sigmoid().masked_fill(~mask, 0), normalise(F.logsigmoid(s))
    g = torch.einsum("bn,bnd->bd", self_share, features)
    if attention.relation_weight is None:
        return g, FrameWeights(alpha, None, self_share.detach())
    pairs = torch.cat([features, g.unsqueeze(1).expand_as(features)], dim=-1)
    z = logits(pairs, attention.relation_weight, attention.relation_bias)
    final = normalise(F.logsigmoid(s) + F.logsigmoid(z))
    v = torch.einsum("bn,bnd->bd", final, features)
    return torch.cat([v, g], dim=-1), FrameWeights(alpha, z.sigmoid().masked_fill(~mask, 0), final.detach())


def _published_pooling(pooled: Tensor, weights: FrameWeights, offsets: Tensor | None) -> Tensor:
    """sum alpha [f : g] / sum alpha beta. Since sum alpha f = g sum alpha, both halves are g times a number."""
    assert weights.beta is not None
    if offsets is None:
        alpha, both = weights.alpha.sum(dim=-1), (weights.alpha * weights.beta).sum(dim=-1)
    else:
        values = torch.stack([weights.alpha, weights.alpha * weights.beta], dim=-1)
        alpha, both = torch.segment_reduce(values, "sum", offsets=offsets.long()).unbind(-1)
    scale = alpha / both.clamp_min(torch.finfo(both.dtype).tiny)
    g = pooled[:, pooled.shape[1] // 2 :] * scale.unsqueeze(-1).to(pooled.dtype)
    return torch.cat([g, g], dim=-1)


def _equal_shares(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, N), of the frames that are present."""
    present = mask.to(dtype)
    return present / present.sum(dim=1, keepdim=True).clamp_min(1)


def _without_attention(share: Tensor) -> FrameWeights:
    return FrameWeights(None, None, share)  # type: ignore[arg-type]  # the operator itself always has an alpha


def _log(probabilities: Tensor) -> Tensor:
    """Log-probabilities; a clip without a frame, whose mean is 0, gets equal ones."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
