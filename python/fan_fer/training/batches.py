"""Batches of clips for training: from features computed once, or from the face crops on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from fan_fer.attention.scoring import PackedFeatures
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.training.sampling import generator, segment_frames


class Batch(NamedTuple):
    """frames: (B, N, D) features or (B, N, 3, H, W) faces; mask: (B, N) bool; labels, clips: (B,) int64.

    clips: their places in the set.
    """

    frames: Tensor
    mask: Tensor
    labels: Tensor
    clips: Tensor


class Draw(NamedTuple):
    """The frames of a clip that one step sees."""

    clip: int
    rows: Tensor  # among the frames of the clip that have a face
    mirrored: bool


class TrainingItems:
    """What an epoch goes through: clips, of each of which ``segments`` frames are drawn; or single frames.

    clips: indices in the set. lengths, labels: of the set's clips, frames with a face and class.
    """

    def __init__(
        self,
        clips: Sequence[int],
        lengths: Sequence[int],
        labels: Sequence[int],
        *,
        segments: int,
        mirror: bool,
        seed: int,
        single_frames: bool = False,
    ) -> None:
        self.lengths, self.labels = lengths, labels
        self.segments, self.mirror, self.seed, self.single_frames = segments, mirror, seed, single_frames
        self._items = [(clip, row) for clip in clips for row in range(lengths[clip] if single_frames else 1)]

    def __len__(self) -> int:
        return len(self._items)

    @property
    def classes(self) -> Tensor:
        """(n,) int64, of every item."""
        return torch.tensor([self.labels[clip] for clip, _ in self._items])

    def draw(self, epoch: int, item: int) -> Draw:
        """Determined by seed, epoch and item, in whichever process and order it is drawn.

        item: one that comes again in an epoch stands k times the number of items higher, and is drawn anew.
        """
        again, item = divmod(item, len(self))
        clip, row = self._items[item]
        rng = generator(self.seed, epoch, clip, row, *([again] if again else []))
        rows = torch.tensor([row]) if self.single_frames else segment_frames(self.lengths[clip], self.segments, rng)
        return Draw(clip, rows, self.mirror and bool(torch.rand((), generator=rng) < 0.5))


class FrameSource(Protocol):
    """Turns items into batches."""

    def batches(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each list of items, in order."""
        ...


class FeatureSource:
    """Batches of features that a frozen backbone gave once, of the faces and of the mirrored ones."""

    def __init__(self, items: TrainingItems, features: PackedFeatures, mirrored: PackedFeatures | None = None) -> None:
        self._items, self._features, self._mirrored = items, features, mirrored

    def batches(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        starts = self._features.offsets.tolist()
        for batch in batches:
            draws = [self._items.draw(epoch, item) for item in batch.tolist()]
            rows = []
            for draw in draws:
                source = self._mirrored if draw.mirrored and self._mirrored is not None else self._features
                rows.append(source.features[starts[draw.clip] + draw.rows])
            yield _collate(rows, self._items.labels, [draw.clip for draw in draws])


class CropSource:
    """Batches of preprocessed faces, read from a prepared set by ``workers`` processes."""

    def __init__(self, items: TrainingItems, prepared: PreparedSet, preprocessing: Preprocessing, workers: int) -> None:
        self._dataset, self._labels = _Crops(items, prepared, preprocessing), items.labels
        self._workers = workers

    def batches(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        plan = [[(epoch, item) for item in batch.tolist()] for batch in batches]
        loader = DataLoader(
            self._dataset,
            batch_sampler=plan,
            num_workers=self._workers,
            collate_fn=self._collate,
            # The parent's own generator must give the same numbers with and without workers.
            generator=torch.Generator().manual_seed(0),
        )
        yield from loader

    def _collate(self, pairs: Sequence[tuple[Tensor, int]]) -> Batch:
        return _collate([frames for frames, _ in pairs], self._labels, [clip for _, clip in pairs])


class _Crops(Dataset[tuple[Tensor, int]]):
    def __init__(self, items: TrainingItems, prepared: PreparedSet, preprocessing: Preprocessing) -> None:
        self._items, self._prepared, self._preprocessing = items, prepared, preprocessing

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        draw = self._items.draw(*key)
        clip = self._prepared.clips[draw.clip]
        faces = self._prepared.crops(clip, [clip.numbers[row] for row in draw.rows.tolist()])
        if draw.mirrored:
            faces = np.ascontiguousarray(faces[:, :, ::-1])
        return self._preprocessing(faces), draw.clip


def _collate(rows: Sequence[Tensor], labels: Sequence[int], clips: Sequence[int]) -> Batch:
    """Clips (n_i, ...) to a batch padded to the longest; ``labels`` are those of the set."""
    lengths = torch.tensor([len(frames) for frames in rows])
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    own = torch.tensor([labels[clip] for clip in clips])
    return Batch(pad_sequence(list(rows), batch_first=True), mask, own, torch.tensor(clips))
