"""Softmax attention over the frames of a clip that score highest; the others do not count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fan_fer.attention.poolings.registry import register_pooling
from fan_fer.attention.poolings.shares import masked_softmax, weighted_sum

KEPT = 0.25  # of a clip's frames, one at least


@register_pooling("top-k", "top quarter of the frames")
class TopPooling(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features
        self.score = nn.Linear(features, 1)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(features).squeeze(-1)
        lowest = torch.finfo(scores.dtype).min
        rank = scores.masked_fill(~mask, lowest).argsort(descending=True).argsort()
        count = (KEPT * mask.sum(-1, keepdim=True)).ceil()
        shares = masked_softmax(scores, mask & (rank < count))
        return weighted_sum(shares, features), shares.detach()
