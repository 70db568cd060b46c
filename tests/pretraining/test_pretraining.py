"""The training scripts on made-up data: labels, clips, refusals, and that a killed run goes on to the same result."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError
from fan_fer.base.terminal import run_main
from fan_fer.evaluation.informative import frame_ranking
from fan_fer.features.backbones import BACKBONES
from fan_fer.features.cache import cached
from pretraining import attention, backbone, comparison
from pretraining.augment import augment, degrade, random_jpeg, random_resolution
from pretraining.features import ClipSet, load_backbone
from pretraining.ferplus import VOTE_COLUMNS, label_distributions, load_ferplus
from pretraining.identity import load_identity
from pretraining.mixed_clips import ClipMaker, FacePool
from pretraining.pooling import POOLINGS, clip_logits, make_heads
from pretraining.training_data import load_intensities

from .made_identity import write_identity

TINY = backbone.BackboneSettings(sizes="32x2,40x1", batch=8, lr=0.01)
TINY_FACE29 = replace(TINY, network="face29", sizes="72x2,80x1")


def votes(**counts: int) -> list[int]:
    return [counts.get(name.replace(" ", "_"), 0) for name in VOTE_COLUMNS]


@pytest.fixture
def ferplus(tmp_path: Path) -> Path:
    """Noise instead of faces, two clear ones of each emotion."""
    rng = np.random.default_rng(0)
    rows = np.array([votes(**{name: 10}) for name in EMOTIONS * 2], np.uint8)
    images = rng.integers(0, 256, (len(rows), 48, 48), np.uint8)
    path = tmp_path / "ferplus.npz"
    np.savez(path, train_images=images, train_votes=rows, valid_images=images[:7], valid_votes=rows[:7])
    return path


@pytest.fixture
def pool() -> FacePool:
    """Features in which every emotion has a direction of its own, neutral included; divided votes give short ones."""
    rng = torch.Generator().manual_seed(0)
    directions = 3 * torch.eye(len(EMOTIONS), 512)
    emotion = torch.arange(len(EMOTIONS)).repeat(20)
    strength = torch.tensor([1.0, 0.3]).repeat_interleave(len(EMOTIONS)).repeat(10)
    certainty = torch.where(strength == 1, 0.9, 0.4)[:, None]
    labels = certainty * torch.nn.functional.one_hot(emotion) + (1 - certainty) / len(EMOTIONS)
    features = directions[emotion] * strength[:, None] + 0.1 * torch.randn(len(emotion), 512, generator=rng)
    return FacePool(features, labels, 0.1 * torch.randn(10, 512, generator=rng))


def test_votes_become_distributions() -> None:
    rows = np.array([
        votes(Happy=6, Neutral=3, Sad=1),  # one vote is noise
        votes(Contempt=6, Neutral=4),
        votes(Unknown=5, Fear=5),  # a tie goes to the emotion
        votes(Not_a_face=10),
        votes(Angry=1, Sad=1, Fear=1),
    ])  # fmt: skip
    labels, kept, agreed = label_distributions(rows)
    assert kept.tolist() == [0, 2]
    assert agreed.tolist() == [True, False]  # 6 of 9 and 5 of 10 votes
    expected = np.zeros((2, len(EMOTIONS)))
    expected[0, EMOTIONS.index("Happy")], expected[0, EMOTIONS.index("Neutral")] = 6 / 9, 3 / 9
    expected[1, EMOTIONS.index("Fear")] = 1
    assert np.allclose(labels, expected)


def test_missing_or_foreign_data_is_refused(tmp_path: Path, ferplus: Path) -> None:
    with pytest.raises(FanFerError, match="no such file"):
        load_ferplus(tmp_path / "none.npz", "train")
    (tmp_path / "text.npz").write_text("faces")
    with pytest.raises(FanFerError, match=r"wanted an \.npz with train_images and train_votes"):
        load_ferplus(tmp_path / "text.npz", "train")
    with pytest.raises(FanFerError, match="test_images"):
        load_ferplus(ferplus, "test")
    np.savez(tmp_path / "odd.npz", train_images=np.zeros((2, 48, 48)), train_votes=np.zeros((2, 8)))
    with pytest.raises(FanFerError, match=r"float64 \(2, 48, 48\) and train_votes \(2, 8\)"):
        load_ferplus(tmp_path / "odd.npz", "train")
    with pytest.raises(FanFerError, match="no such file"):
        load_backbone(tmp_path / "backbone.safetensors")
    (tmp_path / "text.safetensors").write_text("tensors")
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    for name in ("text", "other"):
        with pytest.raises(FanFerError, match=rf"{name}\.safetensors: not a backbone\.safetensors of this script"):
            load_backbone(tmp_path / f"{name}.safetensors")


def test_every_valid_face_is_in_one_half(ferplus: Path) -> None:
    valid, tune, report = (load_ferplus(ferplus, split) for split in ("valid", "tune", "report"))
    assert (len(valid), len(tune), len(report)) == (7, 4, 3)
    for field in ("images", "labels", "agreed"):
        whole = getattr(valid, field)
        assert torch.equal(getattr(tune, field), whole[0::2])
        assert torch.equal(getattr(report, field), whole[1::2])


def test_a_script_refuses_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["backbone", "--data", str(tmp_path / "none.npz"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        run_main(backbone.main)
    assert ended.value.code == 2
    assert re.fullmatch(r"error: .*none\.npz: no such file.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [augment, degrade])
def test_augmentation_repeats_with_its_generator(change: type[augment]) -> None:
    images = torch.randint(0, 256, (8, 48, 48), dtype=torch.uint8)
    first, again, other = (change(images, 64, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (8, 1, 64, 64)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rare_emotions_come_more_often_when_balanced() -> None:
    counts = [600, 30, 60, 300, 6, 120, 12]
    labels = torch.eye(7).repeat_interleave(torch.tensor(counts), dim=0)
    rng = torch.Generator().manual_seed(0)
    plain = backbone.epoch_order(labels, 0.0, rng)
    assert sorted(plain.tolist()) == list(range(len(labels)))
    for balance in (0.5, 1.0):
        drawn = torch.cat([backbone.epoch_order(labels, balance, rng) for _ in range(50)])
        share = labels[drawn].sum(0) / len(drawn)
        wanted = torch.tensor(counts).double() ** (1 - balance)
        assert torch.allclose(share.double(), wanted / wanted.sum(), atol=0.01)


def test_mixed_faces_have_mixed_labels() -> None:
    rng = torch.Generator().manual_seed(0)
    inputs, labels = torch.eye(16).view(16, 1, 4, 4), torch.eye(16)
    assert backbone.mix(inputs, labels, 0.0, rng)[0] is inputs
    shares = set()
    for _ in range(20):
        mixed, soft = backbone.mix(inputs, labels, 0.4, rng)
        assert torch.equal(mixed.flatten(1), soft)  # an input of these is its own label
        assert torch.allclose(soft.sum(1), torch.ones(16))
        shares.add(round(float(soft.max(dim=1).values.min()), 3))
    assert len(shares) > 10


@pytest.mark.parametrize("sizes", ["", "64", "64x0", "x3", "64x20,", "64x20 96x10"])
def test_wrong_sizes_are_refused(sizes: str) -> None:
    with pytest.raises(FanFerError, match="wanted side x epochs"):
        backbone.BackboneSettings(sizes=sizes)


def test_an_eighth_of_the_faces_passes_through_jpeg() -> None:
    rng = torch.Generator().manual_seed(0)
    faces = torch.rand((16, 1, 64, 64), generator=rng)
    stored = random_jpeg(faces, rng)
    error = (stored - faces).abs().mean(dim=(1, 2, 3))
    assert (error > 0).sum() == 2
    assert error.max() < 0.5


def test_half_of_the_small_faces_pass_through_jpeg_too() -> None:
    rng = torch.Generator().manual_seed(0)
    row = torch.linspace(0.2, 0.8, 64)
    smooth = row.expand(16, 1, 64, 64).contiguous()  # a smaller size hardly changes it, JPEG's blocks do
    changed = (random_resolution(smooth, rng) - smooth)[..., 4:-4].abs().amax(dim=(1, 2, 3))
    assert (changed == 0).sum() == 10
    assert (changed > 0.005).sum() == 3


def undecided(path: Path, name: str) -> Path:
    """A backbone's file whose head finds all emotions alike."""
    torch.manual_seed(0)
    network = BACKBONES[name](num_classes=len(EMOTIONS))
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.fc.bias)
    save_file(network.state_dict(), path)
    return path


