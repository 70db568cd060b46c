"""Training runs on drawn sets: they learn, resume to the same bits after a kill, and two processes equal one."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fan_fer.attention.network import VARIANTS, FrameAttentionNetwork
from fan_fer.attention.scoring import ClipScores
from fan_fer.attention.weights import ModelCard, load_weights, save_weights
from fan_fer.base.checkpoint import save_checkpoint
from fan_fer.base.errors import DataError, FanFerError, OutputError, TrainingError, WeightsError
from fan_fer.base.finite import not_finite
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE
from fan_fer.datasets.prepared import PreparedSet, open_prepared
from fan_fer.features.face29 import Face29
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.recognizer import load_recognizer
from fan_fer.training import trainer
from fan_fer.training.recipe import Recipe, TrainingSettings
from fan_fer.training.result import RunResult
from fan_fer.training.run import run_folder, train_run
from fan_fer.training.spec import RunSpec
from fan_fer.training.start import start_network

from ..drawn_sets import prepared_afew, prepared_ckplus

FROZEN = {"epochs": 8, "lr": 3e-3, "optimizer": "adamw", "batch_size": 8, "freeze_backbone": True}
WHOLE = {"epochs": 2, "lr": 1e-3, "batch_size": 8, "size": 32, "momentum": 0.9, "mirror": True}


@pytest.fixture(scope="module")
def afew(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return open_prepared(prepared_afew(tmp_path_factory.mktemp("afew"), train=3, val=1))


@pytest.fixture(scope="module")
def ckplus(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return open_prepared(prepared_ckplus(tmp_path_factory.mktemp("ckplus"), subjects=4, sequences=7))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, afew: PreparedSet) -> Path:
    """Random, but the same features for all: on drawn faces they tell the expressions apart well enough."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "backbone.safetensors"
    preprocessing = Preprocessing(32, True, (0.5,) * 3, (0.25,) * 3, afew.template)
    save_weights(path, FrameAttentionNetwork("fan"), ModelCard("fan", preprocessing, trained_on="nothing"))
    return path


def spec(variant: str, init: Path | None, partition: str = "val", seed: int = 0, **values: object) -> RunSpec:
    return RunSpec(variant, partition, seed, Recipe("test", "test", FROZEN | values), init)


def assert_same_run(one: Path, two: Path) -> None:
    """Every number and every weight, to the bit."""
    assert (one / "result.json").read_text() == (two / "result.json").read_text()
    for name in ("scores.safetensors", "best.safetensors", "last.safetensors"):
        tensors, others = load_file(one / name), load_file(two / name)
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, others[key]), f"{name}: {key}"


@pytest.mark.parametrize("variant", [*VARIANTS, "abmil", "gru"])
def test_heads_learn_on_frozen_features(afew: PreparedSet, backbone: Path, tmp_path: Path, variant: str) -> None:
    result = train_run(afew, spec(variant, backbone, epochs=60, frames=0), tmp_path / "run", "cpu")
    history = result.values["epochs"]
    assert [entry["epoch"] for entry in history] == list(range(1, 61))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["train_accuracy"] > 0.8
    assert result.values["best"]["accuracy"] == max(entry["accuracy"] for entry in history)
    assert result.values["best"]["epoch"] == 1 + [e["accuracy"] for e in history].index(result.accuracy("best"))
    # The files hold what the result says.
    for which in ("best", "last"):
        scores = result.scores(which)
        predicted = [clip.probabilities.argmax() for clip in scores]
        assert result.accuracy(which) == pytest.approx(np.equal(predicted, result.labels).mean())
        assert all(clip.probabilities.sum() == pytest.approx(1) for clip in scores)
        assert [len(clip.weights) for clip in scores] == [6] * len(result.labels)
        assert all(clip.weights.sum() == pytest.approx(1) for clip in scores)
        network, card = load_weights(tmp_path / "run" / f"{which}.safetensors")
        assert (network.variant, card.classes) == (variant, afew.classes)
    original = load_file(backbone)
    for name, tensor in load_file(tmp_path / "run" / "last.safetensors").items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, original[name]), f"{name} is frozen"
    assert result.values["clips"] == [c.name for c in afew.clips if c.split == "val"]


