"""The training loop: epochs of steps, each followed by the scores of the test clips and a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.scoring import ClipScores, PackedFeatures, score_clips
from fan_fer.base.checkpoint import save_checkpoint
from fan_fer.base.errors import TrainingError, WeightsError
from fan_fer.base.finite import not_finite
from fan_fer.datasets.features import prepared_features
from fan_fer.datasets.prepared import PreparedSet, find_partition
from fan_fer.features.embedding import Embedder
from fan_fer.training.batches import CropSource, FeatureSource, FrameSource, TrainingItems
from fan_fer.training.fabric import gather_scores
from fan_fer.training.sampling import class_weights, epoch_batches, generator, share
from fan_fer.training.schedule import make_optimizer, set_learning_rate
from fan_fer.training.soft_labels import read_soft_labels
from fan_fer.training.spec import RunSpec
from fan_fer.training.start import Start
from fan_fer.training.validation import cut_validation


class ClipLoss(nn.Module):
    """What a step computes, in one module, so that precision and the processes' gradients are the library's matter."""

    class_weights: Tensor

    def __init__(self, network: FrameAttentionNetwork, frozen: bool, smoothing: float, class_weights: Tensor) -> None:
        super().__init__()
        self.network, self.frozen, self.smoothing = network, frozen, smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, frames: Tensor, mask: Tensor, labels: Tensor, weight: float, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the clips' losses, and how many are classified right.

        shares: (B, C) of the classes, in place of the labels (B,) in the losses.
        """
        features = frames if self.frozen else self.network.embed(frames)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.network.classify(features.float(), mask).logits
        wanted = labels if shares is None else shares
        losses = F.cross_entropy(logits, wanted, reduction="none", label_smoothing=self.smoothing)
        losses = losses * self.class_weights[labels]
        right = (logits.detach().argmax(1) == labels).sum() * (weight > 0)
        return losses.sum() * weight, right


