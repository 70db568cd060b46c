"""Which frames and clips a training step sees."""

from __future__ import annotations

import pytest
import torch

from fan_fer.attention.scoring import PackedFeatures
from fan_fer.training.batches import FeatureSource, TrainingItems
from fan_fer.training.sampling import class_weights, epoch_batches, generator, segment_frames, share


@pytest.mark.parametrize("count", [3, 4, 7, 16, 100])
def test_one_frame_from_each_third(count: int) -> None:
    draws = torch.stack([segment_frames(count, 3, generator(seed)) for seed in range(400)])
    edges = [0, count // 3, 2 * count // 3, count]
    for part in range(3):
        # Each frame of its third, and no other, is drawn.
        assert draws[:, part].unique().tolist() == list(range(edges[part], edges[part + 1]))


@pytest.mark.parametrize("count", [1, 2])
def test_short_clips_repeat_frames(count: int) -> None:
    draw = segment_frames(count, 3, generator(0))
    assert draw.tolist() == ([0, 0, 0] if count == 1 else [0, 0, 1])


def test_all_frames() -> None:
    assert segment_frames(5, 0, generator(0)).tolist() == [0, 1, 2, 3, 4]


def test_draws_change_with_epoch_and_clip_and_not_with_order() -> None:
    items = TrainingItems([0, 1], [300, 300], [0, 1], segments=3, mirror=True, seed=1)
    draws = {(epoch, item): items.draw(epoch, item) for epoch in range(20) for item in range(2)}
    assert len({tuple(draw.rows.tolist()) for draw in draws.values()}) > 38
    assert {draw.mirrored for draw in draws.values()} == {True, False}
    again = items.draw(7, 1)
    assert torch.equal(again.rows, draws[7, 1].rows)
    assert again.mirrored == draws[7, 1].mirrored
    other = TrainingItems([0, 1], [300, 300], [0, 1], segments=3, mirror=True, seed=2)
    assert any(not torch.equal(other.draw(*key).rows, draw.rows) for key, draw in draws.items())


def test_single_frames_are_each_seen_once() -> None:
    items = TrainingItems([2, 0], [2, 9, 3], [5, 6, 7], segments=3, mirror=False, seed=0, single_frames=True)
    assert len(items) == 5
    seen = [(draw.clip, draw.rows.tolist()) for draw in (items.draw(0, item) for item in range(5))]
    assert seen == [(2, [0]), (2, [1]), (2, [2]), (0, [0]), (0, [1])]


def test_batches_hold_every_item_once_and_are_redrawn() -> None:
    labels = torch.arange(10) % 3
    batches = epoch_batches(labels, 4, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(batches), torch.cat(epoch_batches(labels, 4, seed=0, epoch=1)))


def test_balanced_batches_hold_every_class_as_often() -> None:
    labels = torch.tensor([0] * 20 + [2] * 3 + [5])
    drawn = torch.cat(epoch_batches(labels, 7, seed=0, epoch=0, balanced=True))
    assert labels[drawn % 24].bincount().tolist() == [8, 0, 8, 0, 0, 8]
    assert len(drawn.unique()) == 24
    rare = drawn[labels[drawn % 24] == 5].sort().values
    assert rare.tolist() == [23 + 24 * again for again in range(8)]
    few = drawn[labels[drawn % 24] == 2] % 24
    assert sorted(few.bincount().tolist()[20:]) == [2, 3, 3]  # none comes again before the others have come
    assert not torch.equal(drawn, torch.cat(epoch_batches(labels, 7, seed=0, epoch=1, balanced=True)))
    assert torch.equal(drawn, torch.cat(epoch_batches(labels, 7, seed=0, epoch=0, balanced=True)))
    uneven = torch.cat(epoch_batches(labels[:-1], 7, seed=0, epoch=0, balanced=True))
    assert sorted(labels[:-1][uneven % 23].bincount().tolist()) == [0, 11, 12]


def test_what_comes_again_is_drawn_anew() -> None:
    items = TrainingItems([0, 1], [300, 300], [0, 1], segments=3, mirror=False, seed=1)
    assert items.classes.tolist() == [0, 1]
    draws = [items.draw(0, 1 + 2 * again) for again in range(20)]
    assert {draw.clip for draw in draws} == {1}
    assert len({tuple(draw.rows.tolist()) for draw in draws}) > 18


def test_class_weights_make_up_for_rare_classes() -> None:
    labels = torch.tensor([0] * 6 + [2] * 3 + [4])
    weights = class_weights(labels, 5)
    assert weights[[1, 3]].tolist() == [0, 0]
    assert (weights[[0, 2, 4]] * torch.tensor([6, 3, 1])).tolist() == pytest.approx([10 / 3] * 3)
    assert float(weights[labels].mean()) == pytest.approx(1)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_add_up_to_the_mean_of_the_batch(size: int, world: int) -> None:
    values = torch.arange(size, dtype=torch.float64) ** 2
    batch = torch.randperm(size, generator=generator(0))
    sums = []
    for rank in range(world):
        own, weight = share(batch, rank, world)
        assert len(own) > 0
        sums.append(values[own].sum() * weight)
    assert sum(sums) / world == pytest.approx(float(values.mean()))


def test_feature_batches_pad_and_mask() -> None:
    features = PackedFeatures(torch.arange(7.0).unsqueeze(1), torch.tensor([0, 2, 3, 7]))
    mirrored = PackedFeatures(-features.features, features.offsets)
    items = TrainingItems([0, 2], [2, 1, 4], [5, 6, 0], segments=0, mirror=False, seed=0)
    (batch,) = FeatureSource(items, features, mirrored).batches(0, [torch.tensor([0, 1])])
    assert batch.labels.tolist() == [5, 0]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.frames[0, :2, 0].tolist() == [0, 1]
    assert batch.frames[1, :, 0].tolist() == [3, 4, 5, 6]


def test_selected_clips_stay_in_the_order_asked_for() -> None:
    packed = PackedFeatures(torch.arange(6.0).unsqueeze(1), torch.tensor([0, 1, 3, 6])).select([2, 0])
    assert packed.features[:, 0].tolist() == [3, 4, 5, 0]
    assert packed.offsets.tolist() == [0, 3, 4]
