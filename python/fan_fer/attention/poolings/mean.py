"""The plain mean of the frames."""

from __future__ import annotations

from torch import Tensor, nn

from fan_fer.attention.poolings.registry import register_pooling
from fan_fer.attention.poolings.shares import weighted_sum


@register_pooling("mean", "mean")
class MeanPooling(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        present = mask.to(features.dtype)
        shares = present / present.sum(-1, keepdim=True).clamp_min(1)
        return weighted_sum(shares, features), shares
