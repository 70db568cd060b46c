"""The NumPy entry: the bits of the torch operator, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from operator_cases import LAYOUTS, make_case

import fan_ext


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_as_torch(layout: str, dtype: torch.dtype) -> None:
    case = make_case(layout, 33, 31, dtype)
    expected = case.run(fan_ext.frame_attention)
    parameters = [None if p is None else p.numpy() for p in case.parameters]
    arrays = {n: v.numpy() for n, v in case.layout.items() if isinstance(v, torch.Tensor)}
    features = case.features.numpy()
    out, weights = fan_ext.numpy.frame_attention(features, *parameters, **arrays, return_weights=True)
    assert out.dtype == features.dtype
    np.testing.assert_array_equal(out, expected["out"].numpy())
    for name, value in weights._asdict().items():
        if name == "beta" and layout == "self-only":
            assert value is None
        else:
            np.testing.assert_array_equal(value, expected[name].numpy())
    np.testing.assert_array_equal(fan_ext.numpy.frame_attention(features, *parameters, **arrays), out)


def test_every_float16_number_survives() -> None:
    """As tests/fan_ext/test_parity.py has it; here no processor's own conversion is used."""
    numbers = np.arange(65536, dtype=np.uint16).view(np.float16)
    out = fan_ext.numpy.frame_attention(numbers.reshape(-1, 1, 1), np.zeros(1)).ravel()
    finite = np.isfinite(numbers)
    np.testing.assert_array_equal(out[finite], numbers[finite])
    assert np.isnan(out[~finite]).all()


def test_float16_rounds_to_nearest_even() -> None:
    generator = np.random.default_rng(1)
    pair = generator.standard_normal((4096, 2, 8)) * np.exp2(generator.integers(-26, 15, (4096, 1, 8)))
    pair = pair.astype(np.float16)
    with np.errstate(over="ignore"):
        expected = (pair.astype(np.float32).sum(1) * np.float32(0.5)).astype(np.float16)
    np.testing.assert_array_equal(fan_ext.numpy.frame_attention(pair, np.zeros(8)), expected)


def test_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, fan_ext\n"
        "out = fan_ext.numpy.frame_attention(np.ones((1, 2, 4), np.float32), np.zeros(4), np.zeros(8))\n"
        "assert (out == 1).all() and out.shape == (1, 8), out\n"
        "assert fan_ext.build_info()['cpu']\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=120)


F, Q0, Q1 = np.ones((2, 3, 8), np.float32), np.ones(8), np.ones(16)


@pytest.mark.parametrize(
    ("arguments", "layout", "error", "message"),
    [
        ((F.astype(int), Q0), {}, TypeError, "features has dtype int64, expected float32, float64 or float16"),
        ((F[0], Q0), {}, ValueError, r"features has shape \(3, 8\), expected \(B, N, D\)"),
        ((F, Q1), {}, ValueError, r"self_weight has shape \(16,\), expected \(8,\)"),
        ((F, Q0, Q0), {}, ValueError, r"relation_weight has shape \(8,\), expected \(16,\)"),
        ((F, Q0, None, Q0), {}, ValueError, r"self_bias has shape \(8,\), expected \(1,\)"),
        ((F, Q0, None, None, 1.0), {}, ValueError, "relation_bias is given without relation_weight"),
        ((F, Q0), {"mask": np.ones((2, 3))}, TypeError, "mask has dtype float64, expected bool"),
        ((F, Q0), {"mask": np.ones((3, 2), bool)}, ValueError, r"mask has shape \(3, 2\), expected \(2, 3\)"),
        ((F[0], Q0), {"offsets": np.array([0, 2, 1])}, ValueError, r"offsets is \[0, 2, 1\], expected ascending"),
        ((F[0], Q0), {"offsets": np.array([0, 4])}, ValueError, "offsets runs from 0 to 4, expected within 0 and 3"),
        ((F[0], Q0), {"offsets": np.array([0.0, 3])}, TypeError, "offsets has dtype float64, expected integers"),
    ],
)
def test_names_the_argument(arguments: tuple, layout: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fan_ext.numpy.frame_attention(*arguments, **layout)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_any_layout_in_memory(dtype: str) -> None:
    """Native code wants the machine's own byte order, one row after the other, and alignment."""
    generator = np.random.default_rng(2)
    features = generator.standard_normal((3, 5, 8)).astype(dtype)
    mask = generator.random((3, 5)) < 0.8
    q0, q1 = generator.standard_normal(8), generator.standard_normal(16)
    wanted = fan_ext.numpy.frame_attention(features, q0, q1, mask=mask)
    unaligned = np.frombuffer(b"x" + features.tobytes(), np.uint8)[1:].view(dtype).reshape(features.shape)
    for same in (features.astype(f">{dtype}"), np.asfortranarray(features), features[::-1].copy()[::-1], unaligned):
        out = fan_ext.numpy.frame_attention(same, q0.astype(">f8"), q1, mask=np.asfortranarray(mask))
        np.testing.assert_array_equal(out, wanted)
        assert out.dtype == dtype
