"""Every transformation of torch, over every layout, beside the plain PyTorch reference in float64."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from operator_cases import TOLERANCE
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import fan_ext
from fan_ext import FrameWeights, reference

LAYOUTS = ("dense", "masked", "packed", "jagged", "single")
# What a loss looks at: (out, weights) is returned where it needs the weights.
USES = ("out", "out of both", "alpha", "beta", "out and alpha", "all")
DIM = 9


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """torch warns where it does something slowly, slice by slice, for want of a rule."""
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(performance drop|batching rule|autograd kernel|falling back).*")
        yield


@dataclass
class Clips:
    """Frame features, and how they are given to the operator."""

    layout: str
    leaves: tuple[Tensor, ...]  # features, as dense or packed values, and the parameters
    mask: Tensor | None = None
    offsets: Tensor | None = None
    max_frames: int | None = None

    def apply(self, function: Callable[..., Any], *leaves: Tensor, return_weights: bool = False) -> Any:
        features, *parameters = leaves
        if self.layout == "jagged":
            if not features.is_nested:
                features = torch.nested.nested_tensor_from_jagged(features, self.offsets)
            return function(features, *parameters, return_weights=return_weights)
        layout = {"mask": self.mask, "offsets": self.offsets, "max_frames": self.max_frames}
        return function(features, *parameters, **layout, return_weights=return_weights)

    def results(self, function: Callable[..., Any], *leaves: Tensor) -> tuple[Tensor, ...]:
        """out, alpha, beta, final as plain tensors."""
        out, weights = self.apply(function, *leaves, return_weights=True)
        return (out, *(w.values() if w.is_nested else w for w in weights))

    def use(self, what: str, function: Callable[..., Any], *leaves: Tensor) -> Tensor:
        """A loss of what the operator returns."""
        if what == "out":
            return self.apply(function, *leaves).square().sum()
        out, alpha, beta, _ = self.results(function, *leaves)
        terms = {"out": out.square().sum(), "alpha": (alpha - 0.3).square().sum(), "beta": beta.cos().sum()}
        chosen = {"out of both": ["out"], "out and alpha": ["out", "alpha"], "all": list(terms)}.get(what, [what])
        return sum(terms[name] for name in chosen)

    def to(self, dtype: torch.dtype) -> Clips:
        return Clips(self.layout, tuple(leaf.to(dtype) for leaf in self.leaves), self.mask, self.offsets)


def make_clips(layout: str, seed: int = 0) -> Clips:
    generator = torch.Generator().manual_seed(seed)
    shape = {"dense": (3, 5), "masked": (3, 5), "packed": (11,), "jagged": (9,), "single": (5,)}[layout]
    features = torch.randn(*shape, DIM, generator=generator)
    parameters = [torch.randn(n, generator=generator) / DIM**0.5 for n in (DIM, 2 * DIM, 1, 1)]
    clips = Clips(layout, (features, *parameters))
    if layout == "masked":
        clips.mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
        features[~clips.mask] = float("nan")
    if layout == "packed":  # the first and the last frame belong to no clip
        clips.offsets = torch.tensor([1, 5, 5, 8, 10], dtype=torch.int32)
    if layout == "jagged":
        clips.offsets = torch.tensor([0, 4, 8, 9])
    return clips


def gradients(loss: Callable[..., Tensor], leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = tuple(leaf.detach().clone().requires_grad_() for leaf in leaves)
    # Zero is right where a result does not depend on a leaf: alpha knows nothing of relation-attention.
    return torch.autograd.grad(loss(*leaves), leaves, allow_unused=True, materialize_grads=True)


def true_gradients(clips: Clips, what: str) -> tuple[Tensor, ...]:
    return gradients(
        lambda *leaves: clips.use(what, reference.frame_attention, *leaves), clips.to(torch.float64).leaves
    )


def assert_equal(actual: Any, expected: Any, dtype: torch.dtype = torch.float32, slack: float = 10) -> None:
    for got, wanted in zip(actual, expected, strict=True):
        assert got.shape == wanted.shape
        scale = max(wanted.abs().max().item() if wanted.numel() else 0.0, 1.0)
        torch.testing.assert_close(got.double(), wanted.double(), rtol=0, atol=slack * TOLERANCE[dtype] * scale)


class CountCalls(TorchDispatchMode):
    """The operators that reach a device, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


