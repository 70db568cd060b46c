"""Bad arguments raise before any work; the message names the argument, what came and what is wanted."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import fan_ext

N = None
F = torch.randn(2, 3, 8)
P = torch.randn(6, 8)
Q0, Q1 = torch.randn(8), torch.randn(16)


def offsets(*values: int) -> torch.Tensor:
    return torch.tensor(values)


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "features dtype": ((F.int(), Q0), {}, "features has dtype int32, expected float32, float64, float16 or bfloat16"),
    "features rank": ((F[None], Q0), {}, "features has shape (1, 2, 3, 8), expected (B, N, D), (N, D), or (T, D) with"),
    "features vector": ((F[0, 0], Q0), {}, "features has shape (8,), expected (B, N, D), (N, D), or (T, D) with"),
    "features rank packed": ((F, Q0), {"offsets": offsets(0, 3)}, "features has shape (2, 3, 8), expected (T, D)"),
    "no features": ((F[..., :0], Q0[:0]), {}, "features has shape (2, 3, 0), expected a last size of at least 1"),
    "self_weight shape": ((F, Q1), {}, "self_weight has shape (16,), expected (8,) for features of shape (2, 3, 8)"),
    "self_weight rank": ((F, Q0[None]), {}, "self_weight has shape (1, 8), expected (8,)"),
    "self_weight dtype": ((F, Q0.half()), {}, "self_weight has dtype float16, expected float32 like features"),
    "self_weight double": (
        (F.half(), Q0.double()),
        {},
        "self_weight has dtype float64, expected float16 like features",
    ),
    "relation_weight shape": ((F, Q0, Q0), {}, "relation_weight has shape (8,), expected (16,)"),
    "self_bias shape": ((F, Q0, Q1, Q0), {}, "self_bias has shape (8,), expected one element"),
    "relation_bias shape": ((F, Q0, Q1, N, Q0), {}, "relation_bias has shape (8,), expected one element"),
    "relation_bias alone": ((F, Q0, N, N, Q0[:1]), {}, "relation_bias is given without relation_weight"),
    "mask dtype": ((F, Q0), {"mask": torch.ones(2, 3)}, "mask has dtype float32, expected bool"),
    "mask shape": ((F, Q0), {"mask": torch.ones(3, 2).bool()}, "mask has shape (3, 2), expected (2, 3)"),
    "mask of one clip": ((F[0], Q0), {"mask": torch.ones(2).bool()}, "mask has shape (2,), expected (3,)"),
    "mask packed": (
        (P, Q0),
        {"offsets": offsets(0, 6), "mask": torch.ones(6).bool()},
        "mask and offsets are both given",
    ),
    "offsets dtype": (
        (P, Q0),
        {"offsets": torch.tensor([0.0, 6])},
        "offsets has dtype float32, expected int64 or int32",
    ),
    "offsets rank": ((P, Q0), {"offsets": offsets(0, 6)[None]}, "offsets has shape (1, 2), expected (B + 1,)"),
    "offsets empty": ((P, Q0), {"offsets": offsets()[:0].long()}, "offsets has shape (0,), expected (B + 1,)"),
    "offsets order": ((P, Q0), {"offsets": offsets(0, 5, 3)}, "offsets[2] is 3 after 5, expected ascending values"),
    "offsets end": (
        (P, Q0),
        {"offsets": offsets(0, 3, 7)},
        "offsets[2] is 7, expected at most 6, the number of frames",
    ),
    "offsets start": ((P, Q0), {"offsets": offsets(-1, 3)}, "offsets[0] is -1, expected 0 or more"),
    "offsets overflow": ((P, Q0), {"offsets": offsets(0, 2**62, 6)}, "expected ascending values"),
    "max_frames negative": (
        (P, Q0),
        {"offsets": offsets(0, 6), "max_frames": -1},
        "max_frames is -1, expected 0 or more",
    ),
    "max_frames dense": ((F, Q0), {"max_frames": 3}, "max_frames is given without offsets"),
}


@pytest.mark.parametrize("shape", [(), (8,), (2, 3, 4, 8)])
def test_shapes_without_values(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"^fan_ext\.frame_attention: features has shape .*, expected \(B, N, D\)"):
        fan_ext.frame_attention(torch.empty(shape, device="meta"), Q0.to("meta"))


@pytest.mark.parametrize("needs_grad", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_names_the_argument(name: str, needs_grad: bool) -> None:
    arguments, layout, message = BAD[name]
    if needs_grad and arguments[1].is_floating_point():
        arguments = (arguments[0], arguments[1].clone().requires_grad_(), *arguments[2:])
    with pytest.raises(RuntimeError, match=r"^fan_ext\.frame_attention: .*" + re.escape(message)):
        fan_ext.frame_attention(*arguments, **layout)


@pytest.mark.parametrize("name", ["features", "self_weight", "relation_weight", "self_bias", "mask", "offsets"])
@pytest.mark.parametrize(
    "value", [2, 0.5, "x", [1.0], F.numpy(), N], ids=["int", "float", "str", "list", "numpy", "None"]
)
def test_what_is_no_tensor(name: str, value: Any) -> None:
    if value is None and name not in ("features", "self_weight"):
        return
    arguments = {"features": F, "self_weight": Q0, "relation_weight": Q1, name: value}
    with pytest.raises(TypeError, match=rf"^fan_ext\.frame_attention: {name} is a \w+, expected a tensor$"):
        fan_ext.frame_attention(**arguments)


def test_device() -> None:
    with pytest.raises(RuntimeError, match=r"an argument of shape \(16,\) is on meta, expected cpu like features"):
        fan_ext.frame_attention(F, Q0, Q1.to("meta"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad_out": torch.randn(2, 8)}, "grad_out has shape (2, 8), expected (2, 16)"),
        ({"grad_out": torch.randn(2, 16).double()}, "grad_out has dtype float64, expected float32"),
        ({"grad_alpha": torch.randn(3, 2)}, "grad_alpha has shape (3, 2), expected (2, 3)"),
        ({"grad_beta": torch.randn(6)}, "grad_beta has shape (6,), expected (2, 3)"),
        ({"out": torch.randn(1, 16)}, "out has shape (1, 16), expected (2, 16)"),
        ({"saved": torch.randn(2, 6)}, "saved has shape (2, 6), expected (5, 6)"),
        ({"saved": torch.randn(5, 6).double()}, "saved has dtype float64, expected float32"),
    ],
)
def test_backward_operator_checks_too(change: dict[str, torch.Tensor], message: str) -> None:
    arguments = {
        "grad_out": torch.randn(2, 16),
        "grad_alpha": None,
        "grad_beta": None,
        "features": F,
        "self_weight": Q0,
        "relation_weight": Q1,
        "mask": None,
        "offsets": None,
        "max_frames": None,
        "out": torch.randn(2, 16),
        "saved": torch.randn(5, 6),
        "features_need_grad": True,
    }
    torch.ops.fan_ext.frame_attention_backward(**arguments)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        torch.ops.fan_ext.frame_attention_backward(**(arguments | change))


def test_nested_tensors_of_other_kinds() -> None:
    strided = torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(3, 8)], layout=torch.strided)
    with pytest.raises(RuntimeError, match=r"features is a nested tensor of another kind, expected .*torch\.jagged"):
        fan_ext.frame_attention(strided, Q0)
    jagged = torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(3, 8)], layout=torch.jagged)
    with pytest.raises(RuntimeError, match="mask or offsets is given, expected neither with jagged"):
        fan_ext.frame_attention(jagged, Q0, offsets=offsets(0, 5))
    with pytest.raises(ValueError, match="in_features is 0, expected at least 1"):
        fan_ext.FrameAttention(0)
