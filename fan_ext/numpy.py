"""Frame attention on NumPy arrays, for services that embed faces with another runtime. Does not load torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fan_ext.library import load_native

FloatArray = NDArray[np.floating[Any]]


class FrameWeights(NamedTuple):
    """Attention weights as :class:`fan_ext.FrameWeights` has them, each shaped like the frames: (B, N) or (T,)."""

    alpha: FloatArray
    beta: FloatArray | None
    final: FloatArray


def frame_attention(
    features: FloatArray,
    self_weight: FloatArray,
    relation_weight: FloatArray | None = None,
    self_bias: float | FloatArray | None = None,
    relation_bias: float | FloatArray | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    offsets: NDArray[np.integer[Any]] | None = None,
    return_weights: bool = False,
) -> FloatArray | tuple[FloatArray, FrameWeights]:
    """:func:`fan_ext.frame_attention` on arrays: same equations, same kernels, same bits.

    Args:
        features: (B, N, D), or (T, D) with ``offsets``; float32, float64 or float16.
        self_weight: (D,).
        relation_weight: (2D,), or None for self-attention only.
        self_bias: a number or an array of one element.
        relation_bias: a number or an array of one element.
        mask: (B, N) bool, True where a frame is present.
        offsets: (B + 1,) ascending integers within [0, T].
        return_weights: also return :class:`FrameWeights`.

    Returns:
        (B, 2D), or (B, D) without ``relation_weight``, in the features' dtype. It runs on the calling thread and
        releases the interpreter's lock, so that a service may call it from several threads.

    Raises:
        ValueError, TypeError: an argument has a wrong shape, value or dtype; the message names it.
    """
    native = load_native()
    features = np.asarray(features)
    kernels = {
        "float32": (native.frame_attention_float32, np.float32),
        "float64": (native.frame_attention_float64, np.float64),
        "float16": (native.frame_attention_float16, np.float32),
    }
    if features.dtype.name not in kernels:
        raise TypeError(f"frame_attention: features has dtype {features.dtype}, expected float32, float64 or float16")
    kernel, accumulator = kernels[features.dtype.name]
    if features.ndim != (3 if offsets is None else 2) or features.shape[-1] == 0:
        wanted = "(B, N, D)" if offsets is None else "(T, D) with offsets"
        raise ValueError(f"frame_attention: features has shape {features.shape}, expected {wanted}, D at least 1")
    dim = features.shape[-1]

    def parameter(name: str, value: Any, size: int) -> NDArray[Any]:
        array = np.ascontiguousarray(value, dtype=accumulator)
        if array.size != size or (size > 1 and array.ndim != 1):
            raise ValueError(f"frame_attention: {name} has shape {array.shape}, expected ({size},)")
        return array.reshape(-1)

    def bias(name: str, value: Any) -> float:
        return 0.0 if value is None else float(parameter(name, value, 1)[0])

    q0 = parameter("self_weight", self_weight, dim)
    q1 = None if relation_weight is None else parameter("relation_weight", relation_weight, 2 * dim)
    if relation_bias is not None and relation_weight is None:
        raise ValueError("frame_attention: relation_bias is given without relation_weight, expected both or neither")
    if mask is not None:
        mask = np.ascontiguousarray(mask)
        if offsets is not None:
            raise ValueError("frame_attention: mask and offsets are both given, expected one of them")
        if mask.dtype != np.bool_:
            raise TypeError(f"frame_attention: mask has dtype {mask.dtype}, expected bool")
        if mask.shape != features.shape[:2]:
            raise ValueError(f"frame_attention: mask has shape {mask.shape}, expected {features.shape[:2]}")
    starts = None if offsets is None else _check_offsets(np.asarray(offsets), features.shape[0])

    stored = np.require(features, features.dtype.name, ["C", "ALIGNED"])  # also of the other byte order
    half = stored.dtype == np.float16
    out: FloatArray
    out, alpha, beta, final = kernel(
        stored.view(np.uint16) if half else stored,
        q0,
        q1,
        bias("self_bias", self_bias),
        bias("relation_bias", relation_bias),
        mask,
        starts,
    )
    if half:
        out = out.view(np.float16)
    if not return_weights:
        return out
    return out, FrameWeights(alpha, None if relation_weight is None else beta, final)


def _check_offsets(offsets: NDArray[Any], total_frames: int) -> NDArray[np.int64]:
    if offsets.dtype.kind not in "iu":
        raise TypeError(f"frame_attention: offsets has dtype {offsets.dtype}, expected integers")
    if offsets.ndim != 1 or offsets.size < 1:
        raise ValueError(f"frame_attention: offsets has shape {offsets.shape}, expected (B + 1,)")
    starts = np.ascontiguousarray(offsets, dtype=np.int64)
    if (np.diff(starts) < 0).any():
        raise ValueError(f"frame_attention: offsets is {offsets.tolist()}, expected ascending values")
    if starts[0] < 0 or starts[-1] > total_frames:
        raise ValueError(
            f"frame_attention: offsets runs from {starts[0]} to {starts[-1]}, expected within 0 and {total_frames}, "
            "the number of frames"
        )
    return starts
