"""Weights files: what is saved comes back, and whatever is not a complete network is refused in one line."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fan_fer import load_recognizer
from fan_fer.attention import weights
from fan_fer.attention.checkpoints import init_path, read_checkpoint
from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import (
    DEFAULT_WEIGHTS,
    ModelCard,
    find_weights,
    load_weights,
    packaged_weights,
    save_weights,
)
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import WeightsError
from fan_fer.features.backbones import BACKBONES
from fan_fer.features.preprocessing import Preprocessing

TEMPLATE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.4, 0.8), (0.6, 0.8))
GRAY = Preprocessing(72, grayscale=True, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), template=TEMPLATE)
CARD = ModelCard(variant="fan", preprocessing=GRAY, trained_on="nothing", scores={"valid": 0.5}, license="none")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fan.safetensors"
    save_weights(path, FrameAttentionNetwork("fan"), CARD)
    return path


def change(
    saved: Path, path: Path, drop: str = "", metadata: dict[str, str] | None = None, **tensors: torch.Tensor
) -> Path:
    """A copy of ``saved`` at ``path`` without the tensors that start with ``drop``, with others, or metadata."""
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata() if metadata is None else metadata
    kept = {name: value for name, value in load_file(saved).items() if not (drop and name.startswith(drop))}
    save_file(kept | tensors, path, metadata=metadata)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_saved_comes_back(tmp_path: Path, backbone: str) -> None:
    network = FrameAttentionNetwork("self", backbone=backbone)
    card = replace(CARD, variant="self", backbone=backbone)
    save_weights(tmp_path / "w.safetensors", network, card)
    loaded, loaded_card = load_weights(tmp_path / "w.safetensors")
    assert loaded_card == card
    assert loaded.backbone_name == backbone
    assert not loaded.training
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_half_precision_halves_the_file_and_loads_as_float32(saved: Path, tmp_path: Path) -> None:
    network, card = load_weights(saved)
    save_weights(tmp_path / "half.safetensors", network, card, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.51 * saved.stat().st_size
    halved, _ = load_weights(tmp_path / "half.safetensors")
    assert {p.dtype for p in halved.parameters()} == {torch.float32}
    for (name, value), other in zip(network.named_parameters(), halved.parameters(), strict=True):
        assert torch.allclose(value, other, rtol=1e-3, atol=1e-4), name


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.safetensors")
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 100, 100_000, -1])
def test_truncated(saved: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:keep])
    assert "truncated" in refusal(path)


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    for zipped in (True, False):
        path = tmp_path / "w.pt"
        torch.save({"state_dict": Trap()}, path, _use_new_zipfile_serialization=zipped)
        assert "pickle" in refusal(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"weights, honestly, all of them",
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x03\0\0\0\0\0\0\0{x}",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (30).to_bytes(8, "little") + b'{"x":{"data_offsets":[0,"1"]}}',
        (32).to_bytes(8, "little") + b'{"x":{"data_offsets":[0,1e999]}}',
        (26).to_bytes(8, "little") + b'{"x":{"data_offsets":[0]}}',
    ],
    ids=range(7),
)
def test_not_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert "not a safetensors file" in refusal(path)


def test_a_backbone_alone_names_the_missing_heads(saved: Path, tmp_path: Path) -> None:
    backbone = change(saved, tmp_path / "a", drop="attention.")
    message = refusal(backbone)
    for name in ("self_weight", "relation_weight", "self_bias", "relation_bias"):
        assert f"attention.{name}" in message
    assert "classifier.weight, classifier.bias" in refusal(change(saved, tmp_path / "b", drop="classifier."))
    foreign = tmp_path / "resnet.safetensors"
    save_file({"conv1.weight": torch.zeros(2)}, foreign)
    message = refusal(foreign)
    assert "no model card" in message
    assert "attention.*" in message
    assert "classifier.*" in message


def test_other_tensors(saved: Path, tmp_path: Path) -> None:
    bias = "classifier.bias"
    message = refusal(change(saved, tmp_path / "shape", **{bias: torch.zeros(8)}))
    assert "classifier.bias is (8,), wanted (7,)" in message
    assert "classifier.bias" in refusal(change(saved, tmp_path / "nan", **{bias: torch.full((7,), math.nan)}))
    assert "extra" in refusal(change(saved, tmp_path / "extra", extra=torch.zeros(1)))


def test_other_cards(saved: Path, tmp_path: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert "format 99" in refusal(change(saved, tmp_path / "new", metadata=metadata | {"fan_fer": "99"}))
    assert "model card" in refusal(change(saved, tmp_path / "torn", metadata=metadata | {"card": "{"}))
    assert "model card" in refusal(change(saved, tmp_path / "bare", metadata=metadata | {"card": "{}"}))
    card = json.dumps(json.loads(metadata["card"]) | {"backbone": "vgg"})
    path = change(saved, tmp_path / "vgg", metadata=metadata | {"card": card})
    assert "(backbone: got 'vgg'; wanted one of resnet18, face29, timm:NAME)" in refusal(path)
    with pytest.raises(WeightsError, match="vgg: its backbone is vgg; one of resnet18, face29, timm:NAME is wanted"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change_to", "message"),
    [
        ({"temperature": math.nan}, "temperature is not finite"),
        ({"scores": {"valid": math.inf}}, "scores.valid is not finite"),
        ({"scores": {"valid": "0.5"}}, "valid: got '0.5'; a finite number"),
        ({"preprocessing": {"mean": [0.5, math.nan, 0.5]}}, "preprocessing.mean.1 is not finite"),
        ({"preprocessing": {"mean": [0.5]}}, "mean: got .*three finite numbers"),
        ({"preprocessing": {"std": [0.25, 0, 0.25]}}, "std: got .*above 0"),
        ({"preprocessing": {"std": [1, 1, 1e300]}}, "std: got .*three finite numbers"),
        ({"preprocessing": {"size": "64"}}, "size: got '64'"),
        ({"preprocessing": {"size": 0}}, "size: got 0"),
        ({"preprocessing": {"template": [[0.3, 0.4]]}}, "template: got .*five points"),
        ({"preprocessing": {"template": [[0.3, math.nan]] * 5}}, "preprocessing.template.0.1 is not finite"),
        ({"backbone": "face29", "preprocessing": {"size": 70}}, "size: got 70; faces of 71 pixels or more .* face29"),
        ({"backbone": ["face29"]}, "unhashable"),
        ({"classes": list("AABCDEF")}, "classes: got A, A, B.*every name once"),
        ({"classes": [1, 2, 3, 4, 5, 6, 7]}, "classes: got .*names are wanted"),
    ],
)
def test_cards_with_values_that_cannot_be(saved: Path, tmp_path: Path, change_to: dict, message: str) -> None:
    with safe_open(saved, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    card |= {key: card[key] | value if key == "preprocessing" else value for key, value in change_to.items()}
    path = tmp_path / "w.safetensors"
    change(saved, path, metadata={"fan_fer": "1", "card": json.dumps(card).replace("Infinity", "1e999")})
    assert re.search(rf"its model card cannot be read \({message}", refusal(path))
    with pytest.raises(WeightsError, match="not a safetensors file, or a damaged one"):
        read_checkpoint(path)


def test_numbers_beyond_float32_are_not_finite(saved: Path, tmp_path: Path) -> None:
    bias = torch.full((7,), 1e300, dtype=torch.float64)
    assert "NaN or infinite values in classifier.bias" in refusal(
        change(saved, tmp_path / "w", **{"classifier.bias": bias})
    )
    with pytest.raises(ValueError, match="temperature: got nan; a finite number is wanted"):
        replace(CARD, temperature=math.nan)


def test_nothing_is_half_written(tmp_path: Path) -> None:
    network = FrameAttentionNetwork("fan")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(tmp_path / "nowhere" / "w.safetensors", network, CARD)
    with pytest.raises(WeightsError, match='card says variant "self"'):
        save_weights(tmp_path / "w.safetensors", network, replace(CARD, variant="self"))
    with pytest.raises(WeightsError, match='card says backbone "face29", the network is "resnet18"'):
        save_weights(tmp_path / "w.safetensors", network, replace(CARD, backbone="face29"))
    network.classifier.bias.data[0] = 1e6  # beyond fp16
    with pytest.raises(WeightsError, match=r"classifier\.bias"):
        save_weights(tmp_path / "w.safetensors", network, CARD, half=True)
    assert list(tmp_path.iterdir()) == []


def test_preprocessing_is_gray_sized_and_standardised() -> None:
    red = np.zeros((1, 32, 48, 3), np.uint8)
    red[..., 0] = 255
    out = GRAY(red)
    assert out.shape == (1, 3, 72, 72)
    assert torch.allclose(out, torch.full_like(out, (0.299 - 0.5) / 0.25), atol=1e-5)
    colour = replace(GRAY, grayscale=False)(red)
    assert torch.allclose(colour[0, :, 0, 0], torch.tensor([2.0, -2.0, -2.0]))


def make_packaged(name: str) -> Path:
    """A network of random weights in the package's folder."""
    torch.manual_seed(0)
    path = weights.PACKAGE_DATA / f"fan_{name}.safetensors"
    save_weights(path, FrameAttentionNetwork("fan", backbone=name), replace(CARD, backbone=name, trained_on=name))
    return path