# --- torch.compile ------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_training_a_compiled_module(layout: str, backend: str) -> None:
    """As anyone would write it: the default arguments, and a loss of what comes back."""
    clips = make_clips(layout)
    pool = fan_ext.FrameAttention(DIM)
    compiled = torch.compile(pool, backend=backend)
    for parameter, value in zip(pool.parameters(), clips.leaves[1:], strict=True):
        parameter.data.copy_(value)
    features = clips.leaves[0].clone().requires_grad_()
    given = torch.nested.nested_tensor_from_jagged(features, clips.offsets) if layout == "jagged" else features
    layout_arguments = {} if layout == "jagged" else {"mask": clips.mask, "offsets": clips.offsets}
    compiled(given, **layout_arguments).square().sum().backward()
    assert_equal([features.grad, *(p.grad for p in pool.parameters())], true_gradients(clips, "out"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", USES)
@pytest.mark.parametrize(("backend", "dynamic"), [("eager", None), ("aot_eager", False), ("aot_eager", True)])
def test_compiled_results_used_in_part(layout: str, what: str, backend: str, dynamic: bool | None) -> None:
    clips = make_clips(layout)
    loss = torch.compile(
        lambda *leaves: clips.use(what, fan_ext.frame_attention, *leaves), backend=backend, dynamic=dynamic
    )
    assert_equal(gradients(loss, clips.leaves), true_gradients(clips, what))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", USES)
def test_results_used_in_part_outside_the_graph(layout: str, what: str) -> None:
    """The graph returns everything; what is not used comes back to it as zeros."""
    clips = make_clips(layout)
    compiled = torch.compile(fan_ext.frame_attention, backend="aot_eager", fullgraph=True)
    assert_equal(
        gradients(lambda *leaves: clips.use(what, compiled, *leaves), clips.leaves), true_gradients(clips, what)
    )


@pytest.mark.parametrize("dynamic", [True, None])
def test_compiled_for_changing_shapes(dynamic: bool | None) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, DIM), torch.nn.ReLU(), fan_ext.FrameAttention(DIM), _Head())
    compiled = torch.compile(network, fullgraph=True, dynamic=dynamic)
    for clips, frames in ((2, 7), (3, 5), (5, 12), (4, 3)):
        features = torch.randn(clips, frames, 4)
        expected, actual = (
            [t.clone() for t in torch.autograd.grad(f(features).square().sum(), tuple(network.parameters()))]
            for f in (network, compiled)
        )
        assert_equal(actual, expected)


