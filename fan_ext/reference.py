"""Frame attention in plain PyTorch: the oracle of the tests, the baseline of the benchmarks, and what serves where the
compiled operators cannot.

Section 3 of Meng et al., "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019, in a form
whose sums neither overflow nor underflow: a sigmoid is normalised as ``softmax(logsigmoid(logit))``.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from fan_ext.frame_weights import FrameWeights


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
    """What the operator ``fan_ext::frame_attention_forward`` returns: out, saved, alpha, beta, final.

    Nothing here but torch's own operators, so it takes part in whatever transformation they do. Features are (B, N, D),
    or (T, D) with ``offsets``. All that is dense may have more dimensions in front, of so many calls at once.
    """
    frames, absent = _dense(features, mask, offsets, max_frames)
    dim = frames.shape[-1]
    s = _dot(frames, self_weight) + _scalar(self_bias, frames)
    p = _masked_softmax(F.logsigmoid(s), absent)
    g = torch.einsum("...bn,...bnd->...bd", p, frames)

    per_frame, final, out = [s, p], p, g
    if relation_weight is not None:
        q1a, q1b = relation_weight[..., :dim], relation_weight[..., dim:]
        of_g = torch.einsum("...bd,...d->...b", g, q1b.to(g.dtype)).unsqueeze(-1)
        z = _dot(frames, q1a) + of_g + _scalar(relation_bias, frames)
        final = _masked_softmax(F.logsigmoid(s) + F.logsigmoid(z), absent)
        per_frame += [z, _dot(frames, q1b), final]
        out = torch.cat([torch.einsum("...bn,...bnd->...bd", final, frames), g], dim=-1)

    def like_frames(weight: Tensor) -> Tensor:
        weight = weight.masked_fill(absent, 0)
        return weight if offsets is None else _unpad(weight, offsets, features.shape[0])

    nothing = frames.new_empty(*frames.shape[:-3], 0)
    weights = [s.sigmoid(), per_frame[2].sigmoid() if relation_weight is not None else None, final]
    alpha, beta, final = (like_frames(w) if return_weights and w is not None else nothing for w in weights)
    saved = torch.stack([like_frames(values) for values in per_frame], dim=-2 if offsets is not None else -3)
    return out.to(features.dtype), saved if offsets is not None else saved.flatten(-2), alpha, beta, final


def backward(
    grad_out: Tensor,
    grad_alpha: Tensor | None,
    grad_beta: Tensor | None,
    features: Tensor,
    self_weight: Tensor,
    relation_weight: Tensor | None,
    mask: Tensor | None,
    offsets: Tensor | None,
    max_frames: int | None,
    out: Tensor,
    saved: Tensor,
    features_need_grad: bool,
    self_bias: Tensor | None = None,
    relation_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the operator ``fan_ext::frame_attention_backward`` returns; the names are those of docs/operator.md."""
    frames, absent = _dense(features, mask, offsets, max_frames)
    dim = frames.shape[-1]

    def like_dense(values: Tensor) -> Tensor:
        if offsets is None:
            return values.reshape(absent.shape)
        return values[_places(offsets, absent.shape[-1], len(features))].masked_fill(absent, 0)

    def direct(gradient: Tensor | None, logit: Tensor) -> Tensor | float:
        """The slope of a sigmoid's logit that comes from a gradient of its own."""
        return 0 if gradient is None else (like_dense(gradient) * logit.sigmoid()).masked_fill(absent, 0)

    s, p, *others = (like_dense(values) for values in saved.unbind(-2))
    G = grad_out[..., -dim:].to(frames.dtype)
    f_dg, dg = torch.einsum("...bnd,...bd->...bn", frames, G), G
    h: Tensor | float = 0
    if relation_weight is not None:
        z, u, r = others
        q1a, q1b = (half.to(frames.dtype) for half in (relation_weight[..., :dim], relation_weight[..., dim:]))
        V = grad_out[..., :dim].to(frames.dtype)
        fV = torch.einsum("...bnd,...bd->...bn", frames, V)
        h = r * (fV - (r * fV).sum(-1, keepdim=True))
        dz = (h + direct(grad_beta, z)) * (-z).sigmoid()
        C = dz.sum(-1, keepdim=True)
        dg = G + C * q1b.unsqueeze(-2)
        f_dg = f_dg + C * u
    k = p * (f_dg - (p * f_dg).sum(-1, keepdim=True))
    ds = (h + k + direct(grad_alpha, s)) * (-s).sigmoid()

    def sum_of_frames(slope: Tensor, of: Tensor) -> Tensor:
        return torch.einsum("...bn,...bnd->...d", slope, frames).to(of.dtype)

    def sum_of(slope: Tensor, of: Tensor | None) -> Tensor:
        total = slope.sum((-2, -1)).unsqueeze(-1)
        return total if of is None else total.to(of.dtype)

    df = features.new_empty(*frames.shape[:-3], 0)
    if features_need_grad:
        df = p.unsqueeze(-1) * dg.unsqueeze(-2) + _outer(ds, self_weight)
        if relation_weight is not None:
            df = df + r.unsqueeze(-1) * V.unsqueeze(-2) + _outer(dz, q1a)
        df = df.masked_fill(absent.unsqueeze(-1), 0)
        df = (df if offsets is None else _unpad(df, offsets, len(features))).to(features.dtype)
    dq0, db0 = sum_of_frames(ds, self_weight), sum_of(ds, self_bias)
    if relation_weight is None:
        nothing = frames.new_empty(*frames.shape[:-3], 0)
        return df, dq0, nothing, db0, nothing
    g = out[..., dim:].to(frames.dtype)
    dq1b = torch.einsum("...bx,...bd->...d", C, g).to(relation_weight.dtype)
    dq1 = torch.cat([sum_of_frames(dz, relation_weight), dq1b], dim=-1)
    return df, dq0, dq1, db0, sum_of(dz, relation_bias)


