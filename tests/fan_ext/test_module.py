from __future__ import annotations

import copy
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
    # With the cache of `make lint`, as torch's own types take a minute.
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--config-file=pyproject.toml", str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    revealed = [line.split('"')[1] for line in result.stdout.splitlines() if "Revealed type" in line]
    tensor = "torch._tensor.Tensor"
    pair = "tuple[torch._tensor.Tensor, "
    assert len(revealed) == 16, result.stdout
    for alone, without, both, either in zip(*(revealed[k::4] for k in range(4)), strict=True):
        assert (alone, without) == (tensor, tensor)
        assert both.startswith(pair)
        assert "FrameWeights" in both
        assert either.startswith(f"{tensor} | {pair}")


TRAINING = """
import copy, os, sys
import torch
import torch.distributed as dist
import fan_ext

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), fan_ext.FrameAttention(32), torch.nn.Linear(64, 7))
alone = copy.deepcopy(model)
clips, labels = torch.randn(8, 5, 16), torch.arange(8) % 7
parallel = torch.nn.parallel.DistributedDataParallel(model)
own = slice(4 * rank, 4 * rank + 4)
scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=1024.0), torch.optim.SGD(model.parameters(), 0.1)
with torch.autocast("cpu", torch.float16):
    loss = torch.nn.functional.cross_entropy(parallel(clips[own]), labels[own])
scaler.scale(loss).backward()
scaler.unscale_(optimizer)
torch.nn.functional.cross_entropy(alone(clips), labels).backward()
for (name, mine), theirs in zip(model.named_parameters(), alone.parameters()):
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=2e-2, atol=2e-3, msg=name)
before = model[1].self_weight.detach().clone()
scaler.step(optimizer)
scaler.update()
assert not torch.equal(model[1].self_weight, before)
values = [torch.zeros_like(before) for _ in range(2)]
dist.all_gather(values, model[1].self_weight.detach())
assert torch.equal(*values)
scaler.scale(parallel(clips[own]).sum() * float("inf")).backward()
scaler.step(optimizer)  # is left out
scaler.update()
assert scaler.get_scale() == 512
assert torch.equal(model[1].self_weight, values[rank])
dist.destroy_process_group()
"""


def test_several_processes_and_scaled_gradients(tmp_path: Path) -> None:
    """DistributedDataParallel and GradScaler: the gradients are those of all clips in one process."""
    arguments = [sys.executable, "-c", TRAINING]
    workers = [
        subprocess.Popen([*arguments, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