def test_the_weight_of_a_class_counts_in_the_loss() -> None:
    torch.manual_seed(0)
    network = FrameAttentionNetwork("mean", 3)
    features, labels = torch.randn(4, 2, network.feature_size), torch.tensor([0, 1, 2, 1])
    loss = trainer.ClipLoss(network, True, 0.1, torch.tensor([1.0, 2.0, 0.5]))
    total, _ = loss(features, torch.ones(4, 2, dtype=torch.bool), labels, 0.25)
    own = torch.nn.functional.cross_entropy(
        network.classifier(features.mean(1)), labels, reduction="none", label_smoothing=0.1
    )
    assert float(total) == pytest.approx(float((own * torch.tensor([1, 2, 0.5, 2])).mean()), rel=1e-5)


def test_recipes_weigh_rare_classes_up(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    angry = [clip for clip in afew.clips if clip.split == "train" and clip.label == "Angry"]
    prepared = replace(afew, clips=tuple(clip for clip in afew.clips if clip not in angry[1:]), key="one angry clip")
    losses = set()
    for values in ({}, {"sampling": "balanced"}, {"class_weights": "balanced"}):
        run = spec("mean", backbone, epochs=1, **values)
        result = train_run(prepared, run, tmp_path / f"run-{len(losses)}", "cpu")
        losses.add(result.values["epochs"][0]["loss"])
    assert len(losses) == 3


def test_saved_network_scores_as_the_run_says(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    """From the crops on disk, one clip at a time, without the code that trained it."""
    result = train_run(afew, spec("fan", backbone), tmp_path / "run", "cpu")
    recognizer = load_recognizer(tmp_path / "run" / "last.safetensors")
    for clip, scores in zip((c for c in afew.clips if c.split == "val"), result.scores("last"), strict=True):
        own = recognizer.classify_clip(afew.crops(clip))
        assert list(own.probabilities.values()) == pytest.approx(scores.probabilities.tolist(), abs=1e-3)


@pytest.fixture
def face29(tmp_path: Path, afew: PreparedSet) -> Path:
    """Random weights of a network over face29."""
    torch.manual_seed(0)
    preprocessing = Preprocessing(72, True, (0.5,) * 3, (0.25,) * 3, afew.template)
    card = ModelCard("fan", preprocessing, "face29", trained_on="nothing")
    save_weights(tmp_path / "start.safetensors", FrameAttentionNetwork("fan", backbone="face29"), card)
    return tmp_path / "start.safetensors"


def test_the_backbone_is_that_of_the_start(afew: PreparedSet, face29: Path, tmp_path: Path) -> None:
    train_run(afew, spec("fan", face29, epochs=2), tmp_path / "run", "cpu")
    network, card = load_weights(tmp_path / "run" / "last.safetensors")
    assert (network.backbone_name, card.backbone, card.preprocessing.size) == ("face29", "face29", 72)
    assert torch.equal(network.backbone.conv1.weight, load_weights(face29)[0].backbone.conv1.weight)
    bare = tmp_path / "backbone.safetensors"
    save_file(Face29(num_classes=7).state_dict(), bare)
    start = start_network(afew, spec("self", bare, size=80))
    assert (start.network.backbone_name, start.preprocessing.size) == ("face29", 80)
    assert torch.equal(start.network.backbone.conv1.weight, load_file(bare)["conv1.weight"])


def test_a_backbone_by_name_learns_from_random_weights(afew: PreparedSet, tmp_path: Path) -> None:
    values = WHOLE | {"epochs": 1, "size": 72}
    run = RunSpec("self", "val", 0, Recipe("test", "test", values), backbone="face29")
    train_run(afew, run, tmp_path / "run", "cpu")
    network, card = load_weights(tmp_path / "run" / "last.safetensors")
    assert (network.backbone_name, card.backbone) == ("face29", "face29")
    torch.manual_seed(0)
    start = FrameAttentionNetwork("self", backbone="face29")
    assert not torch.equal(network.backbone.conv1.weight, start.backbone.conv1.weight)
    with pytest.raises(FanFerError, match=r"made with other settings .*backbone face29 -> auto"):
        train_run(afew, replace(run, backbone=None), tmp_path / "run", "cpu")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"backbone": "face29"}, WeightsError, r"backbone\.safetensors: its backbone is resnet18; weights for face29"),
        ({"backbone": "face29", "init": None}, TrainingError, r"^own\.toml: size: got 32; faces of 71 pixels or more"),
        ({"backbone": "vgg"}, TrainingError, r"^backbone vgg: unknown; one of resnet18, face29, timm:NAME is wanted$"),
    ],
)
def test_backbones_that_do_not_fit(afew, backbone, tmp_path, change, error, message) -> None:
    recipe = Recipe("own", "own.toml", WHOLE)
    with pytest.raises(error, match=message):
        train_run(afew, replace(RunSpec("fan", "val", 0, recipe, backbone), **change), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variant", ["fan", "score-fusion"])
def test_the_whole_network_learns(afew: PreparedSet, tmp_path: Path, variant: str) -> None:
    values = WHOLE | {"epochs": 3, "precision": "bf16-mixed", "clip_gradient": 5.0}
    run = RunSpec(variant, "val", 0, Recipe("test", "test", values))
    result = train_run(afew, run, tmp_path / "run", "cpu", workers=1)
    losses = [entry["loss"] for entry in result.values["epochs"]]
    assert losses[-1] < losses[0]
    torch.manual_seed(0)
    start = FrameAttentionNetwork(variant)
    network, _ = load_weights(tmp_path / "run" / "last.safetensors")
    assert not torch.equal(network.backbone.conv1.weight, start.backbone.conv1.weight)
    assert not torch.equal(network.backbone.bn1.running_mean, start.backbone.bn1.running_mean)


def test_published_recipe_runs(ckplus: PreparedSet, tmp_path: Path) -> None:
    """Score dropout, dropout, mirroring, step schedule; smaller faces and fewer epochs than published."""
    from fan_fer.training.recipe import load_recipe

    recipe = load_recipe("paper")
    small = Recipe("paper", "paper", {**recipe.values, "size": 32, "epochs": 2})
    result = train_run(ckplus, RunSpec("fan", "fold-2", 0, small), tmp_path / "run", "cpu")
    assert len(result.values["epochs"]) == 2
    assert result.values["clips"] == [clip.name for clip in ckplus.clips if clip.fold == 2]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("values", [FROZEN | {"score_dropout": 0.3, "dropout": 0.5}, WHOLE], ids=["frozen", "whole"])
def test_resumes_to_the_same_bits(
    afew: PreparedSet, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, object]
) -> None:
    run = RunSpec("fan", "val", 3, Recipe("test", "test", {**values, "epochs": 3}), backbone)
    train_run(afew, run, tmp_path / "whole", "cpu")
    for _ in range(
        2
    ):  # stopped after each of the first two epochs, at the worst moment: the network is written already
        with monkeypatch.context() as patch:
            from fan_fer.training.trainer import Trainer

            original = Trainer.save

            def save_then_die(self: Trainer, *arguments: object) -> None:
                original(self, *arguments)  # noqa: B023 (called at once)
                raise Killed

            patch.setattr(Trainer, "save", save_then_die)
            with pytest.raises(Killed):
                train_run(afew, run, tmp_path / "stopped", "cpu")
    assert not (tmp_path / "stopped" / "result.json").exists()
    train_run(afew, run, tmp_path / "stopped", "cpu")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_finished_run_is_only_read(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    first = train_run(afew, spec("self", backbone, epochs=1), tmp_path, "cpu")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert train_run(afew, spec("self", backbone, epochs=1), tmp_path, "cpu").values == first.values
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_run_in_the_folder_is_refused(
    afew: PreparedSet, backbone: Path, tmp_path: Path, finished: bool
) -> None:
    train_run(afew, spec("fan", backbone, epochs=1), tmp_path, "cpu")
    if not finished:
        (tmp_path / "result.json").unlink()
    with pytest.raises(FanFerError, match=r"made with other settings \(seed 0 -> 1, lr 0.003 -> 0.1\)"):
        train_run(afew, spec("fan", backbone, seed=1, epochs=1, lr=0.1), tmp_path, "cpu")


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_from_before_a_key_was_known_goes_on(
    afew: PreparedSet, backbone: Path, tmp_path: Path, finished: bool
) -> None:
    """It was trained with what is the key's default now; with another value it is another run."""
    train_run(afew, spec("fan", backbone, epochs=1), tmp_path, "cpu")
    new = ("class_weights", "sampling", "soft_labels")
    checkpoint = torch.load(tmp_path / "last.pt", weights_only=True)
    values = json.loads((tmp_path / "result.json").read_text())
    for key in new:
        del checkpoint["settings"][key], values["settings"][key]
    torch.save(checkpoint, tmp_path / "last.pt")
    (tmp_path / "result.json").write_text(json.dumps(values))
    if not finished:
        (tmp_path / "result.json").unlink()
    assert train_run(afew, spec("fan", backbone, epochs=1), tmp_path, "cpu").values["epochs"] == values["epochs"]
    with pytest.raises(FanFerError, match=r"made with other settings \(sampling all -> balanced\)"):
        train_run(afew, spec("fan", backbone, epochs=1, sampling="balanced"), tmp_path, "cpu")


def test_a_run_with_persons_kept_back_is_another_one(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    kept_back = replace(spec("fan", backbone, epochs=1), validation=True)
    train_run(afew, kept_back, tmp_path, "cpu")
    with pytest.raises(FanFerError, match=r"made with other settings \(validation .* -> None\)"):
        train_run(afew, replace(kept_back, validation=False), tmp_path, "cpu")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "cut off"])
