"""Convolutions as matrix products give what convolutions give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fan_fer.features.backbones import BACKBONES
from pretraining.matrix_conv import MatrixConv2d, use_matrix_products


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("padding", "size"), [(1, (2, 2)), (1, (3, 5)), (1, (6, 7)), (0, (3, 5)), (0, (7, 9))])
def test_results_and_gradients(stride: int, padding: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, stride, padding, bias=False).double()
    matrix = MatrixConv2d(4, 6, 3, stride, padding, bias=False).double()
    matrix.load_state_dict(plain.state_dict())
    inputs = torch.randn(2, 4, *size, dtype=torch.float64)
    outcomes = []
    for layer in (plain, matrix):
        seen = inputs.clone().requires_grad_()
        out = layer(seen)
        (out * torch.arange(out.numel()).view(out.shape)).sum().backward()
        outcomes.append((out, seen.grad, layer.weight.grad))
    for expected, got in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("name", "part", "count"), [("resnet18", "layer4", 4), ("face29", "blocks", 28)])
def test_a_network_keeps_its_parameters_and_its_answer(name: str, part: str, count: int) -> None:
    torch.manual_seed(0)
    network = BACKBONES[name](num_classes=7).eval()
    names = list(network.state_dict())
    inputs = torch.randn(2, 3, 80, 80)
    with torch.no_grad():
        expected = network(inputs)
        use_matrix_products(getattr(network, part))
        torch.testing.assert_close(network(inputs), expected, atol=1e-4, rtol=1e-4)
    assert list(network.state_dict()) == names
    assert sum(isinstance(module, MatrixConv2d) for module in network.modules()) == count
