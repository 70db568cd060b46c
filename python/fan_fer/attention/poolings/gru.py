"""A recurrent network that reads the frames in their order; it has no weights of frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fan_fer.attention.poolings.registry import register_pooling

HIDDEN = 128


@register_pooling("gru", "GRU")
class GruPooling(nn.Module):
    """The state after the last frame."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = HIDDEN
        self.gru = nn.GRU(features, HIDDEN, batch_first=True)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        # Absent frames behind the others, which keep their order.
        order = (~mask).to(torch.int8).sort(dim=1, stable=True).indices.unsqueeze(-1)
        states, _ = self.gru(features.gather(1, order.expand_as(features)))
        last = (mask.sum(1) - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, HIDDEN)
        return states.gather(1, last).squeeze(1), None
