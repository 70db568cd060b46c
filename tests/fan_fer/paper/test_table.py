"""`fan-fer table`: what it writes, what it says beside the published figures, and that it goes on where it was."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_faces import DrawnFaces

from fan_fer.base.errors import TrainingError
from fan_fer.cli import table as command
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED
from fan_fer.datasets.cross import cross_sets
from fan_fer.datasets.prepare import prepare
from fan_fer.datasets.prepared import open_prepared
from fan_fer.evaluation.metrics import difference, score
from fan_fer.paper.markdown import table_markdown
from fan_fer.paper.table import make_table, plan_runs
from fan_fer.training import run as training
from fan_fer.training.result import KEPT_EPOCHS, RunResult
from fan_fer.training.trainer import Trainer
from fan_fer.training.validation import cut_validation

from ..drawn_sets import CROP, draw_crema_d, draw_dfew, draw_ravdess, prepared_afew, prepared_ckplus
from ..fakes import assert_one_error, names

FILES = ["confusion-fan.png", "confusion-score-fusion.png", "confusion-self.png", "table.json", "table.md", "table.png"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text('freeze_backbone = true\nframes = 2\noptimizer = "adamw"\nlr = 1e-2\nepochs = 2\n')
    return path


@pytest.fixture(scope="module")
def afew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_afew(tmp_path_factory.mktemp("afew"), train=1, val=1, frames=4)


@pytest.fixture(scope="module")
def ckplus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ckplus(tmp_path_factory.mktemp("ckplus"), subjects=3, sequences=2, frames=2)


@pytest.fixture(scope="module")
def crema_d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crema-d")
    source = draw_crema_d(folder / "source", actors=6)
    prepare("crema-d", source, folder / "crema", size=CROP, detector=DrawnFaces(), folds=2)
    return folder / "crema"


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ravdess")
    source = draw_ravdess(folder / "source", actors=5)
    options = {"folds": 2, "classes": "Calm=Neutral,Surprise=-"}
    prepare("ravdess", source, folder / "ravdess", size=CROP, detector=DrawnFaces(), **options)
    return folder / "ravdess"


@pytest.fixture
def make(recipe: Path, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer table` in this process; gives exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["table", *map(str, arguments), "--config", str(recipe), "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "table.json").read_text())


# The command


def test_table_of_folds(make, ckplus: Path) -> None:
    code, out, err = make(ckplus, "--seeds", 2)
    assert code == DONE
    folder = ckplus / "runs" / "tiny"
    assert names(folder) == sorted([*FILES, "fan", "score-fusion", "self"])
    assert all(cv2.imread(str(folder / name)) is not None for name in FILES if name.endswith(".png"))
    markdown = (folder / "table.md").read_text()
    assert "published, on CK+" in markdown
    assert "A set that is laid out like CK+ but is not CK+ cannot be compared" in markdown
    assert re.search(r"\| FAN \| .* \| 99\.69 \|", markdown)
    assert "FAN - self-attention only" in markdown
    assert "fan fold-3 seed 1: last epoch" in err

    prepared, values = open_prepared(ckplus), read(folder)
    assert values["clips"] == len(prepared.clips) == 6
    for variant in ("score-fusion", "self", "fan"):
        right = {which: [] for which in ("last", "best")}
        for seed in (0, 1):
            for fold in (1, 2, 3):
                run = RunResult.load(folder / variant / f"fold-{fold}" / f"seed-{seed}")
                for which, found in right.items():
                    predicted = [clip.probabilities.argmax() for clip in run.scores(which)]
                    found.append(np.equal(predicted, run.labels).mean())
        for which, found in right.items():  # folds of two clips each
            assert values["variants"][variant][which]["accuracy"] == pytest.approx(np.mean(found))
            assert values["variants"][variant][which]["accuracy_of_seeds"] == pytest.approx(
                [np.mean(found[:3]), np.mean(found[3:])]
            )
        assert values["variants"][variant]["best"]["accuracy"] >= values["variants"][variant]["last"]["accuracy"]
    assert f"in {folder}" in out


def test_interrupted_table_goes_on_to_the_same(make, ckplus: Path, tmp_path: Path, monkeypatch) -> None:
    options = (ckplus, "--seeds", 1, "--variants", "fan,self")
    assert make(*options, "--out", tmp_path / "whole")[0] == DONE

    original, epochs = Trainer.run_epoch, []

    def dies_in_the_eighth_epoch(self: Trainer) -> dict[str, Any]:
        if len(epochs) == 7:
            raise KeyboardInterrupt
        epochs.append(1)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", dies_in_the_eighth_epoch)
        code, out, err = make(*options, "--out", tmp_path / "killed")
    assert (code, out) == (INTERRUPTED, "")
    assert "3 of 6 runs are done; the same command goes on from here" in err
    assert not (tmp_path / "killed" / "table.md").exists()

    count = []
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: count.append(1) or original(self))
    assert make(*options, "--out", tmp_path / "killed")[0] == DONE
    assert len(count) == 6 * 2 - 7  # only what was left
    for name in ("table.json", "table.md"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    monkeypatch.setattr(training, "Trainer", lambda *_: pytest.fail("a finished table trains nothing"))
    assert make(*options, "--out", tmp_path / "killed")[0] == DONE


def test_more_seeds_add_to_a_table(make, afew: Path, tmp_path: Path) -> None:
    options = (afew, "--variants", "fan", "--out", tmp_path)
    assert make(*options, "--seeds", 1)[0] == DONE
    first = read(tmp_path)["variants"]["fan"]["last"]["accuracy_of_seeds"]
    assert make(*options, "--seeds", 2)[0] == DONE
    assert read(tmp_path)["variants"]["fan"]["last"]["accuracy_of_seeds"][:1] == first
    assert read(tmp_path)["seeds"] == 2


def test_every_backbone_that_is_asked_for_has_a_table_of_its_own(make, afew: Path) -> None:
    for backbone, below in ((None, "tiny"), ("resnet18", "tiny-resnet18")):
        options = () if backbone is None else ("--backbone", backbone)
        code, out, err = make(afew, *options, "--seeds", 1, "--variants", "mean")
        assert code == DONE, err
        assert "Recipe tiny, backbone resnet18, validation clips" in out
        assert read(afew / "runs" / below)["backbone"] == "resnet18"


def test_other_poolings_under_the_same_protocol(make, ckplus: Path, tmp_path: Path) -> None:
    code, out, _ = make(ckplus, "--seeds", 1, "--variants", "abmil,fan,mean", "--out", tmp_path)
    assert code == DONE
    values = read(tmp_path)
    assert list(values["variants"]) == ["fan", "abmil", "mean"]
    assert set(values["reference_minus"]) == {"abmil", "mean"}
    for differences in values["reference_minus"].values():
        low, high = differences["last"]["accuracy_interval"]
        assert low <= differences["last"]["accuracy"] <= high
    assert re.search(r"\| FAN - gated attention \(ABMIL\) \|", out)
    assert re.search(r"\| mean \| [^\n]* \|  \|\n", out)  # the paper has no figure for it
    assert (tmp_path / "confusion-abmil.png").exists()
    assert cv2.imread(str(tmp_path / "table.png")) is not None


def test_runs_with_other_settings_are_not_mixed(make, afew: Path, tmp_path: Path) -> None:
    options = (afew, "--variants", "self", "--seeds", 1, "--out", tmp_path)
    assert make(*options)[0] == DONE
    before = (tmp_path / "table.md").read_bytes()
    other = tmp_path / "other.toml"
    other.write_text("freeze_backbone = true\nlr = 1e-3\nepochs = 2\n")
    code = main(["table", *map(str, options), "--config", str(other), "--device", "cpu"])
    assert code == BAD_INPUT
    assert (tmp_path / "table.md").read_bytes() == before


def test_attention_against_the_informative_frames(make, afew: Path, tmp_path: Path) -> None:
    truth = afew.parent / "afew" / "Val_AFEW" / "frames.csv"
    code, out, _ = make(afew, "--seeds", 2, "--out", tmp_path, "--frame-truth", truth)
    assert code == DONE
    values = read(tmp_path)
    for variant in ("score-fusion", "self", "fan"):
        attention = values["variants"][variant]["attention"]
        assert attention["weights"]["clips"] == attention["rule"]["clips"] == 6  # all but the neutral one
        # Two frames of four show the emotion: a clip's area is 0, 1/4, 1/2, 3/4 or 1, or half of it with ties.
        assert 8 * 6 * 2 * attention["weights"]["auc"] == pytest.approx(round(8 * 6 * 2 * attention["weights"]["auc"]))
    assert values["variants"]["score-fusion"]["attention"]["weights"]["auc"] == 0.5
    assert set(values["attention_reference_minus"]) == {"score-fusion", "self", "rule"}
    gain = values["attention_reference_minus"]["score-fusion"]["auc"]
    assert gain == pytest.approx(values["variants"]["fan"]["attention"]["weights"]["auc"] - 0.5)
    assert "| equal weights | 0.500 |  |" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants", "fan,lstm"], r"--variants fan,lstm: some of score-fusion,self,fan,mean,.*gru.* are wanted"),
        (["--variants", ","], r"are wanted"),
        (["--seeds", "0"], r"--seeds 0; 1 or more is wanted"),
        (["--frame-truth", "none.csv"], r"none\.csv: cannot be read"),
        (["--init", "none.pth"], r"none\.pth: no such file"),
        (["--init", "none"], r"frozen backbone of random weights"),
        (["--backbone", "vgg"], r"backbone vgg: unknown; one of resnet18, face29, timm:NAME is wanted"),
        (["--backbone", "face29", "--init", "resnet18"], r"its backbone is resnet18; weights for face29 are wanted"),
    ],
)
def test_refusals(make, afew: Path, tmp_path: Path, options: list[str], message: str) -> None:
    assert_one_error(make(afew, *options, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_more_refusals(make, afew: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "_train", lambda *_: pytest.fail("the work has begun"))
    assert_one_error(make(tmp_path), r"is no prepared set")
    (tmp_path / "file").touch()
    assert_one_error(make(afew, "--out", tmp_path / "file"), r"file is no folder")
    (tmp_path / "table.md").mkdir()
    assert_one_error(make(afew, "--out", tmp_path), r"table\.md: is a folder")
    truth = tmp_path / "frames.csv"
    truth.write_text("clip,frame,intensity,occluded\n")
    assert_one_error(
        make(afew, "--frame-truth", truth, "--out", tmp_path / "out"), r"frames\.csv: has no row for clip .* and 6 more"
    )
    assert main(["table", str(afew), "--config", "slow"]) == BAD_INPUT


# An epoch chosen on persons who are kept back


def test_the_epoch_is_chosen_on_other_persons_than_those_of_training_and_test(make, crema_d: Path) -> None:
    code, _, err = make(crema_d, "--seeds", 1, "--variants", "fan,self")
    assert code == DONE, err
    folder, prepared = crema_d / "runs" / "tiny", open_prepared(crema_d)
    values, markdown = read(folder), (folder / "table.md").read_text()
    for variant in ("fan", "self"):
        chosen = values["variants"][variant]["chosen"]
        right = []
        for fold in (1, 2):
            run = RunResult.load(folder / variant / f"fold-{fold}" / "seed-0")
            history = run.values["epochs"]
            best = max(history, key=lambda entry: entry["validation_accuracy"])
            assert run.values["chosen"] == {"epoch": best["epoch"], "accuracy": best["accuracy"]}
            right += list(np.equal([clip.probabilities.argmax() for clip in run.scores("chosen")], run.labels))
        assert chosen["accuracy"] == pytest.approx(np.mean(right))
    for partition in prepared.partitions():
        parts = (*cut_validation(prepared, partition.train), partition.test)
        people = [{prepared.clips[index].subject for index in part} for part in parts]
        assert sorted(map(len, people)) == [1, 2, 3]
        assert len(set.union(*people)) == 6
    assert "| % | accuracy, chosen epoch | mean recall, chosen epoch | accuracy, best-on-test epoch |" in markdown
    assert "95 % bootstrap intervals over the 6 subjects" in markdown
    assert "Wilson" not in markdown
    assert "clips kept back from training: those of one person in 5" in markdown
    assert "Published: 58.2 %, accuracy of people who saw the pictures without the sound" in markdown
    assert "60.6" not in markdown
    assert [anchor["percent"] for anchor in values["anchors"]] == [58.2]
    assert "chosen epoch" in err


def test_the_last_epoch_without_validation(make, crema_d: Path, tmp_path: Path) -> None:
    assert make(crema_d, "--seeds", 1, "--variants", "fan", "--no-validation", "--out", tmp_path)[0] == DONE
    markdown = (tmp_path / "table.md").read_text()
    assert "accuracy, last epoch" in markdown
    assert "chosen epoch" not in markdown
    run = RunResult.load(tmp_path / "fan" / "fold-1" / "seed-0")
    assert run.kept == KEPT_EPOCHS
    assert_one_error(
        make(crema_d, "--seeds", 1, "--variants", "fan", "--out", tmp_path), r"made with other settings \(validation"
    )


def test_clips_of_nobody_are_kept_back_one_in_five(make, tmp_path: Path) -> None:
    prepare("dfew", draw_dfew(tmp_path / "source"), tmp_path / "set", size=CROP, detector=DrawnFaces())
    prepared = open_prepared(tmp_path / "set")
    rest, held = cut_validation(prepared, prepared.fold(1).train)
    assert (len(rest), len(held)) == (6, 2)
    code, _, err = make(tmp_path / "set", "--seeds", 1, "--variants", "fan")
    assert code == DONE, err
    markdown = (tmp_path / "set" / "runs" / "tiny" / "table.md").read_text()
    assert "Accuracy: 95 % Wilson intervals." in markdown
    assert "5 folds, 1 seed, 10 test clips" in markdown
    with pytest.raises(TrainingError, match=r"too few persons or clips .* \(1 clips\); --no-validation trains on all"):
        cut_validation(prepared, [0])


# One set to train on, another to test on


def test_a_table_across_two_sets(make, ravdess: Path, crema_d: Path) -> None:
    code, _, err = make("--cross", ravdess, crema_d, "--seeds", 1, "--variants", "fan")
    assert code == DONE, err
    folder = crema_d / "runs" / "tiny-from-ravdess"
    values, markdown = read(folder), (folder / "table.md").read_text()
    assert (values["trained_on"], values["set"], values["clips"]) == ("ravdess", "crema", 36)
    assert "recipe tiny, backbone resnet18, trained on ravdess, 1 seed, 36 test clips" in markdown.lower()
    assert "95 % bootstrap intervals over the 6 subjects" in markdown
    assert (
        "Published: 60.6 %, unweighted average recall by EMO-AffectNet's networks, trained on five other sets"
        in markdown
    )
    assert "58.2" not in markdown
    both = cross_sets(open_prepared(ravdess), open_prepared(crema_d))
    (partition,) = both.partitions()
    assert {both.clips[index].name.split("/")[1] for index in partition.train} == {f"Actor_0{n}" for n in range(1, 6)}
    run = RunResult.load(folder / "fan" / "test" / "seed-0")
    assert run.values["clips"] == [both.clips[index].name for index in partition.test]
    clip, original = both.clips[partition.test[0]], open_prepared(crema_d).clips[0]
    assert np.array_equal(both.crops(clip), open_prepared(crema_d).crops(original))
    assert len(list((ravdess / "features").iterdir())) == 1  # of each set, in its own folder
    assert not any(name.startswith("test") for name in names(crema_d / "features"))


def test_sets_that_cannot_be_crossed(make, ravdess: Path, crema_d: Path, ckplus: Path) -> None:
    for options, message in (
        (
            ("--cross", ckplus, crema_d),
            r"has the classes Angry, Contempt, .*; fan-fer prepare --classes gives both the",
        ),
        (("--cross", crema_d, crema_d), r"is named twice; two sets are wanted"),
        ((crema_d, "--cross", ravdess, crema_d), r"either DST, a prepared set, or --cross with two of them is wanted"),
        ((), r"either DST, a prepared set, or --cross with two of them is wanted"),
    ):
        assert_one_error(make(*options), message)


def prepared_copies(folder: Path, layout: str, first: list[Path], second: list[Path]) -> list[Path]:
    """Two prepared sets, each of a folder with copies of the files."""
    made = []
    for name, files in (("a", first), ("b", second)):
        for file in files:
            (folder / f"source-{name}" / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / f"source-{name}" / file.parent.name)
        prepare(layout, folder / f"source-{name}", folder / name, size=CROP, detector=DrawnFaces())
        made.append(folder / name)
    return made


def test_sets_that_share_clips_are_not_crossed(make, tmp_path: Path) -> None:
    files = sorted(draw_crema_d(tmp_path / "crema", actors=3).rglob("*.avi"))
    for number, layout in enumerate(("crema-d", "ravdess", "folders")):
        if layout == "ravdess":
            files = sorted(draw_ravdess(tmp_path / "ravdess", actors=3).rglob("01-*.avi"))
        both = prepared_copies(tmp_path / str(number), layout, files[:-3], files[6:])
        assert_one_error(
            make("--cross", *both), r"b: \d+ of its clips are in .*a too, such as .*; sets that share no clip"
        )


def test_persons_who_are_in_both_sets_are_told(make, tmp_path: Path) -> None:
    files = sorted(draw_crema_d(tmp_path / "source", actors=4).rglob("*.avi"))
    both = prepared_copies(tmp_path, "crema-d", files[::2], [*files[1:12:2], *files[19::2]])
    code, out, err = make("--cross", *both, "--seeds", 1, "--variants", "fan", "--no-validation")
    assert code == DONE, err
    assert "3 of the subjects are both trained on and tested on: the scores are optimistic." in out
    prepared = open_prepared(both[0])
    assert prepared.shared_people == 0
    with_val, without = ["train", "test", "val", "train", "test"], ["train", "test", "train", "train", "test"]
    for parts, people, shared in (
        (with_val, "aabbb", 1),
        (with_val, "abcba", 0),
        (with_val, "abcde", 0),
        (without, "abbab", 1),
        (without, "abcba", 2),
        (without, "abcdb", 0),
    ):
        clips = [
            replace(clip, split=split, subject=person)
            for clip, split, person in zip(prepared.clips, parts, people, strict=False)
        ]
        assert replace(prepared, clips=tuple(clips), folds=None).shared_people == shared, people


# The table itself, from runs that are made up


@dataclass(frozen=True)
class MadeUpScores:
    probabilities: np.ndarray
    weights: tuple = ()
    own: tuple = ()


class MadeUpRun:
    """What `make_table` asks a run for."""

    def __init__(self, clips: list[str], labels: list[int], last: list[int], best: list[int], folder: Path) -> None:
        self.folder, self.labels = folder, labels
        self._predicted = {"last": last, "best": best}
        accuracy = float(np.mean(np.array(last) == labels))
        self.kept = KEPT_EPOCHS
        self.values = {
            "clips": clips,
            "epochs": [{"epoch": 1, "accuracy": 0.0}, {"epoch": 2, "accuracy": accuracy}],
            "best": {"epoch": 1},
            "last": {"epoch": 2},
        }

    def scores(self, which: str) -> list[MadeUpScores]:
        return [MadeUpScores(row) for row in np.eye(7)[self._predicted[which]]]


def test_folds_are_put_together(ckplus: Path) -> None:
    prepared = open_prepared(ckplus)
    runs = {}
    for variant, hits in (("self", ([0], [1, 1, 9])), ("fan", ([0], [1, 2, 2]))):
        parts = (["a"], [0], hits[0]), (["b", "c", "d"], [1, 2, 2], hits[1])
        for fold, (clips, labels, predicted) in enumerate(parts, 1):
            predicted = [min(k, 6) for k in predicted]
            runs[variant, f"fold-{fold}", 0] = MadeUpRun(clips, labels, predicted, labels, ckplus)
    table = make_table(prepared, "tiny", runs)
    ours, theirs = table.variants[::-1]
    assert (ours.variant, ours.clips, table.partitions) == ("fan", ("a", "b", "c", "d"), 2)
    last = theirs.scores["last"]
    assert (ours.scores["last"].accuracy, last.accuracy, theirs.scores["best"].accuracy) == (1, 0.5, 1)
    assert last.mean_recall == pytest.approx((1 + 1 + 0) / 3)
    assert theirs.curves.tolist() == [[0, 0.5]]  # folds count by their clips
    gain = table.differences["self"]["last"]
    assert gain.accuracy == 0.5
    assert gain == difference(ours.labels, ours.probabilities["last"], theirs.probabilities["last"])
    assert last.to_dict() == score(prepared.classes, theirs.labels, theirs.probabilities["last"]).to_dict()
    assert "score fusion" not in table_markdown(table)


def test_without_fan_the_others_are_compared_with_the_first_that_is_named(ckplus: Path) -> None:
    runs = {(v, "val", 0): MadeUpRun(["a", "b"], [0, 1], [0, k], [0, 1], ckplus) for v, k in (("mean", 1), ("self", 2))}
    table = make_table(open_prepared(ckplus), "tiny", runs)
    assert [result.variant for result in table.variants] == ["self", "mean"]
    assert {name: both["last"].accuracy for name, both in table.differences.items()} == {"self": 0.5}
    assert "## What mean gains" in table_markdown(table)
    assert "| mean - self-attention only | +50.0" in table_markdown(table)
    assert table.to_dict()["reference"] == "mean"
    both = {**runs, ("fan", "val", 0): MadeUpRun(["a", "b"], [0, 1], [0, 1], [0, 1], ckplus)}
    assert make_table(open_prepared(ckplus), "tiny", both).reference == "fan"


def test_a_layout_the_paper_does_not_have_has_no_published_figures(ckplus: Path) -> None:
    runs = {("fan", "val", 0): MadeUpRun(["a"], [0], [0], [0], ckplus)}
    prepared = open_prepared(ckplus)
    table = make_table(prepared.__class__(**{**vars(prepared), "layout": "folders"}), "tiny", runs)
    assert "ublished" not in table_markdown(table)
    assert table.to_dict()["published"] is None


@pytest.mark.parametrize(
    ("layout", "classes", "percent"),
    [("crema-d", 6, [58.2]), ("crema-d", 5, []), ("crema-d", 2, []), ("ravdess", 7, []), ("ckplus", 6, [])],
)
def test_published_figures_stand_beside_as_many_classes_with_clips(
    ckplus: Path, layout: str, classes: int, percent: list[float]
) -> None:
    """A copy may lack all clips of a class that its layout has."""
    clips, labels = [f"c{place}" for place in range(8)], [place % classes for place in range(8)]
    runs = {("fan", "val", 0): MadeUpRun(clips, labels, labels, labels, ckplus)}
    table = make_table(replace(open_prepared(ckplus), layout=layout), "tiny", runs)
    assert [anchor.percent for anchor in table.anchors] == percent


def test_the_part_that_is_tested_on_is_named(ckplus: Path) -> None:
    prepared = open_prepared(ckplus)
    for parts, wanted in (
        (["val"], "validation clips"),
        (["test"], "the set's own test part"),
        (["a", "b"], "2 folds"),
    ):
        runs = {("fan", name, 0): MadeUpRun([name], [0], [0], [0], ckplus) for name in parts}
        assert f"recipe tiny, {wanted}, 1 seed" in make_table(prepared, "tiny", runs).subtitle


def test_runs_that_do_not_fit_each_other_are_refused(ckplus: Path) -> None:
    prepared = open_prepared(ckplus)
    one, other = (MadeUpRun([clip], [0], [0], [0], ckplus) for clip in "ab")
    with pytest.raises(TrainingError, match="in the test part of two partitions"):
        make_table(prepared, "tiny", {("fan", "fold-1", 0): one, ("fan", "fold-2", 0): one})
    with pytest.raises(TrainingError, match="was tested on other clips than"):
        make_table(prepared, "tiny", {("fan", "val", 0): one, ("fan", "val", 1): other})
    with pytest.raises(TrainingError, match="the runs of fan were tested on other clips"):
        make_table(prepared, "tiny", {("self", "val", 0): one, ("fan", "val", 0): other})


def test_runs_are_ordered_so_that_each_seed_is_a_whole_table() -> None:
    keys = plan_runs(["self", "fan"], ["fold-1", "fold-2"], 2)
    assert keys[:4] == [("self", "fold-1", 0), ("self", "fold-2", 0), ("fan", "fold-1", 0), ("fan", "fold-2", 0)]
    assert {seed for _, _, seed in keys[4:]} == {1}
