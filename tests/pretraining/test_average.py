"""The mean of two networks' weights."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError
from fan_fer.features.backbones import BACKBONES
from pretraining import average
from pretraining.backbone import load_network


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of random weights, and random statistics and counts of their batch norms."""
    folder, found = tmp_path_factory.mktemp("networks"), {}
    for seed, (file, name) in enumerate((("a", "face29"), ("b", "face29"), ("c", "resnet18"))):
        torch.manual_seed(seed)
        tensors = BACKBONES[name](num_classes=len(EMOTIONS)).state_dict()
        for key, tensor in tensors.items():
            tensors[key] = torch.rand_like(tensor) if tensor.is_floating_point() else torch.full_like(tensor, seed)
        save_file(tensors, found.setdefault(file, folder / f"{file}.safetensors"))
    return found


def test_it_lies_between_the_two(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "mean.safetensors"
    monkeypatch.setattr(
        sys, "argv", ["average", *map(str, (files["a"], files["b"])), "--share", "0.25", "--out", str(out)]
    )
    average.main()
    first, second, mean = (load_network(path).state_dict() for path in (files["a"], files["b"], out))
    for key, tensor in mean.items():
        wanted = 0.75 * first[key] + 0.25 * second[key] if tensor.is_floating_point() else second[key]
        torch.testing.assert_close(tensor, wanted)


def test_other_files_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FanFerError, match=r"a face29, and .*c\.safetensors: a resnet18; two networks of one kind"):
        average.average(files["a"], files["c"], 0.5)
    with pytest.raises(FanFerError, match=r"--share 1\.5: wanted a share of the second network, 0 to 1"):
        average.average(files["a"], files["b"], 1.5)
    with pytest.raises(FanFerError, match=re.escape(f"{tmp_path / 'none'}: no such file")):
        average.average(tmp_path / "none", files["b"], 0.5)
