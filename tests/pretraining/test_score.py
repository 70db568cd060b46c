"""What a network is measured on: faces, plain and brief clips of them, video clips; and the mixture's table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.emotions import EMOTIONS
from fan_fer.features.embedding import Embedder
from pretraining import attention, mixture, score
from pretraining.features import ClipSet
from pretraining.ferplus import HALVES, VOTE_COLUMNS, load_ferplus
from pretraining.mixed_clips import NEUTRAL, ClipMaker, FacePool
from pretraining.training_data import preprocessing_of

SIDE = 8


class Bands(nn.Module):
    """Preprocessed faces (n, 3, S, S) to the means (n, 512) of eight horizontal bands, the others 0."""

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        bands = faces[:, 0].unflatten(1, (8, -1)).mean(dim=(2, 3))
        return nn.functional.pad(bands, (0, 512 - 8))


@pytest.fixture
def ferplus(tmp_path: Path) -> Path:
    """280 faces, of which band c is white where they show emotion c; every ninth is a faint face."""
    rng = np.random.default_rng(0)
    emotions = np.arange(280) % 7
    images = rng.integers(60, 70, (280, SIDE, SIDE)).astype(np.uint8)
    images[np.arange(280), emotions] = 250
    votes = np.zeros((280, 10), np.uint8)
    columns = [VOTE_COLUMNS.index(name) for name in EMOTIONS]
    votes[np.arange(280), np.array(columns)[emotions]] = 10
    faint = np.arange(280) % 9 == 0
    votes[faint] //= 2
    votes[faint, VOTE_COLUMNS.index("Contempt")] = 2
    votes[faint, np.array(columns)[(emotions[faint] + 1) % 7]] += 4
    path = tmp_path / "ferplus.npz"
    np.savez(path, valid_images=images, valid_votes=votes)
    return path


@pytest.fixture
def network() -> FrameAttentionNetwork:
    """Reads the bands."""
    network = FrameAttentionNetwork("fan").eval()
    network.backbone = Bands()
    with torch.no_grad():
        for parameter in network.attention.parameters():
            parameter.zero_()
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
        network.classifier.weight[:, :7] = torch.eye(7)
    return network


@pytest.fixture
def prepared(network: FrameAttentionNetwork, ferplus: Path, tmp_path: Path) -> score.Prepared:
    faces = load_ferplus(ferplus, "report")
    frames = faces.images[:12, :, :, None].expand(-1, -1, -1, 3)
    labels = faces.labels[:12:3].argmax(dim=1)
    clips = ClipSet(frames, torch.arange(12), torch.arange(0, 13, 3), labels, [f"clip{k}" for k in range(4)])
    embedder = Embedder(network.backbone, 512, preprocessing_of(SIDE), precision="float32")
    return score.prepare(embedder, ferplus, tmp_path / "set" / "Val", clips)


def test_halves_of_the_valid_faces(ferplus: Path) -> None:
    every, halves = load_ferplus(ferplus, "valid"), [load_ferplus(ferplus, half) for half in HALVES]
    assert sum(map(len, halves)) == len(every)
    for first, half in enumerate(halves):
        assert torch.equal(half.images, every.images[first::2])
        assert torch.equal(half.labels, every.labels[first::2])
        assert torch.equal(half.agreed, every.agreed[first::2])


def test_plain_clips_show_their_emotion_in_every_frame() -> None:
    labels = torch.eye(7).repeat(10, 1) * 0.6 + 0.4 / 7
    pool = FacePool(
        torch.eye(7).repeat(10, 1), torch.cat([labels[:-7], labels[-7:] * 0.5 + 0.5 / 7]), torch.zeros(1, 7)
    )
    emotions = attention.plain_emotions(400, neutral=0.5)
    assert emotions.count(NEUTRAL) in (228, 229)  # half of them, and as often as the others in the other half
    clips = ClipMaker(pool).draw_plain(emotions, torch.Generator().manual_seed(0))
    assert clips.labels.tolist() == emotions
    assert (clips.features.argmax(-1) == clips.labels[:, None])[clips.mask].all()
    assert torch.equal(clips.informative, clips.mask.float())
    assert {4, 16} <= set(clips.mask.sum(1).tolist()) <= set(range(4, 17))
    assert attention.plain_emotions(7, neutral=0) == list(range(7))


def test_every_set_is_measured(network: FrameAttentionNetwork, prepared: score.Prepared) -> None:
    figures = score.measure(network, prepared)
    sizes = {name: len(measured.labels) for name, measured in figures.sets.items()}
    clips = dict.fromkeys((score.PLAIN, score.USUAL, score.BRIEF), score.CLIPS)
    assert sizes == {
        score.EVERY: 280, score.EVERY_AGREED: 248, score.FACES: 140, score.AGREED: 124, **clips, "set/Val": 4
    }  # fmt: skip
    right = {name: measured.scores.accuracy for name, measured in figures.sets.items()}
    assert right[score.EVERY] == right[score.PLAIN] == 1
    assert right[score.BRIEF] < 1  # equal weights: the neutral frames outvote the others
    for name in clips:  # and equal weights are the mean
        measured = figures.sets[name]
        assert abs(measured.mean_scores.accuracy - right[name]) < 0.05
    counts = np.bincount(figures.sets[score.PLAIN].labels)
    assert counts.max() - counts.min() <= 1
    assert figures.sets[score.BRIEF].attention.weights.mean == 0.5
    assert figures.sets[score.PLAIN].attention.weights is None

    found = figures.to_scores()
    assert found["fer_valid_faces_accuracy".replace("fer", "ferplus")] == 1
    assert found["set_val_accuracy"] == round(right["set/Val"], 4)
    table = figures.to_markdown()
    assert f"| {score.EVERY}, 280 | 100.0 (" in table
    assert f"| {score.BRIEF} | " in table


def test_attention_that_follows_the_strongest_frame_is_measured(
    network: FrameAttentionNetwork, prepared: score.Prepared
) -> None:
    before = score.measure(network, prepared).sets[score.BRIEF]
    with torch.no_grad():
        network.attention.self_weight[:7] = 30
        network.attention.self_weight[NEUTRAL] = -30
    after = score.measure(network, prepared).sets[score.BRIEF]
    assert after.scores.accuracy > before.scores.accuracy
    assert after.mean_scores.accuracy == before.mean_scores.accuracy
    assert after.attention.weights.mean > 0.6


def test_confidence_is_set_right(network: FrameAttentionNetwork, prepared: score.Prepared) -> None:
    with torch.no_grad():
        network.classifier.weight.add_(torch.randn_like(network.classifier.weight) * 0.3)
    before = network.classifier.weight.detach().clone()
    temperature = attention.calibrate(network, prepared)
    assert temperature != 1
    torch.testing.assert_close(network.classifier.weight, before / temperature, rtol=1e-3, atol=1e-5)
    # By the tuning half alone.
    with torch.no_grad():
        network.classifier.weight.copy_(before)
    answers = torch.where(prepared.report, (prepared.answers + 1) % 7, prepared.answers)
    assert attention.calibrate(network, replace(prepared, answers=answers)) == temperature


def test_mixture_table(network: FrameAttentionNetwork, prepared: score.Prepared) -> None:
    figures = score.measure(network, prepared)
    table = mixture.report({"all of it": figures, "less": figures}).splitlines()
    assert len(table) == 4
    measured = figures.sets[score.BRIEF]
    assert f"{100 * measured.scores.accuracy:.1f} (mean {100 * measured.mean_scores.accuracy:.1f}), 0.500" in table[2]
    settings = attention.AttentionSettings()
    assert all(replace(settings, **changes) != settings for changes in list(mixture.PARTS.values())[1:])
