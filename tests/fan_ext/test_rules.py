"""The rules the operator keeps on every backend: extreme logits, absent frames, empty clips, NaN, equal bits."""

from __future__ import annotations

import pytest
import torch
from operator_cases import DTYPES, LAYOUTS, Case, assert_close, make_case, truth

import fan_ext


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("signs", ["all low", "all high", "mixed"])
def test_huge_logits(signs: str, dtype: torch.dtype) -> None:
    """Logits of +-1e4, where the formula as written divides 0 by 0."""
    case = make_case("dense", 7, 8, dtype)
    sign = {"all low": -torch.ones(7), "all high": torch.ones(7), "mixed": torch.tensor([1.0, -1, -1, 1, -1, -1, 1])}
    case.features[..., 0] = sign[signs].to(dtype) * (1 + torch.arange(7, dtype=dtype) / 1000)
    assert case.parameters[0] is not None
    assert case.parameters[1] is not None
    case.parameters[0][0] = 1e4
    case.parameters[1][0] = 1e4
    actual, expected = case.run(fan_ext.frame_attention), truth(case)
    assert expected["alpha"].max() == 0 or signs != "all low"
    # A logit of 1e4 in float32 has an error of 5e-4, which the softmax between low logits hands on.
    loose = 1e3 if dtype == torch.float32 else 1e2
    for name, wanted in expected.items():
        assert torch.isfinite(actual[name]).all(), name
        scale = max(wanted.abs().max().item(), 1e-3)
        assert (actual[name].double() - wanted).abs().max() <= loose * {4: 2e-6, 8: 1e-13}[dtype.itemsize] * scale, name
    torch.testing.assert_close(actual["final"].sum(1), torch.ones(2, dtype=dtype), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_absent_frames_change_nothing(poison: float, dtype: torch.dtype) -> None:
    case = make_case("masked", 33, 31, dtype)
    clean = case.run(fan_ext.frame_attention)
    absent = ~case.layout["mask"]
    poisoned = Case(case.features.masked_fill(absent[..., None], poison), case.parameters, case.layout)
    dirty = poisoned.run(fan_ext.frame_attention)
    for name, value in clean.items():
        assert torch.equal(dirty[name], value), name
    for name in ("alpha", "beta", "final", "grad features"):
        assert (dirty[name][absent] == 0).all(), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_absent_frames_are_as_if_cut_out(dtype: torch.dtype) -> None:
    case = make_case("masked", 33, 31, dtype)
    mask = case.layout["mask"]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    packed = Case(case.features[mask], case.parameters, {"offsets": offsets})
    actual, expected = case.run(fan_ext.frame_attention, False), packed.run(fan_ext.frame_attention, False)
    for name, value in expected.items():
        got = actual[name] if actual[name].shape == value.shape else actual[name][mask]
        assert torch.equal(got, value), name


@pytest.mark.parametrize("relation", [True, False])
def test_clips_without_frames(relation: bool) -> None:
    case = make_case("dense" if relation else "self-only", 3, 8, torch.float32)
    case.layout["mask"] = torch.tensor([[True, False, True], [False, False, False]])
    results = case.run(fan_ext.frame_attention)
    assert_close(results, truth(case), torch.float32)
    for name in ("out", "alpha", "final", "grad features"):
        assert (results[name][1] == 0).all(), name
    for shape in ((2, 0, 8), (0, 3, 8)):
        empty = Case(torch.empty(shape), case.parameters).run(fan_ext.frame_attention)
        assert empty["out"].shape == (shape[0], 16 if relation else 8)
        assert (empty["out"] == 0).all()
        assert all((value == 0).all() for name, value in empty.items() if name.startswith("grad"))
    packed = Case(torch.empty(0, 8), case.parameters, {"offsets": torch.zeros(4, dtype=torch.int32)})
    assert (packed.run(fan_ext.frame_attention)["out"] == torch.zeros(3, 16 if relation else 8)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", ["dense", "packed", "self-only"])
def test_nan_stays_in_its_clip(layout: str, poison: float, dtype: torch.dtype) -> None:
    case = make_case(layout, 16, 31, dtype)
    clean = case.run(fan_ext.frame_attention)
    dirty_case = Case(case.features.clone(), case.parameters, case.layout)
    dirty_case.features.reshape(-1, 31)[3, 5] = poison
    dirty = dirty_case.run(fan_ext.frame_attention)
    assert not dirty["out"][0].isfinite().all()
    assert torch.equal(dirty["out"][1:], clean["out"][1:])
    for name in ("alpha", "beta", "final", "grad features"):
        if name not in clean:
            continue
        own = slice(16, None) if layout == "packed" else slice(1, None)
        assert torch.equal(dirty[name][own], clean[name][own]), name


@pytest.mark.parametrize("relation", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits_alone_and_beside_clips_of_other_lengths(dtype: torch.dtype, relation: bool, threads) -> None:
    threads(1)
    lengths = (5, 64, 3, 0, 65, 17, 1, 8, 9, 130, 2)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    features = torch.randn(sum(lengths), 37, generator=torch.Generator().manual_seed(0)).to(dtype)
    parameters = make_case("dense", 4, 37, dtype).parameters
    q0, q1, b0, b1 = (parameter.detach() for parameter in parameters)
    arguments = (q0, q1, b0, b1) if relation else (q0, None, b0)
    together, weights = fan_ext.frame_attention(features, *arguments, offsets=offsets, return_weights=True)
    for clip, frames in enumerate(features.split(lengths)):
        alone, own = fan_ext.frame_attention(frames[None], *arguments, return_weights=True)
        assert torch.equal(alone[0], together[clip])
        assert torch.equal(own.final[0], weights.final[offsets[clip] : offsets[clip + 1]])


def test_frames_outside_all_clips_get_nothing() -> None:
    case = make_case("dense", 10, 8, torch.float32)
    frames = case.features.reshape(20, 8)
    inner = Case(frames[3:15], case.parameters, {"offsets": torch.tensor([0, 5, 12])}).run(
        fan_ext.frame_attention, False
    )
    outer = Case(frames, case.parameters, {"offsets": torch.tensor([3, 8, 15])})
    actual = outer.run(fan_ext.frame_attention, False)
    assert_close(actual, truth(outer, direct=False), torch.float32)
    assert torch.equal(actual["out"], inner["out"])
    for name in ("alpha", "beta", "final", "grad features"):
        assert torch.equal(actual[name][3:15], inner[name]), name
        assert (actual[name][:3] == 0).all(), name
        assert (actual[name][15:] == 0).all(), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("relation", [True, False])
@pytest.mark.parametrize("limit", [0, 1, 5, 16, 99])
def test_packed_clips_end_at_max_frames(limit: int, relation: bool, dtype: torch.dtype) -> None:
    case = make_case("packed", 17, 31, dtype)
    if not relation:
        case.parameters[1] = case.parameters[3] = None
    case.layout["max_frames"] = limit
    direct = limit > 0  # the reference's weights are constants where there are none
    assert_close(case.run(fan_ext.frame_attention, direct), truth(case, direct), dtype)

    lengths = case.layout["offsets"].diff()
    kept = torch.cat([torch.arange(length) < limit for length in lengths.tolist()])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.clamp(max=limit).cumsum(0)])
    cut = Case(case.features[kept], case.parameters, {"offsets": offsets}).run(fan_ext.frame_attention, False)
    actual = case.run(fan_ext.frame_attention, False)
    for name in ("alpha", "beta", "final", "grad features"):
        if name in actual:
            assert (actual[name][~kept] == 0).all(), name
            actual[name] = actual[name][kept]
    for name, value in cut.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("frames", "dim"), [(1000, 513), (100, 512), (7, 31)])