def test_a_damaged_checkpoint(afew: PreparedSet, backbone: Path, tmp_path: Path, content: bytes | None) -> None:
    train_run(afew, spec("fan", backbone, epochs=1), tmp_path, "cpu")
    (tmp_path / "result.json").unlink()
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000] if content is None else content)
    with pytest.raises(FanFerError, match=r"last\.pt: no checkpoint of a run \(.*\); delete it to begin anew"):
        train_run(afew, spec("fan", backbone, epochs=1), tmp_path, "cpu")


def test_seeds_differ(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    losses = [
        train_run(afew, spec("fan", backbone, seed=s, epochs=1), tmp_path / str(s), "cpu").values["epochs"][0]["loss"]
        for s in (0, 1)
    ]
    assert losses[0] != losses[1]


def test_no_networks_where_none_are_wanted(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    train_run(afew, spec("fan", backbone, epochs=1), tmp_path, "cpu", keep_networks=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "result.json", "scores.safetensors"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("values", [FROZEN, WHOLE], ids=["frozen", "whole"])
def test_networks_of_a_run_that_was_made_without(
    afew: PreparedSet, backbone: Path, tmp_path: Path, finished: bool, values: dict[str, object]
) -> None:
    """As `fan-fer train` after `fan-fer table`, whose runs lie in the same folders."""
    run = RunSpec("fan", "val", 0, Recipe("test", "test", {**values, "epochs": 3}), backbone)
    train_run(afew, run, tmp_path / "at once", "cpu")
    train_run(afew, run, tmp_path / "later", "cpu", keep_networks=False)
    if not finished:
        (tmp_path / "later" / "result.json").unlink()
    train_run(afew, run, tmp_path / "later", "cpu")
    assert_same_run(tmp_path / "at once", tmp_path / "later")


def test_one_class_alone_is_nothing_to_learn(afew: PreparedSet, ckplus: PreparedSet, backbone: Path) -> None:
    for prepared, partition in ((afew, "val"), (ckplus, "fold-1")):
        (part,) = (part for part in prepared.partitions() if part.name == partition)
        clips = [
            replace(clip, label="Happy") if index in part.train else clip for index, clip in enumerate(prepared.clips)
        ]
        with pytest.raises(TrainingError, match="all clips to train on are of one class, Happy; two or more are want"):
            train_run(replace(prepared, clips=tuple(clips)), spec("fan", backbone, partition), Path("unused"), "cpu")


def test_test_clips_do_not_touch_the_training(ckplus: PreparedSet, backbone: Path) -> None:
    """Folds are of persons: nobody who is tested on is trained on."""
    subjects = {partition.name: {ckplus.clips[i].subject for i in partition.test} for partition in ckplus.partitions()}
    for partition in ckplus.partitions():
        assert not subjects[partition.name] & {ckplus.clips[i].subject for i in partition.train}
    assert sorted(subject for group in subjects.values() for subject in group) == ["S000", "S001", "S002", "S003"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"init": None}, TrainingError, "a frozen backbone of random weights learns nothing"),
        ({"init": Path("none.pth")}, TrainingError, "none.pth: no such file"),
        ({"partition": "fold-1"}, DataError, "has no partition 'fold-1'; it has val"),
        ({"partition": "test"}, DataError, "has no partition 'test'; it has val"),
    ],
)
def test_refusals(afew, backbone, tmp_path, change, error, message) -> None:
    arguments = {"variant": "fan", "init": backbone} | change
    with pytest.raises(error, match=message):
        train_run(afew, spec(**arguments), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_half_precision_of_the_gpu_is_refused_on_the_cpu(afew: PreparedSet, tmp_path: Path) -> None:
    run = RunSpec("fan", "val", 0, Recipe("test", "test", WHOLE | {"precision": "16-mixed"}))
    with pytest.raises(TrainingError, match='precision "16-mixed": needs a GPU'):
        train_run(afew, run, tmp_path / "run", "cpu")


def test_a_folder_that_cannot_be_made(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        train_run(afew, spec("fan", backbone), tmp_path / "file" / "run", "cpu")


def test_other_classes_in_init_heads(ckplus: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    run = RunSpec("fan", "fold-1", 0, Recipe("test", "test", FROZEN), backbone, init_heads=True)
    with pytest.raises(WeightsError, match=r"its classifier is for Angry, Disgust.*; the set has Angry, Contempt"):
        train_run(ckplus, run, tmp_path, "cpu")


WANTED = "a lower lr in the recipe, or clip_gradient, is wanted"


def test_a_loss_that_explodes(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=rf"the loss is (nan|inf) in step \d of 3 of epoch \d; {WANTED}"):
        train_run(afew, spec("fan", backbone, optimizer="sgd", lr=1e38), tmp_path, "cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_torch_refuses(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    for values in ({"optimizer": "adamw"}, {"optimizer": "sgd", "attention_lr": 1e38}):
        with pytest.raises(TrainingError, match=rf"the optimizer overflows in step 1 of 3 of epoch 1; {WANTED}$"):
            train_run(afew, spec("fan", backbone, lr=1e38, **values), tmp_path, "cpu")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_last_step_that_explodes(afew: PreparedSet, backbone: Path, tmp_path: Path, variant: str) -> None:
    """No step comes after it whose loss would tell."""
    run = spec(variant, backbone, optimizer="sgd", lr=1e38, batch_size=1000, epochs=1)
    with pytest.raises(TrainingError, match=rf"finite after the last step of epoch 1; {WANTED}$") as refusal:
        train_run(afew, run, tmp_path, "cpu", keep_networks=variant != "fan")
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_explosion_keeps_the_epochs_before(
    afew: PreparedSet, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = trainer.set_learning_rate

    def late_rate(optimizer: torch.optim.Optimizer, settings: TrainingSettings, epoch: float) -> None:
        rate(optimizer, replace(settings, lr=1e38) if epoch >= 2 else settings, epoch)

    monkeypatch.setattr(trainer, "set_learning_rate", late_rate)
    late = {"optimizer": "sgd", "batch_size": 1000, "epochs": 4}
    message = rf"of epoch 3; {WANTED}; the checkpoint of epoch 2 is kept$"
    for _ in range(2):  # it goes on, to the same end
        with pytest.raises(TrainingError, match=message):
            train_run(afew, spec("fan", backbone, **late), tmp_path, "cpu")
        assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
        checkpoint = torch.load(tmp_path / "last.pt", weights_only=True)
        assert checkpoint["epoch"] == 2
        assert not_finite(checkpoint) is None


def test_a_whole_network_that_explodes(afew: PreparedSet, tmp_path: Path) -> None:
    values = WHOLE | {"epochs": 1, "lr": 1e38, "batch_size": 1000}
    with pytest.raises(TrainingError, match=rf"not finite after the last step of epoch 1; {WANTED}"):
        train_run(afew, RunSpec("fan", "val", 0, Recipe("test", "test", values)), tmp_path, "cpu")
    assert list(tmp_path.iterdir()) == []


def test_no_file_of_a_run_holds_a_number_that_is_none(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    """Whoever wrote it."""
    run = spec("fan", backbone, epochs=1)
    result = train_run(afew, run, tmp_path, "cpu")
    text = (tmp_path / "result.json").read_text()
    for number in ("NaN", "1e999", "-Infinity"):
        (tmp_path / "result.json").write_text(re.sub(r'"loss": [^,]*', f'"loss": {number}', text))
        with pytest.raises(TrainingError, match=r"result\.json: not .* \(epochs\.0\.loss is not finite\)$"):
            train_run(afew, run, tmp_path, "cpu")
    (tmp_path / "result.json").write_text(text, "utf-8-sig")
    tensors = load_file(tmp_path / "scores.safetensors")
    tensors["last.probabilities"][0, 0] = math.nan
    save_file(tensors, tmp_path / "scores.safetensors")
    with pytest.raises(
        TrainingError, match=r"scores\.safetensors: last\.probabilities is not finite; delete the folder"
    ):
        train_run(afew, run, tmp_path, "cpu").scores("last")
    scores = ClipScores(np.full(7, math.nan), np.ones(1), np.zeros((1, 7)))
    with pytest.raises(TrainingError, match=r"scores\.safetensors: not written, as last\.probabilities is not finite"):
        RunResult.save(tmp_path, result.values, {"last": [scores], "best": [scores]})
    (tmp_path / "result.json").unlink()
    checkpoint = torch.load(tmp_path / "last.pt", weights_only=True)
    checkpoint["network"]["classifier.bias"][0] = math.inf
    with pytest.raises(OutputError, match=r"last\.pt: not written, as network\.classifier\.bias is not finite$"):
        save_checkpoint(tmp_path / "last.pt", checkpoint)
    torch.save(checkpoint, tmp_path / "last.pt")
    with pytest.raises(
        FanFerError, match=r"last\.pt: network\.classifier\.bias is not finite; delete it to begin anew$"
    ):
        train_run(afew, run, tmp_path, "cpu")


# The command


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    recipe = tmp_path / "quick.toml"
    recipe.write_text("epochs = 2\nlr = 0.003\nfreeze_backbone = true\nbatch_size = 8\n")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        options = ["--config", str(recipe), "--init", str(backbone), "--device", "cpu"]
        code = main(["train", *map(str, arguments), *options])
        return code, *capsys.readouterr()

    return run


def test_command(train: Command, afew: PreparedSet, tmp_path: Path) -> None:
    code, out, err = train(afew.folder, "--variant", "self", "--out", tmp_path / "run")
    assert (code, err) == (DONE, "")
    assert "loaded: backbone (120 tensors)" in out or "loaded: backbone (122 tensors)" in out
    assert "left at starting values: attention.self_weight" in out
    assert "clips a second" in out
    result = RunResult.load(tmp_path / "run")
    assert f"{result.accuracy('last'):.1%}" in out
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_command_over_all_folds(train: Command, ckplus: PreparedSet) -> None:
    code, out, _ = train(ckplus.folder, "--fold", "all")
    assert code == DONE
    for fold in range(1, 5):
        folder = ckplus.folder / "runs" / "quick" / "fan" / f"fold-{fold}" / "seed-0"
        assert (folder / "best.safetensors").exists()
        assert f"fold-{fold}" in out


def test_command_refusals(train: Command, afew: PreparedSet, ckplus: PreparedSet, tmp_path: Path) -> None:
    for arguments, message in (
        ([ckplus.folder], "--fold is missing; 1 to 4, or all, is wanted"),
        ([ckplus.folder, "--fold", "5"], "has no fold 5; its folds are 1 to 4"),
        ([ckplus.folder, "--fold", "x"], "--fold x; 1 to 4, or all, is wanted"),
        ([ckplus.folder, "--fold", "all", "--out", tmp_path / "run"], "--out is the folder of one run"),
        ([afew.folder, "--fold", "1"], "has no folds; leave --fold out"),
        ([tmp_path / "nothing"], "nothing"),
        ([afew.folder, "--backbone", "vgg"], "backbone vgg: unknown; one of resnet18, face29, timm:NAME is wanted"),
        ([afew.folder, "--backbone", "face29"], "its backbone is resnet18; weights for face29 are wanted"),
    ):
        code, out, err = train(*arguments)
        assert (code, out) == (BAD_INPUT, ""), arguments
        assert err.startswith("fan-fer: error: ")
        assert message in err
        assert err.count("\n") == 1


def start(command: Sequence[object], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def test_kill_minus_nine(afew: PreparedSet, backbone: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "long.toml"
    recipe.write_text("epochs = 40\nlr = 0.003\nfreeze_backbone = true\nbatch_size = 4\nscore_dropout = 0.2\n")
    command = [sys.executable, "-m", "fan_fer", "train", afew.folder, "--config", recipe, "--init", backbone]
    command += ["--device", "cpu"]

    def finish(out: Path, *options: str) -> None:
        process = start([*command, "--out", out, *options])
        _, err = process.communicate(timeout=120)
        assert process.returncode == DONE, err

    finish(tmp_path / "whole")
    stopped = tmp_path / "stopped"
    process = start([*command, "--out", stopped])
    deadline = time.monotonic() + 60
    while not (stopped / "last.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (stopped / "result.json").exists(), "it was finished before it was killed"

    process = start([*command, "--out", stopped])
    _, err = process.communicate(timeout=60)
    assert process.returncode == BAD_INPUT
    assert "holds an interrupted run; --resume goes on with it" in err
    finish(stopped, "--resume")
    assert_same_run(tmp_path / "whole", stopped)


@pytest.mark.parametrize(
    ("variant", "values"),
    [
        ("fan", "freeze_backbone = true\nbatch_size = 8\nlr = 0.003"),
        ("score-fusion", "freeze_backbone = true\nbatch_size = 7\nlr = 0.003"),
        # Batch norm that learns sees the part of the batch its process has, so it is kept as it is.
        ("fan", "freeze_batch_norm = true\nbatch_size = 5\nlr = 0.0001"),
    ],
    ids=["frozen", "frozen score-fusion", "whole"],
)
def test_two_processes_equal_one(afew: PreparedSet, backbone: Path, tmp_path: Path, variant: str, values: str) -> None:
    """The same losses from the same global batches, which do not divide evenly."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"epochs = 2\n{values}\n")
    command = ["-m", "fan_fer", "train", afew.folder, "--config", recipe, "--init", backbone, "--device", "cpu"]
    command += ["--variant", variant, "--workers", "0", "--out"]
    one = start([sys.executable, *command, tmp_path / "one"])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    two = start([*torchrun, *command, tmp_path / "two"])
    for process in (one, two):
        out, err = process.communicate(timeout=180)
        assert process.returncode == DONE, err
        assert out.count("last epoch") == 1, "one process speaks"
    histories = [json.loads((tmp_path / name / "result.json").read_text())["epochs"] for name in ("one", "two")]
    for single, double in zip(*histories, strict=True):
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert double["train_accuracy"] == pytest.approx(single["train_accuracy"], abs=0.05)
    results = [RunResult.load(tmp_path / name) for name in ("one", "two")]
    assert results[0].values["clips"] == results[1].values["clips"]
    probabilities = [[clip.probabilities for clip in result.scores("last")] for result in results]
    assert np.allclose(*probabilities, atol=1e-3)


def test_command_explosion(train: Command, afew: PreparedSet, tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text(
        'epochs = 2\nlr = 1e38\nfreeze_backbone = true\nbatch_size = 1000\noptimizer = "sgd"\n', "utf-8-sig"
    )
    code, _, err = train(afew.folder, "--out", tmp_path / "run")
    assert code == BAD_INPUT
    assert re.fullmatch(rf"fan-fer: error: .* not finite after the last step of epoch 1; {WANTED}\n", err), err
    assert not (tmp_path / "run" / "last.pt").exists()


def test_default_folder_of_a_run() -> None:
    run = RunSpec("self", "fold-2", 7, Recipe("fast", "fast", {}))
    assert run_folder(Path("set"), run) == Path("set/runs/fast/self/fold-2/seed-7")
    for backbone, below in (("face29", "fast-face29"), ("timm:resnet18.a1_in1k", "fast-timm-resnet18.a1_in1k")):
        folder = run_folder(Path("set"), replace(run, backbone=backbone))
        assert folder == Path("set/runs") / below / "self/fold-2/seed-7"
