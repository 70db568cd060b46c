"""Backbones of timm: their features and input, their files, and what is said where something is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fan_fer.attention.checkpoints import init_path, read_checkpoint
from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard, load_weights, save_weights
from fan_fer.base import extras
from fan_fer.base.errors import FanFerError, LibraryError, TrainingError, WeightsError
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE
from fan_fer.datasets.prepared import PreparedSet, open_prepared
from fan_fer.faces.align import TEMPLATE
from fan_fer.features.backbones import make_backbone
from fan_fer.features.embedding import Embedder
from fan_fer.features.inference import folded
from fan_fer.features.timm_backbones import timm_input, timm_license
from fan_fer.recognizer import load_recognizer
from fan_fer.training.recipe import Recipe, load_recipe
from fan_fer.training.run import train_run
from fan_fer.training.spec import RunSpec
from fan_fer.training.start import start_network

from ..drawn_sets import prepared_afew
from ..fakes import assert_one_error

SMALL = "timm:test_resnet"  # networks of timm's own tests
VALUES = {"epochs": 1, "lr": 1e-3, "batch_size": 8}
PLACES = tuple((float(x), float(y)) for x, y in TEMPLATE)


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm, whose backbones these are, is not installed")


@pytest.fixture(scope="module")
def afew(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return open_prepared(prepared_afew(tmp_path_factory.mktemp("afew"), train=1, val=1, frames=3))


def spec(init: Path | None = None, backbone: str | None = SMALL, **values: object) -> RunSpec:
    return RunSpec("fan", "val", 0, Recipe("test", "test", VALUES | values), init, backbone=backbone)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_100", "test_efficientnet.r160_in1k"])
def test_any_size_of_features_and_input(timm: Any, name: str) -> None:
    torch.manual_seed(0)
    network, size = make_backbone(f"timm:{name}")
    network.eval()
    config = timm.data.resolve_model_data_config(network)
    settings = timm_input(network, PLACES)
    assert (3, settings.size, settings.size) == config["input_size"]
    assert (settings.mean, settings.std, settings.grayscale) == (config["mean"], config["std"], False)
    faces = torch.randn(2, 3, settings.size, settings.size)
    with torch.inference_mode():
        features = network(faces)
        assert features.shape == (2, size)
        embedded = Embedder(network, size, settings, precision="float32").embed_preprocessed(faces)
    assert torch.allclose(embedded, features, rtol=1e-3, atol=1e-4)
    whole = FrameAttentionNetwork("fan", 5, f"timm:{name}")
    assert whole.attention.in_features == size  # the operator's D follows
    assert whole.classifier.in_features == 2 * size


def test_layers_that_only_look_like_ours_are_not_folded() -> None:
    class Lookalike(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    assert isinstance(folded(Lookalike()).bn1, torch.nn.BatchNorm2d)


def test_from_random_weights_to_a_prediction(timm: Any, afew: PreparedSet, tmp_path: Path) -> None:
    train_run(afew, spec(), tmp_path / "run", "cpu")
    path = tmp_path / "run" / "last.safetensors"
    network, card = load_weights(path)
    assert (network.backbone_name, card.backbone, card.preprocessing.size) == (SMALL, SMALL, 160)
    assert card.trained_on.endswith("started from: random weights")
    assert all(name.startswith(("backbone.", "attention.", "classifier.")) for name in load_file(path))
    prediction = load_recognizer(path).classify_clip(afew.crops(afew.clips[0]))
    assert prediction.model["backbone"] == SMALL
    # What one run has learnt, the next starts with.
    start = start_network(afew, spec(path, backbone=None, freeze_backbone=True))
    assert (start.network.backbone_name, start.preprocessing) == (SMALL, card.preprocessing)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, start.network.backbone.state_dict()[name]), name


def test_a_bare_file_of_timm_s_names(timm: Any, afew: PreparedSet, tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model("test_resnet")  # with its classifier
    state = {f"module.{name}": value for name, value in whole.state_dict().items()}
    save_file(state, tmp_path / "bare.safetensors")
    start = start_network(afew, spec(tmp_path / "bare.safetensors"))
    assert start.preprocessing.size == 160
    own = start.network.backbone.state_dict()
    assert own
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in own.items())
    assert "loaded: backbone" in start.report.lines()[1]
    with pytest.raises(WeightsError, match=r"bare\.safetensors: .* timm:mobilenetv3_small_100( is wanted)?$"):
        start_network(afew, spec(tmp_path / "bare.safetensors", backbone="timm:mobilenetv3_small_100"))
    save_file({"x": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="none of its 1 tensors has a name of timm:test_resnet"):
        read_checkpoint(tmp_path / "none.safetensors", SMALL)


def test_pretrained_weights_are_asked_for_only_where_they_are_wanted(
    timm: Any, afew: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, asked = timm.create_model, []

    def create(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        network = original(name, **options)
        if pretrained:
            asked.append(name)
            for parameter in network.parameters():
                torch.nn.init.constant_(parameter, 0.125)
        return network

    monkeypatch.setattr(timm, "create_model", create)
    train_run(afew, spec(), tmp_path / "random", "cpu")
    assert asked == []
    wanted = replace(spec(freeze_backbone=True), pretrained=True)
    train_run(afew, wanted, tmp_path / "run", "cpu")
    assert asked == ["test_resnet"]
    network, card = load_weights(tmp_path / "run" / "last.safetensors")
    assert asked == ["test_resnet"]
    assert all((parameter == 0.125).all() for parameter in network.backbone.parameters())
    assert card.trained_on.endswith("started from: timm's weights of test_resnet")
    assert card.license == timm_license(network.backbone) != ""
    assert wanted.identity(afew) != spec(freeze_backbone=True).identity(afew)


def test_pretrained_weights_that_cannot_be_had(
    timm: Any, afew: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    original = timm.create_model

    def create(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        if pretrained:
            raise OSError("cannot find\nthe requested files")
        return original(name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    arguments = ["train", afew.folder, "--backbone", SMALL, "--init", "pretrained", "--out", tmp_path / "run"]
    code = main(list(map(str, arguments)))
    message = r"timm:test_resnet: the weights that timm publishes cannot be had \(cannot find\); --init FILE takes"
    assert_one_error((code, *capsys.readouterr()), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "timm:vgg99", "--init", "none"], r"'timm:vgg99', which timm .* does not have"),
        (["--backbone", "timm:hf-hub:a/b", "--init", "none"], r"which timm .* does not have"),
        (["--backbone", "timm:resnet18.nope", "--init", "none"], r"cannot be made \(Invalid pretrained tag"),
        (["--backbone", SMALL], r"timm:test_resnet: no network with it ships; --init pretrained or a file is wanted"),
        (["--backbone", SMALL, "--init", "none", "--freeze-backbone"], r"a frozen backbone of random weights"),
    ],
)
def test_refusals(timm: Any, afew: PreparedSet, tmp_path: Path, capsys, options: list[str], message: str) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text("epochs = 1\nlr = 0.1\n")
    out = tmp_path / "out"
    code = main(["train", str(afew.folder), "--config", str(recipe), "--out", str(out), *options])
    assert_one_error((code, *capsys.readouterr()), message, BAD_INPUT)
    assert not out.exists()


def test_a_table_over_one(timm: Any, afew: PreparedSet, tmp_path: Path, capsys) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(f'epochs = 1\nlr = 0.01\nbackbone = "{SMALL}"\n')
    arguments = ["table", afew.folder, "--config", recipe, "--init", "none", "--variants", "fan", "--seeds", "1"]
    assert main(list(map(str, [*arguments, "--workers", "0", "--device", "cpu", "--out", tmp_path / "out"]))) == DONE
    assert "| FAN |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["light", "strong"])
def test_the_recipes_name_networks_that_timm_has(timm: Any, name: str) -> None:
    settings = load_recipe(name).settings("afew", "fan")
    with torch.device("meta"):
        network, size = make_backbone(settings.backbone)
    assert size == {"light": 1024, "strong": 768}[name]
    assert timm_input(network, PLACES).size == 224


# Without timm


def test_without_timm_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(LibraryError, match=r"^backbone timm:x needs timm: pip install 'fan_ext\[timm\]'$"):
        FrameAttentionNetwork(backbone="timm:x")


def test_other_backbones_have_no_pretrained_weights(afew: PreparedSet) -> None:
    assert init_path("pretrained", "resnet18") is None
    for backbone in (None, "face29"):
        with pytest.raises(WeightsError, match="--init pretrained: is for a backbone of timm, --backbone timm:NAME"):
            start_network(afew, replace(spec(backbone=backbone), pretrained=True))


def test_an_unknown_backbone_is_refused_at_once() -> None:
    with pytest.raises(TrainingError, match="backbone vgg: unknown; one of resnet18, face29, timm:NAME is wanted"):
        spec(backbone="vgg")


def test_a_file_of_a_backbone_that_timm_does_not_have(timm: Any, tmp_path: Path) -> None:
    network = FrameAttentionNetwork("fan", backbone=SMALL)
    path = tmp_path / "w.safetensors"
    network.backbone_name = "timm:gone"
    save_weights(path, network, ModelCard("fan", timm_input(network.backbone, PLACES), "timm:gone"))
    with pytest.raises(FanFerError, match=r"w\.safetensors: made for a network this version does not have .*timm:gone"):
        load_weights(path)
