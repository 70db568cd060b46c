"""Poolings beside the paper's: what each computes, that absent frames do not matter, and one's own."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fan_fer
from fan_fer.attention.export import export_onnx
from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.poolings import registry
from fan_fer.attention.poolings.registry import SHIPPED, find_pooling, pooling_names
from fan_fer.attention.weights import ModelCard, load_weights, save_weights
from fan_fer.base.errors import ExportError, WeightsError

from ..fakes import PREPROCESSING

D = 512


@pytest.fixture(params=SHIPPED)
def network(request: pytest.FixtureRequest) -> FrameAttentionNetwork:
    torch.manual_seed(0)
    return FrameAttentionNetwork(request.param).eval()


@pytest.fixture
def features() -> Tensor:
    return torch.randn(3, 6, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def registered() -> Iterator[None]:
    """What a test registers is gone after it, and what others have registered is not there."""
    before = {name: pooling for name, pooling in registry._registered.items() if name not in SHIPPED}
    for name in before:
        del registry._registered[name]
    yield
    for name in set(registry._registered) - set(SHIPPED):
        del registry._registered[name]
    registry._registered.update(before)


class LastPooling(nn.Module):
    """The last frame that is present."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        last = mask.long().cumsum(1).argmax(1)
        return features[torch.arange(len(last)), last], None


@torch.inference_mode()
def test_shares_sum_to_one(network: FrameAttentionNetwork, features: Tensor) -> None:
    logits, weights = network.classify(features)
    assert logits.shape == (3, 7)
    assert (weights.alpha, weights.beta) == (None, None)
    assert torch.allclose(weights.final.sum(1), torch.ones(3))
    assert (weights.final >= 0).all()
    unequal = network.variant not in ("mean", "gru")
    assert (weights.final.std(1) > 1e-3).all() == unequal


@torch.inference_mode()
def test_each_pools_as_its_name_says(features: Tensor) -> None:
    torch.manual_seed(0)
    made = {name: FrameAttentionNetwork(name).eval() for name in SHIPPED}

    def logits(name: str, pooled: Tensor) -> Tensor:
        return made[name].classifier(pooled)

    expected = {"mean": logits("mean", features.mean(1)), "max": logits("max", features.amax(1))}
    linear = made["softmax"].attention.score
    shares = (features @ linear.weight[0] + linear.bias).softmax(1)
    expected["softmax"] = logits("softmax", (shares.unsqueeze(-1) * features).sum(1))
    gated = made["abmil"].attention
    hidden = torch.tanh(features @ gated.content.weight.T + gated.content.bias)
    hidden = hidden * torch.sigmoid(features @ gated.gate.weight.T + gated.gate.bias)
    shares = (hidden @ gated.score.weight[0] + gated.score.bias).softmax(1)
    expected["abmil"] = logits("abmil", (shares.unsqueeze(-1) * features).sum(1))
    linear = made["top-k"].attention.score
    best = (features @ linear.weight[0] + linear.bias).topk(2)  # a quarter of six, rounded up
    chosen = features.gather(1, best.indices.unsqueeze(-1).expand(-1, -1, D))
    expected["top-k"] = logits("top-k", (best.values.softmax(1).unsqueeze(-1) * chosen).sum(1))
    expected["gru"] = logits("gru", made["gru"].attention.gru(features)[1][0])
    for name, network in made.items():
        assert torch.allclose(network.classify(features).logits, expected[name], atol=1e-5), name
    assert (made["top-k"].classify(features).weights.final > 0).sum(1).tolist() == [2, 2, 2]


@torch.inference_mode()
def test_absent_frames_do_not_matter(network: FrameAttentionNetwork, features: Tensor) -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1], [0] * 6]).bool()
    broken = features.masked_fill(~mask.unsqueeze(-1), float("nan"))
    logits, weights = network.classify(broken, mask)
    for clip in (0, 1):
        alone = network.classify(features[clip][mask[clip]].unsqueeze(0))
        assert torch.allclose(logits[clip], alone.logits[0], atol=1e-5)
        assert torch.allclose(weights.final[clip][mask[clip]], alone.weights.final[0], atol=1e-6)
    assert (weights.final[~mask] == 0).all()
    assert torch.equal(logits[2], network.classifier.bias)  # of a clip without a frame


