"""`fan-fer evaluate`: what it reports and writes for prepared sets and lists of videos, and every refusal."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fan_fer import FrameAttentionNetwork, recognizer
from fan_fer.attention.network import NetworkOutput
from fan_fer.attention.scoring import ClipScores
from fan_fer.attention.weights import ModelCard, save_weights
from fan_fer.base.emotions import EMOTIONS
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED, SOME_FAILED
from fan_fer.datasets.prepared import open_prepared
from fan_fer.evaluation import clips
from fan_fer.faces.align import TEMPLATE

from ..drawn_sets import prepared_afew, prepared_ckplus
from ..fakes import PREPROCESSING, SquareDetector, assert_one_error, names, write_video

FACE = [(10, 10, 30)]
CONFUSION = "confusion.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that look like trained ones."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_weights(path, FrameAttentionNetwork(), ModelCard("fan", PREPROCESSING, trained_on="x", license="MIT"))
    return path


@pytest.fixture(scope="module")
def afew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_afew(tmp_path_factory.mktemp("afew"), train=1, val=1, frames=4)


@pytest.fixture(scope="module")
def ckplus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ckplus(tmp_path_factory.mktemp("ckplus"), subjects=3, sequences=2, frames=2)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Four videos of red squares and a list of them: one without a face, one without a label, two generators."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_video(folder / f"{name}.mp4", [FACE] * 2)
    write_video(folder / "grey.mp4", [[]] * 2)
    rows = ["a.mp4,Joy,x", "b.mp4,sad,y", "grey.mp4,sad,y", "c.mp4,,x"]
    (folder / "list.csv").write_text("video,label,generator\n" + "\n".join(rows) + "\n")
    return folder / "list.csv"


@pytest.fixture
def evaluate(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer evaluate MODEL` in this process; gives exit code, stdout, stderr."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def run(*arguments: object, model: Path = model) -> tuple[int, str, str]:
        code = main(["evaluate", str(model), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Prepared sets


def test_prepared_set_in_full(evaluate, afew: Path, tmp_path: Path) -> None:
    truth = afew.parent / "afew" / "Val_AFEW" / "frames.csv"
    code, out, err = evaluate(afew, "--out", tmp_path / "out", "--by", "subject", "--frame-truth", truth)
    assert (code, err) == (DONE, "")
    assert names(tmp_path / "out") == [CONFUSION, "metrics.json", "predictions.csv"]

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = read(tmp_path / "out" / "predictions.csv")
    test_clips = [clip for clip in open_prepared(afew).clips if clip.split == "val"]
    assert [row["clip"] for row in rows] == [clip.name for clip in test_clips]
    assert [row["class"] for row in rows] == [clip.label for clip in test_clips]
    right = [row["predicted"] == row["label"] for row in rows]
    assert [row["right"] for row in rows] == [str(int(value)) for value in right]
    assert metrics["scores"]["accuracy"] == pytest.approx(np.mean(right))
    assert f"accuracy (WAR)      {np.mean(right):.1%}" in out
    for row in rows:
        probabilities = {name: float(row[f"p_{name}"]) for name in EMOTIONS}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert max(probabilities, key=probabilities.__getitem__) == row["predicted"]
    assert metrics["counts"] == {"clips": 7, "scored": 7, "failed": 0, "without_label": 0, "left_out": 0}
    assert metrics["which"] == "the test clips of val"
    # Half of the frames show the emotion, but for the neutral clip, whose frames are all alike.
    assert metrics["attention"]["weights"]["clips"] == 6
    assert 0 <= metrics["attention"]["weights"]["auc"] <= 1
    assert "1 - p(neutral)" in out
    assert cv2.imread(str(tmp_path / "out" / CONFUSION)) is not None


def test_predictions_are_those_of_the_network(evaluate, model: Path, afew: Path, tmp_path: Path) -> None:
    assert evaluate(afew, "--split", "train", "--out", tmp_path / "out")[0] == DONE
    ours = recognizer.load_recognizer(model)
    prepared = open_prepared(afew)
    clip = next(clip for clip in prepared.clips if clip.split == "train")
    expected = ours.classify_clip(prepared.crops(clip))
    row = next(row for row in read(tmp_path / "out" / "predictions.csv") if row["clip"] == clip.name)
    assert row["predicted"] == expected.label
    assert [float(row[f"p_{name}"]) for name in EMOTIONS] == pytest.approx(
        list(expected.probabilities.values()), abs=1e-4
    )


def test_official_formula_changes_the_probabilities(evaluate, afew: Path, tmp_path: Path) -> None:
    for formula in ("paper", "official-eval"):
        assert evaluate(afew, "--formula", formula, "--out", tmp_path / formula)[0] == DONE
    paper, official = (read(tmp_path / formula / "predictions.csv") for formula in ("paper", "official-eval"))
    assert [row["p_Angry"] for row in paper] != [row["p_Angry"] for row in official]


def test_fold_and_all_clips(evaluate, ckplus: Path, tmp_path: Path) -> None:
    drop = ("--label-map", "contempt=-")
    code, out, _ = evaluate(ckplus, *drop, "--partition", "fold-2", "--out", tmp_path / "out")
    assert code == DONE
    assert "the test clips of fold-2" in out
    assert {row["fold"] for row in read(tmp_path / "out" / "predictions.csv")} == {"2"}
    code, out, _ = evaluate(ckplus, *drop, "--by", "label")
    assert code == DONE
    assert "a network that was trained on some of them scores too well" in out
    assert "left out by the label map" in out
    assert not re.search(r"^Contempt", out, re.M)


def test_clip_without_a_face_is_listed_and_not_scored(evaluate, afew: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(afew, tmp_path / "set")
    for name in ("clips.csv", "frames.csv"):
        rows = read(copy / name)
        clip = next(row["clip"] for row in read(afew / "clips.csv") if row["split"] == "val")
        for row in rows:
            if row["clip"] == clip:
                row |= {"status": "no face"} | ({"faces": "0"} if "faces" in row else {})
        with (copy / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    # Nor need it be told which of its frames are informative.
    truth = afew.parent / "afew" / "Val_AFEW" / "frames.csv"
    others = [row for row in truth.read_text().splitlines(True) if not row.startswith(clip.removeprefix("Val_AFEW/"))]
    (tmp_path / "frames.csv").write_text("".join(others))
    code, out, err = evaluate(copy, "--out", tmp_path / "out", "--frame-truth", tmp_path / "frames.csv")
    assert (code, err) == (DONE, "")
    assert "6 of 7 clips scored, 1 without a prediction" in out
    (row,) = [row for row in read(tmp_path / "out" / "predictions.csv") if row["error"]]
    assert (row["clip"], row["error"], row["predicted"], row["right"]) == (clip, "no face", "", "")


# Lists of videos


def test_list_of_videos(evaluate, videos: Path, tmp_path: Path) -> None:
    out_folder = tmp_path / "deep" / "out"
    options = ("--label-map", "joy=Happy", "--by", "generator", "--out", out_folder)
    code, out, err = evaluate(videos, *options)
    assert (code, err) == (SOME_FAILED, "")
    assert "2 of 4 clips scored, 1 without a prediction, 1 without a label" in out
    rows = read(out_folder / "predictions.csv")
    assert [row["class"] for row in rows] == ["Happy", "Sad", "Sad", ""]
    assert [row["label"] for row in rows] == ["Joy", "sad", "sad", ""]
    assert [bool(row["predicted"]) for row in rows] == [True, True, False, True]
    assert [row["right"] == "" for row in rows] == [False, False, True, True]
    assert re.search(r"grey\.mp4: no face found", rows[2]["error"])
    assert [(row["frames"], row["faces"]) for row in rows] == [("2", "2"), ("2", "2"), ("", ""), ("2", "2")]
    metrics = json.loads((out_folder / "metrics.json").read_text())
    assert metrics["scores"]["clips"] == 2
    assert {name: scores["clips"] for name, scores in metrics["groups"].items()} == {"x": 1, "y": 1}
    single = recognizer.load_recognizer(metrics["model"]["file"]).predict(videos.parent / "a.mp4")
    assert rows[0]["predicted"] == single.label


def test_it_abstains(evaluate, videos: Path, tmp_path: Path) -> None:
    options = ("--label-map", "joy=Happy", "--out", tmp_path / "out")
    evaluate(videos, *options)
    rows = [row for row in read(tmp_path / "out" / "predictions.csv") if row["right"]]
    sure = [max(float(cell) for name, cell in row.items() if name.startswith("p_")) for row in rows]
    for abstain, answered in ((1, 0), (min(sure) - 1e-6, 2)):
        _, out, _ = evaluate(videos, *options, "--abstain", abstain)
        told = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert told["scores"]["clips"] == 2
        assert (told["abstain"]["abstain"], told["abstain"]["answered"]) == (abstain, answered)
        assert f"{answered} of 2 clips" in out
        shown = read(tmp_path / "out" / "predictions.csv")
        assert [row["right"] for row in shown if row["class"] and row["faces"]] == [
            row["right"] if answered else "" for row in rows
        ]
        right = sum(int(row["right"]) for row in rows)
        assert told["abstain"]["accuracy"] == (right / 2 if answered else None)


def test_list_without_labels_is_predicted(evaluate, videos: Path, tmp_path: Path) -> None:
    videos.write_text("video,emotion\na.mp4,Sad\n")
    code, out, _ = evaluate(videos, "--out", tmp_path / "out")
    assert code == DONE
    assert "no clip has both a label and a prediction: nothing to score; the columns are video, emotion\n" in out
    assert names(tmp_path / "out") == ["metrics.json", "predictions.csv"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["scores"] is None


def test_split_and_left_out_labels(evaluate, videos: Path, tmp_path: Path) -> None:
    videos.write_text("video,label,split\na.mp4,joy,val\nb.mp4,sad,train\nc.mp4,sad,val\n")
    code, out, _ = evaluate(videos, "--split", "val", "--label-map", "joy=-")
    assert code == DONE
    assert "split val; 1 of 2 clips scored, 1 left out by the label map" in out


@pytest.mark.parametrize(
    "header", ["video, label", "video,Label", "Video,LABEL", "video,label\u00a0", "\ufeffvideo,\u200blabel"]
)
def test_a_label_is_seen_however_its_column_is_written(evaluate, videos: Path, header: str) -> None:
    videos.write_text(f"{header}\na.mp4,Happy\nb.mp4,Sad\n", "utf-8")
    code, out, _ = evaluate(videos)
    assert code == DONE
    assert "all videos; 2 of 2 clips scored\n" in out


def test_spellings_are_one_and_said(evaluate, videos: Path, tmp_path: Path) -> None:
    rows = ["a.mp4,Fe\u0301roce, VAL,p1,A", "b.mp4,F\u00e9roce,validation,P01,a\u200b", "c.mp4,Happy ,val,2,b"]
    videos.write_text("\n".join(["Video,Label,Split,Subject,Generator", *rows, "grey.mp4,happy,train,3,b"]), "utf-8")
    options = ("--label-map", "f\u00e9roce=ANGRY", "--by", "subject", "--out", tmp_path / "out")
    code, out, err = evaluate(videos, "--split", " Val", *options)
    assert (code, err) == (DONE, "")
    assert "split  Val; 3 of 3 clips scored\n" in out
    assert 'labels "Fe\\u0301roce", "F\u00e9roce": taken for one, F\u00e9roce\n' in out
    assert 'values of Subject "p1", "P01": taken for one, p1\n' in out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name: scores["clips"] for name, scores in metrics["groups"].items()} == {"p1": 2, "2": 1}
    assert len(metrics["notes"]) == 2
    assert [row["class"] for row in read(tmp_path / "out" / "predictions.csv")] == ["Angry", "Angry", "Happy"]
    _, out, _ = evaluate(videos, "--label-map", "feroce=Sad,f\u00e9roce=Angry", "--by", "GENERATOR")
    assert re.search(r"^A +2 ", out, re.MULTILINE)
    assert "labels" in out
    assert 'values of Generator "A", "a": taken for one, A\n' in out


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ("joy=Happy,Joy=Sad", r'label map: "joy" and "Joy" are one label, mapped twice'),
        ("", r"label map '': cannot be read"),
        ("joy=Joyful", r'label map: "Joyful": no class of the model'),
    ],
)
def test_maps_that_are_refused(evaluate, videos: Path, label_map: str, message: str) -> None:
    assert_one_error(evaluate(videos, "--label-map", label_map), message)


def test_weights_against_the_frames_of_videos(evaluate, videos: Path, tmp_path: Path) -> None:
    videos.write_text("video,label\na.mp4,Sad\nc.mp4,\n")
    truth = tmp_path / "frames.csv"
    truth.write_text("clip,frame,intensity,occluded\na,0,1,0\na,1,0,0\n")  # c, without a label, is not looked up
    code, out, _ = evaluate(videos, "--frame-truth", truth)
    assert code == DONE
    assert re.search(r"final weights +1 +\d\.\d\d\d", out)


def test_interruption_keeps_what_is_done(evaluate, videos: Path, tmp_path: Path, monkeypatch) -> None:
    original = recognizer.Recognizer.predict

    def interrupted(self, path: Path, *rest: object) -> object:
        if Path(path).name == "b.mp4":
            raise KeyboardInterrupt
        return original(self, path, *rest)

    monkeypatch.setattr(recognizer.Recognizer, "predict", interrupted)
    code, out, err = evaluate(videos, "--label-map", "joy=Happy", "--out", tmp_path / "out")
    assert (code, err) == (INTERRUPTED, "fan-fer: interrupted\n")
    assert "1 of 4 clips scored" in out
    rows = read(tmp_path / "out" / "predictions.csv")
    assert [row["error"] for row in rows] == ["", *["not done: interrupted"] * 3]


# Published checkpoints


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network under the published names, with seven outputs."""
    torch.manual_seed(0)
    state = FrameAttentionNetwork("fan").state_dict()
    renamed = {f"module.{n.removeprefix('backbone.')}": v for n, v in state.items() if n.startswith("backbone.")}
    renamed |= {
        "module.alpha.0.weight": state["attention.self_weight"][None],
        "module.alpha.0.bias": state["attention.self_bias"],
        "module.beta.0.weight": state["attention.relation_weight"][None],
        "module.beta.0.bias": state["attention.relation_bias"],
        "module.pred_fc2.weight": state["classifier.weight"],
        "module.pred_fc2.bias": state["classifier.bias"],
    }
    path = tmp_path_factory.mktemp("published") / "model.pth.tar"
    torch.save({"state_dict": renamed}, path)
    return path


