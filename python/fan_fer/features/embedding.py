"""From aligned faces to features: the one loop that does it."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property
from mmap import mmap

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fan_fer.base.device import find_device
from fan_fer.base.errors import FanFerError, WeightsError
from fan_fer.base.terminal import progress_bar
from fan_fer.base.threads import one_thread
from fan_fer.base.timing import Profile
from fan_fer.features.cache import fingerprint
from fan_fer.features.inference import fastest, find_precision
from fan_fer.features.preprocessing import Preprocessing

BATCH = 16  # faces that the backbone takes at a time
GPU_BATCH = 64
BLOCK = 1024  # features that are kept in one piece

Image = NDArray[np.uint8]


class Embedder:
    """Turns aligned faces into features; several threads may share one.

    backbone: gives features (n, ``feature_size``) of preprocessed faces (n, 3, S, S). It is copied.
    device: as for :func:`fan_fer.base.device.find_device`.
    precision: "float32"; "bfloat16", which moves probabilities by about 0.01; "float16", on a GPU; "auto" for bfloat16
        where it is faster: on processors with bf16 matrix units, AMD's with AVX-512 BF16, and GPUs from Ampere on.
    batch_size: faces that it takes at a time; None: 16, on a GPU 64.
    Raises FanFerError for another precision, or one that the device does not have, and for a device that is not there.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_size: int,
        preprocessing: Preprocessing,
        device: torch.device | str = "cpu",
        precision: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.device = find_device(device)
        self.precision = find_precision(precision, self.device)
        self.batch_size = (BATCH if self.device.type == "cpu" else GPU_BATCH) if batch_size is None else batch_size
        if self.batch_size < 1:
            raise FanFerError(f"batch size {batch_size}: at least 1 is wanted")
        self.feature_size = feature_size
        self.preprocessing = preprocessing
        self._dtype = getattr(torch, self.precision)
        self._backbone = fastest(backbone, self.precision, self.device)

    @cached_property
    def key(self) -> str:
        """Tells features apart that were made in different ways."""
        digest = hashlib.sha256()
        for name, tensor in self._backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return fingerprint(digest.hexdigest(), asdict(self.preprocessing), self.precision)

    def embed(self, crops: Sequence[Image], mirror: bool = False) -> Tensor:
        """Features (n, D), float32 on the CPU, of n RGB crops (H, W, 3) of any sizes, or of their mirror images.

        Raises WeightsError where the backbone does not give finite numbers.
        """
        parts = [self._embed(crops[at : at + self.batch_size], mirror) for at in range(0, len(crops), self.batch_size)]
        return torch.cat(parts)

    def _embed(self, crops: Sequence[Image], mirror: bool) -> Tensor:
        size = self.preprocessing.size
        if all(crop.shape == (size, size, 3) for crop in crops):  # travel as bytes
            faces = self.preprocessing.of_tensor(torch.from_numpy(np.stack(crops)).to(self.device))
        else:
            faces = torch.cat([self.preprocessing(crop[None]) for crop in crops])
        return self.embed_preprocessed(faces.flip(-1) if mirror else faces)

    def embed_preprocessed(self, faces: Tensor) -> Tensor:
        """Features (n, D), float32 on the CPU, of faces (n, 3, S, S) as the network takes them.

        Raises WeightsError where the backbone does not give finite numbers.
        """
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            faces = faces.to(self.device, self._dtype).contiguous(memory_format=torch.channels_last)
            features: Tensor = self._backbone(faces)
            features = features.float().cpu()
        if not features.isfinite().all():
            raise WeightsError("the backbone turns a face into numbers that are not finite; other weights are wanted")
        return features

    def embed_all(self, crops: Iterable[Image], what: str, count: int | None = None, mirror: bool = False) -> Tensor:
        """Features (n, D) of as many crops as there are, with a progress bar that says ``what`` they are."""
        features = Features(self, mirror=mirror)
        with progress_bar() as progress:
            for crop in progress.track(crops, total=count, description=what):
                features.add([crop])
        return features.all()


class Features:
    """The features of faces that come one after the other, embedded in batches beside the caller.

    On the CPU each of torch's threads takes a batch of its own: threads that share one wait for each other at every
    layer, and for long where the caller needs a core too. On a GPU the next batch is sent while one is at work.
    """

    def __init__(self, embedder: Embedder, mirror: bool = False, profile: Profile | None = None) -> None:
        self._embedder = embedder
        self._mirror = mirror
        self._profile = profile or Profile()
        self._pending: list[Image] = []
        self._batches: deque[Future[Tensor]] = deque()  # at work
        self._workers = {"cpu": torch.get_num_threads(), "cuda": 2}.get(embedder.device.type, 1)
        self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="embedder")
        self._blocks: list[Tensor] = []
        self._done = 0  # features in the blocks
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, crops: Iterable[Image]) -> None:
        """Takes more faces, RGB (H, W, 3). A few batches of them are held at a time."""
        for crop in crops:
            self._pending.append(crop)
            self._count += 1
            if len(self._pending) == self._embedder.batch_size:
                self._begin(self._embedder.batch_size)
                self._collect(self._workers + 1)

    def take(self, rows: Sequence[int], free: bool = False) -> Tensor:
        """Features (n, D) of the faces of these numbers, counted from 0 as they came.

        free: the last that is wanted; those of a long video should not be held twice.
        """
        self._finish()
        taken = torch.empty(len(rows), self._embedder.feature_size, dtype=torch.float32, device="cpu")
        wanted = torch.as_tensor(rows, dtype=torch.int64, device="cpu")
        for number, block in enumerate(self._blocks):
            here = wanted.div(BLOCK, rounding_mode="floor") == number
            taken[here] = block[wanted[here] - number * BLOCK]
            if free:
                self._blocks[number] = block.new_empty(0)
        return taken

    def all(self) -> Tensor:
        """Features (n, D) of all faces so far."""
        self._finish()
        none = torch.empty(0, self._embedder.feature_size, dtype=torch.float32, device="cpu")
        return torch.cat([none, *self._blocks])[: self._done]

    def _begin(self, size: int) -> None:
        """Hands out what is pending, in batches of ``size``."""
        crops, self._pending = self._pending, []
        for start in range(0, len(crops), size):
            self._batches.append(self._threads.submit(self._embed, crops[start : start + size]))

    def _finish(self) -> None:
        if self._pending:
            self._begin(math.ceil(len(self._pending) / self._workers))
        self._collect(0)

    def _embed(self, crops: Sequence[Image]) -> Tensor:
        alone = one_thread() if self._embedder.device.type == "cpu" else nullcontext()
        with self._profile.measure("embed"), alone:
            return self._embedder.embed(crops, self._mirror)

    def _collect(self, left: int) -> None:
        """Waits until only so many batches are at work."""
        while len(self._batches) > left:
            features = self._batches.popleft().result()
            while len(features):
                place = self._done % BLOCK
                if not place:
                    # Memory of their own, that goes back to the system: what stays for long, between pieces that come
                    # and go, would spread those out.
                    memory = mmap(-1, 4 * BLOCK * self._embedder.feature_size)
                    self._blocks.append(torch.frombuffer(memory, dtype=torch.float32).view(BLOCK, -1))
                part = features[: BLOCK - place]
                self._blocks[-1][place : place + len(part)] = part
                self._done += len(part)
                features = features[len(part) :]
