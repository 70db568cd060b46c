"""Frame attention on tensors: the fused operators, their fake kernels and their autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from fan_ext import reference
from fan_ext.library import load_native, load_operators
from fan_ext.weights import FrameWeights

_Function = TypeVar("_Function", bound=Callable[..., Any])

load_operators()
_forward: Callable[..., tuple[Tensor, ...]] = torch.ops.fan_ext.frame_attention_forward.default
_backward: Callable[..., tuple[Tensor, ...]] = torch.ops.fan_ext.frame_attention_backward.default

_register_fake: Callable[[str], Callable[[_Function], _Function]] = torch.library.register_fake

# Devices the fused operators are compiled for; "meta" is served by the fake kernels below.
_FUSED_DEVICES = frozenset({"cpu", "meta"} | ({"cuda"} if load_native().build_info()["cuda"] else set()))


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
    """Pool the frame features of each clip with self-attention and relation-attention weights.

    With frame features f_i, ``self_weight`` q0 and ``relation_weight`` q1:

        alpha_i = sigmoid(f_i . q0 + b0)
        g       = sum alpha_i f_i / sum alpha_i
        beta_i  = sigmoid([f_i : g] . q1 + b1)
        out     = sum alpha_i beta_i [f_i : g] / sum alpha_i beta_i

    Equations 2 to 5 of Meng et al., "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019.
    The sums do not underflow, whatever the size of the logits.

    Args:
        features: (B, N, D); or (T, D) with ``offsets``; or a jagged nested tensor (B, N_b, D). float32, float16,
            bfloat16 (accumulated in float32) or float64.
        self_weight: (D,), in the features' dtype or float32, as all parameters.
        relation_weight: (2D,), or None for self-attention only: out is then g.
        self_bias: one element, or None.
        relation_bias: one element, or None.
        mask: (B, N) bool, True where a frame is present. An absent frame contributes exactly nothing, whatever its
            features. A clip without frames gives zeros.
        offsets: (B + 1,) int64 or int32, ascending: clip b has the frames ``offsets[b]`` to ``offsets[b + 1]`` of T.
        max_frames: length of the longest packed clip, if known; spares a CUDA kernel from reading ``offsets``.
        return_weights: also return the weights of the frames.

    Returns:
        (B, 2D), or (B, D) without ``relation_weight``, in the features' dtype. With ``return_weights`` also
        :class:`FrameWeights`, float32 (float64 for float64 features), shaped like the frames: (B, N), (T,), or jagged.

    Raises:
        RuntimeError: an argument has a wrong shape, dtype, device or value; the message names it.

    Differentiable once, also through ``alpha`` and ``beta``. Under autocast the features keep their dtype, as their
    sums are accumulated in float32 anyway. Devices without a fused kernel run the plain
    :func:`fan_ext.reference.frame_attention`.
    """
    if features.is_nested:
        return _jagged(
            features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, max_frames, return_weights
        )
    device = features.device
    for argument in (self_weight, relation_weight, self_bias, relation_bias, mask, offsets):
        if argument is not None and argument.device != device:
            raise RuntimeError(
                f"fan_ext.frame_attention: an argument of shape {tuple(argument.shape)} is on {argument.device}, "
                f"expected {device} like features"
            )
    if device.type not in _FUSED_DEVICES:
        return reference.frame_attention(
            features,
            self_weight,
            relation_weight,
            self_bias,
            relation_bias,
            mask=mask,
            offsets=offsets,
            max_frames=max_frames,
            return_weights=return_weights,
        )
    parameters = (self_weight, relation_weight, self_bias, relation_bias)
    layout = (mask, offsets, max_frames)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (features, *parameters)):
        out, alpha, beta, final = _apply(features, *parameters, *layout, return_weights)
    else:
        out, _, alpha, beta, final = _forward(features, *parameters, *layout, return_weights)
    if not return_weights:
        return out
    return out, FrameWeights(alpha, None if relation_weight is None else beta, final)


def _jagged(
    features: Any,
    self_weight: Tensor,
    relation_weight: Tensor | None,
    self_bias: Tensor | None,
    relation_bias: Tensor | None,
    mask: Tensor | None,
    offsets: Tensor | None,
    max_frames: int | None,
    return_weights: bool,
) -> Tensor | tuple[Tensor, FrameWeights]:
    """A jagged nested tensor is its packed values and their offsets."""
    if features.layout != torch.jagged or features.lengths() is not None or features.dim() != 3:
        raise RuntimeError(
            "fan_ext.frame_attention: features is a nested tensor of another kind, expected a contiguous one of layout "
            "torch.jagged and shape (B, jagged, D)"
        )
    if mask is not None or offsets is not None:
        raise RuntimeError(
            "fan_ext.frame_attention: mask or offsets is given, expected neither with jagged nested features"
        )
    starts = features.offsets()
    result = frame_attention(
        features.values(),
        self_weight,
        relation_weight,
        self_bias,
        relation_bias,
        offsets=starts,
        max_frames=max_frames,
        return_weights=return_weights,
    )
    if isinstance(result, Tensor):
        return result
    out, weights = result

    def jagged(weight: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(weight, starts)

    alpha, beta, final = weights
    return out, FrameWeights(jagged(alpha), None if beta is None else jagged(beta), jagged(final))


class _FrameAttention(torch.autograd.Function):
    """Entered only where a gradient is needed: a call without one costs half as much outside autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        self_weight: Tensor,
        relation_weight: Tensor | None,
        self_bias: Tensor | None,
        relation_bias: Tensor | None,
        mask: Tensor | None,
        offsets: Tensor | None,
        max_frames: int | None,
        return_weights: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out, logits, alpha, beta, final = _forward(
            features,
            self_weight,
            relation_weight,
            self_bias,
            relation_bias,
            mask,
            offsets,
            max_frames,
            return_weights,
        )
        ctx.save_for_backward(features, self_weight, relation_weight, mask, offsets, out, logits)
        ctx.max_frames = max_frames
        ctx.biases = [None if b is None else (b.dtype, b.shape) for b in (self_bias, relation_bias)]
        ctx.mark_non_differentiable(final)
        ctx.set_materialize_grads(False)
        return out, alpha, beta, final

    @staticmethod
    def backward(
        ctx: Any, grad_out: Tensor | None, grad_alpha: Tensor | None, grad_beta: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        features, self_weight, relation_weight, mask, offsets, out, logits = ctx.saved_tensors
        if relation_weight is None:
            grad_beta = None
        run = _FrameAttentionBackward.apply if torch.is_grad_enabled() else _backward
        gradients = run(
            torch.zeros_like(out) if grad_out is None else grad_out,
            grad_alpha,
            grad_beta,
            features,
            self_weight,
            relation_weight,
            mask,
            offsets,
            ctx.max_frames,
            out,
            logits,
            ctx.needs_input_grad[0],
        )
        grad_features, grad_q0, grad_q1, grad_b0, grad_b1 = gradients
        b0, b1 = ctx.biases
        return (
            grad_features if ctx.needs_input_grad[0] else None,
            grad_q0.to(self_weight.dtype),
            None if relation_weight is None else grad_q1.to(relation_weight.dtype),
            None if b0 is None else grad_b0.to(b0[0]).reshape(b0[1]),
            None if b1 is None else grad_b1.to(b1[0]).reshape(b1[1]),
            None,
            None,
            None,
            None,
        )


class _FrameAttentionBackward(torch.autograd.Function):
    """Entered with create_graph=True only: a second derivative would otherwise be silently zero."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        return tuple(_backward(*arguments))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
        raise RuntimeError(
            "fan_ext.frame_attention: its gradient is not differentiable (double backward), expected first derivatives "
            "only; use fan_ext.reference.frame_attention for higher ones"
        )


_apply: Callable[..., tuple[Tensor, ...]] = _FrameAttention.apply


def _accumulator(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


@_register_fake("fan_ext::frame_attention_forward")
def _forward_fake(
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
    dim = features.shape[-1]
    frames = features.shape[:-1]
    clips = frames[0] if offsets is None else offsets.shape[0] - 1
    relation = relation_weight is not None
    accumulator = _accumulator(features)
    per_frame = [
        features.new_empty(frames if wanted else (0,), dtype=accumulator)
        for wanted in (return_weights, return_weights and relation, return_weights)
    ]
    return (
        features.new_empty(clips, 2 * dim if relation else dim),
        features.new_empty(3 if relation else 1, math.prod(frames), dtype=accumulator),
        per_frame[0],
        per_frame[1],
        per_frame[2],
    )


@_register_fake("fan_ext::frame_attention_backward")
def _backward_fake(
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
    logits: Tensor,
    features_need_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dim = features.shape[-1]
    relation = relation_weight is not None
    accumulator = _accumulator(features)
    return (
        features.new_empty(features.shape if features_need_grad else (0,)),
        features.new_empty(dim, dtype=accumulator),
        features.new_empty(2 * dim if relation else 0, dtype=accumulator),
        features.new_empty(1, dtype=accumulator),
        features.new_empty(1 if relation else 0, dtype=accumulator),
    )
