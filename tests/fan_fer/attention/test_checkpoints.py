"""Weights from elsewhere: every name accounted for, nothing loaded in part without a word, no code run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18

from fan_fer import FrameAttentionNetwork
from fan_fer.attention.checkpoints import PUBLISHED_CLASSES, import_network, load_checkpoint_into, read_checkpoint
from fan_fer.attention.weights import ModelCard, save_weights
from fan_fer.base.errors import WeightsError

from ..fakes import PREPROCESSING


def published_backbone(classes: int = 8) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {f"module.{name}": tensor for name, tensor in resnet18(num_classes=classes).state_dict().items()}


def published_fan() -> dict[str, Tensor]:
    state = {name: tensor for name, tensor in published_backbone().items() if ".fc." not in name}
    torch.manual_seed(2)
    return state | {
        "module.alpha.0.weight": torch.randn(1, 512),
        "module.alpha.0.bias": torch.randn(1),
        "module.beta.0.weight": torch.randn(1, 1024),
        "module.beta.0.bias": torch.randn(1),
        "module.pred_fc1.weight": torch.randn(7, 512),
        "module.pred_fc1.bias": torch.randn(7),
        "module.pred_fc2.weight": torch.randn(7, 1024),
        "module.pred_fc2.bias": torch.randn(7),
    }


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The published backbone's container: tensors under state_dict, beside other things, one a number of numpy's."""
    path = tmp_path / "Resnet18_FER+_pytorch.pth.tar"
    torch.save({"epoch": 30, "prec1": np.float64(84.1), "state_dict": published_backbone()}, path)
    return path


def assert_backbone(network: FrameAttentionNetwork, state: dict[str, Tensor]) -> None:
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[f"module.{name}"]), name


