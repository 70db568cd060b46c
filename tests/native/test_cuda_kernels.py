"""Every CUDA kernel and regime, executed on the CPU, against the float64 reference: forward and all gradients."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from native.cuda_kernels import DTYPES, ORDERS, Inputs, Kernels, Plan
from torch import Tensor

from fan_ext import reference

# Relative to the largest value of the reference: rounding of the result, and the sums' own.
_ROUNDING = {torch.float32: 4e-6, torch.float64: 1e-13, torch.float16: 1.5e-3, torch.bfloat16: 1.2e-2}


# What parameters come in beside the accumulation type.
_NARROW = {torch.float64: torch.float32, torch.float16: torch.float16, torch.bfloat16: torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """Dense clips of `frames`, or packed ones of these lengths; `scale` of the logits."""

    frames: int | tuple[int, ...]
    dim: int
    clips: int = 2
    dtype: torch.dtype = torch.float32
    narrow: int = 0  # which of the four parameters are, a bit each
    short_offsets: bool = False  # int32
    relation: bool = True
    biases: bool = True
    self_bias: float = 0.3
    mask: str | None = "some"  # "some" frames are absent, "one" clip has none, "late" ones are, None: no mask
    max_frames: int | None = None
    stray: int = 0  # frames before the first and after the last packed clip
    weights: bool = True
    scale: float = 1.0
    gap: int = 0  # elements between the rows
    gradients: str = "all"  # or "out": none of alpha and beta; or "parameters": not of the features
    capability: int = 90
    displacement: int = 0
    max_blocks: int = 2**28
    shared_per_block: int = 0

    def __str__(self) -> str:
        """What differs from the defaults, for the test's name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if isinstance(self.frames, tuple):
            runs = [(n, len(list(equal))) for n, equal in itertools.groupby(self.frames)]
            values["frames"] = "(" + ",".join(f"{n}" if count == 1 else f"{count}x{n}" for n, count in runs) + ")"
        changed = [f"{f.name}={values[f.name]}" for f in fields(self) if values[f.name] != f.default]
        return " ".join(changed).replace("torch.", "").replace(", ", ",")