def test_same_bits_for_any_number_of_threads(frames: int, dim: int, layout: str, dtype: torch.dtype, threads) -> None:
    case = make_case(layout, frames, dim, dtype)
    threads(1)
    one = case.run(fan_ext.frame_attention)
    for count in (2, 3, 7):
        threads(count)
        many = case.run(fan_ext.frame_attention)
        for name, value in one.items():
            assert torch.equal(many[name], value), (name, count)


def test_same_bits_for_any_number_of_threads_in_a_large_batch(threads) -> None:
    """Enough clips for the parameters' gradients to be summed in groups."""
    case = make_case("dense", 7, 512, torch.float32)
    case.features = torch.randn(257, 7, 512, generator=torch.Generator().manual_seed(0))
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(case.run(fan_ext.frame_attention))
    assert_close(results[0], truth(case), torch.float32)
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(other[name], value), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("frames", [3, 100, 1000])
def test_same_bits_alone_and_in_any_batch(frames: int, dtype: torch.dtype, threads) -> None:
    threads(2)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(9, frames, 513, generator=generator).to(dtype)
    parameters = make_case("dense", frames, 513, dtype).parameters
    together = Case(batch, parameters).run(fan_ext.frame_attention, direct=False)
    packed = Case(batch.reshape(-1, 513), parameters, {"offsets": torch.arange(10, dtype=torch.int32) * frames}).run(
        fan_ext.frame_attention, direct=False
    )
    assert torch.equal(packed["out"], together["out"])
    for clip in (0, 4, 8):
        upstream = torch.randn(together["out"].shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        features = batch[clip : clip + 1].clone().requires_grad_()
        out, weights = fan_ext.frame_attention(features, *parameters, return_weights=True)
        (gradient,) = torch.autograd.grad(out, features, upstream[clip : clip + 1])
        assert torch.equal(out[0], together["out"][clip])
        assert torch.equal(weights.final[0], together["final"][clip])
        assert torch.equal(gradient[0], together["grad features"][clip])


@torch.no_grad()
def test_more_elements_than_an_int_can_count() -> None:
    """Repeated without being stored: a clip as a batch, a frame as clips back to back."""
    torch.manual_seed(0)
    module, clip = fan_ext.FrameAttention(512).bfloat16(), torch.randn(4096, 512, dtype=torch.bfloat16)
    batch = clip.expand(2**31 // clip.numel() + 1, -1, -1)
    assert batch.numel() > 2**31
    out = module(batch)
    assert torch.equal(out, module(clip[None]).expand_as(out))
    frames = clip[:1].expand(2**31 // 512 + 3, -1)
    assert frames.numel() > 2**31
    out = module(frames, offsets=torch.tensor([0, len(frames) - 3, len(frames)]))
    assert torch.equal(out, torch.cat([clip[:1], clip[:1]], 1).expand_as(out))


def test_clips_further_apart_than_an_int_can_count() -> None:
    torch.manual_seed(0)
    stored = torch.empty(2**31 + 64 * 32, dtype=torch.bfloat16)  # of which little is ever touched
    features = stored.as_strided((2, 64, 32), (2**31, 32, 1)).copy_(torch.randn(2, 64, 32)).requires_grad_()
    module, near = fan_ext.FrameAttention(32), features.detach().clone().requires_grad_()
    for clips in (features, near):
        module(clips).float().square().sum().backward()
    assert torch.equal(module(features), module(near))
    assert features.grad is not None
    assert torch.equal(features.grad, near.grad)
