"""The highest value of each feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fan_fer.attention.poolings.registry import register_pooling


@register_pooling("max", "max")
class MaxPooling(nn.Module):
    """A frame's share is the part of the features in which it is the highest; equal ones share."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        present = mask.unsqueeze(-1)
        features = features.masked_fill(~present, torch.finfo(features.dtype).min)
        pooled = features.amax(1)
        highest = ((features == pooled.unsqueeze(1)) & present).to(features.dtype)
        shares = (highest / highest.sum(1, keepdim=True).clamp_min(1)).mean(-1)
        return pooled, shares.detach()