def _make_inputs(case: Case) -> Inputs:
    random = torch.Generator().manual_seed(7)
    a = torch.float64 if case.dtype == torch.float64 else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    offsets = mask = None
    if isinstance(case.frames, tuple):
        offsets = torch.tensor([0, *case.frames]).cumsum(0) + case.stray
        shape: tuple[int, ...] = (sum(case.frames) + 2 * case.stray,)
    else:
        shape = (case.clips, case.frames)
        if case.mask is not None:
            mask = torch.rand(shape, generator=random) > 0.4
            if case.mask == "one":
                mask[0] = False
            if case.mask == "late":
                mask[:, 3 * case.frames // 5 :] = False
    rows = normal(*shape, case.dim + case.gap).to(case.dtype)
    if mask is not None:
        rows[~mask] = float("nan")
    if case.stray:
        rows[: case.stray] = rows[-case.stray :] = float("nan")
    q0 = (normal(case.dim) * case.scale * case.dim**-0.5).to(a)
    q1 = (normal(2 * case.dim) * case.scale * case.dim**-0.5).to(a) if case.relation else None
    b0 = torch.tensor([case.self_bias], dtype=a) if case.biases else None
    b1 = torch.tensor([-0.2], dtype=a) if case.biases and case.relation else None
    parameters = [
        p if p is None or not case.narrow >> k & 1 else p.to(_NARROW[case.dtype])
        for k, p in enumerate((q0, q1, b0, b1))
    ]
    if offsets is not None and case.short_offsets:
        offsets = offsets.int()
    return Inputs(rows[..., : case.dim], parameters, mask, offsets, case.max_frames)


def _assert_close(
    name: str, found: Tensor | None, wanted: Tensor | None, rounding: float, largest: float = 0.0
) -> None:
    """To within rounding of the largest wanted value; or of `largest`, if that is more."""
    if wanted is None:
        assert found is None or found.numel() == 0, name
        return
    assert found is not None, name
    found = found.double()
    assert found.shape == wanted.shape, name
    if wanted.numel() == 0:
        return
    scale = max(float(wanted.abs().max()), largest, 1e-3)
    worst = float((found - wanted).abs().nan_to_num(nan=torch.inf).max()) / scale
    assert worst <= rounding, f"{name} is off by {worst:.2e} of its largest value"


def kernels_for(runner: Path, case: Case, **more: Any) -> Kernels:
    device = {"compute_capability": case.capability, "shared_per_block": case.shared_per_block}
    return Kernels(runner, displacement=case.displacement, max_blocks=case.max_blocks, **device, **more)


def check(runner: Path, case: Case, **more: Any) -> tuple[Plan, Plan]:
    """Forward and backward against the reference; the plans they ran with."""
    kernels, inputs = kernels_for(runner, case, **more), _make_inputs(case)
    features, a = inputs.features, inputs.accumulator
    forward, out, saved, *weights = kernels.forward(inputs, case.weights)

    # The reference in float64, on the same rounded numbers. Absent features are 0 there.
    clean = features.double().clone()
    if inputs.mask is not None:
        clean[~inputs.mask] = 0
    if case.stray:
        clean[: case.stray] = clean[-case.stray :] = 0
    leaves = [None if t is None else t.double().requires_grad_() for t in (clean, *inputs.parameters)]
    layout = {"mask": inputs.mask, "offsets": inputs.offsets, "max_frames": case.max_frames}
    wanted, wanted_weights = reference.frame_attention(*leaves, **layout, return_weights=True)
    own = _ROUNDING[a] * max(case.scale, abs(case.self_bias), 1)
    rounding = max(_ROUNDING[case.dtype], own)
    _assert_close("out", out, wanted.detach(), rounding)
    for name, found, w in zip(("alpha", "beta", "final"), weights, wanted_weights, strict=True):
        if not case.weights or w is None:
            assert found is None
        else:
            _assert_close(name, found, w.detach(), own)
            assert case.stray == 0 or (not found[: case.stray].any() and not found[-case.stray :].any())

    # torch.autograd gives the wanted gradients.
    random = torch.Generator().manual_seed(8)
    grads: list[Tensor | None] = [torch.randn(out.shape, generator=random).to(case.dtype), None, None]
    loss = (wanted * grads[0].double()).sum()
    for k in range(2 if case.relation else 1):
        if case.gradients == "all":
            grads[k + 1] = torch.randn(features.shape[:-1], generator=random).to(a)
            loss = loss + (wanted_weights[k] * grads[k + 1].double()).sum()
    existing = [leaf for leaf in leaves if leaf is not None]
    results = iter(torch.autograd.grad(loss, existing, allow_unused=True, materialize_grads=True))
    wanted_gradients = [None if leaf is None else next(results) for leaf in leaves]
    if case.gradients == "parameters":
        wanted_gradients[0] = None

    backward, *gradients = kernels.backward(inputs, grads, out, saved, case.gradients != "parameters")
    names = ("features", "self_weight", "relation_weight", "self_bias", "relation_bias")
    for k, (name, found, w) in enumerate(zip(names, gradients, wanted_gradients, strict=True)):
        # Sums over all frames; and g is rounded to the dtype of features before it enters dq1b. Much cancels in the
        # biases' gradients: each is one vector with that of the parameter beside it.
        limit = rounding if k in (0, 2) else 4 * own
        if k > 0 and case.narrow >> (k - 1) & 1:
            assert found is not None
            assert found.dtype == _NARROW[case.dtype]
            limit = max(limit, _ROUNDING[found.dtype])
        beside = wanted_gradients[k - 2] if k > 2 else None
        largest = 0.0 if beside is None or beside.numel() == 0 else float(beside.abs().max())
        _assert_close(f"gradient of {name}", found, w, limit, largest)
    return forward, backward


SHAPES = [
    Case(frames=1, dim=8),
    Case(frames=3, dim=36, clips=11),
    Case(frames=5, dim=264, clips=3),
    Case(frames=16, dim=24),
    Case(frames=17, dim=24),
    Case(frames=20, dim=520, clips=1),
    Case(frames=70, dim=40),
    Case(frames=300, dim=16, clips=1),
    Case(frames=3, dim=7),
    Case(frames=33, dim=13),
    Case(frames=300, dim=3, clips=1),
]
LAYOUTS = [
    Case(frames=4, dim=16, mask="one", clips=3),
    Case(frames=21, dim=16, mask="one"),
    Case(frames=5, dim=16, mask=None, weights=False, biases=False),
    Case(frames=21, dim=16, mask=None, weights=False, biases=False),
    Case(frames=5, dim=16, relation=False),
    Case(frames=21, dim=16, relation=False, biases=False),
    Case(frames=21, dim=7, relation=False),
    Case(frames=6, dim=16, gap=4),
    Case(frames=6, dim=15, gap=1),
    Case(frames=6, dim=16, displacement=4),
    Case(frames=5, dim=16, gradients="out"),
    Case(frames=21, dim=16, gradients="parameters"),
    Case(frames=5, dim=16, gradients="parameters"),
    Case(frames=5, dim=16, scale=40.0),
    Case(frames=30, dim=16, scale=40.0),
    Case(frames=0, dim=16),
    Case(frames=4, dim=16, clips=0),
    Case(frames=90, dim=136, clips=0, shared_per_block=44_000),  # of a cluster
    Case(frames=(), dim=136, stray=2, max_frames=90, shared_per_block=44_000),
    Case(frames=(3, 0, 7, 1), dim=16),
    Case(frames=(3, 0, 7, 1), dim=16, max_frames=7),
    Case(frames=(3, 0, 37, 1), dim=16, max_frames=40, stray=2),
    Case(frames=(3, 0, 300), dim=8, stray=1),
    Case(frames=(3, 0, 37, 1), dim=16, max_frames=40, stray=2, short_offsets=True),
    Case(frames=(), dim=8, stray=2),
    Case(frames=(5, 9), dim=13, stray=40),
    Case(frames=(2, 1), dim=264, stray=3),
]
# Long clips before clusters. Little shared memory makes short ones long.
SPLIT = Case(frames=70, dim=24, capability=86, shared_per_block=9_000)
SPLITS = [
    SPLIT,
    replace(SPLIT, mask="one"),
    replace(SPLIT, mask="late"),
    replace(SPLIT, mask=None, weights=False, biases=False, gradients="out"),
    replace(SPLIT, relation=False),
    replace(SPLIT, relation=False, biases=False, weights=False, gradients="out"),
    replace(SPLIT, gradients="parameters"),
    replace(SPLIT, scale=40.0),
    replace(SPLIT, self_bias=-200.0),
    replace(SPLIT, dim=37),
    replace(SPLIT, dim=1, frames=1500),
    replace(SPLIT, frames=1040, clips=1, shared_per_block=8_100),  # of so many parts that their weights come in turn
    replace(SPLIT, dim=1200, frames=11, shared_per_block=20_000),  # three rows of columns a thread; no row fits
    replace(SPLIT, frames=(70, 0, 33, 3), max_frames=70),
    replace(SPLIT, frames=(0, 150, 0, 1), max_frames=66, stray=37),  # longer than announced
    replace(SPLIT, frames=(), max_frames=100, stray=5),
    replace(SPLIT, frames=(70, 0, 33, 3), max_frames=70, stray=2, short_offsets=True),
    # Of unknown length: one long one among many short ones, of which some are no longer than a part, and one has none.
    replace(SPLIT, frames=(3,) * 9 + (0, 150, 0, 9, 40) + (1,) * 50, stray=4),
    replace(SPLIT, frames=(3,) * 20 + (70,), relation=False),
    replace(SPLIT, frames=(3,) * 20 + (70,), dim=13, weights=False, gradients="out"),
    replace(SPLIT, frames=(70,) + (3,) * 20, scale=40.0, gradients="parameters"),
    replace(SPLIT, frames=(0,) * 40 + (30, 9), self_bias=-200.0, max_blocks=2),
    replace(SPLIT, frames=(5,) * 1100, dim=2, stray=1),  # more than a warp looks at twice
    replace(SPLIT, frames=(0,) * 40 + (1,) * 1000 + (9,)),  # a block combines 48 columns of no frames
    replace(SPLIT, clips=0),
    Case(frames=120, dim=512, clips=1, capability=86),
    Case(frames=1100, dim=512, clips=1),  # beyond a cluster, too
]


@pytest.mark.parametrize("case", SHAPES + LAYOUTS, ids=str)
def test_matches_reference(runner: Path, case: Case) -> None:
    check(runner, case)


@pytest.mark.parametrize("case", SPLITS, ids=str)
def test_split_clips_match_reference(runner: Path, case: Case) -> None:
    forward, backward = check(runner, case)
    assert (forward.regime, backward.regime) == ("split", "split")
    assert forward.launches == (3 if case.relation else 2)
    assert backward.launches == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("case", "regime"),
    [
        (Case(frames=2, dim=40, clips=11), "registers"),
        (Case(frames=8, dim=24), "registers"),
        (Case(frames=37, dim=24), "resident"),
        (Case(frames=90, dim=136, clips=1), "cluster"),
        (Case(frames=250, dim=520, clips=1, capability=86), "split"),
        (Case(frames=(3, 2), dim=40), "registers"),
        (Case(frames=(3, 41), dim=40), "resident"),
        (Case(frames=(3, 41, 9) + (2,) * 20, dim=40), "split"),
        (Case(frames=2, dim=7), "resident"),
        (Case(frames=17, dim=13), "resident"),
        (Case(frames=90, dim=135, clips=1), "cluster"),
        (Case(frames=250, dim=519, clips=1, capability=86), "split"),
        (Case(frames=(3, 41, 9) + (2,) * 20, dim=37), "split"),
    ],
    ids=str,
)
def test_dtypes(runner: Path, case: Case, regime: str, dtype: torch.dtype) -> None:
    case = replace(case, dtype=dtype, shared_per_block=28_000 + 6_000 * dtype.itemsize if regime == "cluster" else 0)
    forward, backward = check(runner, case)
    assert (forward.regime, backward.regime) == (regime, regime)