def test_targets_may_be_what_teachers_say(tmp_path: Path) -> None:
    labels = torch.eye(len(EMOTIONS))
    inputs = torch.randn(len(EMOTIONS), 3, 80, 80)
    teachers = [backbone.load_network(undecided(tmp_path / f"{name}.safetensors", name)) for name in BACKBONES]
    wanted = 0.75 * labels + 0.25 / len(EMOTIONS)
    torch.testing.assert_close(backbone.taught(inputs, labels, teachers, 0.25), wanted)
    nn.init.constant_(teachers[1].fc.bias[3:4], 100)  # one teacher of two is sure of an emotion
    wanted = 0.75 * labels + 0.125 / len(EMOTIONS)
    wanted[:, 3] += 0.125
    torch.testing.assert_close(backbone.taught(inputs, labels, teachers, 0.25), wanted)
    assert backbone.taught(inputs, labels, [], 0.0) is labels


def test_settings_that_do_not_fit_are_refused(ferplus: Path, tmp_path: Path) -> None:
    faces = load_ferplus(ferplus, "train")
    teacher = undecided(tmp_path / "teacher.safetensors", "face29")
    (tmp_path / "dlib.dat").touch()
    for change, arguments, message in (
        ({"distil": 0.5}, {}, r"--distil 0\.5 with 0 teachers: --teacher wants --distil"),
        ({}, {"teachers": [teacher]}, r"--distil 0\.0 with 1 teachers: --teacher wants --distil"),
        ({"distil": 0.5}, {"teachers": [teacher]}, r"--sizes 32x2,40x1: faces of 71 pixels or more are wanted"),
        ({"network": "face29"}, {}, r"--sizes 32x2,40x1: faces of 71 pixels or more are wanted"),
        ({}, {"start": teacher}, r"teacher\.safetensors: a face29; wanted a resnet18, or --network face29"),
        ({}, {"start": tmp_path / "dlib.dat"}, r"dlib\.dat: dlib's network is face29; wanted --network face29"),
    ):
        with pytest.raises(FanFerError, match=message):
            backbone.train(faces, faces, tmp_path / "out", replace(TINY, **change), **arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FanFerError, match=r"--distil 2: wanted a share"):
        replace(TINY, distil=2)
    with pytest.raises(FanFerError, match=r"--network vgg: wanted one of resnet18, face29"):
        replace(TINY, network="vgg")


