"""Weights from elsewhere: every name accounted for, nothing loaded in part without a word, no code run."""

from __future__ import annotations

import argparse
import gzip
import os
import pickle
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
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
from fan_fer.features.backbones import BACKBONES
from fan_fer.features.face29 import Face29

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


@pytest.mark.parametrize(("prefix", "bare"), [("", True), ("module.", False), ("backbone.", True)])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_told_by_its_names(tmp_path: Path, name: str, prefix: str, bare: bool) -> None:
    torch.manual_seed(0)
    own = {"resnet18": resnet18, "face29": Face29}[name](num_classes=1000).state_dict()
    state = {prefix + key: tensor for key, tensor in own.items()}
    path = tmp_path / "backbone.pth"
    torch.save(state if bare else {"state_dict": state}, path)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.backbone, checkpoint.kind) == (name, f"a {name} backbone")
    network = FrameAttentionNetwork("self", backbone=name)
    report = load_checkpoint_into(network, checkpoint, heads=False)
    assert set(report.skipped) == {f"{prefix}fc.weight", f"{prefix}fc.bias"}
    assert_backbone(network, {f"module.{key}": tensor for key, tensor in own.items()})
    other = next(wanted for wanted in BACKBONES if wanted != name)
    with pytest.raises(WeightsError, match=rf"backbone\.pth: its backbone is {name}; weights for {other} are wanted$"):
        load_checkpoint_into(FrameAttentionNetwork("self", backbone=other), checkpoint, heads=False)


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