def test_networks_that_ship_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE_DATA", tmp_path)
    monkeypatch.chdir(tmp_path)
    resnet = make_packaged("resnet18")
    assert packaged_weights() == {"resnet18": resnet}
    for load in (find_weights, load_weights, load_recognizer):
        with pytest.raises(WeightsError, match=r"^face29: no such file, nor one of the networks that ship: resnet18$"):
            load("face29")
    with pytest.raises(WeightsError, match=r"^vgg: no such file; a safetensors file"):
        load_weights("vgg")
    face = make_packaged("face29")
    assert packaged_weights() == {"resnet18": resnet, "face29": face}
    for name, path in packaged_weights().items():
        for spelt in (name, Path(name)):
            network, card = load_weights(spelt)
            assert (network.backbone_name, card.trained_on) == (name, name)
            assert load_recognizer(spelt).weights_file == str(path)
    (tmp_path / "face29").mkdir()  # a folder is no network
    assert find_weights("face29") == face
    (tmp_path / "face29").rmdir()
    save_weights(tmp_path / "face29", FrameAttentionNetwork("self"), replace(CARD, variant="self"))
    assert find_weights("face29") == Path("face29")
    assert load_weights("face29")[0].variant == "self"


def test_what_training_starts_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE_DATA", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "face29").touch()  # is not what ships
    with pytest.raises(WeightsError, match=r"^face29: no such file, nor one of the networks that ship: $"):
        init_path("packaged", "face29")
    face = make_packaged("face29")
    assert init_path("packaged", "face29") == face
    assert init_path("packaged", "auto") == DEFAULT_WEIGHTS
    assert init_path("none", "face29") is None
    assert init_path("face29", "auto") == Path("face29")
    (tmp_path / "face29").unlink()
    assert init_path("face29", "auto") == face
    assert init_path("other.pth", "face29") == Path("other.pth")


def test_the_packaged_file() -> None:
    network, card = load_weights()
    assert card.classes == EMOTIONS
    assert "research use: trained on FER2013 images" in card.license
    assert card.scores["ferplus_valid_faces_accuracy"] >= 0.83
    assert DEFAULT_WEIGHTS.stat().st_size <= 25e6
    flat = np.full((1, card.preprocessing.size, card.preprocessing.size, 3), 128, np.uint8)
    assert network(card.preprocessing(flat).unsqueeze(0)).logits.isfinite().all()
