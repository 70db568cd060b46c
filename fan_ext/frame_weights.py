"""The weights that frame attention gives to the frames of a clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class FrameWeights(NamedTuple):
    """Attention weights, each shaped like the frames: (B, N), or (T,) for packed clips.

    alpha: self-attention weight, in (0, 1); 0 for an absent frame. Differentiable.
    beta: relation-attention weight, in (0, 1); 0 for an absent frame; None without relation-attention. Differentiable.
    final: share of the frame in the clip's representation: alpha * beta (or alpha), normalised to sum 1. Without
        gradient.
    """

    alpha: Tensor
    beta: Tensor | None
    final: Tensor
