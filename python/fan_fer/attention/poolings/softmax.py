"""Attention by one score for each frame, over which softmax is taken."""

from __future__ import annotations

from torch import Tensor, nn

from fan_fer.attention.poolings.registry import register_pooling
from fan_fer.attention.poolings.shares import masked_softmax, weighted_sum


@register_pooling("softmax", "softmax attention")
class SoftmaxPooling(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features
        self.score = nn.Linear(features, 1)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        shares = masked_softmax(self.score(features).squeeze(-1), mask)
        return weighted_sum(shares, features), shares.detach()