def test_published_checkpoint_takes_the_classes_of_the_layout(evaluate, published: Path, afew: Path, tmp_path) -> None:
    code, _, err = evaluate(afew, "--out", tmp_path / "out", model=published)
    assert code == DONE
    assert "a published frame attention network" in err
    classes = json.loads((tmp_path / "out" / "metrics.json").read_text())["model"]["classes"]
    assert classes == ["Happy", "Angry", "Disgust", "Fear", "Sad", "Neutral", "Surprise"]


def test_classes_of_a_published_checkpoint_in_any_spelling(evaluate, published: Path, videos: Path) -> None:
    videos.write_text("video,label\na.mp4,Happy\n")
    assert evaluate(videos, "--classes", " AFEW", model=published)[0] == DONE
    for classes, message in (
        ("Happy,happy,C,D,E,F,G", r'classes "Happy" and "happy" are spellings of one'),
        ("Happy,,C,D,E,F,G", r"classes: got .*; names are wanted"),
    ):
        code, out, err = evaluate(videos, "--classes", classes, model=published)
        assert (code, out) == (BAD_INPUT, "")
        assert re.search(rf"^fan-fer: error: .*{message}.*$", err, re.MULTILINE), err


def test_published_checkpoint_needs_classes_for_videos(evaluate, published: Path, videos: Path) -> None:
    assert_one_error(evaluate(videos, model=published), r"does not say which classes it has; --classes ckplus, afew")
    assert_one_error(evaluate(videos, "--classes", "a,b", model=published), r"7 outputs, for the 2 classes")
    videos.write_text("video,label\na.mp4,c\n")
    assert evaluate(videos, "--classes", "a,b,c,d,e,f,g", model=published)[0] == DONE


