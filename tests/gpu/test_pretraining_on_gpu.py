"""The pretraining on a GPU: faces change as on a CPU, a run goes on on the other device, and no step waits."""

from __future__ import annotations

import json
import sys
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from fan_fer.features.resnet import ResNet18

sys.path.append(str(Path(__file__).parents[2]))  # at the end: what is installed comes first
from pretraining import backbone
from pretraining.augment import augment, degrade, jpeg
from pretraining.ferplus import FaceSet

SETTINGS = backbone.BackboneSettings(sizes="32x2", batch=8, lr=0.01, mixup=0.2, balance=0.5)


def made_up(count: int) -> FaceSet:
    """Smooth pictures of random emotions."""
    rng = Generator().manual_seed(0)
    images = F.interpolate(torch.rand((count, 1, 6, 6), generator=rng), size=(48, 48), mode="bilinear")
    labels = torch.rand((count, 7), generator=rng)
    return FaceSet(
        (255 * images[:, 0]).byte(), labels / labels.sum(1, keepdim=True), torch.ones(count, dtype=torch.bool)
    )


def looks(faces: Tensor) -> Tensor:
    """(5,): mean, brightness's spread, contrast, sharpness and noise."""
    right = faces.diff(dim=-1)
    means = [faces.mean(), faces.mean((1, 2, 3)).std(), faces.std((1, 2, 3)).mean()]
    return torch.stack([*means, right.abs().mean(), right.diff(dim=-1).abs().mean()]).cpu()


@pytest.mark.parametrize("change", [augment, degrade])
def test_faces_change_as_on_a_cpu(change: type[augment], device: str) -> None:
    images = made_up(2048).images
    found = []
    for place, seed in (("cpu", 1), (device, 2)):
        rng = Generator(place).manual_seed(seed)
        batches = [change(batch, 64, rng) for batch in images.to(place).split(128)]
        assert {batch.device.type for batch in batches} == {place}
        found.append(looks(torch.cat(batches)))
    torch.testing.assert_close(found[1], found[0], rtol=0.08, atol=0)


def test_jpeg_as_on_a_cpu(device: str) -> None:
    faces = F.interpolate(made_up(46).images.unsqueeze(1) / 255, size=(53, 64), mode="bilinear")
    quality = torch.arange(5, 51)
    wanted = jpeg(faces, quality)
    found = jpeg(faces.to(device), quality.to(device)).cpu()
    assert 255 * (found - wanted).abs().mean() < 0.1  # what lies half way is rounded up or down
    assert 255 * (found - faces).abs().mean() > 0.5


@pytest.mark.parametrize("away", [False, True])
def test_a_run_goes_on_on_the_other_device(
    away: bool, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = made_up(16)  # two steps an epoch
    first, second = ("cpu", device) if away else (device, "cpu")

    def dies_in_the_second_epoch(*arguments: object) -> float:
        if arguments[5] == 1:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    train_epoch = backbone.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(backbone, "train_epoch", dies_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            backbone.train(faces, faces, tmp_path, SETTINGS, device=first)
    after_one = backbone.load_network(tmp_path / "backbone.safetensors").state_dict()
    network = backbone.train(faces, faces, tmp_path, SETTINGS, device=second)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    for name, value in network.state_dict().items():
        assert value.device.type == second
        if value.is_floating_point():
            moved = (value.cpu() - after_one[name]).norm() / after_one[name].norm().clamp_min(1)
            assert 0 < moved < 0.5, name


def test_a_step_does_not_wait(cuda: str) -> None:
    """An epoch of six steps waits as often as one of three: for its order, and for its loss."""
    settings = replace(SETTINGS, distil=0.5)
    start = backbone.start_network("resnet18", None, made_up(1), 32)
    network, averaged = (backbone.place(deepcopy(start), torch.device(cuda)) for _ in range(2))
    teacher = ResNet18(num_classes=7).to(cuda).eval()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def waits(count: int) -> int:
        faces = made_up(count).to(torch.device(cuda))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                backbone.train_epoch(network, averaged, optimizer, faces, [teacher], 0, settings)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in caught)

    waits(24)  # what is remembered from here on is copied
    assert waits(48) == waits(24) > 0


def test_faces_are_scored_as_on_a_cpu(device: str) -> None:
    faces = made_up(300)
    network = nn.Sequential(nn.Conv2d(3, 7, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    wanted = backbone.scores(network, faces, 40)
    found = backbone.scores(network.to(device), faces.to(torch.device(device)), 40)
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), wanted, atol=0.02, rtol=0.02)
