"""What a step of the backbone's training consists of."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import beta, kstest
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError
from fan_fer.features.resnet import ResNet18
from pretraining import backbone
from pretraining.backbone import BackboneSettings, epoch_order, follow, mix, taught
from pretraining.ferplus import FaceSet
from pretraining.matrix_conv import MatrixConv2d


@pytest.fixture
def faces() -> FaceSet:
    rng = Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 48, 48), dtype=torch.uint8, generator=rng)
    return FaceSet(images, torch.eye(7).repeat(3, 1)[:16], torch.ones(16, dtype=torch.bool))


def shares(alpha: float, count: int) -> Tensor:
    """Of ``count`` batches."""
    rng = Generator().manual_seed(0)
    inputs = torch.eye(16).view(16, 1, 4, 4)
    mixed = torch.stack([mix(inputs, torch.eye(16), alpha, rng)[1] for _ in range(count)])
    return mixed.diagonal(dim1=1, dim2=2).min(dim=1).values  # where a face is mixed with itself: 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    assert kstest(shares(alpha, 2000).numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


def test_order_and_shares_lie_where_the_faces_lie() -> None:
    labels = torch.eye(7).repeat(4, 1)
    with torch.device("meta"):
        for balance in (0.0, 0.5):
            rng = Generator("cpu").manual_seed(0)
            order = epoch_order(labels, balance, rng)
            assert order.device.type == mix(labels[order], labels[order], 0.2, rng)[0].device.type == "cpu"


def test_averages_follow() -> None:
    ours, theirs = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    for step, value in enumerate(theirs.state_dict().values(), start=1):
        value.fill_(step)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    follow(ours, theirs, 0.75)
    for name, value in ours.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * theirs.state_dict()[name])
    assert ours.weight.requires_grad


def test_what_is_taught_can_be_learned() -> None:
    teacher, student = nn.Linear(4, 7), nn.Linear(4, 7)
    nn.init.zeros_(teacher.weight)
    nn.init.zeros_(teacher.bias)
    inputs, labels = torch.rand(5, 4), torch.eye(7)[:5]
    soft = taught(inputs, labels, [teacher, teacher], 0.25)
    torch.testing.assert_close(soft, 0.75 * labels + 0.25 / 7)
    nn.functional.cross_entropy(student(inputs), soft).backward()
    assert student.weight.grad is not None
    assert teacher.weight.grad is None


class NumbersRead(TorchDispatchMode):
    """Counts them: on a GPU the processor waits for each."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.count += function.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal")
        return function(*arguments, **(named or {}))


def test_a_step_reads_no_number(faces: FaceSet) -> None:
    network = nn.Sequential(nn.Conv2d(3, 7, 3, 2), nn.BatchNorm2d(7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    read = []
    for batch in (4, 16):
        settings = BackboneSettings(sizes="32x1", batch=batch, mixup=0.2, balance=0.4, distil=0.5)
        with NumbersRead() as numbers:
            backbone.train_epoch(network, deepcopy(network), optimizer, faces, [deepcopy(network)], 0, settings)
        read.append(numbers.count)
    assert read[0] == read[1] > 0  # of four steps and of one; the loss, at the end


def test_matrix_products_are_for_cpus() -> None:
    for device, wanted in (("cpu", 4), ("meta", 0)):
        network = backbone.place(ResNet18(num_classes=len(EMOTIONS)), torch.device(device))
        assert sum(isinstance(layer, MatrixConv2d) for layer in network.modules()) == wanted
        assert {parameter.device.type for parameter in network.parameters()} == {device}
        assert network.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_compiled_networks_are_used(faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that leaves everything as it is."""
    teacher = tmp_path / "teacher.safetensors"
    save_file(ResNet18(num_classes=len(EMOTIONS)).state_dict(), teacher)
    settings = BackboneSettings(sizes="32x1", batch=8, distil=0.5)
    calls: list[Mock] = []

    def compiler(forward: object, **_: object) -> Mock:
        calls.append(Mock(side_effect=forward))
        return calls[-1]

    monkeypatch.setattr(torch, "compile", compiler)
    backbone.train(faces, faces, tmp_path / "out", settings, None, [teacher], compiled=True)
    assert [call.call_count for call in calls] == [2, 2]  # steps
    assert backbone.load_network(tmp_path / "out" / "backbone.safetensors").layer1


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["backbone", "--data", "none", "--out", "none", "--device", "tpu"])
    with pytest.raises(FanFerError, match='device "tpu": unknown'):
        backbone.main()