class _Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = torch.nn.Linear(2 * DIM, 3)

    def forward(self, clip: Tensor) -> Tensor:
        return self.classifier(clip).log_softmax(-1)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_network_under_autocast(dtype: torch.dtype, compiled: bool) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, DIM), fan_ext.FrameAttention(DIM), _Head())
    run = torch.compile(network, fullgraph=True) if compiled else network
    features = torch.randn(3, 5, 4)
    with torch.autocast("cpu", dtype=dtype):
        assert network[:2](features).dtype == dtype
        loss = run(features).float().square().sum()
    actual = torch.autograd.grad(loss, tuple(network.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in actual)
    plain = network.double()

    def pooled(features: Tensor) -> Tensor:
        clip = reference.frame_attention(plain[0](features), *plain[1].parameters())
        return plain[2](clip)

    expected = torch.autograd.grad(pooled(features.double()).square().sum(), tuple(plain.parameters()))
    assert_equal(actual, expected, dtype)


def test_compiled_autograd() -> None:
    clips = make_clips("masked")
    features, *parameters = (leaf.clone().requires_grad_() for leaf in clips.leaves)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
        clips.use("all", fan_ext.frame_attention, features, *parameters).backward()
    assert_equal([leaf.grad for leaf in (features, *parameters)], true_gradients(clips, "all"))


def test_checkpointed() -> None:
    clips = make_clips("masked")

    def loss(*leaves: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(
            lambda *given: clips.use("all", fan_ext.frame_attention, *given), *leaves, use_reentrant=False
        )

    assert_equal(gradients(loss, clips.leaves), true_gradients(clips, "all"))


# --- forward mode -------------------------------------------------------------


def _tangents(clips: Clips, seed: int = 1) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(leaf.shape, generator=generator).to(leaf) for leaf in clips.leaves)


def _true_tangents(clips: Clips, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """By central differences of the reference in float64, which is right for final, too."""
    exact = clips.to(torch.float64)
    step = 1e-6
    moved = [
        clips.results(
            reference.frame_attention,
            *(leaf + side * step * t for leaf, t in zip(exact.leaves, tangents, strict=True)),
        )
        for side in (1, -1)
    ]
    return tuple((up - down) / (2 * step) for up, down in zip(*moved, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["jvp", "dual", "linearize", "compiled"])
def test_forward_mode(layout: str, way: str) -> None:
    clips = make_clips(layout)
    features, *parameters = clips.leaves
    tangents = _tangents(clips)
    first = 0
    if layout == "jagged":  # torch knows no tangents of nested tensors: only out has one, and of the parameters
        if way in ("linearize", "compiled"):
            pytest.skip("torch traces no nested tensors here")
        first = 1
        tangents = (torch.zeros_like(features), *tangents[1:])
        features = torch.nested.nested_tensor_from_jagged(features, clips.offsets)

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        if first:
            return (clips.apply(fan_ext.frame_attention, features, *leaves),)
        return clips.results(fan_ext.frame_attention, *leaves)

    leaves = (features, *parameters)[first:]
    if way == "dual":
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(leaf, t) for leaf, t in zip(leaves, tangents[first:], strict=True)]
            actual = tuple(forward_ad.unpack_dual(result).tangent for result in function(*duals))
    elif way == "linearize":
        clips.max_frames = 4 if layout == "packed" else None  # a trace cannot look at the offsets
        actual = torch.func.linearize(function, *leaves)[1](*tangents[first:])
    else:
        run = torch.compile(torch.func.jvp, backend="aot_eager") if way == "compiled" else torch.func.jvp
        actual = run(function, leaves, tangents[first:])[1]
    assert_equal(actual, _true_tangents(clips, tangents)[: len(actual)], slack=100)


@pytest.mark.parametrize("wanted", range(5))
def test_forward_mode_of_one_input_alone(wanted: int) -> None:
    clips = make_clips("dense")
    tangents = tuple(t if k == wanted else torch.zeros_like(t) for k, t in enumerate(_tangents(clips)))

    def of_one(leaf: Tensor) -> Tensor:
        leaves = [*clips.leaves[:wanted], leaf, *clips.leaves[wanted + 1 :]]
        return clips.apply(fan_ext.frame_attention, *leaves)

    _, actual = torch.func.jvp(of_one, (clips.leaves[wanted],), (tangents[wanted],))
    assert actual.abs().max() > 1e-3
    assert_equal([actual], _true_tangents(clips, tangents)[:1], slack=100)


@pytest.mark.parametrize("layout", ["dense", "packed"])
def test_the_raw_operator_has_tangents_and_gradients(layout: str) -> None:
    """It is all that an exported graph holds."""
    clips = make_clips(layout)

    def raw(*leaves: Tensor) -> Tensor:
        return torch.ops.fan_ext.frame_attention_forward(*leaves, clips.mask, clips.offsets, None, False)[0]

    tangents = _tangents(clips)
    _, actual = torch.func.jvp(raw, clips.leaves, tangents)
    assert_equal([actual], _true_tangents(clips, tangents)[:1], slack=100)
    assert_equal(gradients(lambda *leaves: raw(*leaves).square().sum(), clips.leaves), true_gradients(clips, "out"))


# --- torch.func ---------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dense", "masked", "packed", "single"])
@pytest.mark.parametrize("what", USES)
@pytest.mark.parametrize("compiled", [False, True])
def test_grad(layout: str, what: str, compiled: bool) -> None:
    if compiled and what != "out and alpha":
        pytest.skip("one use is enough here")
    clips = make_clips(layout)
    gradient = torch.func.grad(
        lambda *leaves: clips.use(what, fan_ext.frame_attention, *leaves), argnums=tuple(range(5))
    )
    if compiled:
        gradient = torch.compile(gradient, backend="aot_eager", fullgraph=True)
    assert_equal(gradient(*clips.leaves), true_gradients(clips, what))


def test_grad_of_the_parameters_beside_jagged_clips() -> None:
    """torch.func differentiates no nested tensors; it may stand beside what it does differentiate."""
    clips = make_clips("jagged")
    features = torch.nested.nested_tensor_from_jagged(clips.leaves[0], clips.offsets)
    gradient = torch.func.grad(
        lambda *parameters: clips.use("out", fan_ext.frame_attention, features, *parameters), argnums=(0, 1, 2, 3)
    )
    assert_equal(gradient(*clips.leaves[1:]), true_gradients(clips, "out")[1:])


@pytest.mark.parametrize("layout", ["dense", "masked", "packed", "single"])
def test_vjp_and_jacobians(layout: str) -> None:
    clips = make_clips(layout)
    exact = clips.to(torch.float64)

    def jacobians(transform: Any, function: Any, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return transform(lambda *given: clips.apply(function, *given), argnums=tuple(range(5)))(*leaves)

    expected = jacobians(torch.func.jacrev, reference.frame_attention, exact.leaves)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        assert_equal(jacobians(transform, fan_ext.frame_attention, clips.leaves), expected, slack=100)
    out, pull_back = torch.func.vjp(lambda *leaves: clips.apply(fan_ext.frame_attention, *leaves), *clips.leaves)
    assert_equal(pull_back(2 * out), true_gradients(clips, "out"))


@pytest.mark.parametrize("layout", ["dense", "masked", "packed"])
def test_second_derivatives_forward_over_reverse(layout: str) -> None:
    clips = make_clips(layout)

    def hessian(function: Any, leaves: tuple[Tensor, ...]) -> Tensor:
        features, *parameters = leaves
        return torch.func.hessian(lambda q0: clips.use("all", function, features, q0, *parameters[1:]))(parameters[0])

    expected = hessian(reference.frame_attention, clips.to(torch.float64).leaves)
    assert_equal([hessian(fan_ext.frame_attention, clips.leaves)], [expected], slack=100)


def test_reverse_over_reverse_is_refused_here_too() -> None:
    clips = make_clips("dense")

    def gradient(features: Tensor) -> Tensor:
        return torch.func.grad(lambda f: clips.use("out", fan_ext.frame_attention, f, *clips.leaves[1:]))(features)

    with pytest.raises(RuntimeError, match="double backward"):
        torch.func.grad(lambda features: gradient(features).sum())(clips.leaves[0])


def test_functional_call() -> None:
    clips = make_clips("masked")
    pool = fan_ext.FrameAttention(DIM)
    parameters = dict(zip(dict(pool.named_parameters()), clips.leaves[1:], strict=True))

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(pool, parameters, (clips.leaves[0], clips.mask)).square().sum()

    assert_equal(torch.func.grad(loss)(parameters).values(), true_gradients(clips, "out")[1:])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("what", USES)
def test_gradients_of_each_sample(masked: bool, compiled: bool, what: str) -> None:
    clips = make_clips("masked" if masked else "dense")
    features, *parameters = clips.leaves
    mask = clips.mask if masked else torch.ones(features.shape[:2], dtype=torch.bool)

    def of_sample(features: Tensor, mask: Tensor, *parameters: Tensor) -> Tensor:
        return Clips("single", (), mask).use(what, fan_ext.frame_attention, features, *parameters)

    per_sample = torch.vmap(torch.func.grad(of_sample, argnums=(0, 2, 3, 4, 5)), in_dims=(0, 0, None, None, None, None))
    if compiled:
        per_sample = torch.compile(per_sample, backend="aot_eager", fullgraph=True)
    actual = per_sample(features, mask, *parameters)
    expected = [
        true_gradients(Clips("single", (clip, *parameters), present), what)
        for clip, present in zip(features, mask, strict=True)
    ]
    assert_equal(actual, [torch.stack(of_leaf) for of_leaf in zip(*expected, strict=True)])


# Which of features, mask, parameters have slices, and along which dimension.
VMAPS = [
    *itertools.product((0, 1, None), (0, 1, None), (None,)),
    *((0, None, 0), (None, None, 0), (1, 0, 1), (0, 0, 0)),
]


@pytest.mark.parametrize(("features", "mask", "parameters"), [v for v in VMAPS if v != (None, None, None)])
@pytest.mark.parametrize("single", [False, True])
def test_vmap_of_dense_clips(features: int | None, mask: int | None, parameters: int | None, single: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    slices = [make_clips("single" if single else "dense", seed) for seed in range(4)]
    masks = [torch.rand(s.leaves[0].shape[:-1], generator=generator) < 0.7 for s in slices]
    tensors = [[s.leaves[0] for s in slices], *([s.leaves[k] for s in slices] for k in range(1, 5)), masks]
    dims = (features, *(None if d is None else (d if k < 2 else 0) for k, d in enumerate([parameters] * 4)), mask)
    given = [of[0] if d is None else torch.stack(of, d) for of, d in zip(tensors, dims, strict=True)]

    def function(features: Tensor, q0: Tensor, q1: Tensor, b0: Tensor, b1: Tensor, mask: Tensor) -> Any:
        out, weights = fan_ext.frame_attention(features, q0, q1, b0, b1, mask=mask, return_weights=True)
        return (out, *weights)

    with CountCalls() as calls:
        actual = torch.vmap(function, in_dims=dims)(*given)
    if parameters is None:  # one call for all slices
        assert calls.names.count("fan_ext::frame_attention_forward") == 1
    for i in range(4):
        own = [of[0 if d is None else i] for of, d in zip(tensors, dims, strict=True)]
        out, weights = reference.frame_attention(*(t.double() for t in own[:5]), mask=own[5], return_weights=True)
        assert_equal([result[i] for result in actual], (out, *weights))


@pytest.mark.parametrize("of_offsets", [None, 0])
def test_vmap_of_packed_clips(of_offsets: int | None) -> None:
    slices = [make_clips("packed", seed) for seed in range(3)]
    offsets = [slices[0].offsets, slices[0].offsets - 1, slices[0].offsets + 1]
    features = torch.stack([s.leaves[0] for s in slices])
    parameters = slices[0].leaves[1:]

    def function(features: Tensor, offsets: Tensor) -> Any:
        out, weights = fan_ext.frame_attention(features, *parameters, offsets=offsets, return_weights=True)
        return (out, *weights)

    given = offsets[0] if of_offsets is None else torch.stack(offsets)
    actual = torch.vmap(function, in_dims=(0, of_offsets))(features, given)
    for i in range(3):
        own = offsets[0 if of_offsets is None else i]
        out, weights = reference.frame_attention(
            features[i].double(), *(p.double() for p in parameters), offsets=own, return_weights=True
        )
        assert_equal([result[i] for result in actual], (out, *weights))


def test_autograd_through_vmap_and_batched_gradients() -> None:
    clips = make_clips("dense")
    expected = true_gradients(clips, "out")

    def loss(*leaves: Tensor) -> Tensor:
        single = torch.vmap(fan_ext.frame_attention, in_dims=(0, None, None, None, None))
        return single(*leaves).square().sum()

    assert_equal(gradients(loss, clips.leaves), expected)
    leaves = tuple(leaf.clone().requires_grad_() for leaf in clips.leaves)
    out = fan_ext.frame_attention(*leaves)
    upstream = torch.stack([2 * out.detach(), -out.detach()])
    batched = torch.autograd.grad(out, leaves, upstream, is_grads_batched=True)
    assert_equal([b[0] for b in batched], expected)
    assert_equal([-2 * b[1] for b in batched], expected)


def test_an_ensemble() -> None:
    """Stacked parameters of several modules, trained together."""
    pools = [fan_ext.FrameAttention(DIM) for _ in range(3)]
    parameters, _ = torch.func.stack_module_state(pools)
    features = torch.randn(4, 5, DIM)

    def run(parameters: dict[str, Tensor], features: Tensor) -> Tensor:
        return torch.func.functional_call(pools[0], parameters, (features,))

    out = torch.vmap(run, in_dims=(0, None))(parameters, features)
    actual = torch.autograd.grad(out.square().sum(), tuple(parameters.values()))
    for i, pool in enumerate(pools):
        assert_equal([out[i]], [pool(features)])
        expected = torch.autograd.grad(pool(features).square().sum(), tuple(pool.parameters()))
        assert_equal([gradient[i] for gradient in actual], expected)


# --- export, trace ------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dense", "masked", "packed", "single"])
@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("return_weights", [False, True])
def test_training_what_was_exported(layout: str, decomposed: bool, return_weights: bool) -> None:
    clips = make_clips(layout)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = fan_ext.FrameAttention(DIM)

        def forward(self, features: Tensor, mask: Tensor | None, offsets: Tensor | None) -> Any:
            return self.pool(features, mask, offsets=offsets, return_weights=return_weights)

    network = Network()
    for parameter, value in zip(network.parameters(), clips.leaves[1:], strict=True):
        parameter.data.copy_(value)
    arguments = (clips.leaves[0], clips.mask, clips.offsets)
    with torch.no_grad():  # as most people export
        program = torch.export.export(network, arguments)
    if decomposed:
        program = program.run_decompositions()
    exported = program.module()
    result = exported(*arguments)
    (result[0] if return_weights else result).square().sum().backward()
    found = {name.removeprefix("pool."): p.grad for name, p in exported.named_parameters()}
    names = ("self_weight", "relation_weight", "self_bias", "relation_bias")
    assert_equal([found[name] for name in names], true_gradients(clips, "out")[1:])


@pytest.mark.parametrize("return_weights", [False, True])
def test_jit_trace(return_weights: bool) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = fan_ext.FrameAttention(DIM)

        def forward(self, features: Tensor, mask: Tensor) -> Any:
            return self.pool(features, mask, return_weights=return_weights)

    network = Network().eval()
    mask = torch.rand(3, 5) < 0.7
    traced = torch.jit.trace(network, (torch.randn(3, 5, DIM), mask))
    assert "fan_ext::frame_attention_forward" in str(traced.inlined_graph)
    for shape in ((3, 5), (2, 8)):
        features, mask = torch.randn(*shape, DIM), torch.rand(shape) < 0.7
        expected, actual = network(features, mask), traced(features, mask)
        if return_weights:
            (expected, weights), (actual, traced_weights) = expected, actual
            assert_equal(traced_weights, weights)
        assert_equal([actual], [expected])
    traced(features, mask)[0].sum().backward()
    assert network.pool.self_weight.grad is not None


def test_graphs_of_torch_fx() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, DIM), fan_ext.FrameAttention(DIM))
    features = torch.randn(2, 3, 4)
    assert torch.equal(torch.fx.symbolic_trace(network)(features), network(features))
    graph = make_fx(network)(features)
    assert "fan_ext.frame_attention_forward.default" in [str(node.target) for node in graph.graph.nodes]
    assert torch.equal(graph(features), network(features))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_jit_script_is_refused() -> None:
    with pytest.raises(torch.jit.frontend.NotSupportedError):
        torch.jit.script(fan_ext.FrameAttention(DIM))


# --- one clip, types, calls ---------------------------------------------------


@pytest.mark.parametrize("relation", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_a_single_clip_needs_no_batch(relation: bool, masked: bool) -> None:
    pool = fan_ext.FrameAttention(DIM, relation=relation)
    features = torch.randn(5, DIM)
    mask = torch.tensor([True, False, True, True, False]) if masked else None
    out, weights = pool(features, mask, return_weights=True)
    batch, of_batch = pool(features[None], None if mask is None else mask[None], return_weights=True)
    assert torch.equal(out, batch[0])
    assert torch.equal(pool(features, mask), out)
    assert out.shape == (pool.out_features,)
    assert isinstance(weights, FrameWeights)
    for weight, expected in zip(weights, of_batch, strict=True):
        assert (weight is None) == (expected is None)
        assert weight is None or torch.equal(weight, expected[0])
    plain = reference.frame_attention(features, *_parameters(pool), mask=mask, return_weights=True)
    assert_equal([out, weights.alpha, weights.final], [plain[0], plain[1].alpha, plain[1].final])


def _parameters(pool: fan_ext.FrameAttention) -> tuple[Tensor | None, ...]:
    return pool.self_weight, pool.relation_weight, pool.self_bias, pool.relation_bias


@pytest.mark.parametrize("parameters", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_nothing_is_called_around_the_operator(parameters: torch.dtype, packed: bool) -> None:
    """No copies into other types: on a GPU each would be a launch. Of 16-bit parameters and int32 offsets either."""
    pool = fan_ext.FrameAttention(DIM, dtype=parameters)
    features = torch.randn(*((6,) if packed else (2, 3)), DIM, dtype=parameters, requires_grad=True)
    offsets = torch.tensor([0, 4, 6], dtype=torch.int32) if packed else None
    with CountCalls() as calls:
        out = pool(features, offsets=offsets)
    views = {"aten::detach", "aten::view", "aten::alias"}
    assert [name for name in calls.names if name not in views] == ["fan_ext::frame_attention_forward"]
    with CountCalls() as calls:
        gradients = torch.autograd.grad(out, [features, *pool.parameters()], torch.ones_like(out))
    assert [g.dtype for g in gradients] == [parameters] * 5
    own = [name for name in calls.names if name not in views]
    assert own == ["aten::ones_like", "fan_ext::frame_attention_backward"]


@pytest.mark.parametrize("known", [None, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_jagged_tensor_tells_its_longest_clip_where_it_knows_it(known: int | None, compiled: bool) -> None:
    """Which nobody asks for otherwise: to read it from the offsets would wait for the GPU."""
    clips = make_clips("jagged")
    given: list[int | None] = []

    class Arguments(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "frame_attention_forward" in str(function):
                given.append(args[7])
            return function(*args, **(kwargs or {}))

    limits = {} if known is None else {"min_seqlen": 1, "max_seqlen": known}
    features = torch.nested.nested_tensor_from_jagged(clips.leaves[0], clips.offsets, **limits)
    run = torch.compile(fan_ext.frame_attention, backend="aot_eager") if compiled else fan_ext.frame_attention
    run(features, *clips.leaves[1:])  # compiles
    with Arguments():
        out = run(features, *clips.leaves[1:])
    assert_equal([out], [reference.frame_attention(features, *clips.leaves[1:])])
    assert given == [known]
