"""Soft labels: what the file says, and that a run learns from it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard, save_weights
from fan_fer.base.errors import DataError, TrainingError
from fan_fer.datasets.cross import cross_sets
from fan_fer.datasets.prepared import PreparedSet, open_prepared
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.training import trainer
from fan_fer.training.recipe import Recipe
from fan_fer.training.run import train_run
from fan_fer.training.soft_labels import read_soft_labels
from fan_fer.training.spec import RunSpec

from ..drawn_sets import prepared_afew

VALUES = {"epochs": 12, "lr": 3e-2, "optimizer": "adamw", "freeze_backbone": True, "batch_size": 4}


@pytest.fixture(scope="module")
def afew(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return open_prepared(prepared_afew(tmp_path_factory.mktemp("afew"), train=1, val=1, frames=2))


def write(path: Path, prepared: PreparedSet, *rows: str) -> Path:
    path.write_text("\n".join([f"Clip,{','.join(prepared.classes).lower()}", *rows]) + "\n")
    return path


def test_votes_become_shares(afew: PreparedSet, tmp_path: Path) -> None:
    name = afew.clips[0].name
    shares, told = read_soft_labels(
        write(tmp_path / "a.csv", afew, f"{name},1,0,0,3,,0,0", "other,1,1,1,1,1,1,1"), afew
    )
    assert told == 1
    assert shares[0].tolist() == [0.25, 0, 0, 0.75, 0, 0, 0]
    for clip, own in zip(afew.clips[1:], shares[1:], strict=True):
        assert own.tolist() == [float(label == clip.label) for label in afew.classes]


def test_of_two_sets_it_names_clips_of_the_one_to_train_on(afew: PreparedSet, tmp_path: Path) -> None:
    other = open_prepared(prepared_afew(tmp_path, train=1, val=1, frames=1))
    other = replace(other, clips=tuple(replace(clip, name=f"other/{clip.name}") for clip in other.clips))
    both = cross_sets(afew, other)
    shares, told = read_soft_labels(write(tmp_path / "a.csv", afew, f"{afew.clips[2].name},1,0,0,3,,0,0"), both)
    assert (shares.shape, told) == ((len(afew.clips) + len(other.clips), 7), 1)
    changed = [place for place, row in enumerate(shares) if row.max() < 1]
    assert [both.clips[place].name for place in changed] == [f"train/{afew.clips[2].name}"]
    with pytest.raises(DataError, match=f"names no clip of {re.escape(str(afew.folder))}; "):
        read_soft_labels(write(tmp_path / "b.csv", afew, "other,1,0,0,0,0,0,0"), both)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("NAME,0,0,0,0,0,0,0", "line 2: numbers from 0 on, one of them above, are wanted"),
        ("NAME,-1,2,0,0,0,0,0", "line 2: numbers from 0 on"),
        ("NAME,nan,2,0,0,0,0,0", "line 2: numbers from 0 on"),
        ("NAME,many,2,0,0,0,0,0", "line 2 has a cell that is no number"),
        ("other,1,0,0,0,0,0,0", r"names no clip of .*; clips as in its clips\.csv are wanted"),
    ],
)
def test_refusals(afew: PreparedSet, tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path / "a.csv", afew, row.replace("NAME", afew.clips[0].name))
    with pytest.raises(DataError, match=message):
        read_soft_labels(path, afew)


def test_shares_are_what_the_loss_wants() -> None:
    torch.manual_seed(0)
    network = FrameAttentionNetwork("mean", 3)
    features, labels = torch.randn(2, 2, network.feature_size), torch.tensor([0, 1])
    loss = trainer.ClipLoss(network, True, 0.0, torch.ones(3))
    network.requires_grad_(False)
    mask, shares = torch.ones(2, 2, dtype=torch.bool), torch.tensor([[0.5, 0.5, 0], [0, 0.25, 0.75]])
    total, _ = loss(features, mask, labels, 0.5, shares)
    logits = network.classifier(features.mean(1)).log_softmax(-1)
    assert float(total) == pytest.approx(-float((shares * logits).sum() / 2), rel=1e-5)
    hard = loss(features, mask, labels, 0.5)[0]
    assert float(loss(features, mask, labels, 0.5, torch.eye(3)[labels])[0]) == pytest.approx(float(hard), rel=1e-5)


def test_a_run_learns_what_the_file_says(afew: PreparedSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    preprocessing = Preprocessing(32, True, (0.5,) * 3, (0.25,) * 3, afew.template)
    init = tmp_path / "backbone.safetensors"
    save_weights(init, FrameAttentionNetwork("fan"), ModelCard("fan", preprocessing))
    rows = [f"{clip.name},1,0,0,0,0,0,0" for clip in afew.clips]  # all are the first class
    values = VALUES | {"soft_labels": str(write(tmp_path / "a.csv", afew, *rows))}
    spec = RunSpec("mean", "val", 0, Recipe("test", "test", values), init)
    lines: list[str] = []
    result = train_run(afew, spec, tmp_path / "run", "cpu", report=lines.append)
    assert f"soft labels for {len(rows)} clips; the others keep their label" in lines
    assert {int(clip.probabilities.argmax()) for clip in result.scores("last")} == {0}
    identity = spec.identity(afew)
    write(tmp_path / "a.csv", afew, *rows[:3])
    assert spec.identity(afew) != identity  # another file is another run
    (tmp_path / "a.csv").unlink()
    with pytest.raises(TrainingError, match=r"a\.csv: no such file; soft labels are wanted"):
        spec.identity(afew)
