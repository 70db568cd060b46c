"""`fan-fer table`: what it writes, what it says beside the published figures, and that it goes on where it was."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fan_fer.base.errors import TrainingError
from fan_fer.cli import table as command
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED
from fan_fer.datasets.prepared import open_prepared
from fan_fer.evaluation.metrics import difference, score
from fan_fer.paper.markdown import table_markdown
from fan_fer.paper.table import make_table, plan_runs
from fan_fer.training import run as training
from fan_fer.training.result import RunResult
from fan_fer.training.trainer import Trainer

from ..drawn_sets import prepared_afew, prepared_ckplus
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


def test_other_poolings_under_the_same_protocol(make, ckplus: Path, tmp_path: Path) -> None:
    code, out, _ = make(ckplus, "--seeds", 1, "--variants", "abmil,fan,mean", "--out", tmp_path)
    assert code == DONE
    values = read(tmp_path)
    assert list(values["variants"]) == ["fan", "abmil", "mean"]
    assert set(values["fan_minus"]) == {"abmil", "mean"}
    for differences in values["fan_minus"].values():
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
    assert set(values["attention_fan_minus"]) == {"score-fusion", "self", "rule"}
    gain = values["attention_fan_minus"]["score-fusion"]["auc"]
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
        self.values = {
            "clips": clips,
            "epochs": [{"epoch": 1, "accuracy": 0.0}, {"epoch": 2, "accuracy": accuracy}],
            "best": {"epoch": 1},
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
    assert (ours.last.accuracy, theirs.last.accuracy, theirs.best.accuracy) == (1, 0.5, 1)
    assert theirs.last.mean_recall == pytest.approx((1 + 1 + 0) / 3)
    assert theirs.curves.tolist() == [[0, 0.5]]  # folds count by their clips
    gain = table.differences["self"]["last"]
    assert gain.accuracy == 0.5
    assert gain == difference(ours.labels, ours.probabilities["last"], theirs.probabilities["last"])
    assert theirs.last.to_dict() == score(prepared.classes, theirs.labels, theirs.probabilities["last"]).to_dict()
    assert "score fusion" not in table_markdown(table)


def test_a_layout_the_paper_does_not_have_has_no_published_figures(ckplus: Path) -> None:
    runs = {("fan", "val", 0): MadeUpRun(["a"], [0], [0], [0], ckplus)}
    prepared = open_prepared(ckplus)
    table = make_table(prepared.__class__(**{**vars(prepared), "layout": "folders"}), "tiny", runs)
    assert "ublished" not in table_markdown(table)
    assert table.to_dict()["published"] is None


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
