"""Frame attention on tensors: the fused operators where they run, plain PyTorch elsewhere."""

from __future__ import annotations

import warnings
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _is_tracing
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from fan_ext import reference
from fan_ext.frame_weights import FrameWeights
from fan_ext.library import NotBuilt

try:
    from fan_ext import operators
except NotBuilt as error:
    warnings.warn(f"{error}. Until then plain PyTorch serves, more slowly", RuntimeWarning, stacklevel=2)
    _FUSED_DEVICES = frozenset[str]()
else:
    # "meta" is served by the operators' fake kernels.
    _FUSED_DEVICES = frozenset({"cpu", "cuda", "meta"})

_cuda_runs: dict[int, bool] = {}


def _runs_on(device: int) -> bool:
    """Whether the CUDA kernels run on this GPU, which is asked once; if not, one warning says why."""
    if device not in _cuda_runs:
        problem = operators.cuda_problem(device)
        _cuda_runs[device] = problem is None
        if problem:
            warnings.warn(
                f"fan_ext: its CUDA kernels do not run on device {device}: {problem}. Plain PyTorch serves, slower",
                RuntimeWarning,
                stacklevel=2,
            )
    return _cuda_runs[device]


# A constant in compiled graphs. torch.compiler.assume_constant_result says so too, but imports the whole compiler.
_runs_on._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _fused_on(device: torch.device) -> bool:
    return device.type in _FUSED_DEVICES and (device.type != "cuda" or _runs_on(device.index))


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
    """Pool the frame features of each clip with self-attention and relation-attention weights.

    With frame features f_i, ``self_weight`` q0 and ``relation_weight`` q1:

        alpha_i = sigmoid(f_i . q0 + b0)
        g       = sum alpha_i f_i / sum alpha_i
        beta_i  = sigmoid([f_i : g] . q1 + b1)
        out     = sum alpha_i beta_i [f_i : g] / sum alpha_i beta_i

    Equations 2 to 5 of Meng et al., "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP 2019.
    The sums do not underflow, whatever the size of the logits.

    Args:
        features: (B, N, D); or (N, D), a single clip; or (T, D) with ``offsets``; or a jagged nested tensor
            (B, N_b, D). float32, float16, bfloat16 (accumulated in float32) or float64.
        self_weight: (D,), in the features' dtype or float32, as all parameters.
        relation_weight: (2D,), or None for self-attention only: out is then g.
        self_bias: one element, or None.
        relation_bias: one element, or None.
        mask: (B, N), or (N,) for a single clip, bool, True where a frame is present. An absent
            frame contributes exactly nothing, whatever its features. A clip without frames gives zeros.
        offsets: (B + 1,) int64 or int32, ascending: clip b has the frames ``offsets[b]`` to ``offsets[b + 1]`` of T.
        max_frames: packed clips end here: of a longer one the frames from this number on contribute nothing, as absent
            ones. The length of the longest clip, where it is known, lets CUDA kernels be chosen for it.
        return_weights: also return the weights of the frames.

    Returns:
        (B, 2D), or (B, D) without ``relation_weight``, in the features' dtype; (2D,) or (D,) for a single clip. With
        ``return_weights`` also :class:`FrameWeights`, float32 (float64 for float64 features), shaped like the frames:
        (B, N), (N,), (T,), or jagged.

    Raises:
        RuntimeError: an argument has a wrong shape, dtype, device or value; the message names it.
        TypeError: an argument is no tensor.

    Differentiable once, also through ``alpha`` and ``beta``, and in forward mode; torch.compile, torch.export and
    torch.func take it as it is (docs/operator.md has the list). Under autocast the features keep their dtype, as their
    sums are accumulated in float32 anyway. Devices without a fused kernel run the plain
    :func:`fan_ext.reference.frame_attention`.
    """
    others: Any = (self_weight, relation_weight, self_bias, relation_bias, mask, offsets)
    try:
        if features.is_nested:
            return _jagged(features, others[:4], mask, offsets, max_frames, return_weights)
        device = features.device
        for argument in others:
            if argument is not None and argument.device != device:
                raise RuntimeError(
                    f"fan_ext.frame_attention: an argument of shape {tuple(argument.shape)} is on {argument.device}, "
                    f"expected {device} like features"
                )
    except (AttributeError, RuntimeError):
        _check_tensors(features, *others)  # not before: a short call would notice
        raise
    if others[0] is None:
        _check_tensors(features, *others)
    if not (features.is_cpu and _FUSED_DEVICES) and not _fused_on(device):  # is_cpu is quicker than the device's type
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
    single = offsets is None and features.dim() == 2
    if single:
        if mask is not None and mask.shape != features.shape[:1]:
            raise RuntimeError(
                f"fan_ext.frame_attention: mask has shape {tuple(mask.shape)}, expected {tuple(features.shape[:1])} "
                f"for features of shape {tuple(features.shape)}"
            )
        features, mask = features.unsqueeze(0), None if mask is None else mask.unsqueeze(0)
    arguments = (
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
    # Whoever traces or transforms must see the operator. All others are spared its way through autograd's dispatch, or
    # through autograd, which doubles the time of a short call. For its sake operators.transforms_active is spelt out.
    if is_compiling() or _is_tracing() or _are_functorch_transforms_active() or forward_ad._current_level >= 0:
        results = operators.forward(*arguments)
    elif torch.is_grad_enabled() and operators.require_grad(*arguments[:5]):
        if not return_weights:
            out = operators.out_with_gradient(*arguments)
            return out.squeeze(0) if single else out
        results = operators.with_gradient(*arguments)
    else:
        with operators.BelowAutograd():
            results = operators.forward_now(*arguments)
    out, _, alpha, beta, final = results
    if single:
        out = out.squeeze(0)
    if not return_weights:
        return out
    if single:
        alpha, beta, final = alpha.squeeze(0), beta.squeeze(0), final.squeeze(0)
    return out, FrameWeights(alpha, None if relation_weight is None else beta, final)


def _check_tensors(features: object, *others: object) -> None:
    """Raises TypeError for an argument that is no tensor."""
    names = ("self_weight", "relation_weight", "self_bias", "relation_bias", "mask", "offsets")
    for name, argument in (("features", features), *zip(names, others, strict=True)):
        if not isinstance(argument, Tensor) and (argument is not None or name in ("features", "self_weight")):
            raise TypeError(f"fan_ext.frame_attention: {name} is a {type(argument).__name__}, expected a tensor")


def _jagged(
    features: Any,
    parameters: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
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
    if max_frames is None:
        max_frames = features._maybe_max_seqlen  # None unless somebody has asked for it
    result = frame_attention(
        features.values(), *parameters, offsets=starts, max_frames=max_frames, return_weights=return_weights
    )
    if isinstance(result, Tensor):
        return result
    out, weights = result

    def jagged(weight: Tensor) -> Tensor:
        nested = torch.nested.nested_tensor_from_jagged(weight, starts)
        # A graph does not return views of nested tensors of two dimensions.
        return nested.clone() if torch.compiler.is_compiling() else nested

    alpha, beta, final = weights
    return out, FrameWeights(jagged(alpha), None if beta is None else jagged(beta), jagged(final))