def test_published_backbone(container: Path) -> None:
    network = FrameAttentionNetwork("fan")
    report = load_checkpoint_into(network, read_checkpoint(container), heads=True)
    assert_backbone(network, published_backbone())
    assert len(report.loaded) == len(network.backbone.state_dict())
    assert set(report.skipped) == {"module.fc.weight", "module.fc.bias"}
    assert set(report.missing) == {
        "attention.self_weight", "attention.self_bias", "attention.relation_weight", "attention.relation_bias",
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    text = "\n".join(report.lines())
    for part in ("loaded: backbone (", "module.fc.weight", "left at starting values", "classifier.weight"):
        assert part in text


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("bare", [True, False])
def test_torchvision_names(tmp_path: Path, prefix: str, bare: bool) -> None:
    state = {prefix + name.removeprefix("module."): tensor for name, tensor in published_backbone(1000).items()}
    path = tmp_path / "resnet18.pth"
    torch.save(state if bare else {"state_dict": state}, path)
    network = FrameAttentionNetwork("self")
    load_checkpoint_into(network, read_checkpoint(path), heads=False)
    assert_backbone(network, published_backbone(1000))


def test_old_checkpoints_do_not_count_batches(tmp_path: Path) -> None:
    state = {n: t for n, t in published_backbone().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    network = FrameAttentionNetwork("fan")
    assert not any(
        "backbone" in n for n in load_checkpoint_into(network, read_checkpoint(tmp_path / "old.pth"), True).missing
    )


@pytest.mark.parametrize("variant", ["fan", "self"])
def test_trained_published_network_into_either_variant(tmp_path: Path, variant: str) -> None:
    path, state = tmp_path / "fan.pth.tar", published_fan()
    torch.save({"state_dict": state}, path)
    network = FrameAttentionNetwork(variant)
    report = load_checkpoint_into(network, read_checkpoint(path), heads=True)
    assert report.missing == ()
    assert_backbone(network, state)
    assert torch.equal(network.attention.self_weight, state["module.alpha.0.weight"][0])
    number = 2 if variant == "fan" else 1
    assert torch.equal(network.classifier.weight, state[f"module.pred_fc{number}.weight"])
    if variant == "fan":
        assert torch.equal(network.attention.relation_weight, state["module.beta.0.weight"][0])


@pytest.mark.parametrize("variant", ["fan", "self"])
@pytest.mark.parametrize("layout", ["ckplus", "afew"])
def test_outputs_of_a_published_network_are_put_in_the_order_of_the_classes(
    tmp_path: Path, layout: str, variant: str
) -> None:
    path, state = tmp_path / "fan.pth.tar", published_fan()
    torch.save({"state_dict": state}, path)
    classes = tuple(sorted(PUBLISHED_CLASSES[layout]))
    spelt = [f" {name.upper()}" for name in classes]  # a set's own way to write them
    network = FrameAttentionNetwork(variant)
    report = load_checkpoint_into(network, read_checkpoint(path).for_classes(tuple(spelt)), heads=True)
    number = 2 if variant == "fan" else 1
    for output, name in enumerate(classes):
        row = PUBLISHED_CLASSES[layout].index(name)
        for part in ("weight", "bias"):
            wanted = state[f"module.pred_fc{number}.{part}"][row]
            assert torch.equal(getattr(network.classifier, part)[output], wanted), (name, part)
    assert f"taken for {', '.join(PUBLISHED_CLASSES[layout])}" in report.lines()[0]
    assert report.skipped[f"pred_fc{3 - number}.weight"].startswith("it is for variant")


def test_outputs_for_other_classes_are_refused(tmp_path: Path, container: Path) -> None:
    torch.save(published_fan(), tmp_path / "fan.pth")
    with pytest.raises(WeightsError, match="does not say which classes it is for; the set has Joy, Grief"):
        read_checkpoint(tmp_path / "fan.pth").for_classes(("Joy", "Grief"))
    save_weights(tmp_path / "own.safetensors", FrameAttentionNetwork("fan"), ModelCard("fan", PREPROCESSING))
    with pytest.raises(WeightsError, match=r"is for Angry, .*; the set has Joy, Grief; take the backbone alone"):
        read_checkpoint(tmp_path / "own.safetensors").for_classes(("Joy", "Grief"))
    backbone = read_checkpoint(container)
    assert backbone.for_classes(("Joy", "Grief")) is backbone, "there is no classifier"


def test_trained_published_network_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "fan.pth.tar"
    torch.save({"state_dict": published_fan()}, path)
    network, card, _ = import_network(path, PUBLISHED_CLASSES["afew"])
    assert (network.variant, card.classes, card.preprocessing.size) == ("fan", PUBLISHED_CLASSES["afew"], 224)
    assert not network.training
    # Their layers, applied one after the other, on features of three frames.
    state, f = published_fan(), torch.randn(3, 512)
    alpha = torch.sigmoid(f @ state["module.alpha.0.weight"][0] + state["module.alpha.0.bias"])
    g = (alpha[:, None] * f).sum(0) / alpha.sum()
    pairs = torch.cat([f, g.expand(3, -1)], dim=1)
    beta = torch.sigmoid(pairs @ state["module.beta.0.weight"][0] + state["module.beta.0.bias"])
    pooled = ((alpha * beta)[:, None] * pairs).sum(0) / (alpha * beta).sum()
    wanted = pooled @ state["module.pred_fc2.weight"].T + state["module.pred_fc2.bias"]
    torch.testing.assert_close(network.classify(f[None]).logits[0], wanted, rtol=1e-4, atol=1e-4)


def test_half_a_published_network_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "fan.pth.tar", published_fan()
    del state["module.beta.0.bias"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"without attention.relation_bias; a complete network is wanted"):
        import_network(path, PUBLISHED_CLASSES["afew"])


def test_a_backbone_is_no_network(container: Path) -> None:
    with pytest.raises(WeightsError, match="without trained attention and classifier"):
        import_network(container, PUBLISHED_CLASSES["afew"])


def test_classes_must_be_as_many_as_outputs(tmp_path: Path) -> None:
    torch.save(published_fan(), tmp_path / "fan.pth")
    with pytest.raises(WeightsError, match="7 outputs, for the 2 classes"):
        import_network(tmp_path / "fan.pth", ("Angry", "Happy"))


def test_own_file_with_and_without_heads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, path = FrameAttentionNetwork("fan"), tmp_path / "own.safetensors"
    save_weights(path, source, ModelCard("fan", PREPROCESSING))
    whole, backbone, other = (
        FrameAttentionNetwork("fan"),
        FrameAttentionNetwork("fan"),
        FrameAttentionNetwork("self", 3),
    )
    checkpoint = read_checkpoint(path)
    assert checkpoint.card.preprocessing == PREPROCESSING
    assert load_checkpoint_into(whole, checkpoint, heads=True).missing == ()
    assert torch.equal(whole.classifier.weight, source.classifier.weight)
    report = load_checkpoint_into(backbone, checkpoint, heads=False)
    assert not torch.equal(backbone.classifier.weight, source.classifier.weight)
    assert report.skipped["classifier.weight"] == "only the backbone is wanted"
    report = load_checkpoint_into(other, checkpoint, heads=True)
    assert torch.equal(other.attention.self_weight, source.attention.self_weight)
    assert report.skipped["classifier.weight"] == "its shape (7, 1024) is not (3, 512)"
    assert "has none" in report.skipped["attention.relation_weight"]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/tmp/fan_fer_was_here"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"module.conv1.weight": torch.zeros(64, 3, 7, 7)}}, "without backbone.bn1"),
        ({"weight": torch.zeros(3)}, "none of its 1 tensors has a name of torchvision's resnet18"),
        ({"state_dict": 3}, "holds dict, not named tensors"),
        ([1, 2], "holds list, not named tensors"),
        (Evil(), r"not a torch checkpoint of tensors alone \(it holds other objects of Python, or is damaged\); a "),
    ],
    ids=["partial", "other names", "no state_dict", "a list", "code"],
)
def test_refusals(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "file.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as error:
        load_checkpoint_into(FrameAttentionNetwork(), read_checkpoint(path), heads=False)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert not Path("/tmp/fan_fer_was_here").exists()


def test_more_refusals(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="not a torch checkpoint"):
        read_checkpoint(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_checkpoint(tmp_path / "text.safetensors")
    state = published_backbone()
    state["module.layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    save_file(state, tmp_path / "resnet50.safetensors")
    with pytest.raises(WeightsError, match=r"layer1.0.conv1.weight is \(64, 64, 1, 1\); \(64, 64, 3, 3\) is wanted"):
        load_checkpoint_into(FrameAttentionNetwork(), read_checkpoint(tmp_path / "resnet50.safetensors"), heads=False)
    state = published_backbone()
    state["module.conv1.weight"] = torch.full_like(state["module.conv1.weight"], float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=r"NaN or infinite values in backbone\.conv1\.weight"):
        load_checkpoint_into(FrameAttentionNetwork(), read_checkpoint(tmp_path / "nan.pth"), heads=False)