@torch.inference_mode()
def test_packed_clips_give_what_clips_alone_give(network: FrameAttentionNetwork, features: Tensor) -> None:
    packed = features.flatten(0, 1)
    logits, weights = network.classify(packed, offsets=torch.tensor([0, 1, 1, 18]))
    alone = [network.classify(clip.unsqueeze(0)) for clip in packed.split([1, 17])]
    assert torch.allclose(logits[[0, 2]], torch.cat([one.logits for one in alone]), atol=1e-5)
    assert torch.equal(logits[1], network.classifier.bias)
    assert torch.allclose(weights.final, torch.cat([one.weights.final[0] for one in alone]), atol=1e-6)


def test_every_parameter_learns(network: FrameAttentionNetwork, features: Tensor) -> None:
    network.train().classify(features).logits.square().sum().backward()
    for name, parameter in [*network.attention.named_parameters(), *network.classifier.named_parameters()]:
        # Softmax does not heed what is added to all scores alike.
        if not name.startswith("score.bias"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_files_cards_and_predictions(network: FrameAttentionNetwork, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", network, ModelCard(network.variant, PREPROCESSING))
    loaded, card = load_weights(tmp_path / "w.safetensors")
    assert (loaded.variant, card.variant) == (network.variant,) * 2
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    prediction = fan_fer.load_recognizer(tmp_path / "w.safetensors").classify_clip(crops)
    assert prediction.model["variant"] == network.variant
    assert sum(frame.weight for frame in prediction.frames) == pytest.approx(1)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "gru"])
def test_they_can_be_exported(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime, which the file is compared in, is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript, which writes ONNX, is not installed")
    torch.manual_seed(0)
    assert export_onnx(tmp_path / "a.onnx", FrameAttentionNetwork(name).eval(), ModelCard(name, PREPROCESSING)) < 1e-3


def test_one_that_cannot_be_exported_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript, which writes ONNX, is not installed")
    network, card = FrameAttentionNetwork("gru").eval(), ModelCard("gru", PREPROCESSING)
    with pytest.raises(ExportError, match=r'^variant "gru" cannot be exported: torch cannot trace it for any number'):
        export_onnx(tmp_path / "a.onnx", network, card)
    assert not list(tmp_path.iterdir())


# One's own


@pytest.mark.usefixtures("registered")
def test_one_of_one_s_own(features: Tensor, tmp_path: Path) -> None:
    assert fan_fer.register_pooling("last", "last frame")(LastPooling) is LastPooling
    assert pooling_names()[-1] == "last"
    assert find_pooling("last").title == "last frame"
    network = FrameAttentionNetwork("last").eval()
    with torch.inference_mode():
        logits, weights = network.classify(features)
        assert torch.equal(logits, network.classifier(features[:, -1]))
    assert torch.allclose(weights.final, torch.full((3, 6), 1 / 6))
    path = tmp_path / "w.safetensors"
    save_weights(path, network, ModelCard("last", PREPROCESSING))
    assert load_weights(path)[0].variant == "last"
    fan_fer.register_pooling("last")(LastPooling)  # as when its module is loaded anew
    registry._registered.pop("last")
    with pytest.raises(WeightsError, match=r"w\.safetensors: made for a network this version does not have .*'last'"):
        load_weights(path)


@pytest.mark.usefixtures("registered")
def test_one_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [("last", f"{__name__}:LastPooling"), ("broken", "no_such_package:Pooling")]
    points = [importlib.metadata.EntryPoint(name, place, registry.GROUP) for name, place in made]
    monkeypatch.setattr(registry, "_installed", lambda: importlib.metadata.EntryPoints(points))
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", _load)
    assert pooling_names() == (*SHIPPED, "broken", "last")
    assert isinstance(FrameAttentionNetwork("last").attention, LastPooling)
    with pytest.raises(ValueError, match=r"'broken', of no_such_package:Pooling, cannot be loaded"):
        FrameAttentionNetwork("broken")


def _load(point: importlib.metadata.EntryPoint) -> object:
    if point.name == "last":
        return LastPooling
    raise ModuleNotFoundError("No module named 'no_such_package'")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fan", "'fan', which is taken"),
        ("mean", "'mean', which is taken"),
        ("top-k", "'top-k', which is taken"),
        ("Mean", "a name of small letters"),
        ("../x", "a name of small letters"),
    ],
)
def test_names_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fan_fer.register_pooling(name)(LastPooling)


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="variant: got 'lstm'; wanted one of fan, self, score-fusion, mean, max, "):
        FrameAttentionNetwork("lstm")
