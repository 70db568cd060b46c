"""The compiled operators, and what torch must know of them to differentiate, transform, trace and export them.

``torch.ops.fan_ext.frame_attention_forward`` and ``_backward`` carry all of it themselves, so that a graph that holds
nothing but them can be trained and transformed too. :func:`fan_ext.frame_attention` is what to call.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _AutoDispatchBelowAutograd
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from fan_ext import reference
from fan_ext.library import load_native, load_operators

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

_path = load_operators()
forward: Callable[..., _Results] = torch.ops.fan_ext.frame_attention_forward.default
backward: Callable[..., _Results] = torch.ops.fan_ext.frame_attention_backward.default
# The same, without a frame of Python in between.
forward_now: Callable[..., _Results] = forward._op  # type: ignore[attr-defined]
backward_now: Callable[..., _Results] = backward._op  # type: ignore[attr-defined]

_library = torch.library.Library("fan_ext", "IMPL")
_register_fake: Callable[[str], Callable[[_Function], _Function]] = torch.library.register_fake
_register_vmap: Callable[[str], Callable[[_Function], _Function]] = torch.library.register_vmap


def cuda_problem(device: int) -> str | None:
    """Why the CUDA kernels do not run on this GPU; empty if they were not built at all, None if they run."""
    if load_native().build_info()["cuda"] is None:
        return ""
    ask = ctypes.CDLL(str(_path)).fan_ext_cuda_problem
    ask.restype = ctypes.c_char_p
    answer: bytes | None = ask(device)
    return None if answer is None else answer.decode()


def transforms_active() -> bool:
    """Whether torch.func or forward-mode differentiation is at work."""
    return _are_functorch_transforms_active() or forward_ad._current_level >= 0


# Inside, operators are called past autograd.
BelowAutograd = _AutoDispatchBelowAutograd


def _without_derivative(function: Callable[..., _Results], *arguments: Any) -> _Results:
    with BelowAutograd():
        return function(*arguments)


def _without_derivative_here(function: Callable[..., _Results], *arguments: Any) -> _Results:
    """Inside an autograd function, which turns gradients off: the transforms around this one still want theirs."""
    if not transforms_active():
        return _without_derivative(function, *arguments)
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
        return _without_derivative(function, *arguments)


def require_grad(*tensors: Tensor | None) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


def _have_tangents(tensors: Sequence[Tensor | None]) -> bool:
    if not transforms_active():
        return False
    return any(t is not None and forward_ad.unpack_dual(t, level=0).tangent is not None for t in tensors)


def _apply(function: Any, *arguments: Any) -> Any:
    if not _are_functorch_transforms_active():
        return function.apply(*arguments)
    with enable_single_level_autograd_function():
        return function.apply(*arguments)


# --- the derivative -----------------------------------------------------------


def with_gradient(*arguments: Any) -> _Results:
    """The forward operator, noted for the backward pass."""
    results: _Results = _apply(_Forward, *arguments)
    return results


def out_with_gradient(*arguments: Any) -> Tensor:
    """The first result of :func:`with_gradient`; autograd need not look after the others, which takes it time."""
    out: Tensor = _apply(_ForwardOut, *arguments)
    return out


def _differentiable_forward(*arguments: Any) -> _Results:
    """The forward operator with what autograd has to do around it."""
    tensors = arguments[:5]
    if _have_tangents(tensors):
        return reference.forward(*arguments)  # of torch's own operators, which know their tangents
    if torch.is_grad_enabled() and require_grad(*tensors):
        return with_gradient(*arguments)
    return _without_derivative(forward, *arguments)


def _differentiable_backward(*arguments: Any) -> _Results:
    tensors = [t for t in arguments if isinstance(t, Tensor)]
    if _have_tangents(tensors):
        return reference.backward(*arguments)
    if torch.is_grad_enabled() and require_grad(*tensors):
        results: _Results = _apply(_Backward, *arguments)
        return results
    return _without_derivative(backward, *arguments)


_library.impl("frame_attention_forward", _differentiable_forward, "Autograd")
_library.impl("frame_attention_backward", _differentiable_backward, "Autograd")


class _SingleLevel(_SingleLevelFunction):
    """torch.autograd.Function inside an operator, where torch.func has chosen a level and asks about that one alone."""

    _compiled_autograd_key = staticmethod(torch.autograd.Function._compiled_autograd_key)


class _Forward(_SingleLevel):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        *tensors, max_frames, return_weights = arguments
        results = out, saved, alpha, beta, final = _without_derivative_here(forward_now, *arguments)
        ctx.save_for_backward(*tensors, out, saved)
        ctx.max_frames = max_frames
        # Which of them there are. An absent one is an empty tensor, and whoever fills in zeros for results that nobody
        # used fills in one for it, too.
        ctx.weights = (return_weights, return_weights and tensors[2] is not None)
        absent = [weight for weight, there in zip((alpha, beta), ctx.weights, strict=True) if not there]
        ctx.mark_non_differentiable(saved, final, *absent)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(
        ctx: Any,
        grad_out: Tensor | None,
        of_saved: None = None,
        grad_alpha: Tensor | None = None,
        grad_beta: Tensor | None = None,
        of_final: None = None,
    ) -> tuple[Tensor | None, ...]:
        features, self_weight, relation_weight, self_bias, relation_bias, mask, offsets, out, saved = ctx.saved_tensors
        has_alpha, has_beta = ctx.weights
        arguments = (
            torch.zeros_like(out) if grad_out is None else grad_out,
            grad_alpha if has_alpha else None,
            grad_beta if has_beta else None,
            features,
            self_weight,
            relation_weight,
            mask,
            offsets,
            ctx.max_frames,
            out,
            saved,
            ctx.needs_input_grad[0],
            self_bias,
            relation_bias,
        )
        if torch.is_grad_enabled() or transforms_active():
            d_features, d_q0, d_q1, d_b0, d_b1 = backward(*arguments)
        else:
            with BelowAutograd():
                d_features, d_q0, d_q1, d_b0, d_b1 = backward_now(*arguments)
        return (
            d_features if ctx.needs_input_grad[0] else None,
            d_q0,
            None if relation_weight is None else d_q1,
            None if self_bias is None else d_b0 if self_bias.dim() == 1 else d_b0.reshape(self_bias.shape),
            None if relation_bias is None else d_b1 if relation_bias.dim() == 1 else d_b1.reshape(relation_bias.shape),
            *(None, None, None, None),
        )


class _ForwardOut(_Forward):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        return _Forward.forward(ctx, *arguments)[0]


class _Backward(_SingleLevel):
    """Entered with create_graph=True only: a second derivative would otherwise be silently zero."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        return _without_derivative_here(backward, *arguments)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
        raise RuntimeError(
            "fan_ext.frame_attention: its gradient is not differentiable (double backward), expected first derivatives "
            "only; use fan_ext.reference.frame_attention for higher ones"
        )


