"""Gated attention of Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018."""

from __future__ import annotations

from torch import Tensor, nn

from fan_fer.attention.poolings.registry import register_pooling
from fan_fer.attention.poolings.shares import masked_softmax, weighted_sum

HIDDEN = 128  # as in the paper's experiments


@register_pooling("abmil", "gated attention (ABMIL)")
class GatedPooling(nn.Module):
    """Softmax over w . (tanh(V f) * sigmoid(U f)), the paper's equation 9."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features
        self.content = nn.Linear(features, HIDDEN)  # V
        self.gate = nn.Linear(features, HIDDEN)  # U
        self.score = nn.Linear(HIDDEN, 1)  # w

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(self.content(features).tanh() * self.gate(features).sigmoid()).squeeze(-1)
        shares = masked_softmax(scores, mask)
        return weighted_sum(shares, features), shares.detach()