@pytest.mark.parametrize("name", BACKBONES)
def test_own_file_with_and_without_heads(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    source, path = FrameAttentionNetwork("fan", backbone=name), tmp_path / "own.safetensors"
    preprocessing = replace(PREPROCESSING, size=72)
    save_weights(path, source, ModelCard("fan", preprocessing, name))
    whole, backbone, other = (
        FrameAttentionNetwork("fan", backbone=name),
        FrameAttentionNetwork("fan", backbone=name),
        FrameAttentionNetwork("self", 3, name),
    )
    checkpoint = read_checkpoint(path)
    assert checkpoint.card.preprocessing == preprocessing
    assert checkpoint.backbone == name
    assert load_checkpoint_into(whole, checkpoint, heads=True).missing == ()
    assert torch.equal(whole.classifier.weight, source.classifier.weight)
    report = load_checkpoint_into(backbone, checkpoint, heads=False)
    assert not torch.equal(backbone.classifier.weight, source.classifier.weight)
    assert report.skipped["classifier.weight"] == "only the backbone is wanted"
    report = load_checkpoint_into(other, checkpoint, heads=True)
    assert torch.equal(other.attention.self_weight, source.attention.self_weight)
    size = source.feature_size
    assert report.skipped["classifier.weight"] == f"its shape (7, {2 * size}) is not (3, {size})"
    assert "has none" in report.skipped["attention.relation_weight"]


class Options(dict):
    pass


class Colour(Enum):
    RED = 1


ANY = {"conv1.weight": torch.zeros(64, 3, 7, 7)}  # enough for a file to be a backbone


@pytest.mark.parametrize(
    "kind", ["bool_", "int64", "int32", "uint8", "float16", "float32", "float64", "str_", "bytes_"]
)
def test_numbers_and_arrays_of_numpy_may_lie_beside_the_tensors(tmp_path: Path, kind: str) -> None:
    made = getattr(np, kind)(1)
    torch.save({"state_dict": ANY, "best": made, "all": np.array([made]), "kind": made.dtype}, tmp_path / "a.pth")
    assert set(read_checkpoint(tmp_path / "a.pth").tensors) == {"backbone.conv1.weight"}


@pytest.mark.parametrize("old", [False, True], ids=["numpy 2", "numpy 1"])
def test_checkpoints_have_the_names_of_the_numpy_they_were_made_with(tmp_path: Path, old: bool) -> None:
    content = {"state_dict": ANY, "best": np.int64(3), "all": np.zeros(2)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    saved = (tmp_path / "a.pth").read_bytes()
    renamed = saved.replace(b"numpy._core", b"numpy.core") if old else saved.replace(b"numpy.core", b"numpy._core")
    (tmp_path / "a.pth").write_bytes(renamed)
    assert read_checkpoint(tmp_path / "a.pth").tensors


def test_options_paths_and_times_may_lie_beside_the_tensors(tmp_path: Path) -> None:
    options = argparse.Namespace(lr=0.1, out=tmp_path, device=torch.device("cpu"), shape=torch.Size([2]))
    beside = {"args": options, "when": datetime(2020, 1, 1), "took": timedelta(1), "rng": np.random.get_state()}  # noqa: NPY002
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    torch.save({"state_dict": ANY, **beside, "optimizer": optimizer.state_dict()}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").tensors


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (Options(lr=0.1), r"\S*test_checkpoints\.Options"),
        (Colour.RED, r"(getattr, )?\S*test_checkpoints\.Colour"),
        (np.zeros(1, object), "numpy.dtypes.ObjectDType"),
        (np.zeros(1, [("a", "f4")]), "numpy.dtypes.VoidDType"),
        (np.random.default_rng(0), r"numpy\.random\._pickle\.__generator_ctor, .*"),
        (defaultdict(list), r"collections\.defaultdict, .*list"),
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        (os.system, r"posix\.system"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_refused_is_named(tmp_path: Path, beside: object, named: str, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": ANY, "args": beside}, path, _use_new_zipfile_serialization=zipped)
    named = named if zipped else named.partition(", ")[0]  # torch cannot list what an old file holds
    if isinstance(beside, Enum) and not zipped:  # versions of Python pickle it as one or the other
        named = r"(getattr|\S*test_checkpoints\.Colour)"
    wanted = (
        rf"a\.pth: not opened: it holds {named}, which could run code; where it was made, torch\.save\(model\.state"
    )
    with pytest.raises(WeightsError, match=wanted) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("under", "prefix"),
    [
        ("model", "_orig_mod."), ("net", "module._orig_mod."), ("model_state_dict", "model.backbone."),
        ("ema", "a.b.encoder."), ("checkpoint.model", "_forward_module."), ("models.1", "net."),
    ],
)  # fmt: skip
def test_backbones_are_found_wherever_they_lie(tmp_path: Path, under: str, prefix: str) -> None:
    content: object = {prefix + name.removeprefix("module."): value for name, value in SMALL.items()}
    for name in reversed(under.split(".")):
        content = [{}, content] if name == "1" else {"epoch": 1, "best": torch.zeros(1), name: content}
    torch.save(content, tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert set(checkpoint.tensors) == {name.replace("module.", "backbone.") for name in SMALL if ".fc." not in name}
    assert checkpoint.unused == dict.fromkeys(
        (f"{prefix}fc.weight", f"{prefix}fc.bias"), "the classifier of the data that the backbone was trained on"
    )
    assert checkpoint.kind == f"a resnet18 backbone, under {under}"


SMALL = {name: tensor.flatten()[:1].clone() for name, tensor in published_backbone().items()}


def test_of_two_sets_the_averaged_one_is_left(tmp_path: Path) -> None:
    torch.save({"ema": SMALL, "model": dict(SMALL), "best": ANY}, tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert checkpoint.kind == "a resnet18 backbone, under model"
    assert checkpoint.unused["ema.*"] == "another set of the same names"


def test_a_checkpoint_that_holds_itself(tmp_path: Path) -> None:
    content: dict[str, object] = {"state_dict": ANY}
    content["self"] = content
    torch.save(content, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").tensors


@pytest.mark.parametrize("name", BACKBONES)
def test_a_network_of_ours_in_a_checkpoint_of_torch(tmp_path: Path, name: str) -> None:
    network = FrameAttentionNetwork("fan", backbone=name)
    state = {f"module.{name}": torch.nn.Parameter(value) for name, value in network.state_dict().items() if value.dim()}
    torch.save({"model": state}, tmp_path / "a.pth")
    other = FrameAttentionNetwork("fan", backbone=name)
    assert load_checkpoint_into(other, read_checkpoint(tmp_path / "a.pth"), heads=True).missing == ()
    assert torch.equal(other.attention.self_weight, network.attention.self_weight)
    assert torch.equal(other.backbone.conv1.weight, network.backbone.conv1.weight)


def test_the_content_tells_a_container_not_its_name(tmp_path: Path) -> None:
    save_file(ANY, tmp_path / "safe.pth")
    torch.save(ANY, tmp_path / "torch.safetensors")
    for path in tmp_path.iterdir():
        assert set(read_checkpoint(path).tensors) == {"backbone.conv1.weight"}, path


@pytest.mark.parametrize(
    ("kind", "suffix"), [("float64", ".pth"), ("bfloat16", ".pth"), ("float8_e4m3fn", ".safetensors")]
)
def test_floating_point_of_any_width(tmp_path: Path, kind: str, suffix: str) -> None:
    state = {n: t.to(getattr(torch, kind)) if t.dim() else t for n, t in published_backbone().items()}
    (torch.save if suffix == ".pth" else save_file)(state, tmp_path / f"a{suffix}")
    network = FrameAttentionNetwork("fan")
    load_checkpoint_into(network, read_checkpoint(tmp_path / f"a{suffix}"), heads=False)
    assert torch.equal(network.backbone.conv1.weight, state["module.conv1.weight"].float())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (torch.Tensor.to_sparse, "float32 sparse_coo on cpu"),
        (lambda t: t.to("meta"), "float32 strided on meta"),
        (lambda t: t.to(torch.complex64), "complex64 strided on cpu"),
        (lambda t: t.to(torch.int8), "int8 strided on cpu"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "qint8 strided on cpu"),
    ],
    ids=["sparse", "meta", "complex", "integers", "quantised"],
)
def test_other_tensors_are_refused(tmp_path: Path, change: Callable[[Tensor], Tensor], told: str) -> None:
    torch.save({"conv1.weight": change(ANY["conv1.weight"])}, tmp_path / "a.pth")
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"a\.pth: backbone\.conv1\.weight is {told}; floating-point numbers, "):
        load_checkpoint_into(FrameAttentionNetwork("fan"), checkpoint, heads=False)


@pytest.mark.filterwarnings("ignore")
def test_other_containers_are_named(tmp_path: Path) -> None:
    torch.save(ANY, tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    torch.save(ANY, tmp_path / "protocol.pth", pickle_protocol=4)
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "script.pth")
    with tarfile.open(tmp_path / "tar.pth", "w") as archive:
        archive.add(tmp_path / "good.pth", "good.pth")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.write(tmp_path / "good.pth", "good.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": 1}))
    (tmp_path / "gzip.pth").write_bytes(gzip.compress(good))
    (tmp_path / "cut.pth").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    (tmp_path / "pickle.pth").write_bytes(b"\x80\x02}q\x00(X")
    for name, message in {
        "protocol": "damaged, or of a pickle protocol other than torch's",
        "plain": "damaged, or of a pickle protocol other than torch's",
        "script": r"a program of TorchScript, whose tensors are torch\.jit\.load\(FILE\)\.state_dict\(\)",
        "tar": "packed with tar",
        "gzip": "packed with gzip",
        "zip": r"a zip archive of good\.pth, \.\.\.",
        "cut": "truncated",
        "empty": "the file is empty",
        "page": "no checkpoint, it begins with '<!DOCTYPE html><'",
        "pickle": "damaged",
    }.items():
        with pytest.raises(
            WeightsError, match=rf"{name}\.pth: {message}.*; a \.safetensors file or a state_d"
        ) as error:
            read_checkpoint(tmp_path / f"{name}.pth")
        assert "\n" not in str(error.value)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/tmp/fan_fer_was_here"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"module.conv1.weight": torch.zeros(64, 3, 7, 7)}}, "without backbone.bn1.*a whole resnet18"),
        ({"weight": torch.zeros(3)}, "none of its 1 tensors has a name of torchvision's resnet18, or of face29 "),
        ({"state_dict": 3}, "holds dict, not named tensors"),
        ([1, 2], "holds list, not named tensors"),
        (Evil(), r"not opened: it holds getattr, pathlib.*Path, which could run code; .* torch\.save\(model\.st"),
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
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(WeightsError, match="no checkpoint, it begins with 'hello'"):
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
