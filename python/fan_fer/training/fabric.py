"""The device, and the processes that torchrun started, by way of Lightning Fabric."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from fan_fer.attention.scoring import ClipScores
from fan_fer.base.errors import TrainingError


@cache
def make_fabric(device: str, precision: str) -> Fabric:
    """Fabric over all processes of this job: one, or those of torchrun. ``device``: "auto", "cpu" or "cuda".

    Raises TrainingError where there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise TrainingError(f'device "{device}": unknown; "auto", "cpu" or "cuda" is wanted')
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f'device "cuda": torch {torch.__version__} finds no GPU here; use "cpu"')
    if device == "cpu" and precision == "16-mixed":
        raise TrainingError('precision "16-mixed": needs a GPU; "bf16-mixed" or "32-true" is wanted on the CPU')
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    world, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    strategy = DDPStrategy(process_group_backend="gloo" if device == "cpu" else "nccl") if world > 1 else "auto"
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]  # checked by the recipe
    )
    fabric.launch()
    return fabric


def gather_scores(own: Sequence[int], scores: Sequence[ClipScores], count: int) -> list[ClipScores]:
    """The scores of clips 0 to ``count``, in order, in every process; this one has those of the clips ``own``."""
    if not torch.distributed.is_initialized():
        return list(scores)
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, list(zip(own, scores, strict=True)))
    gathered = dict(pair for part in parts for pair in part)
    return [gathered[clip] for clip in range(count)]
