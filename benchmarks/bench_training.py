"""Training attention and classifier on features of a frozen backbone, with the fused operator and with its reference.

    OMP_NUM_THREADS=1 pytest benchmarks/bench_training.py --benchmark-columns=min,median,rounds

A training step takes 48 clips of 8 frames, as in the recipe `fast`; an evaluation takes 210 clips of 14 to 30 frames,
back to back. ``extra_info`` has the clips per second.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fan_ext
from fan_fer.attention.network import FrameAttentionNetwork

CLIPS, FRAMES, DIM = 48, 8, 512
EVALUATED = 210


class ReferenceAttention(fan_ext.FrameAttention):
    """The same layer in plain PyTorch."""

    def forward(self, features: Tensor, mask: Tensor | None = None, **options: object) -> object:  # type: ignore[override]
        parameters = (self.self_weight, self.relation_weight, self.self_bias, self.relation_bias)
        return fan_ext.reference.frame_attention(features, *parameters, mask=mask, **options)


def make_network(implementation: str) -> FrameAttentionNetwork:
    torch.manual_seed(0)
    network = FrameAttentionNetwork("fan")
    if implementation == "reference":
        attention = ReferenceAttention(DIM)
        attention.load_state_dict(network.attention.state_dict())
        network.attention = attention
    torch.manual_seed(1)
    return network


def training_step(implementation: str) -> Callable[[], Tensor]:
    network = make_network(implementation)
    heads = [*network.attention.parameters(), *network.classifier.parameters()]
    optimizer = torch.optim.AdamW(heads, lr=1e-3)
    features = torch.randn(CLIPS, FRAMES, DIM)
    mask = torch.ones(CLIPS, FRAMES, dtype=torch.bool)
    labels = torch.randint(7, (CLIPS,))

    def step() -> Tensor:
        loss = F.cross_entropy(network.classify(features, mask).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def evaluation(implementation: str) -> Callable[[], Tensor]:
    network = make_network(implementation).eval()
    lengths = torch.randint(14, 31, (EVALUATED,))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    features = torch.randn(int(offsets[-1]), DIM)

    @torch.inference_mode()
    def run() -> Tensor:
        return network.classify(features, offsets=offsets).logits

    return run


WORK = {"training step": (training_step, CLIPS), "evaluation": (evaluation, EVALUATED)}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("work", WORK)
def test_heads(benchmark, work: str, implementation: str) -> None:
    make, clips = WORK[work]
    function = make(implementation)
    torch.testing.assert_close(function(), make("reference")(), rtol=1e-4, atol=1e-4)
    benchmark.group = work
    benchmark.pedantic(function, warmup_rounds=20, rounds=200, iterations=1)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info["clips per second"] = round(clips / benchmark.stats["median"])