@pytest.mark.parametrize("settings", [TINY, TINY_FACE29], ids=list(BACKBONES))
def test_a_run_starts_from_another(ferplus: Path, tmp_path: Path, settings: backbone.BackboneSettings) -> None:
    faces, valid = load_ferplus(ferplus, "train"), load_ferplus(ferplus, "valid")
    first = replace(settings, sizes=settings.sizes.replace("x2", "x1"))
    backbone.train(faces, valid, tmp_path / "first", first)
    source = tmp_path / "first" / "backbone.safetensors"
    still = replace(settings, sizes=f"{settings.sizes[:2]}x1", lr=1e-12, mixup=0.2, balance=0.5)
    second = backbone.train(faces, valid, tmp_path / "second", still, source)
    name, tensors = backbone.read_backbone(source)
    assert name == settings.network
    for key, value in second.named_parameters():
        assert torch.allclose(value, tensors[key], atol=1e-6), key
    with pytest.raises(FanFerError, match=r"start .* -> None"):
        backbone.train(faces, valid, tmp_path / "second", still)


def test_a_run_starts_from_dlibs_network(ferplus: Path, tmp_path: Path) -> None:
    faces = load_ferplus(ferplus, "train")
    still = replace(TINY_FACE29, sizes="72x1", lr=1e-12)
    start = write_identity(tmp_path / "dlib.dat")
    network = backbone.train(faces, faces, tmp_path / "out", still, start)
    shown = backbone.normalise(backbone.resize(faces.images, 72))
    own = load_identity(start, shown, backbone.MEAN, backbone.STD)
    for name, value in own.named_parameters():
        if not name.startswith("fc."):
            torch.testing.assert_close(network.get_parameter(name), value, atol=1e-5, rtol=1e-5)
    assert network.fc.weight.shape == (len(EMOTIONS), 256)


