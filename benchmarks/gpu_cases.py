"""What is timed on a GPU: clips, the operator, PyTorch's forms of it, and the bounds that memory sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from baselines import Function, Size, compulsory_bytes, eager, eager_without_concatenation
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import fan_ext

DENSE, PACKED, UNKNOWN = LAYOUTS = ("dense", "packed", "packed, longest unknown")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FUSED, FUSED_SELF = OURS = ("fused", "fused, self-attention only")
NEAREST = "scaled_dot_product_attention"
FORMS: dict[str, Function] = {"eager": eager, "eager, no concatenation": eager_without_concatenation}
PADDED = "eager, padded"
COMPILED = "the faster eager form, compiled"


class Case(NamedTuple):
    """Packed clips have ``frames`` on average, from half of it to half as many again."""

    size: Size
    layout: str = DENSE

    def __str__(self) -> str:
        return str(self.size) if self.layout == DENSE else f"{self.size}, {self.layout}"

    @property
    def total_frames(self) -> int | None:
        """Of packed clips."""
        return None if self.layout == DENSE else self.size.clips * self.size.frames

    @property
    def longest(self) -> int | None:
        """As the operator is told."""
        return {DENSE: self.size.frames, PACKED: self.size.frames + self.size.frames // 2}.get(self.layout)


# Those that say most come first, as time may end: every regime, 5 KB to 2 GB of float32 features, D from 64 to 1024.
CASES = (
    *(Case(Size(4096, 16, 512)), Case(Size(64, 300, 512)), Case(Size(1, 3, 512)), Case(Size(60_000, 16, 512))),
    *(Case(Size(16, 1000, 512)), Case(Size(256, 100, 512))),
    *(Case(Size(64, 300, 512), layout) for layout in (PACKED, UNKNOWN)),
    *(Case(Size(512, 1000, 1024)), Case(Size(4096, 3, 512)), Case(Size(1, 10_000, 512))),
    *(Case(Size(4096, 16, 512), layout) for layout in (PACKED, UNKNOWN)),
    *(Case(Size(60_000, 16, 64)), Case(Size(8192, 16, 768)), Case(Size(4096, 32, 1024))),
    *(Case(Size(1024, 32, 512)), Case(Size(4, 3000, 512)), Case(Size(8192, 128, 512))),
    *(Case(Size(16, 1000, 512), layout) for layout in (PACKED, UNKNOWN)),
)


@dataclass(frozen=True)
class Inputs:
    leaves: list[Tensor]  # features and the four parameters
    options: dict[str, Any]
    padded: Tensor | None = None  # packed clips as PyTorch's forms take them
    present: Tensor | None = None


def make_inputs(case: Case, dtype: torch.dtype, device: str, seed: int = 0) -> Inputs:
    """Features of one standard deviation, parameters that keep the logits near it, in the features' own type."""
    generator = torch.Generator(device).manual_seed(seed)
    clips, frames, dim = case.size

    def randn(*shape: int, scale: float = 1) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype).mul_(scale).requires_grad_()

    parameters = [randn(n, scale=n**-0.5) for n in (dim, 2 * dim, 1, 1)]
    if case.layout == DENSE:
        return Inputs([randn(clips, frames, dim), *parameters], {})
    features = randn(clips * frames, dim)
    # Every second clip is as much longer as the one before it is shorter.
    change = torch.randint(frames // 2 + 1, ((clips + 1) // 2,), generator=torch.Generator().manual_seed(seed))
    lengths = frames + torch.stack([-change, change], 1).flatten()[:clips]
    lengths[-1] += clips * frames - lengths.sum()  # of an odd number, the last has no partner
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(device)
    options = {"offsets": offsets} | ({} if case.longest is None else {"max_frames": case.longest})
    present = (torch.arange(int(lengths.max())) < lengths[:, None]).to(device)
    padded = features.new_zeros(*present.shape, dim)
    padded[present] = features.detach()
    return Inputs([features, *parameters], options, padded.requires_grad_(), present.to(dtype))


def nearest(features: Tensor, query: Tensor) -> Tensor:
    """The attention that torch has fused, with one query for all clips: weights by softmax, not by sigmoids."""
    rows = features.unsqueeze(1)
    return scaled_dot_product_attention(query.expand(len(features), 1, 1, -1), rows, rows, scale=1.0).flatten(1)


def self_only(features: Tensor, q0: Tensor, b0: Tensor) -> Tensor:
    return fan_ext.frame_attention(features, q0, None, b0)


def functions(case: Case, inputs: Inputs) -> dict[str, tuple[Function, list[Tensor]]]:
    """Ours and what it is compared with, by name; with the tensors that each takes, and that get gradients."""
    fused = partial(fan_ext.frame_attention, **inputs.options)
    features, q0, q1, b0, b1 = inputs.leaves
    if case.layout != DENSE:
        assert inputs.padded is not None
        return {
            FUSED: (fused, inputs.leaves),
            PADDED: (partial(eager, present=inputs.present), [inputs.padded, q0, q1, b0, b1]),
        }
    return {
        FUSED: (fused, inputs.leaves),
        **{name: (form, inputs.leaves) for name, form in FORMS.items()},
        FUSED_SELF: (self_only, [features, q0, b0]),
        NEAREST: (nearest, [features, q0]),
    }


def needed_bytes(case: Case, dtype: torch.dtype, passes: str, name: str) -> int:
    """That no implementation can do without; out has half as much without relation-attention."""
    with_relation = compulsory_bytes(case.size, dtype.itemsize, passes)
    missing = name in (FUSED_SELF, NEAREST) and passes != "backward"
    return with_relation - missing * case.size.clips * case.size.dim * dtype.itemsize


def make_call(function: Function, leaves: list[Tensor], passes: str) -> Callable[[], object]:
    """What to time. Gradients of the leaves are asked for, nothing is added to what they have."""
    if passes == "forward":

        def forward() -> Tensor:
            with torch.no_grad():
                return function(*leaves)

        return forward
    out = function(*leaves)
    upstream = torch.ones_like(out)
    if passes == "both":
        return lambda: torch.autograd.grad(function(*leaves), leaves, upstream)
    return lambda: torch.autograd.grad(out, leaves, upstream, retain_graph=True)
