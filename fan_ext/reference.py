"""Frame attention in plain PyTorch: the oracle of the tests, the baseline of the benchmarks, and what serves where the
compiled operators cannot.

Section 3 of Meng et al., "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019, in a form
whose sums neither overflow nor underflow: a sigmoid is normalised as ``softmax(logsigmoid(logit))``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from fan_ext.weights import FrameWeights


@overload
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
    return_weights: Literal[False] = False,
) -> Tensor: ...
@overload
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
    return_weights: Literal[True],
) -> tuple[Tensor, FrameWeights]: ...
@overload
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
) -> Tensor | tuple[Tensor, FrameWeights]: ...
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
    single = features.dim() == 2 and offsets is None
    if single:
        features, mask = features.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
    parameters = (self_weight, relation_weight, self_bias, relation_bias)
    out, _, *weights = forward(features, *parameters, mask, offsets, max_frames, return_weights)
    if single:
        out = out.squeeze(0)
    if not return_weights:
        return out

    def like_frames(weight: Tensor) -> Tensor:
        if jagged:
            return torch.nested.nested_tensor_from_jagged(weight, offsets)
        return weight.squeeze(0) if single else weight

    alpha, beta, final = weights
    return out, FrameWeights(
        like_frames(alpha), None if relation_weight is None else like_frames(beta), like_frames(final.detach())
    )


def forward(
    features: Tensor,
    self_weight: Tensor,
    relation_weight: Tensor | None,
    self_bias: Tensor | None,
    relation_bias: Tensor | None,
    mask: Tensor | None,
    offsets: Tensor | None,
    max_frames: int | None,
    return_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the operator ``fan_ext::frame_attention_forward`` returns: out, logits, alpha, beta, final.

    Nothing here but torch's own operators, so it takes part in whatever transformation they do. Features are (B, N, D),
    or (T, D) with ``offsets``.
    """
    accumulate = torch.float64 if features.dtype == torch.float64 else torch.float32
    if offsets is not None:
        dense, mask = _pad(features, offsets)
    else:
        dense = features
    if mask is None:
        mask = torch.ones(dense.shape[:2], dtype=torch.bool, device=dense.device)
    absent = ~mask

    frames = dense.to(accumulate).masked_fill(absent.unsqueeze(-1), 0)
    dim = frames.shape[-1]
    s = _logit(frames, self_weight.to(accumulate), self_bias)
    alpha = s.sigmoid().masked_fill(absent, 0)
    p = _masked_softmax(F.logsigmoid(s), absent)
    g = torch.einsum("bn,bnd->bd", p, frames)

    logits, beta, final, out = [s], None, p, g
    if relation_weight is not None:
        q1 = relation_weight.to(accumulate)
        z = _logit(frames, q1[:dim], relation_bias) + (g @ q1[dim:]).unsqueeze(-1)
        logits += [z, frames @ q1[dim:]]
        beta = z.sigmoid().masked_fill(absent, 0)
        final = _masked_softmax(F.logsigmoid(s) + F.logsigmoid(z), absent)
        out = torch.cat([torch.einsum("bn,bnd->bd", final, frames), g], dim=-1)

    def like_frames(weight: Tensor | None) -> Tensor:
        if weight is None or not return_weights:
            return frames.new_empty(0)
        return weight if offsets is None else _unpad(weight, offsets, features.shape[0])

    def saved(logit: Tensor) -> Tensor:
        logit = logit.masked_fill(absent, 0)
        return logit.flatten() if offsets is None else _unpad(logit, offsets, features.shape[0])

    return (
        out.to(features.dtype),
        torch.stack([saved(logit) for logit in logits]),
        like_frames(alpha),
        like_frames(beta),
        like_frames(final),
    )


def backward(
    grad_out: Tensor,
    grad_alpha: Tensor | None,
    grad_beta: Tensor | None,
    features: Tensor,
    self_weight: Tensor,
    relation_weight: Tensor | None,
    self_bias: Tensor | None,
    relation_bias: Tensor | None,
    mask: Tensor | None,
    offsets: Tensor | None,
    max_frames: int | None,
    out: Tensor,
    logits: Tensor,
    features_need_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the operator ``fan_ext::frame_attention_backward`` returns, as torch's derivative of :func:`forward`."""
    leaves = (features, self_weight, relation_weight, self_bias, relation_bias)
    wanted = [t is not None and (k > 0 or features_need_grad) for k, t in enumerate(leaves)]
    upstream = (grad_out, grad_alpha, grad_beta)

    def results(*given: Tensor) -> tuple[Tensor, ...]:
        rest = iter(given)
        arguments: list[Any] = [next(rest) if want else leaf for want, leaf in zip(wanted, leaves, strict=True)]
        out, _, alpha, beta, _ = forward(*arguments, mask, offsets, max_frames, True)
        return tuple(r for r, grad in zip((out, alpha, beta), upstream, strict=True) if grad is not None)

    pull_back: Callable[..., tuple[Tensor, ...]]
    _, pull_back = torch.func.vjp(results, *(leaf for want, leaf in zip(wanted, leaves, strict=True) if want))
    gradients = iter(pull_back(tuple(grad for grad in upstream if grad is not None)))
    empty = features.new_empty(0)
    of_features, *of_parameters = (next(gradients) if want else None for want in wanted)
    return (
        empty if of_features is None else of_features,
        *(logits.new_empty(0) if g is None else g.flatten() for g in of_parameters),  # type: ignore[return-value]
    )


def _logit(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logit = frames @ weight
    return logit if bias is None else logit + bias.to(logit.dtype).reshape(())


def _masked_softmax(logits: Tensor, absent: Tensor) -> Tensor:
    """Softmax over the frames that are not absent; a clip without any gets zeros."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(absent, lowest).softmax(dim=-1).masked_fill(absent, 0)


def _pad(frames: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Packed frames (T, D) to dense ones (B, N, D), N the longest clip, and the mask (B, N) of those that exist."""
    lengths = offsets.diff()
    longest = int(lengths.max()) if len(lengths) else 0
    steps = torch.arange(longest, device=frames.device)
    places = offsets[:-1].unsqueeze(-1) + steps
    return frames[places.clamp(max=max(len(frames) - 1, 0))], steps < lengths.unsqueeze(-1)


def _unpad(values: Tensor, offsets: Tensor, total: int) -> Tensor:
    """Values (B, N) of padded frames back to packed ones (total,); frames of no clip get 0."""
    clips, longest = values.shape
    if clips == 0 or longest == 0:
        return values.new_zeros(total)
    frames = torch.arange(total, device=values.device, dtype=offsets.dtype)
    clip = torch.searchsorted(offsets, frames, right=True) - 1
    inside = (clip >= 0) & (clip < clips)
    clip = clip.clamp(0, clips - 1)
    place = (frames - offsets[clip]).clamp(0, longest - 1)
    return values[clip, place].masked_fill(~inside, 0)
