from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fan_ext


@pytest.mark.parametrize("relation", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_module_is_the_function_with_its_parameters(relation: bool, bias: bool) -> None:
    module = fan_ext.FrameAttention(8, relation=relation, bias=bias)
    assert module.out_features == (16 if relation else 8)
    names = {"self_weight", *(["relation_weight"] if relation else []), *(["self_bias"] if bias else [])}
    names |= {"relation_bias"} if relation and bias else set()
    assert {name for name, _ in module.named_parameters()} == names
    features, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, False, True]])
    out, weights = module(features, mask, return_weights=True)
    parameters = [getattr(module, n) for n in ("self_weight", "relation_weight", "self_bias", "relation_bias")]
    expected = fan_ext.reference.frame_attention(features, *parameters, mask=mask)
    torch.testing.assert_close(out, expected)
    assert out.shape == (2, module.out_features)
    assert (weights.beta is None) == (not relation)
    torch.testing.assert_close(weights.final.sum(1), torch.ones(2))
    packed = module(features.flatten(0, 1), offsets=torch.tensor([0, 3, 6]), max_frames=3)
    assert torch.equal(packed, module(features))


def test_state_survives_copy_and_half_precision() -> None:
    module = fan_ext.FrameAttention(8)
    twin = fan_ext.FrameAttention(8)
    twin.load_state_dict(module.state_dict())
    features = torch.randn(2, 3, 8)
    assert torch.equal(twin(features), module(features))
    assert torch.equal(copy.deepcopy(module)(features), module(features))
    assert module.to(torch.bfloat16)(features.bfloat16()).dtype == torch.bfloat16
    assert repr(module) == "FrameAttention(in_features=8, relation=True, bias=True)"


def test_learns_which_frames_count() -> None:
    """The class sits in one marked frame out of eight; attention finds the mark."""
    torch.manual_seed(0)
    attention, head = fan_ext.FrameAttention(16), torch.nn.Linear(32, 2)
    optimiser = torch.optim.Adam([*attention.parameters(), *head.parameters()], lr=0.05)
    for _ in range(150):
        labels = torch.randint(2, (64,))
        frames = torch.randn(64, 8, 16)
        marked = torch.randint(8, (64,))
        frames[torch.arange(64), marked, 0] = 5
        frames[torch.arange(64), marked, 1] = 4 * (2.0 * labels - 1)
        out, weights = attention(frames, return_weights=True)
        loss = torch.nn.functional.cross_entropy(head(out), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (head(out).argmax(1) == labels).float().mean() > 0.95
    assert weights.final[torch.arange(64), marked].mean() > 0.5


def test_types_tell_a_tensor_from_a_pair(tmp_path: Path) -> None:
    """For whoever has a type checker, not Any or a union: with and without weights, of the function and the module."""
    pytest.importorskip("mypy")
    source = tmp_path / "use.py"
    lines = [
        "import fan_ext, torch",
        "q = torch.ones(4)",
        "x = torch.ones(2, 3, 4)",
        "pool = fan_ext.FrameAttention(4)",
    ]
    calls = ("fan_ext.frame_attention(x, q", "fan_ext.reference.frame_attention(x, q", "pool(x", "pool.forward(x")
    for call in calls:
        for rest in (")", ", return_weights=False)", ", return_weights=True)", ", return_weights=len(q) > 3)"):
            lines.append(f"reveal_type({call}{rest})")
    source.write_text("\n".join(lines))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", f"--cache-dir={tmp_path}", str(source)]
    environment = {**os.environ, "MYPYPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    revealed = [line.split('"')[1] for line in result.stdout.splitlines() if "Revealed type" in line]
    tensor = "torch._tensor.Tensor"
    pair = "tuple[torch._tensor.Tensor, "
    assert len(revealed) == 16, result.stdout
    for alone, without, both, either in zip(*(revealed[k::4] for k in range(4)), strict=True):
        assert (alone, without) == (tensor, tensor)
        assert both.startswith(pair)
        assert "FrameWeights" in both
        assert either.startswith(f"{tensor} | {pair}")
