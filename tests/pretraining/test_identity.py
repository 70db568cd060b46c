"""dlib's network out of its file: what it gives, and a start that training can go on from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fan_fer.base.errors import FanFerError
from fan_fer.features.face29 import Face29
from pretraining.identity import load_identity

from .made_identity import identity, write_identity

MEAN, STD = 0.5, 0.25


def coloured(count: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Faces, 0 to 255, and as the network takes them."""
    shape = (count, 3, height, width)
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return pixels.float(), (pixels / 255 - MEAN) / STD


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_identity(tmp_path_factory.mktemp("identity") / "dlib.dat")


@pytest.fixture(scope="module")
def network(file: Path) -> Face29:
    return load_identity(file, coloured(8, 104, 104, seed=0)[1], MEAN, STD)


@pytest.mark.parametrize("size", [(72, 72), (103, 80), (104, 104), (150, 150)])
@torch.inference_mode()
def test_it_gives_what_dlibs_network_gives(network: Face29, size: tuple[int, int]) -> None:
    pixels, faces = coloured(3, *size, seed=1)
    expected = identity(pixels)
    apart = float(expected.std(0).mean())
    assert apart > 0.01, "faces are told apart"
    torch.testing.assert_close(network(faces), expected, atol=0.01 * apart, rtol=1e-5)


@torch.inference_mode()
def test_batch_norms_begin_with_the_statistics_of_the_faces(file: Path) -> None:
    faces = coloured(8, 104, 104, seed=0)[1]
    network = load_identity(file, faces, MEAN, STD)
    expected = network(faces)
    # In training a batch's own statistics count: of those faces the same, but for the variance, here that of a sample.
    torch.testing.assert_close(network.train()(faces), expected, atol=0.02 * float(expected.std()), rtol=0.02)


def test_filters_are_as_long_as_newly_drawn_ones(network: Face29) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            lengths = module.weight.flatten(1).norm(dim=1)
            torch.testing.assert_close(lengths, torch.full_like(lengths, math.sqrt(2)))


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    faces = coloured(1, 72, 72, seed=0)[1]
    (tmp_path / "cut.dat").write_bytes(file.read_bytes()[:-10])
    (tmp_path / "other.dat").write_bytes(b"dlib")
    for name, message in (
        ("none", r"cannot be read \(No such file or directory\)"),
        ("cut", "without a tensor of 256 x 128 numbers"),
        ("other", "without a tensor of 4736 numbers"),
    ):
        with pytest.raises(FanFerError, match=rf"{name}\.dat: {message}; dlib_face_recognition_resnet_model_v1\.dat"):
            load_identity(tmp_path / f"{name}.dat", faces, MEAN, STD)
