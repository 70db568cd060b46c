"""The network of dlib's face recognition: its shape, its halving blocks, the smallest faces that it takes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fan_fer.features.face29 import Face29, PooledBlock
from fan_fer.features.resnet import ResNet18


@pytest.fixture(scope="module")
def network() -> Face29:
    torch.manual_seed(0)
    return Face29(num_classes=7)


def test_it_has_29_convolutions_and_half_of_a_resnet18s_parameters(network: Face29) -> None:
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 29
    own, theirs = (sum(p.numel() for p in made.parameters()) for made in (network, ResNet18(num_classes=7)))
    assert own == pytest.approx(theirs / 2, rel=0.01)
    assert network.fc.in_features == Face29.feature_size == 256


@pytest.mark.parametrize("inputs", [4, 6])
@pytest.mark.parametrize("size", [(6, 6), (7, 7), (5, 8), (2, 3)])
def test_a_halving_block_adds_the_mean_of_four_pixels_and_channels_of_zeros(inputs: int, size: tuple[int, int]) -> None:
    block = PooledBlock(inputs, 6, 2).eval()
    nn.init.zeros_(block.bn2.weight)  # nothing beside the shortcut
    x = torch.rand(2, inputs, *size)
    with torch.no_grad():
        out = block(x)
    assert out.shape == (2, 6, size[0] // 2, size[1] // 2)
    torch.testing.assert_close(out[:, :inputs], F.avg_pool2d(x, 2))
    assert (out[:, inputs:] == 0).all()


def test_a_halving_convolution_sees_the_last_row_and_column() -> None:
    block = PooledBlock(1, 1, 2).eval()
    nn.init.ones_(block.conv1.weight)
    nn.init.dirac_(block.conv2.weight)
    bright = torch.zeros(1, 1, 6, 6)
    bright[..., -1, -1] = 1
    expected = torch.zeros(1, 1, 3, 3)
    expected[..., -1, -1] = 1 + 1 / 4
    with torch.no_grad():
        torch.testing.assert_close(block(bright), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(71, 71), (71, 104), (72, 90), (150, 150)])
def test_faces_of_any_size_from_the_smallest_on(network: Face29, size: tuple[int, int]) -> None:
    network.train()
    network(torch.randn(2, 3, *size)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    network.zero_grad()


def test_smaller_faces_vanish(network: Face29) -> None:
    assert Face29.smallest == 71
    with pytest.raises(RuntimeError):
        network.eval()(torch.randn(1, 3, 70, 71))