@pytest.mark.parametrize("narrow", [0b1111, 0b0110, 0b1001])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case(frames=3, dim=40),
        Case(frames=17, dim=24),
        Case(frames=17, dim=13),
        Case(frames=17, dim=24, relation=False),
        Case(frames=90, dim=136, clips=1, shared_per_block=32_000),
        SPLIT,
        replace(SPLIT, dim=13),
        replace(SPLIT, frames=(3,) * 20 + (70,)),
    ],
    ids=str,
)
def test_types_of_parameters(runner: Path, case: Case, dtype: torch.dtype, narrow: int) -> None:
    present = 0b0101 if not case.relation else 0b1111
    check(runner, replace(case, dtype=dtype, narrow=narrow & present))


@pytest.mark.parametrize(
    ("dtype", "dim", "gap", "displacement", "copied"),
    [
        (torch.float32, 40, 0, 0, 16),
        (torch.float32, 37, 3, 0, 16),  # vectors and a tail
        (torch.float32, 38, 0, 0, 8),
        (torch.float32, 37, 0, 0, 4),
        (torch.float32, 40, 0, 8, 8),
        (torch.float64, 21, 1, 0, 16),
        (torch.float64, 21, 0, 0, 8),
        (torch.float16, 77, 3, 0, 16),
        (torch.float16, 36, 0, 0, 8),
        (torch.bfloat16, 38, 0, 0, 4),
        (torch.bfloat16, 37, 0, 0, 2),
        (torch.bfloat16, 40, 0, 2, 2),
    ],
)
@pytest.mark.parametrize("frames", [2, 37])
def test_rows_start_anywhere(runner: Path, frames: int, dtype, dim, gap, displacement, copied) -> None:
    case = Case(frames=frames, dim=dim, dtype=dtype, gap=gap, displacement=displacement)
    for plan in check(runner, case):
        assert plan.copy_bytes == copied
        assert plan.aligned == (dim % 8 == 0)
        in_registers = frames == 2 and copied == 16 and plan.aligned
        assert (plan.regime, plan.rows) == (("registers", 0) if in_registers else ("resident", frames))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("order", ORDERS[1:])
