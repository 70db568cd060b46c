"""Frame attention as a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor, nn

from fan_ext.frame_weights import FrameWeights
from fan_ext.functional import frame_attention

torch.fx.wrap("frame_attention")  # a node of its own in graphs of torch.fx


class FrameAttention(nn.Module):
    """Pools a clip's frame features with self-attention and relation-attention weights.

    The equations stand at :func:`fan_ext.frame_attention`.

    Args:
        in_features: D, the size of a frame's features.
        relation: use relation-attention; without it the output is the self-attended mean of the frames.
        bias: learn a bias for each of the two attention logits.

    Attributes:
        self_weight: (D,) parameter q0.
        relation_weight: (2D,) parameter q1, its first half for the frame, its second for the global
            representation; None without ``relation``.
        self_bias, relation_bias: (1,) parameters, or None.

    Example:
        >>> pool = fan_ext.FrameAttention(512)
        >>> clip, weights = pool(torch.randn(8, 16, 512), return_weights=True)
        >>> clip.shape, weights.final.shape
        (torch.Size([8, 1024]), torch.Size([8, 16]))
    """

    def __init__(
        self,
        in_features: int,
        relation: bool = True,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1:
            raise ValueError(f"FrameAttention: in_features is {in_features}, expected at least 1")
        self.in_features = in_features
        self.relation = relation

        def parameter(size: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(size, device=device, dtype=dtype))

        self.self_weight = parameter(in_features)
        self.relation_weight = parameter(2 * in_features) if relation else None
        self.self_bias = parameter(1) if bias else None
        self.relation_bias = parameter(1) if relation and bias else None
        self.reset_parameters()

    @property
    def out_features(self) -> int:
        """2D, or D without relation-attention."""
        return 2 * self.in_features if self.relation else self.in_features

    def reset_parameters(self) -> None:
        """The initialisation of the linear layers that the two weights are: uniform within 1 / sqrt(inputs)."""
        for weight, bias in ((self.self_weight, self.self_bias), (self.relation_weight, self.relation_bias)):
            if weight is None:
                continue
            bound = 1 / math.sqrt(weight.numel())
            nn.init.uniform_(weight, -bound, bound)
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound)

    @overload
    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
        max_frames: int | None = None,
        return_weights: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
        max_frames: int | None = None,
        return_weights: Literal[True],
    ) -> tuple[Tensor, FrameWeights]: ...
    @overload
    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
        max_frames: int | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, FrameWeights]: ...
    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        offsets: Tensor | None = None,
        max_frames: int | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, FrameWeights]:
        """Pool (B, N, D), packed (T, D) or jagged features to (B, out_features), or (N, D) to (out_features,).

        Arguments, results and errors are those of :func:`fan_ext.frame_attention`.
        """
        return frame_attention(
            features,
            self.self_weight,
            self.relation_weight,
            self.self_bias,
            self.relation_bias,
            mask=mask,
            offsets=offsets,
            max_frames=max_frames,
            return_weights=return_weights,
        )

    if TYPE_CHECKING:  # a call of a module is what its forward is
        __call__ = forward

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, relation={self.relation}, bias={self.self_bias is not None}"
