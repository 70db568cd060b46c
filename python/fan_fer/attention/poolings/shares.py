"""What poolings that weigh frames have in common."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Shares (B, N) of the frames from their scores (B, N); 0 where the mask (B, N) is False."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0)


def weighted_sum(shares: Tensor, features: Tensor) -> Tensor:
    """(B, D) of shares (B, N) and features (B, N, D)."""
    return torch.einsum("bn,bnd->bd", shares, features)