@pytest.mark.parametrize(
    "case",
    [
        Case(frames=7, dim=40, clips=3),
        Case(frames=40, dim=40),
        Case(frames=20, dim=7),
        Case(frames=260, dim=5, clips=1),
        # Logits whose sigmoids, and the sums of these, are 0 in float32.
        Case(frames=5, dim=40, self_bias=-200.0),
        Case(frames=40, dim=40, self_bias=-200.0),
        # A block of the backward pass takes several clips.
        Case(frames=4, dim=24, clips=9, max_blocks=1),
        Case(frames=18, dim=24, clips=3, max_blocks=1),
        Case(frames=9, dim=11, clips=3, max_blocks=1),
        # Clusters, where little memory is all there is: of two blocks, several clips for one cluster; of four, the
        # last of them without a part.
        Case(frames=100, dim=24, clips=3, max_blocks=1, shared_per_block=11_000),
        Case(frames=33, dim=136, clips=1, shared_per_block=15_000),
        Case(
            frames=8, dim=1040, clips=1, mask=None, shared_per_block=40_000
        ),  # more columns than its threads take at a time
        # Parts of clips; and several of them for a block of the backward pass.
        SPLIT,
        replace(SPLIT, self_bias=-200.0),
        replace(SPLIT, dim=13, max_blocks=1),
        replace(SPLIT, frames=(0, 40, 70, 1), max_frames=66, stray=3, max_blocks=2),
        replace(SPLIT, dim=1200, frames=11, shared_per_block=20_000, clips=1),
        replace(SPLIT, dim=3, frames=300, clips=1),  # more parts than a thread adds up alone
        # Of unknown length: clips of one part beside one of several.
        replace(SPLIT, frames=(3,) * 16 + (70, 0), stray=3, max_blocks=2),
        replace(SPLIT, frames=(1,) * 600 + (40,)),  # so many that a block combines the parts of more than 32 columns
        Case(frames=(41, 2), dim=136, max_frames=6),
    ],
    ids=str,
)
def test_any_order_of_threads(runner: Path, case: Case, order: str, seed: int) -> None:
    check(runner, case, order=order, seed=seed)