def test_own_networks_have_their_classes(evaluate, videos: Path) -> None:
    assert_one_error(evaluate(videos, "--classes", "afew"), "--classes is for published checkpoints")


# Refusals: one line, before the work begins, and nothing written


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer.Recognizer, "predict", lambda *_: pytest.fail("the work has begun"))
    monkeypatch.setattr(FrameAttentionNetwork, "classify", lambda *_, **__: NetworkOutput(*pytest.fail("began")))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], r'the model has no class "Joy"; it has Angry, .* --label-map'),
        (["--label-map", "joy=Glad"], r'label map: "Glad": no class of the model'),
        (["--label-map", "joy"], r"label map 'joy': cannot be read"),
        (["--by", "colour"], r"--by colour: there is no such column; there are video, label, generator"),
        (["--partition", "val"], r"is no prepared set; --partition needs one"),
        (["--formula", "official-eval"], r"is no prepared set; --formula needs one"),
        (["--split", "val"], r"no clip has split 'val'; no clip has one"),
        (["--frame-truth", "none.csv"], r"none\.csv: cannot be read"),
        (["--device", "cuda:99"], r'device "cuda:99"'),
    ],
)
def test_refusals_for_videos(evaluate, videos: Path, tmp_path: Path, options: list[str], message: str) -> None:
    assert_one_error(evaluate(videos, *options, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_work")
def test_truth_that_lacks_a_clip_is_refused_before_the_work(evaluate, videos: Path, tmp_path: Path) -> None:
    truth = tmp_path / "frames.csv"
    truth.write_text("clip,frame,intensity,occluded\na,0,1,0\n")
    result = evaluate(videos, "--label-map", "joy=Happy", "--frame-truth", truth)
    assert_one_error(result, r"frames\.csv: has no row for clip b\.mp4 and 1 more")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"no column video \(it is empty\); video\[,label,...\] is wanted"),
        ("path,label\na.mp4,Sad\n", r"no column video \(its columns are path, label\)"),
        ("video,label\n", r"names no video"),
        ("video,label\na.mp4,Sad\n,Sad\n", r"line 3 names no video"),
        ("video,label\na.mp4,Sad,x\n", r"line 2 has more cells than the header"),
        ("video,label\na\xff.mp4,Sad\n", r"not a CSV file in UTF-8"),
    ],
)
def test_lists_that_are_none(evaluate, videos: Path, content: str, message: str) -> None:
    videos.write_bytes(content.encode("latin-1"))
    assert_one_error(evaluate(videos), message)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition", "fold-1"], r"has no partition 'fold-1'; it has val"),
        (["--split", "test"], r"no clip has split 'test'; there are train, val"),
        (["--partition", "val", "--split", "val"], r"--partition and --split: one of them is wanted"),
        (["--by", "generator"], r"there are clip, label, split, subject, fold"),
    ],
)
def test_refusals_for_a_prepared_set(evaluate, afew: Path, options: list[str], message: str) -> None:
    assert_one_error(evaluate(afew, *options), message)


