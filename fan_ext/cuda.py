"""How a call would be laid out on a GPU. Needs none, nor torch."""

from __future__ import annotations

from typing import Any

from fan_ext.library import load_native

_TYPES = ("float32", "float64", "float16", "bfloat16")  # in the order of csrc/cuda/plan.h


def cuda_launch_plan(
    batch: int,
    frames: int | None,
    dim: int,
    dtype: Any = "float32",
    compute_capability: tuple[int, int] = (9, 0),
    backward: bool = False,
    relation: bool = True,
    *,
    total_frames: int | None = None,
) -> dict[str, Any]:
    """The launches that :func:`fan_ext.frame_attention` makes for such features; the function that the launcher calls.

    Args:
        batch: number of clips B.
        frames: frames N of a clip, or of the longest packed one; None for packed clips without ``max_frames``, planned
            by ``total_frames``.
        dim: features D of a frame.
        dtype: of the features, as torch's or by name: float32, float64, float16, bfloat16.
        compute_capability: of the device, such as ``torch.cuda.get_device_capability()``.
        backward: the plan of the backward pass.
        relation: with relation-attention.
        total_frames: frames T of all packed clips together; None for dense ones.

    Returns:
        ``regime`` ("registers", "resident", "cluster" or "split", see docs/cuda.md), ``launches``, and for each,
        in order, in ``kernels``: its ``name``, ``grid`` and ``block`` (blocks, and threads of each), ``shared_bytes``
        of a block; these of the first also directly. ``cluster`` (blocks that share a clip), ``clips_per_block``,
        ``rows_in_shared`` (of a clip, or of a block's part of one), ``part_frames`` (of a part of a split clip, else 0;
        of packed clips the least), ``copy_bytes`` (features go to shared memory so many at a time),
        ``workspace_bytes``. Rows are taken to be aligned as far as dim allows it.

    Raises:
        ValueError: a size is negative or missing, or dtype or compute capability is unknown.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in _TYPES:
        raise ValueError(f"cuda_launch_plan: dtype is {name}, expected one of {', '.join(_TYPES)}")
    if batch < 0 or dim < 1 or (frames or 0) < 0 or (total_frames or 0) < 0:
        raise ValueError(
            f"cuda_launch_plan: batch, frames, dim, total_frames are {batch}, {frames}, {dim}, {total_frames}, "
            "expected no negative ones and dim at least 1"
        )
    if frames is None and total_frames is None:
        raise ValueError("cuda_launch_plan: frames and total_frames are None, expected one of them")
    major, minor = compute_capability
    if major < 7 or not 0 <= minor <= 9:
        raise ValueError(f"cuda_launch_plan: compute_capability is {compute_capability}, expected (7, 0) or more")
    sizes = (batch, -1 if frames is None else frames, dim)
    capability = 10 * major + minor
    total = -1 if total_frames is None else total_frames
    return dict(load_native().cuda_launch_plan(*sizes, _TYPES.index(name), capability, backward, relation, total))