@pytest.mark.parametrize(
    ("case", "regime"),
    [
        (Case(frames=3, dim=16, mask=None), "registers"),
        (Case(frames=20, dim=16, mask=None), "registers"),
        (Case(frames=33, dim=16, mask=None), "resident"),
        (Case(frames=20, dim=7, mask=None), "resident"),
        # Packed, of unknown length: so few together; so few clips; and neither.
        (Case(frames=(1, 3), dim=16), "registers"),
        (Case(frames=(2, 300), dim=5), "resident"),
        (Case(frames=(200,), dim=512), "cluster"),
        (Case(frames=(20,) * 17, dim=5), "split"),
        # 220 rows of 128 floats do not fit in the 99 KiB of this device; 3 columns a thread.
        (Case(frames=220, dim=128, mask=None, capability=86, clips=1), "split"),
        (Case(frames=3, dim=2880, clips=1, capability=86), "resident"),
        (Case(frames=60, dim=1024, mask=None, clips=1), "cluster"),
        # Packed clips end at max_frames.
        (Case(frames=(3, 101, 0, 80), dim=24, max_frames=0, stray=2), "registers"),
        (Case(frames=(3, 101, 0, 80), dim=24, max_frames=2, stray=2), "registers"),
        (Case(frames=(3, 101, 0, 80), dim=24, max_frames=18, stray=2), "registers"),
        (Case(frames=(3, 101, 0, 80), dim=24, max_frames=40, stray=2), "resident"),
        (Case(frames=(3, 101, 0, 80), dim=24, max_frames=70, stray=2, shared_per_block=9_000), "cluster"),
        (replace(SPLIT, frames=(3, 101, 0, 80), max_frames=70, stray=2), "split"),
    ],
    ids=str,
)
def test_regimes(runner: Path, case: Case, regime: str) -> None:
    forward, backward = check(runner, case)
    assert (forward.regime, backward.regime) == (regime, regime)