@pytest.mark.parametrize(
    "settings",
    [TINY, TINY_FACE29, replace(TINY, sizes="72x2,80x1", distil=0.7)],
    ids=["resnet18", "face29", "taught resnet18"],
)
def test_killed_backbone_run_goes_on_to_the_same_result(
    ferplus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: backbone.BackboneSettings
) -> None:
    faces, valid = load_ferplus(ferplus, "train"), load_ferplus(ferplus, "valid")
    names = BACKBONES if settings.distil else ()
    teachers = [undecided(tmp_path / f"{name}.safetensors", name) for name in names]

    def run(out: str) -> dict[str, Tensor]:
        return backbone.train(faces, valid, tmp_path / out, settings, teachers=teachers).state_dict()

    def dies_in_the_second_epoch(*arguments: object) -> float:
        if arguments[5] == 1:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    whole = run("whole")
    train_epoch = backbone.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(backbone, "train_epoch", dies_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    resumed = run("killed")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    log = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [line["size"] for line in log] == settings.size_of_epochs()

    with pytest.raises(FanFerError, match=rf"sizes {settings.sizes} -> 96x4"):
        backbone.train(faces, valid, tmp_path / "killed", replace(settings, sizes="96x4"), teachers=teachers)
    if teachers:
        with pytest.raises(FanFerError, match=r"teachers \['\w+', '\w+'\] -> \['\w+'\]"):
            backbone.train(faces, valid, tmp_path / "killed", settings, teachers=teachers[:1])
        untaught = backbone.train(faces, valid, tmp_path / "untaught", replace(settings, distil=0)).state_dict()
        assert not torch.equal(untaught["fc.weight"], whole["fc.weight"])
    network, weight, _ = load_backbone(tmp_path / "killed" / "backbone.safetensors")
    assert network.backbone_name == settings.network
    assert torch.equal(network.backbone.conv1.weight, resumed["conv1.weight"])
    assert torch.equal(weight, resumed["fc.weight"])


def test_the_script_trains_and_tells_of_the_half_to_choose_by(
    ferplus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = undecided(tmp_path / "teacher.safetensors", "resnet18")
    words = f"backbone --data {ferplus} --out {tmp_path / 'run'} --network face29 --sizes 72x1 --batch 8"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--teacher", str(teacher), "--distil", "0.5"])
    run_main(backbone.main)
    (line,) = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert line in capsys.readouterr().out
    network = backbone.load_network(tmp_path / "run" / "backbone.safetensors")
    right, recall = backbone.accuracy(network, load_ferplus(ferplus, "tune"), 72)
    figures = json.loads(line)
    assert (figures["valid_accuracy"], figures["valid_mean_recall"]) == pytest.approx((right, recall), abs=1e-4)


def test_mixed_clips_hold_what_they_claim(pool: FacePool) -> None:
    clips = ClipMaker(pool).draw_brief(200, torch.Generator().manual_seed(0))
    lengths = clips.mask.sum(1)
    assert lengths.min() >= 4
    assert lengths.max() <= 16
    assert set(clips.labels.tolist()) == set(range(len(EMOTIONS)))
    assert (clips.informative[~clips.mask] == 0).all()
    directions = clips.features[..., : len(EMOTIONS)].argmax(-1)
    shown = clips.informative.nonzero()
    assert (directions[shown[:, 0], shown[:, 1]] == clips.labels[shown[:, 0]]).all()
    share = clips.informative.sum(1) / lengths
    expressive = clips.labels != EMOTIONS.index("Neutral")
    assert 0.3 < share[expressive].mean() < 0.45

    with pytest.raises(FanFerError, match=r"too few to make clips of: .*Disgust"):
        ClipMaker(FacePool(pool.features[:1], pool.labels[:1], pool.degraded))


def ranking(network: FrameAttentionNetwork, maker: ClipMaker) -> float:
    clips = maker.draw_brief(100, torch.Generator().manual_seed(9))
    with torch.inference_mode():
        final = network.classify(clips.features, clips.mask).weights.final
    rows = zip(final, clips.informative, clips.mask, strict=True)
    pairs = [(weight[mask], informative[mask] > 0) for weight, informative, mask in rows]
    return float(np.nanmean([frame_ranking(*pair) for pair in pairs]))


@pytest.fixture
def data(pool: FacePool) -> attention.TrainingData:
    """Video clips of the same kind as the mixed ones."""
    maker = ClipMaker(pool)
    drawn = maker.draw_brief(30, torch.Generator().manual_seed(3))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), drawn.mask.sum(1).cumsum(0)])
    features = drawn.features[drawn.mask]
    clips = ClipSet(features, torch.arange(int(offsets[-1])), offsets, drawn.labels, ["clip"] * 30)
    return attention.TrainingData(
        clips, features + 100, (features + 200).unsqueeze(0), drawn.informative[drawn.mask], maker, pool
    )