def test_other_refusals(evaluate, afew: Path, videos: Path, tmp_path: Path) -> None:
    assert_one_error(evaluate(tmp_path / "none"), r"none: cannot be read \(No such file")
    assert_one_error(evaluate(tmp_path), r"is no prepared set")
    assert_one_error(evaluate(afew, model=tmp_path / "none.safetensors"), r"none\.safetensors: no such file")
    (tmp_path / "file").touch()
    assert_one_error(evaluate(afew, "--out", tmp_path / "file"), r"file: .*/file is no folder")
    assert_one_error(evaluate(afew, "--out", tmp_path / "file" / "out"), r"file/out: .*/file is no folder")
    videos.write_text("video,label\nnone.mp4,Sad\ngrey.mp4,Sad\n")
    assert_one_error(
        evaluate(videos, "--out", tmp_path / "out"), r"none of the 2 clips could be done; .*none\.mp4: no such"
    )
    assert not (tmp_path / "out").exists()


def test_faces_aligned_otherwise_are_refused(evaluate, afew: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    moved = tuple((float(x), float(y) + 0.1) for x, y in TEMPLATE)
    card = ModelCard("fan", PREPROCESSING.__class__(**{**vars(PREPROCESSING), "template": moved}))
    path = tmp_path / "moved.safetensors"
    save_weights(path, FrameAttentionNetwork(), card)
    assert_one_error(evaluate(afew, model=path), r"aligned to another template")


@pytest.mark.parametrize("command", ["evaluate", "table"])
def test_help_does_not_wait_for_torch(command: str) -> None:
    code = (
        "import sys; from fan_fer.cli.main import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'cv2', 'matplotlib', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert f"fan-fer {command} " in done.stdout
    assert done.stdout.endswith("[]\n")


# Numbers that break


def test_a_network_that_overflows_is_never_scored(
    evaluate, afew: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = FrameAttentionNetwork()
    torch.nn.init.constant_(network.classifier.weight, 3e38)
    torch.nn.init.constant_(network.classifier.weight[0], -3e38)
    path = tmp_path / "loud.safetensors"
    save_weights(path, network, ModelCard("fan", PREPROCESSING))
    broken = r"none of the \d clips could be done; the first: the network's probabilities for this clip are not finite"
    for data in (afew, videos):
        options = () if data is afew else ("--label-map", "joy=Happy")
        assert_one_error(evaluate(data, *options, "--out", tmp_path / "out", model=path), broken)
    assert not (tmp_path / "out").exists()


def test_one_clip_that_overflows_is_a_row_of_its_own(evaluate, afew: Path, tmp_path: Path, monkeypatch) -> None:
    original = clips.score_clips

    def one_broken(*arguments: object) -> list[ClipScores]:
        first, *others = original(*arguments)
        return [replace(first, probabilities=np.full(7, np.nan)), *others]

    monkeypatch.setattr(clips, "score_clips", one_broken)
    code, out, _ = evaluate(afew, "--out", tmp_path / "out")
    assert code == DONE
    assert "6 of 7 clips scored, 1 without a prediction" in out
    row = read(tmp_path / "out" / "predictions.csv")[0]
    assert (row["predicted"], row["right"], row["p_Happy"]) == ("", "", "")
    assert row["error"].startswith("the network's probabilities for this clip are not finite")