def _run_both(kernels: Kernels, inputs: Inputs) -> tuple[str, Tensor, Tensor]:
    """The regime, out, and the gradient of the features where out's is out itself."""
    plan, out, saved, *_ = kernels.forward(inputs)
    backward, grad, *_ = kernels.backward(inputs, (out, None, None), out, saved)
    assert plan.regime == backward.regime
    return plan.regime, out, grad


@pytest.mark.parametrize(
    ("case", "offsets"),
    [(Case(frames=(4, 5), dim=16), o) for o in ([-5, 3, 90], [4, 2, 7], [50, 60, 70], [9, 9, -(2**62)], [0, 2**62, 3])]
    + [
        (replace(SPLIT, frames=(70, 70), max_frames=100), o)
        for o in ([-500, 60, 140], [-5, 300, 90], [300, 2, 70], [50, 60, 70], [140, 0, 140], [0, 2**62, 3])
    ],
    ids=str,
)
def test_offsets_that_lie_touch_nothing_else(runner: Path, case: Case, offsets: list[int]) -> None:
    # The address sanitizer watches. Clips that are sound are right; of split clips in no order parts may share a slot.
    inputs = replace(_make_inputs(case), offsets=torch.tensor(offsets))
    regime, out, _ = _run_both(kernels_for(runner, case), inputs)
    for b, (begin, end) in enumerate(itertools.pairwise(offsets)):
        if regime != "split" or sorted(offsets) == offsets or begin >= end:
            frames = inputs.features[max(begin, 0) : max(end, 0)]
            wanted = reference.frame_attention(frames.unsqueeze(0), *inputs.parameters)
            torch.testing.assert_close(out[b], wanted[0], rtol=1e-5, atol=1e-6)


# One of each regime, and rows of odd length.
EACH = [
    Case(frames=4, dim=16),
    Case(frames=4, dim=15),
    Case(frames=30, dim=16),
    Case(frames=100, dim=24, shared_per_block=11_000),
    SPLIT,
]


@pytest.mark.parametrize("case", EACH, ids=str)
def test_nan_stays_in_its_clip(runner: Path, case: Case) -> None:
    inputs = _make_inputs(replace(case, clips=3, mask="late"))
    inputs.features[1, int(inputs.mask[1].int().argmax()), 3] = float("nan")
    _, out, _, *weights = kernels_for(runner, case).forward(inputs, return_weights=True)
    assert torch.isnan(out).any(dim=1).tolist() == [False, True, False]
    assert not any(weight[~inputs.mask].any() for weight in weights)


