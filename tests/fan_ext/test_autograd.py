"""gradcheck, opcheck, torch.compile, torch.export, autocast."""

from __future__ import annotations

import pytest
import torch
from operator_cases import DTYPES, LAYOUTS, Case, as_tuple, assert_close, make_case, truth

import fan_ext


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frames", [1, 5])
def test_gradcheck(layout: str, frames: int) -> None:
    case = make_case(layout, frames, 3, torch.float64)
    function, leaves = case.differentiable()
    assert torch.autograd.gradcheck(
        function, leaves, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )


def test_gradient_of_any_subset_of_inputs() -> None:
    case = make_case("dense", 7, 31, torch.float32)
    everything = case.run(fan_ext.frame_attention, direct=False)
    upstream = torch.randn(everything["out"].shape, generator=torch.Generator().manual_seed(0))
    for wanted in case.leaves:
        leaves = {n: t.clone().requires_grad_(n == wanted) for n, t in case.leaves.items()}
        out = fan_ext.frame_attention(*leaves.values())
        out.backward(upstream)
        assert torch.equal(leaves[wanted].grad, everything[f"grad {wanted}"])
        assert all(t.grad is None for n, t in leaves.items() if n != wanted)


def test_loss_on_weights_alone() -> None:
    """A loss that does not look at the clip's representation, such as a regulariser of the attention."""
    case = make_case("dense", 7, 31, torch.float32)
    gradients = []
    for function, inputs in ((fan_ext.frame_attention, case), (fan_ext.reference.frame_attention, case.in_float64())):
        leaves = [t.clone().requires_grad_() for t in inputs.leaves.values()]
        _, weights = function(*leaves, return_weights=True)
        ((weights.alpha - 0.3) ** 2).sum().add((weights.beta * weights.alpha).sum()).backward()
        gradients.append([t.grad.double() for t in leaves])
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_final_weights_carry_no_gradient() -> None:
    case = make_case("dense", 7, 31, torch.float32)
    _, weights = fan_ext.frame_attention(case.features.requires_grad_(), *case.parameters, return_weights=True)
    assert weights.alpha.requires_grad
    assert not weights.final.requires_grad


