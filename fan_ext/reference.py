"""Frame attention in plain PyTorch: the oracle of the tests and the baseline of the benchmarks.

Section 3 of Meng et al., "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019, in a form
whose sums neither overflow nor underflow: a sigmoid is normalised as ``softmax(logsigmoid(logit))``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fan_ext.weights import FrameWeights


def frame_attention(
    features: Tensor,
    self_weight: Tensor,
    relation_weight: Tensor | None = None,
    self_bias: Tensor | None = None,
    relation_bias: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    offsets: Tensor | None = None,
    max_frames: int | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, FrameWeights]:
    """Same signature, shapes and results as :func:`fan_ext.frame_attention`, on any device torch has.

    Half-precision features are computed in float32 and the result is rounded once.
    """
    jagged = features.is_nested
    if jagged:
        offsets, features = features.offsets(), features.values()  # type: ignore[attr-defined]
    if offsets is not None:
        dense, mask = _pad(features, offsets)
    else:
        dense = features
    if mask is None:
        mask = dense.new_ones(dense.shape[:2], dtype=torch.bool)

    accumulate = torch.float64 if features.dtype == torch.float64 else torch.float32
    frames = dense.to(accumulate).masked_fill(~mask.unsqueeze(-1), 0)
    dim = frames.shape[-1]
    q0 = self_weight.to(accumulate)

    s = frames @ q0 + (0 if self_bias is None else self_bias.to(accumulate))
    alpha = s.sigmoid().masked_fill(~mask, 0)
    p = _masked_softmax(F.logsigmoid(s), mask)
    g = torch.einsum("bn,bnd->bd", p, frames)

    beta = None
    final, out = p, g
    if relation_weight is not None:
        q1 = relation_weight.to(accumulate)
        z = frames @ q1[:dim] + (g @ q1[dim:]).unsqueeze(-1)
        z = z + (0 if relation_bias is None else relation_bias.to(accumulate))
        beta = z.sigmoid().masked_fill(~mask, 0)
        final = _masked_softmax(F.logsigmoid(s) + F.logsigmoid(z), mask)
        out = torch.cat([torch.einsum("bn,bnd->bd", final, frames), g], dim=-1)

    out = out.to(features.dtype)
    if not return_weights:
        return out

    def like_frames(weight: Tensor) -> Tensor:
        if offsets is not None:
            weight = _unpad(weight, mask, offsets, len(features))
        return torch.nested.nested_tensor_from_jagged(weight, offsets) if jagged else weight

    weights = FrameWeights(like_frames(alpha), None if beta is None else like_frames(beta), like_frames(final.detach()))
    return out, weights


def _masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the frames where mask is True; a clip without any gets zeros."""
    lowest = torch.finfo(logits.dtype).min
    weights = logits.masked_fill(~mask, lowest).softmax(dim=-1)
    return weights.masked_fill(~mask, 0)


def _pad(frames: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Packed frames (T, D) to dense ones (B, N, D) and their mask (B, N), N the longest clip."""
    lengths = offsets.diff()
    longest = int(lengths.max()) if len(lengths) else 0
    mask = torch.arange(longest, device=frames.device) < lengths.unsqueeze(-1)
    dense = frames.new_zeros(*mask.shape, frames.shape[-1])
    return dense.masked_scatter(mask.unsqueeze(-1), frames[int(offsets[0]) : int(offsets[-1])]), mask


def _unpad(values: Tensor, mask: Tensor, offsets: Tensor, total: int) -> Tensor:
    """Values (B, N) of padded frames back to packed ones (total,); frames of no clip get 0."""
    return F.pad(values[mask], (int(offsets[0]), total - int(offsets[-1])))
