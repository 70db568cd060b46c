"""Frame attention on the CPU in PyTorch's forms: what is timed, on which sizes, and what no implementation can beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from baselines import Size, compiled, eager
from torch import Tensor

import fan_ext

GRID = (
    *(Size(1, 3, 512), Size(1, 16, 512), Size(48, 3, 512), Size(64, 16, 512)),
    *(Size(16, 100, 512), Size(8, 300, 512), Size(256, 64, 512), Size(1, 10000, 512)),
)
LAYOUTS = ("dense", "masked", "packed")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FUSED, FLOOR = "fused", "floor"


def best_form(f: Tensor, q0: Tensor, q1: Tensor, b0: Tensor, b1: Tensor, present: Tensor | None = None) -> Tensor:
    """The same as ``eager`` without [f : g] of every frame, its sums as matrix products."""
    q1a, q1b = q1.chunk(2)
    s, z = (f @ torch.stack([q0, q1a], dim=1)).unbind(-1)
    alpha = torch.sigmoid(s + b0)
    if present is not None:
        alpha = alpha * present
    g = torch.bmm(alpha.unsqueeze(1), f).squeeze(1) / alpha.sum(1, keepdim=True)
    weight = alpha * torch.sigmoid(z + (g @ q1b).unsqueeze(1) + b1)
    v = torch.bmm(weight.unsqueeze(1), f).squeeze(1) / weight.sum(1, keepdim=True)
    return torch.cat([v, g], dim=-1)


FORMS: dict[str, Callable[..., Tensor]] = {"as written": eager, "best form": best_form}


@dataclass(frozen=True)
class Case:
    """The same clips for the operator and for PyTorch's forms, which see packed clips padded."""

    ours: list[Tensor]
    options: dict[str, Any]
    theirs: list[Tensor]
    present: Tensor | None

    def calls(self, passes: str, with_compiled: bool = True) -> dict[str, Callable[[], object]]:
        """What to time by name: ours, PyTorch's four forms, and the floor.

        passes: "forward" without gradients, "backward", or "both". The floor reads the features once (their sum) for
        forward, and reads and writes them once (adding 1) for backward.
        """
        forms = dict(FORMS)
        if with_compiled:
            forms |= {f"{name}, compiled": compiled(form) for name, form in FORMS.items()}
        arguments = (*self.theirs, *([] if self.present is None else [self.present]))
        calls = {FUSED: _pass(lambda: fan_ext.frame_attention(*self.ours, **self.options), self.ours, passes)}
        for name, form in forms.items():
            calls[name] = _pass(lambda form=form: form(*arguments), self.theirs, passes)
        features = self.ours[0].detach()
        written = torch.empty_like(features)
        read, write = lambda: torch.sum(features), lambda: torch.add(features, 1, out=written)
        floors = {"forward": read, "backward": write, "both": lambda: (read(), write())}
        return {**calls, FLOOR: floors[passes]}


def _pass(forward: Callable[[], Tensor], leaves: list[Tensor], passes: str) -> Callable[[], object]:
    if passes == "forward":

        def without_gradients() -> Tensor:
            with torch.no_grad():
                return forward()

        return without_gradients
    upstream = torch.ones_like(forward())
    if passes == "both":
        return lambda: torch.autograd.grad(forward(), leaves, upstream)
    out = forward()
    return lambda: torch.autograd.grad(out, leaves, upstream, retain_graph=True)


def make_case(size: Size, dtype: torch.dtype, layout: str) -> Case:
    """Features of one standard deviation, parameters that keep the logits near it; the same for the same arguments.

    Masked: an eighth of the frames is absent, never the first. Packed: clips of half to all of N frames.
    """
    generator = torch.Generator().manual_seed(0)
    clips, frames, dim = size
    features = torch.randn((clips, frames, dim), generator=generator)
    parameters = [torch.randn(n, generator=generator) / n**0.5 for n in (dim, 2 * dim, 1, 1)]
    present = torch.ones(clips, frames, dtype=torch.bool)
    if layout == "masked":
        present = torch.rand((clips, frames), generator=generator) >= 0.125
    if layout == "packed":
        lengths = torch.randint((frames + 1) // 2, frames + 1, (clips,), generator=generator)
        present = torch.arange(frames) < lengths[:, None]
    present[:, 0] = True

    def leaves(first: Tensor) -> list[Tensor]:
        return [t.to(dtype).clone().requires_grad_() for t in (first, *parameters)]

    theirs = leaves(features.masked_fill(~present.unsqueeze(-1), 0))
    if layout == "dense":
        return Case(leaves(features), {}, theirs, None)
    weights = present.to(dtype)
    if layout == "masked":
        return Case(leaves(features), {"mask": present}, theirs, weights)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), present.sum(1).cumsum(0)])
    return Case(leaves(features[present]), {"offsets": offsets}, theirs, weights)