def test_double_backward_is_refused() -> None:
    features = torch.randn(2, 3, 8, requires_grad=True)
    out = fan_ext.frame_attention(features, torch.randn(8), torch.randn(16))
    (gradient,) = torch.autograd.grad(out.sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.sum().backward()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("return_weights", [True, False])
def test_opcheck(layout: str, return_weights: bool) -> None:
    case = make_case(layout, 7, 8, torch.float32)
    mask, offsets, longest = (case.layout.get(n) for n in ("mask", "offsets", "max_frames"))
    arguments = (case.features, *case.parameters, mask, offsets, longest, return_weights)
    torch.library.opcheck(torch.ops.fan_ext.frame_attention_forward.default, arguments)
    out, saved, alpha, beta, _ = torch.ops.fan_ext.frame_attention_forward(*arguments)
    relation = case.parameters[1] is not None
    direct = [alpha, beta if relation else None] if return_weights else [None, None]
    for features_need_grad in (True, False):
        torch.library.opcheck(
            torch.ops.fan_ext.frame_attention_backward.default,
            (
                out,
                *direct,
                case.features,
                *case.parameters[:2],
                mask,
                offsets,
                longest,
                out,
                saved,
                features_need_grad,
            ),
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compile_without_a_graph_break(layout: str) -> None:
    torch.compiler.reset()
    case = make_case(layout, 7, 31, torch.float32)
    compiled = torch.compile(fan_ext.frame_attention, fullgraph=True, backend="aot_eager")
    actual, expected = case.run(compiled), case.run(fan_ext.frame_attention)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def test_compile_with_inductor_and_dynamic_shapes() -> None:
    torch.compiler.reset()
    module = fan_ext.FrameAttention(31)
    head = torch.nn.Linear(62, 7)

    def step(features, mask):
        out, weights = module(torch.relu(features), mask, return_weights=True)
        return head(out).square().sum() + weights.alpha.sum()

    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    for clips, frames in ((2, 7), (3, 5), (5, 12)):
        features = torch.randn(clips, frames, 31)
        mask = torch.rand(clips, frames) < 0.8
        results = []
        for function in (step, compiled):
            leaf = features.clone().requires_grad_()
            loss = function(leaf, mask)
            loss.backward()
            results.append((loss.detach(), leaf.grad))
        for eager, graph in zip(*results, strict=True):
            torch.testing.assert_close(graph, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_export(packed: bool) -> None:
    class Pool(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = fan_ext.FrameAttention(8)

        def forward(self, features, offsets=None):
            return self.attention(features, offsets=offsets, return_weights=True)

    pool = Pool().eval()
    frames = torch.export.Dim("frames", min=2, max=4096)
    if packed:
        ends = torch.export.Dim("ends", min=3, max=512)
        arguments = (torch.randn(9, 8), torch.tensor([0, 4, 4, 9]))
        program = torch.export.export(pool, arguments, dynamic_shapes=({0: frames}, {0: ends}))
        other = (torch.randn(12, 8), torch.tensor([0, 3, 5, 9, 12]))
    else:
        batch = torch.export.Dim("batch", min=2, max=512)
        arguments = (torch.randn(3, 9, 8),)
        program = torch.export.export(pool, arguments, dynamic_shapes=({0: batch, 1: frames},))
        other = (torch.randn(5, 17, 8),)
    with torch.no_grad():
        for inputs in (arguments, other):
            exported, eager = program.module()(*inputs), pool(*inputs)
            for actual, expected in zip(as_tuple(exported), as_tuple(eager), strict=True):
                assert torch.equal(actual, expected)


def test_meta_device() -> None:
    module = fan_ext.FrameAttention(8, device="meta")
    out, weights = module(torch.empty(2, 3, 8, device="meta"), return_weights=True)
    assert out.shape == (2, 16)
    assert out.is_meta
    assert weights.final.shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    """Features as a backbone under autocast gives them, parameters in float32 as an optimiser keeps them."""
    torch.manual_seed(0)
    backbone, module = torch.nn.Linear(16, 31), fan_ext.FrameAttention(31)
    frames = torch.randn(2, 7, 16)
    with torch.autocast("cpu", dtype=dtype):
        features = backbone(frames)
        assert features.dtype == dtype
        out = module(features)
    assert out.dtype == dtype
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())
    case = Case(features.detach(), [p.detach() for p in module.parameters()])
    case.parameters = [module.self_weight, module.relation_weight, module.self_bias, module.relation_bias]
    case.parameters = [p.detach() for p in case.parameters]
    assert_close({"out": out.detach()}, {"out": truth(case)["out"]}, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_jagged_nested_tensor(dtype: torch.dtype) -> None:
    case = make_case("packed", 7, 8, dtype)
    expected = case.run(fan_ext.frame_attention)
    offsets = case.layout["offsets"]
    values = case.features.clone().requires_grad_()
    jagged = torch.nested.nested_tensor_from_jagged(values, offsets)
    out, weights = fan_ext.frame_attention(jagged, *case.parameters, return_weights=True)
    assert torch.equal(out, expected["out"])
    assert weights.alpha.is_nested
    assert torch.equal(weights.final.values(), expected["final"])
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    (gradient,) = torch.autograd.grad(out, values, upstream)
    assert torch.equal(gradient, case.run(fan_ext.frame_attention, direct=False)["grad features"])
    out_reference, weights_reference = fan_ext.reference.frame_attention(jagged, *case.parameters, return_weights=True)
    assert_close({"out": out.detach()}, {"out": out_reference.detach().double()}, dtype)
    assert weights_reference.final.is_nested