@pytest.mark.parametrize("case", EACH, ids=str)
def test_absent_frames_have_no_gradient_whatever_comes_in(runner: Path, case: Case) -> None:
    inputs, kernels = _make_inputs(case), kernels_for(runner, case)
    _, out, saved, *_ = kernels.forward(inputs)
    _, grad, *_ = kernels.backward(inputs, (torch.full_like(out, float("inf")), None, None), out, saved)
    assert inputs.mask is not None
    assert not inputs.mask.all()
    assert torch.equal(grad[~inputs.mask], torch.zeros_like(grad[~inputs.mask]))


@pytest.mark.parametrize("case", EACH, ids=str)
def test_bits_do_not_depend_on_the_batch(runner: Path, case: Case) -> None:
    inputs, kernels = _make_inputs(replace(case, clips=5)), kernels_for(runner, case)
    one = replace(inputs, features=inputs.features[3:4], mask=inputs.mask[3:4])
    (_, all_out, all_grad), (_, out, grad) = _run_both(kernels, inputs), _run_both(kernels, one)
    assert torch.equal(all_out[3:4], out)
    assert torch.equal(all_grad[3:4], grad)


_BY_LENGTH = [(4, "registers"), (30, "resident"), (72, "cluster"), (999, "split")]


@pytest.mark.parametrize(("max_frames", "regime"), _BY_LENGTH)
def test_bits_of_packed_clips_depend_on_max_frames_alone(runner: Path, max_frames: int, regime: str) -> None:
    lengths = [min(n, max_frames) for n in (70, 3, 0, 40, 9)]
    inputs = _make_inputs(Case(frames=tuple(lengths), dim=24, max_frames=max_frames))
    kernels = Kernels(runner, shared_per_block=0 if max_frames == 4 else 8_500)
    found, out, grad = _run_both(kernels, inputs)
    assert found == regime
    for b, (begin, end) in enumerate(itertools.pairwise(inputs.offsets.tolist())):
        alone = replace(inputs, features=inputs.features[:end], offsets=torch.tensor([begin, end]))
        _, alone_out, alone_grad = _run_both(kernels, alone)
        assert torch.equal(out[b : b + 1], alone_out)
        assert torch.equal(grad[begin:end], alone_grad[begin:end])


@pytest.mark.parametrize("dim", [24, 13])
@pytest.mark.parametrize(("frames", "regime"), _BY_LENGTH)
def test_packed_clips_as_long_as_max_frames_have_the_bits_of_dense_ones(
    runner: Path, frames: int, regime: str, dim: int
) -> None:
    """A shorter one has those of a clip padded to max_frames, where one warp or one block takes it."""
    inputs = _make_inputs(Case(frames=frames, dim=dim, mask=None))
    kernels = Kernels(runner, shared_per_block=0 if frames == 4 else 8_500)
    lengths = [frames, frames - 2 if frames <= 30 else frames]
    mask = torch.arange(frames) < torch.tensor(lengths).unsqueeze(1)
    packed = Inputs(inputs.features[mask], inputs.parameters, None, torch.tensor([0, *lengths]).cumsum(0), frames)
    dense_regime, dense_out, dense_grad = _run_both(kernels, replace(inputs, mask=mask))
    packed_regime, out, grad = _run_both(kernels, packed)
    assert dense_regime == packed_regime == ("resident" if regime == "registers" and dim == 13 else regime)
    assert torch.equal(dense_out, out)
    assert torch.equal(dense_grad[mask], grad)


def test_grid_beyond_65535_blocks(runner: Path) -> None:
    # More blocks than a grid's second dimension has. Only the last ones run.
    inputs = _make_inputs(Case(frames=5, dim=1, clips=70_000, mask=None))
    plan, out, *_ = Kernels(runner, first_block=69_990).forward(inputs)
    assert plan.blocks == 70_000
    wanted = reference.frame_attention(inputs.features[69_990:], *inputs.parameters)
    torch.testing.assert_close(out[69_990:], wanted, rtol=1e-6, atol=1e-7)
