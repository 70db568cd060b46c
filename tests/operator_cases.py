"""Inputs for the operator's tests, and the judgement of its results against a float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import fan_ext
import fan_ext.functional  # registers the operators, which some tests call as torch.ops.fan_ext
from fan_ext import FrameWeights, reference

FRAMES = (1, 2, 3, 7, 16, 33, 100, 1000)
DIMS = (1, 3, 8, 31, 512, 513, 2048)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = ("dense", "masked", "packed", "strided", "self-only", "no-bias")
# Largest error allowed, relative to the largest element of the true result.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass
class Case:
    """Arguments of frame_attention, and the gradients to send back through its results."""

    features: Tensor
    parameters: list[Tensor | None]  # self_weight, relation_weight, self_bias, relation_bias
    layout: dict[str, Any] = field(default_factory=dict)  # mask, offsets, max_frames
    upstream_dtype: torch.dtype | None = None  # of the gradients sent back; the features' own by default

    @property
    def leaves(self) -> dict[str, Tensor]:
        names = ("features", "self_weight", "relation_weight", "self_bias", "relation_bias")
        return {n: t for n, t in zip(names, (self.features, *self.parameters), strict=True) if t is not None}

    def differentiable(self) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
        """What gradcheck wants: a function of the leaves whose results all carry gradients, and the leaves."""
        present = [p is not None for p in self.parameters]

        def function(features: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            rest = iter(given)
            parameters = [next(rest) if there else None for there in present]
            out, weights = fan_ext.frame_attention(features, *parameters, **self.layout, return_weights=True)
            return (out, weights.alpha) if weights.beta is None else (out, weights.alpha, weights.beta)

        return function, [t.clone().requires_grad_() for t in self.leaves.values()]

    def in_float64(self) -> Case:
        parameters = [None if p is None else p.double() for p in self.parameters]
        return Case(self.features.double(), parameters, self.layout, self.features.dtype)

    def to(self, device: torch.device | str) -> Case:
        layout = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in self.layout.items()}
        parameters = [None if p is None else p.to(device) for p in self.parameters]
        return Case(self.features.to(device), parameters, layout, self.upstream_dtype)

    def run(self, function: Callable[..., Any], direct: bool = True) -> dict[str, Tensor]:
        """Results and gradients by name. `direct`: gradients flow in through alpha and beta too."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.leaves.items()}
        parameters = [leaves.get(n) for n in ("self_weight", "relation_weight", "self_bias", "relation_bias")]
        out, weights = function(leaves["features"], *parameters, **self.layout, return_weights=True)
        results = {"out": out, **{n: w for n, w in weights._asdict().items() if w is not None}}
        sources = [n for n in ("out", "alpha", "beta") if n in results and (direct or n == "out")]
        generator = torch.Generator().manual_seed(0)
        dtype = self.upstream_dtype or self.features.dtype
        upstream = [torch.randn(results[n].shape, generator=generator).to(dtype).to(results[n]) for n in sources]
        gradients = torch.autograd.grad([results[n] for n in sources], list(leaves.values()), upstream)
        results = {n: r.detach() for n, r in results.items()}
        return results | {f"grad {n}": g for n, g in zip(leaves, gradients, strict=True)}


def make_case(layout: str, frames: int, dim: int, dtype: torch.dtype, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed + 7919 * frames + dim)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    # Parameters of float32 with half-precision features: what autocast gives.
    parameter_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    parameters: list[Tensor | None] = [
        (randn(dim) / dim**0.5).to(parameter_dtype),
        (randn(2 * dim) / dim**0.5).to(parameter_dtype),
        randn(1).to(parameter_dtype),
        randn(1).to(parameter_dtype),
    ]
    if layout == "packed":
        lengths = torch.tensor([frames, 0, (frames + 1) // 2, 1])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        return Case(randn(int(offsets[-1]), dim).to(dtype), parameters, {"offsets": offsets, "max_frames": frames})
    if layout == "strided":  # neither the clips, nor the frames, nor the elements of a frame lie side by side
        features = randn(frames, 2, 2 * dim).to(dtype)[:, :, ::2].transpose(0, 1)
        return Case(features, parameters)
    case = Case(randn(2, frames, dim).to(dtype), parameters)
    if layout == "masked":
        mask = torch.rand((2, frames), generator=generator) < 0.7
        mask[0, frames // 2] = True
        case.layout["mask"] = mask
    elif layout == "self-only":
        case.parameters[1] = case.parameters[3] = None
    elif layout == "no-bias":
        case.parameters[2] = case.parameters[3] = None
    return case


def truth(case: Case, direct: bool = True) -> dict[str, Tensor]:
    return case.in_float64().run(reference.frame_attention, direct)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype, slack: float = 1) -> None:
    """Every result within ``slack`` TOLERANCE of the true one, relative to its largest element.

    The gradient of the parameters is judged as one vector: an element that is a sum of many terms of either sign can be
    as small as chance makes it, and its error is that of the terms.
    """
    assert actual.keys() == expected.keys()

    def magnitude(names: list[str]) -> float:
        return max((expected[n].abs().max().item() for n in names if expected[n].numel()), default=0.0)

    parameters = [n for n in expected if n.startswith("grad") and n != "grad features"]
    for name, wanted in expected.items():
        got = actual[name].double().cpu()
        assert got.shape == wanted.shape, name
        assert torch.isfinite(got).all(), name
        scale = magnitude(parameters if name in parameters else [name])
        error = (got - wanted).abs().max().item() if wanted.numel() else 0.0
        assert error <= slack * TOLERANCE[dtype] * scale, f"{name}: error {error:.3g} at magnitude {scale:.3g}"


def as_tuple(result: tuple[Tensor, FrameWeights]) -> tuple[Tensor, ...]:
    out, weights = result
    return (out, *(w for w in weights if w is not None))