class Trainer:
    """A run between its start and its end.

    Attributes:
        epoch: epochs done.
        history: one entry for each of them.
        best: number, accuracy and learnt tensors of the best epoch; the first of equal ones.
        chosen: the same of the epoch that is best on the validation part, which is empty unless asked for.
        told: clips of which a file tells soft labels.
        seen, seconds: items that this process trained on, and how long that took.
    """

    def __init__(self, prepared: PreparedSet, spec: RunSpec, start: Start, fabric: Fabric, workers: int) -> None:
        self.prepared, self.spec, self.fabric = prepared, spec, fabric
        self.network, self.preprocessing = start.network, start.preprocessing
        self.settings, self.frozen = spec.settings(prepared), spec.frozen(prepared)
        self.partition = find_partition(prepared, spec.partition)
        labels = [prepared.classes.index(clip.label) for clip in prepared.clips]
        self.labels = labels
        train = self.partition.train
        self.validation: tuple[int, ...] = ()
        if spec.validation:
            train, self.validation = cut_validation(prepared, train)
        found = {prepared.clips[index].label for index in train}
        if len(found) < 2:
            raise TrainingError(
                f"{prepared.folder}: all clips to train on are of one class, {', '.join(found)}; two or more are wanted"
            )
        soft = self.settings.soft_labels
        self.shares: Tensor | None = None
        self.told = 0
        if soft:
            shares, self.told = read_soft_labels(Path(soft), prepared)
            self.shares = shares.to(fabric.device)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "accuracy": -1.0, "network": {}}
        self.chosen = self.best
        self.seen, self.seconds = 0, 0.0

        self.items = TrainingItems(
            train,
            [len(clip.numbers) for clip in prepared.clips],
            labels,
            segments=self.settings.frames,
            mirror=self.settings.mirror,
            seed=spec.seed,
            single_frames=spec.variant == "score-fusion",
        )
        self.features = self._features(mirror=False) if self.frozen else None
        self.source = self._source(workers)
        # From the first step on: the layout decides which kernels run, and so the last bits.
        self.network.backbone.to(memory_format=torch.channels_last)
        if self.frozen:
            self.network.backbone.requires_grad_(False)
        elif fabric.world_size > 1 and fabric.device.type == "cuda":
            self.network.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(self.network.backbone)
        optimizer = make_optimizer(self.network, self.settings)
        weights = torch.ones(len(prepared.classes))
        if self.settings.class_weights == "balanced":
            weights = class_weights(self.items.classes, len(prepared.classes))
        loss = ClipLoss(self.network, self.frozen, self.settings.label_smoothing, weights)
        self.module, self.optimizer = fabric.setup(loss, optimizer)

    def _features(self, mirror: bool) -> PackedFeatures:
        # One process computes them, the others read its file.
        with self.fabric.rank_zero_first():
            return prepared_features(self._embedder(), self.prepared, mirror)

    def _embedder(self) -> Embedder:
        network = self.network
        device = self.fabric.device
        precision = "auto" if device.type == "cpu" else "float32"
        return Embedder(network.backbone, network.feature_size, self.preprocessing, device, precision)

    def _source(self, workers: int) -> FrameSource:
        if self.features is None:
            return CropSource(self.items, self.prepared, self.preprocessing, workers)
        return FeatureSource(self.items, self.features, self._features(mirror=True) if self.settings.mirror else None)

    def run_epoch(self) -> dict[str, Any]:
        """One epoch, and the entry of the history that it makes. Raises TrainingError where a number is not finite."""
        begin = time.perf_counter()
        loss, train_accuracy = self._train_epoch()
        self.seconds += time.perf_counter() - begin
        broken = not_finite({"network": self.learnt(), "optimizer": self.optimizer.state_dict()})
        if broken is not None:
            raise self._diverged(f"{broken} is not finite", "after the last step")
        accuracy = self.accuracy(self.evaluate())
        entry = {"epoch": self.epoch + 1, "loss": loss, "train_accuracy": train_accuracy, "accuracy": accuracy}
        if self.validation:
            entry["validation_accuracy"] = self.accuracy(self.evaluate(self.validation), self.validation)
        self.epoch += 1
        if accuracy > self.best["accuracy"]:
            self.best = {"epoch": self.epoch, "accuracy": accuracy, "network": self.learnt()}
        if self.validation and entry["validation_accuracy"] > self.chosen["accuracy"]:
            self.chosen = {"epoch": self.epoch, "accuracy": entry["validation_accuracy"], "network": self.learnt()}
        self.history.append(entry)
        return entry

    def _train_epoch(self) -> tuple[float, float]:
        """Mean loss and share of right answers. Everything random follows from the seed and the epoch's number."""
        settings, world, rank = self.settings, self.fabric.world_size, self.fabric.global_rank
        self.module.train()
        if self.frozen or settings.freeze_batch_norm:
            self.network.backbone.eval()
        torch.manual_seed(generator(self.spec.seed, self.epoch, rank).initial_seed())
        balanced = settings.sampling == "balanced"
        batches = epoch_batches(self.items.classes, settings.batch_size, self.spec.seed, self.epoch, balanced)
        shares = [share(batch, rank, world) for batch in batches]
        totals = torch.zeros(2, dtype=torch.float64)
        loaded = self.source.batches(self.epoch, [own for own, _ in shares])
        for step, (batch, (_, weight)) in enumerate(zip(loaded, shares, strict=True)):
            set_learning_rate(self.optimizer, settings, self.epoch + step / len(batches))
            frames, mask, labels, clips = (part.to(self.fabric.device) for part in batch)
            soft = None if self.shares is None else self.shares[clips]
            loss, right = self.module(frames, mask, labels, weight, soft)
            value, where = float(loss.detach()), f"in step {step + 1} of {len(batches)}"
            if not math.isfinite(value):
                raise self._diverged(f"the loss is {value}", where)
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            if settings.clip_gradient > 0:
                self.fabric.clip_gradients(self.module, self.optimizer, max_norm=settings.clip_gradient)
            try:
                self.optimizer.step()
            except RuntimeError as error:
                if "overflow" not in str(error):
                    raise
                raise self._diverged("a number of the optimizer overflows", where) from None
            self.seen += len(labels)
            totals += torch.tensor([value * len(batches[step]) / world, float(right)])
        if world > 1:
            totals = torch.as_tensor(self.fabric.all_reduce(totals.to(self.fabric.device), reduce_op="sum")).cpu()
        totals /= len(self.items)
        return float(totals[0]), float(totals[1])

    def _diverged(self, what: str, step: str) -> TrainingError:
        kept = f"; the checkpoint of epoch {self.epoch} is kept" if self.epoch else ""
        return TrainingError(
            f"{what} {step} of epoch {self.epoch + 1}; a lower lr in the recipe, or clip_gradient, is wanted{kept}"
        )

    def evaluate(self, part: Sequence[int] | None = None) -> list[ClipScores]:
        """Scores of these clips, else of the test clips, all frames of each.

        Raises TrainingError where they are not finite.
        """
        try:
            scores = self._evaluate(self.partition.test if part is None else part)
        except WeightsError as error:  # of the backbone
            raise self._diverged(str(error).partition(";")[0], "after the last step") from None
        if not all(clip.is_finite for clip in scores):
            clips = "test clips" if part is None else "clips kept back"
            raise self._diverged(f"the scores of the {clips} are not finite", "after the last step")
        return scores

    def _evaluate(self, part: Sequence[int]) -> list[ClipScores]:
        if self.features is not None:
            return score_clips(self.network, self.features, part)
        clips = [self.prepared.clips[index] for index in part]
        own = range(len(clips))[self.fabric.global_rank :: self.fabric.world_size]
        lengths = [len(clips[index].numbers) for index in own]
        faces = (face for index in own for face in self.prepared.crops(clips[index]))
        features = self._embedder().embed_all(faces, "test clips", sum(lengths))
        packed = PackedFeatures(features, torch.tensor([0, *lengths]).cumsum(0))
        return gather_scores(own, score_clips(self.network, packed, range(len(own))), len(clips))

    def accuracy(self, scores: Sequence[ClipScores], part: Sequence[int] | None = None) -> float:
        """Of these clips, else of the test clips."""
        predicted = [int(clip.probabilities.argmax()) for clip in scores]
        labels = [self.labels[index] for index in (self.partition.test if part is None else part)]
        return float(np.mean(np.equal(predicted, labels)))

    def learnt(self) -> dict[str, Tensor]:
        """A copy of what training changes: all of the network, or the part behind a frozen backbone."""
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.network.state_dict().items()
            if not (self.frozen and name.startswith("backbone."))
        }

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Writes what :meth:`restore` takes; ``identity`` is the run's, by which another run is told from it."""
        if self.fabric.is_global_zero:
            save_checkpoint(path, {
                "settings": identity, "epoch": self.epoch, "history": self.history,
                "best": self.best, "chosen": self.chosen,
                "network": self.learnt(), "optimizer": self.optimizer.state_dict(),
            })  # fmt: skip
        self.fabric.barrier()

    def restore(self, checkpoint: dict[str, Any]) -> None:
        self.epoch, self.history, self.best = checkpoint["epoch"], checkpoint["history"], checkpoint["best"]
        self.chosen = checkpoint.get("chosen", self.chosen)
        self.network.load_state_dict(checkpoint["network"], strict=False)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