# --- shapes without values ----------------------------------------------------


@_register_fake("fan_ext::frame_attention_forward")
def _fake_forward(
    features: Tensor,
    self_weight: Tensor,
    relation_weight: Tensor | None,
    self_bias: Tensor | None,
    relation_bias: Tensor | None,
    mask: Tensor | None,
    offsets: Tensor | None,
    max_frames: int | None,
    return_weights: bool,
) -> _Results:
    if features.dim() != (3 if offsets is None else 2):
        raise RuntimeError(
            f"fan_ext.frame_attention: features has shape {tuple(features.shape)}, expected (B, N, D), (N, D), "
            "or (T, D) with offsets"
        )
    dim = features.shape[-1]
    frames = features.shape[:-1]
    clips = frames[0] if offsets is None else offsets.shape[0] - 1
    relation = relation_weight is not None
    accumulator = torch.float64 if features.dtype == torch.float64 else torch.float32
    per_frame = [
        features.new_empty(frames if wanted else (0,), dtype=accumulator)
        for wanted in (return_weights, return_weights and relation, return_weights)
    ]
    return (
        features.new_empty(clips, 2 * dim if relation else dim),
        features.new_empty(5 if relation else 2, math.prod(frames), dtype=accumulator),
        per_frame[0],
        per_frame[1],
        per_frame[2],
    )


@_register_fake("fan_ext::frame_attention_backward")
def _fake_backward(
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
) -> _Results:
    def gradient(of: Tensor | None, size: int) -> Tensor:
        return (saved if of is None else of).new_empty(size)

    relation = relation_weight is not None
    return (
        features.new_empty(features.shape if features_need_grad else (0,)),
        gradient(self_weight, self_weight.shape[0]),
        gradient(relation_weight, 2 * self_weight.shape[0] if relation else 0),
        gradient(self_bias, 1),
        gradient(relation_bias, 1 if relation else 0),
    )


# --- vmap ---------------------------------------------------------------------


@_register_vmap("fan_ext::frame_attention_forward")
def _vmap_forward(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
    """Dense clips of all slices are so many clips more. Slices with parameters of their own go through torch."""
    features, *parameters, mask, offsets, max_frames, return_weights = arguments
    if offsets is not None:
        return _slice_by_slice(forward, info.batch_size, in_dims, arguments)
    if any(d is not None for d in in_dims[1:5]):
        return reference.forward(*_sliced(info.batch_size, in_dims, arguments)), 0
    features, mask = (
        None if tensor is None else tensor.flatten(0, 1)
        for tensor in _sliced(info.batch_size, (in_dims[0], in_dims[5]), (features, mask))
    )
    out, saved, *weights = forward(features, *parameters, mask, None, max_frames, return_weights)
    shapes = (info.batch_size, -1)
    there = (return_weights, return_weights and parameters[1] is not None, return_weights)
    results = [
        out.unflatten(0, shapes),
        saved.unflatten(1, shapes),
        *(w.unflatten(0, shapes) if t else w for w, t in zip(weights, there, strict=True)),
    ]
    return tuple(results), (0, 1, *(0 if t else None for t in there))


@_register_vmap("fan_ext::frame_attention_backward")
def _vmap_backward(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
    """Each slice has gradients of the parameters of its own, where the operator would add them up."""
    if arguments[7] is not None:
        return _slice_by_slice(backward, info.batch_size, in_dims, arguments)
    return reference.backward(*_sliced(info.batch_size, in_dims, arguments)), 0


def _sliced(size: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]) -> list[Any]:
    """Every tensor with the slices in front."""
    return [
        a if not isinstance(a, Tensor) else a.expand(size, *a.shape) if d is None else a.movedim(d, 0)
        for a, d in zip(arguments, in_dims, strict=True)
    ]


def _slice_by_slice(
    operator: Callable[..., _Results], size: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]
) -> Any:
    """Packed clips: a slice is a batch of its own already."""
    slices = [
        operator(*(a if d is None else a.select(d, i) for a, d in zip(arguments, in_dims, strict=True)))
        for i in range(size)
    ]
    return tuple(torch.stack(results) for results in zip(*slices, strict=True)), 0
