"""The operator on a GPU: parity with the reference, equal bits, torch's own checks, streams and graphs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
import torch
from gpu.sanitizer_check import lie
from operator_cases import DTYPES, LAYOUTS, Case, assert_close, make_case, truth

import fan_ext

# Lengths of every regime, and sizes with and without 16-byte rows.
FRAMES = (1, 4, 5, 17, 100, 300, 1500)
DIMS = (8, 31, 512, 2048)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("frames", FRAMES)
def test_matches_float64_reference(frames: int, dim: int, layout: str, dtype: torch.dtype, device: str) -> None:
    case = make_case(layout, frames, dim, dtype)
    actual = case.to(device).run(fan_ext.frame_attention)
    assert all(value.device.type == device for value in actual.values())
    assert_close(actual, truth(case), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [31, 512])
@pytest.mark.parametrize("frames", [*FRAMES, 10_000])
def test_matches_the_cpu_operator(frames: int, dim: int, dtype: torch.dtype, device: str) -> None:
    case = make_case("masked", frames, dim, dtype)
    on_cpu = {name: value.double() for name, value in case.run(fan_ext.frame_attention).items()}
    # Either may be off by the tolerance, to either side.
    assert_close(case.to(device).run(fan_ext.frame_attention), on_cpu, dtype, slack=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("frames", [3, 100, 1500])
def test_same_bits_from_run_to_run_and_in_any_dense_batch(frames: int, dtype: torch.dtype, device: str) -> None:
    parameters = make_case("dense", frames, 512, dtype).to(device).parameters
    batch = torch.randn(9, frames, 512, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    first, again = (Case(batch, parameters).run(fan_ext.frame_attention) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(again[name], value), name
    for clip in (0, 4, 8):
        assert torch.equal(fan_ext.frame_attention(batch[clip : clip + 1], *parameters)[0], first["out"][clip])


@pytest.mark.parametrize("frames", [3, 100, 1500])
def test_absent_frames_and_nan(frames: int, device: str) -> None:
    case = make_case("masked", frames, 512, torch.float32)
    clean = case.to(device).run(fan_ext.frame_attention)
    case.features[~case.layout["mask"]] = float("nan")
    dirty = case.to(device).run(fan_ext.frame_attention)
    for name, value in clean.items():
        assert torch.equal(dirty[name], value), name


def test_offsets_that_lie_touch_nothing(cuda: str) -> None:
    """Their values are not checked on a GPU, which would wait for it; whatever they are, memory is safe."""
    lie(cuda)


def test_more_clips_than_a_grid_dimension(device: str) -> None:
    features = torch.randn(70_000, 2, 8, device=device)
    q0, q1 = torch.randn(8, device=device), torch.randn(16, device=device)
    expected = fan_ext.reference.frame_attention(features, q0, q1)
    torch.testing.assert_close(fan_ext.frame_attention(features, q0, q1), expected, rtol=1e-5, atol=1e-5)


def test_more_elements_than_32_bits_count(cuda: str) -> None:
    """Two thousand million; a clip's bits are the same in every batch, so the last one tells."""
    parameters = make_case("dense", 40, 512, torch.float16).to(cuda).parameters
    features = torch.zeros(105_000, 40, 512, device=cuda, dtype=torch.float16)
    assert features.numel() > 2**31
    last = torch.randn(1, 40, 512, generator=torch.Generator().manual_seed(0)).to(features)
    features[-1:] = last
    results = []
    for batch in (features, last):
        batch.requires_grad_()
        out = fan_ext.frame_attention(batch, *parameters)
        (gradient,) = torch.autograd.grad(out[-1].sum(), batch)
        results.append((out[-1].detach(), gradient[-1]))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck_and_opcheck(layout: str, device: str) -> None:
    case = make_case(layout, 5, 4, torch.float64).to(device)
    function, leaves = case.differentiable()
    assert torch.autograd.gradcheck(function, leaves)
    layout_arguments = [case.layout.get(n) for n in ("mask", "offsets", "max_frames")]
    torch.library.opcheck(
        torch.ops.fan_ext.frame_attention_forward.default, (case.features, *case.parameters, *layout_arguments, True)
    )


def test_compile(device: str) -> None:
    case = make_case("dense", 16, 512, torch.float32).to(device)
    compiled = torch.compile(fan_ext.frame_attention, fullgraph=True)
    for (name, actual), expected in zip(
        case.run(compiled).items(), case.run(fan_ext.frame_attention).values(), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5, msg=name)


def test_two_streams(cuda: str) -> None:
    cases = [make_case("dense", frames, 512, torch.float32, seed=frames).to(cuda) for frames in (16, 300)]
    expected = [case.run(fan_ext.frame_attention) for case in cases]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in cases]
    for _ in range(20):
        results = []
        for case, stream in zip(cases, streams, strict=True):
            with torch.cuda.stream(stream):
                results.append(case.run(fan_ext.frame_attention))
        torch.cuda.synchronize()
        for actual, wanted in zip(results, expected, strict=True):
            assert all(torch.equal(actual[name], value) for name, value in wanted.items())


def test_graph(cuda: str) -> None:
    parameters = make_case("dense", 16, 512, torch.float32).to(cuda).parameters
    features = torch.randn(64, 16, 512, device=cuda, requires_grad=True)

    def step():
        out = fan_ext.frame_attention(features, *parameters)
        return out, torch.autograd.grad(out.sum(), features)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        features.copy_(torch.randn_like(features))
    graph.replay()
    for actual, expected in zip(captured, step(), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_cases_have_every_regime(capability: tuple[int, int]) -> None:
    """What cuda_launch_plan says of the sizes above, on the CPU: nothing here needs a GPU."""

    def regimes(lengths: Iterable[int]) -> set[str]:
        return {
            fan_ext.cuda_launch_plan(2, frames, dim, dtype, capability, backward)["regime"]
            for frames, dim, dtype, backward in itertools.product(lengths, DIMS, DTYPES, (False, True))
        }

    # Packed clips of unknown length have a test of their own.
    assert regimes(FRAMES) == regimes((*range(1, 120), 500, 1000, 3000, 10_000, 40_000))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("frames", [3, 100, 1500])
def test_packed_clips_of_unknown_length(frames: int, dtype: torch.dtype, device: str) -> None:
    case = make_case("packed", frames, 512, dtype)
    del case.layout["max_frames"]
    assert_close(case.to(device).run(fan_ext.frame_attention), truth(case), dtype)
    # One long one among many of a frame each.
    case.layout["offsets"] = torch.tensor([0, *range(frames, len(case.features) + 1)])
    assert_close(case.to(device).run(fan_ext.frame_attention), truth(case), dtype)