def _dense(
    features: Tensor, mask: Tensor | None, offsets: Tensor | None, max_frames: int | None
) -> tuple[Tensor, Tensor]:
    """The frames (B, N, D) in the accumulation type, absent ones 0, and where (B, N) they are absent.

    Packed clips get as many frames as the longest has; ``max_frames``, where it is given, spares a look at the offsets.
    """
    accumulate = torch.float64 if features.dtype == torch.float64 else torch.float32
    if offsets is not None:
        lengths = offsets.diff().unsqueeze(-1)
        if max_frames is not None:
            longest: Any = torch.sym_min(max_frames, len(features))
        else:
            longest = int(lengths.max()) if len(lengths) else 0
        absent = torch.arange(longest, device=features.device) >= lengths
        features = features[_places(offsets, longest, len(features))]
    elif mask is not None:
        absent = ~mask
    else:
        absent = torch.zeros(features.shape[:-1], dtype=torch.bool, device=features.device)
    return features.to(accumulate).masked_fill(absent.unsqueeze(-1), 0), absent


def _places(offsets: Tensor, longest: int, total: int) -> Tensor:
    """Where the frames (B, N) of padded clips lie among packed ones; those beyond a clip's end are anywhere."""
    steps = torch.arange(longest, device=offsets.device)
    return (offsets[:-1].unsqueeze(-1) + steps).clamp(0, max(total - 1, 0))


def _unpad(values: Tensor, offsets: Tensor, total: int) -> Tensor:
    """Values (B, N, ...) of padded frames back to packed ones (total, ...); frames of no clip get 0."""
    clips, longest = values.shape[:2]
    if clips == 0 or longest == 0:
        return values.new_zeros(total, *values.shape[2:])
    frames = torch.arange(total, device=values.device, dtype=offsets.dtype)
    clip = torch.searchsorted(offsets, frames, right=True) - 1
    inside = (clip >= 0) & (clip < clips)
    clip = clip.clamp(0, clips - 1)
    place = frames - offsets[clip]
    inside = inside & (place < longest)
    packed = values[clip, place.clamp(0, longest - 1)]
    return packed.masked_fill(~inside.view(-1, *(1 for _ in values.shape[2:])), 0)


def _dot(frames: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("...bnd,...d->...bn", frames, weight.to(frames.dtype))


def _outer(slope: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("...bn,...d->...bnd", slope, weight.to(slope.dtype))


def _scalar(bias: Tensor | None, like: Tensor) -> Tensor | float:
    return 0 if bias is None else bias.to(like.dtype).reshape(*like.shape[:-3], 1, 1)


def _masked_softmax(logits: Tensor, absent: Tensor) -> Tensor:
    """Softmax over the frames that are not absent; a clip without any gets zeros."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(absent, lowest).softmax(dim=-1).masked_fill(absent, 0)