def heads(pooling: str) -> FrameAttentionNetwork:
    torch.manual_seed(0)
    network = FrameAttentionNetwork("fan")
    return make_heads(network, pooling, network.classifier.weight[:, :512].detach().clone(), torch.zeros(7))


def test_clips_are_drawn_mirrored_or_not(data: attention.TrainingData) -> None:
    clips = attention.draw_clips(data, 50, 6, 0.3, torch.Generator().manual_seed(0))
    assert clips.mask.sum(1).max() == 6
    assert clips.mask.sum(1).min() >= 4
    view = (clips.features[:, 0].mean(dim=1) / 100).round()
    assert view.long().bincount().min() > 5
    plain = clips.features - 100 * view[:, None, None]
    emotion = plain[..., : len(EMOTIONS)].argmax(-1)
    shown = (clips.informative > 0) & clips.mask
    assert (emotion == clips.labels[:, None])[shown].all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_heads_are_made_for_the_backbone(pooling: str) -> None:
    network = FrameAttentionNetwork("fan", backbone="face29")
    made = make_heads(network, pooling, torch.ones(7, 256), torch.zeros(7))
    assert made.backbone is network.backbone
    assert made.backbone_name == "face29"
    torch.testing.assert_close(made.classify(torch.ones(1, 3, 256)).logits.softmax(-1), torch.full((1, 7), 1 / 7))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_heads_start_as_the_mean_of_the_frames(pooling: str, pool: FacePool) -> None:
    network = heads(pooling)
    clips = ClipMaker(pool).draw_brief(20, torch.Generator().manual_seed(0))
    first = replace(clips, mask=torch.arange(clips.mask.shape[1]).expand_as(clips.mask) == 0)
    alone = network.classify(clips.features[:, :1]).logits
    torch.testing.assert_close(clip_logits(network, pooling, first).softmax(-1), alone.softmax(-1))
    if pooling != "oracle":
        lengths = clips.mask.sum(1).tolist()
        scores = network.classify(clips.features[clips.mask].unsqueeze(1)).logits
        if pooling == "score-fusion":
            scores = scores.softmax(-1)
        mean = torch.stack([rows.mean(0) for rows in scores.split(lengths)])
        wanted = mean if pooling == "score-fusion" else mean.softmax(-1)
        torch.testing.assert_close(clip_logits(network, pooling, clips).softmax(-1), wanted, atol=1e-5, rtol=1e-4)


def test_the_oracle_sees_what_is_informative(pool: FacePool) -> None:
    network = heads("oracle")
    clips = ClipMaker(pool).draw_brief(20, torch.Generator().manual_seed(0))
    hidden = replace(clips, features=clips.features * clips.informative.unsqueeze(-1))
    torch.testing.assert_close(
        clip_logits(network, "oracle", clips), clip_logits(network, "oracle", hidden), atol=5e-3, rtol=0
    )


