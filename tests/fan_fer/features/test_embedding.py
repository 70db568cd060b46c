"""The loop that embeds: batches, the order of rows, and what is kept of it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fan_fer.base.errors import FanFerError, OutputError, WeightsError
from fan_fer.features import embedding
from fan_fer.features.cache import cached
from fan_fer.features.embedding import Embedder, Features

from ..fakes import PREPROCESSING


class Numbers:
    """Stands for an embedder: a face's features are its first pixel."""

    feature_size = 3
    batch_size = 16
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def embed(self, crops: Sequence[np.ndarray], mirror: bool = False) -> Tensor:
        if not self.batches:
            time.sleep(0.1)  # others overtake it
        self.batches.append(len(crops))
        self.threads.add(torch.get_num_threads())
        return torch.tensor([[float(crop[0, -1 if mirror else 0, 0])] * 3 for crop in crops])


def faces(count: int, first: int = 0) -> list[np.ndarray]:
    return [np.full((2, 2, 3), (first + index) % 256, np.uint8) for index in range(count)]


def test_faces_come_in_batches_and_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BLOCK", 7)
    numbers = Numbers()
    features = Features(numbers)
    features.add(faces(20))
    features.add([])
    features.add(faces(15, first=20))
    assert len(features) == 35
    assert features.all()[:, 0].tolist() == list(range(35))
    assert features.take([3, 34, 3, 0])[:, 1].tolist() == [3, 34, 3, 0]
    assert features.take([]).shape == (0, 3)
    features.add(faces(2, first=35))  # goes on after a look
    assert features.take([36, 7])[:, 0].tolist() == [36, 7]
    assert features.take(range(37), free=True)[:, 2].tolist() == list(range(37))
    assert Features(numbers).all().shape == (0, 3)


def test_each_of_torchs_threads_takes_batches_of_its_own() -> None:
    before = torch.get_num_threads()
    try:
        for threads, device, batches, seen in (
            (3, "cpu", [3, 3, 1, *[16] * 5], {1}),  # what is left is shared out
            (1, "cpu", [7, *[16] * 5], {1}),
            (3, "cuda", [3, 4, *[16] * 5], {3}),
        ):
            torch.set_num_threads(threads)
            numbers = Numbers()
            numbers.device = torch.device(device)
            features = Features(numbers)
            features.add(faces(87))
            assert features.all()[:, 0].tolist() == list(range(87))
            assert sorted(numbers.batches) == sorted(batches)
            assert numbers.threads == seen
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_an_error_in_the_thread_is_not_lost() -> None:
    class Broken(Numbers):
        def embed(self, crops: Sequence[np.ndarray], mirror: bool = False) -> Tensor:
            raise RuntimeError("no memory")

    features = Features(Broken())
    with pytest.raises(RuntimeError, match="no memory"):
        features.add(faces(200))


def test_a_face_is_embedded_alike_in_any_batch_and_mirrored() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    backbone(torch.zeros(2, 3, PREPROCESSING.size, PREPROCESSING.size))
    backbone.eval()
    embedder = Embedder(backbone, 5, PREPROCESSING, precision="float32")
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (size, size, 3), np.uint8) for size in (32, 48, 20)]
    together = embedder.embed_all(crops, "faces")
    alone = torch.cat([embedder.embed([crop]) for crop in crops])
    torch.testing.assert_close(together, alone)
    with torch.inference_mode():
        plain = torch.cat([backbone(PREPROCESSING(crop[None])) for crop in crops])
    torch.testing.assert_close(together, plain, atol=1e-4, rtol=1e-4)
    mirrored = embedder.embed_all(crops, "faces", mirror=True)
    torch.testing.assert_close(mirrored, embedder.embed([crop[:, ::-1].copy() for crop in crops]))
    assert not torch.allclose(mirrored, together)
    other = Embedder(backbone, 5, PREPROCESSING, precision="bfloat16")
    assert len({embedder.key, other.key}) == 2
    assert embedder.key == Embedder(backbone, 5, PREPROCESSING, precision="float32").key
    with pytest.raises(
        FanFerError, match=r'^precision "half": unknown; one of auto, float32, bfloat16, float16 is wanted'
    ):
        Embedder(backbone, 5, PREPROCESSING, precision="half")


def test_batches_are_as_large_as_asked_for() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, ...]] = []

        def forward(self, faces: Tensor) -> Tensor:
            self.seen.append(tuple(faces.shape))
            return faces.mean((2, 3))

    size = PREPROCESSING.size
    crops = [np.full((size, size, 3), index, np.uint8) for index in range(7)]
    crops[5] = crops[5][: size // 2]  # of other sizes: one by one until they are alike
    for batch_size in (3, None):
        embedder = Embedder(Counting(), 3, PREPROCESSING, precision="float32", batch_size=batch_size)
        for embed in (embedder.embed, lambda crops, embedder=embedder: embedder.embed_all(crops, "faces")):
            embedder._backbone.seen.clear()
            features = embed(crops)
            assert {shape[1:] for shape in embedder._backbone.seen} == {(3, size, size)}
            counts = [shape[0] for shape in embedder._backbone.seen]
            assert sum(counts) == 7
            assert max(counts) <= (batch_size or 16)
            order = features[:, 0].argsort().tolist()
            assert order == list(range(7))
    for batch_size in (0, -1):
        with pytest.raises(FanFerError, match=rf"^batch size {batch_size}: at least 1 is wanted$"):
            Embedder(Counting(), 3, PREPROCESSING, batch_size=batch_size)


def test_features_that_are_not_finite_are_refused() -> None:
    class Flat(nn.Module):
        def forward(self, faces: Tensor) -> Tensor:
            return faces.mean((2, 3)) / (faces.mean((2, 3)) - faces.mean((2, 3)))

    features = Features(Embedder(Flat(), 3, PREPROCESSING))
    features.add(faces(3))
    with pytest.raises(
        WeightsError, match=r"^the backbone turns a face into numbers that are not finite; other weights"
    ):
        features.all()


def test_a_cache_holds_finite_numbers(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    for broken in (math.nan, math.inf):
        with pytest.raises(OutputError, match=r"features\.safetensors: not written, as x is not finite$"):
            cached(path, "key", lambda: {"x": torch.tensor([1.0, broken])})  # noqa: B023, called at once
    assert not path.exists()
    save_file({"x": torch.tensor([math.nan])}, path, {"key": "key"})
    assert cached(path, "key", lambda: {"x": torch.tensor([3.0])})["x"].tolist() == [3]
    assert cached(path, "key", pytest.fail)["x"].tolist() == [3]