def test_attention_learns_and_a_killed_run_goes_on_to_the_same_result(
    data: attention.TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(data, mirrored=data.clips.frames, augmented=data.clips.frames.unsqueeze(0))
    settings = attention.AttentionSettings(epochs=3, steps=10, batch=8, lr=0.03, attention_lr=1)

    def run(out: Path) -> FrameAttentionNetwork:
        out.mkdir(exist_ok=True)
        network = heads("fan")
        assert ranking(network, data.mixed) == 0.5
        attention.train(network, data, out, settings)
        return network

    whole = run(tmp_path / "whole")
    assert ranking(whole, data.mixed) > 0.8

    train_epoch = attention.train_epoch

    def dies_in_the_last_epoch(*arguments: object) -> float:
        if arguments[3] == 2:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(attention, "train_epoch", dies_in_the_last_epoch)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    for name, value in whole.attention.state_dict().items():
        assert torch.equal(value, resumed.attention.state_dict()[name]), name
    assert torch.equal(whole.classifier.weight, resumed.classifier.weight)


def test_comparison_of_poolings(data: attention.TrainingData, tmp_path: Path) -> None:
    lengths = data.clips.offsets.diff().tolist()
    names = [f"Happy/{number}" for number in range(len(lengths))]
    numbers = torch.cat([torch.arange(length) for length in lengths])
    clips = replace(data.clips, names=names, frame_numbers=numbers)
    truth = tmp_path / "frames.csv"
    places = [(name, number) for name, length in zip(names, lengths, strict=True) for number in range(length)]
    rows = [
        f"{name},{number},{shown},0" for (name, number), shown in zip(places, data.intensities.tolist(), strict=True)
    ]
    truth.write_text("\n".join(["clip,frame,intensity,occluded", *rows]))
    assert torch.equal(load_intensities(truth, clips), data.intensities)

    settings = attention.AttentionSettings(epochs=1, steps=30, batch=8, frames=20, lr=0.03, attention_lr=1)
    data = replace(data, mirrored=data.clips.frames, augmented=data.clips.frames.unsqueeze(0))
    outcomes = {}
    for pooling in POOLINGS:
        found = []
        for seed in (0, 1):
            network = heads(pooling)
            (tmp_path / f"{pooling}{seed}").mkdir()
            attention.train(network, data, tmp_path / f"{pooling}{seed}", replace(settings, seed=seed), pooling)
            found.append(comparison.evaluate(network, pooling, clips, truth))
        outcomes[pooling] = comparison.Outcome(*(np.stack(values) for values in zip(*found, strict=True)))
    assert outcomes["fan"].probabilities.shape == (2, 30, 7)
    labels = clips.labels.numpy()
    right = {name: (one.probabilities.argmax(-1) == labels).mean() for name, one in outcomes.items()}
    assert right["oracle"] > right["mean"]
    share, _ = comparison.closed(labels, outcomes["fan"], outcomes["mean"], outcomes["oracle"])
    assert share == pytest.approx((right["fan"] - right["mean"]) / (right["oracle"] - right["mean"]))
    assert np.nanmean(outcomes["oracle"].areas) == 1
    assert np.nanmean(outcomes["mean"].areas) == 0.5

    table = comparison.report(labels, outcomes)
    assert f"| fan | {100 * right['fan']:.1f} (" in table
    assert "| fan - mean | " in table
    assert f"| {100 * share:.0f} % (" in table


def test_intensities_that_are_not_there(data: attention.TrainingData, tmp_path: Path) -> None:
    assert load_intensities(tmp_path / "none.csv", data.clips).eq(1).all()
    (tmp_path / "frames.csv").write_text("clip,frame,intensity\nclip,0,0.5\n")
    with pytest.raises(FanFerError, match=r"frames\.csv: KeyError.*a row with clip, frame and intensity"):
        load_intensities(tmp_path / "frames.csv", data.clips)


def test_features_are_computed_again_only_when_their_source_changed(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        return {"features": torch.full((2,), float(len(calls)))}

    path = tmp_path / "features.safetensors"
    assert [float(cached(path, key, compute)["features"][0]) for key in ("a", "a", "b")] == [1, 1, 2]


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_damaged_features_are_computed_again(tmp_path: Path, size: int) -> None:
    path = tmp_path / "features.safetensors"
    cached(path, "a", lambda: {"features": torch.zeros(3)})
    path.write_bytes(path.read_bytes()[:size])
    for _ in range(2):
        assert cached(path, "a", lambda: {"features": torch.ones(3)})["features"].tolist() == [1, 1, 1]


def test_single_faces_keep_what_the_backbone_said(data: attention.TrainingData) -> None:
    weight, bias = torch.zeros(7, 512), torch.zeros(7)  # that head finds all emotions alike
    labels = attention.distilled(data, weight, bias, share=0.25).faces.labels
    torch.testing.assert_close(labels, 0.75 * data.faces.labels + 0.25 / 7)
    assert data.mixed.pool is data.faces  # clips are still mixed by what the voters said
    with pytest.raises(FanFerError, match=r"--distil 2: wanted a share"):
        attention.AttentionSettings(distil=2)
