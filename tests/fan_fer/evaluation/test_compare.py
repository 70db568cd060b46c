"""`fan-fer compare` on generated clips of which it is known what was done to them."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_faces import EXPRESSIONS, DrawnFaces, draw_face
from matplotlib.figure import Figure

from fan_fer import FrameAttentionNetwork, recognizer
from fan_fer.attention.weights import ModelCard, save_weights
from fan_fer.base.emotions import EMOTIONS
from fan_fer.cli.main import main
from fan_fer.cli.outcome import DONE, INTERRUPTED, SOME_FAILED
from fan_fer.evaluation import comparison_picture, readings

from ..drawn_sets import write_pictures
from ..fakes import PREPROCESSING, assert_one_error, names

FRAMES, PEOPLE = 8, 2
FILES = ["pairs.csv", "report.json", "report.md", "report.png"]
Pictures = list[np.ndarray]


def expression(emotion: str, person: int) -> Pictures:
    """From half the expression to all of it, and the head moves."""
    return [draw_face(emotion, 0.5 + 0.5 * k / (FRAMES - 1), person, shift=(k - 4, 0)) for k in range(FRAMES)]


def shuffled(pictures: Pictures) -> Pictures:
    return [pictures[k] for k in np.random.default_rng(0).permutation(len(pictures))]


def blurred(pictures: Pictures) -> Pictures:
    return [cv2.GaussianBlur(picture, (0, 0), 2.5) for picture in pictures]


def fit(path: Path, folder: Path) -> None:
    """Random weights, and a classifier of their features that is right for all clips of the folder."""
    torch.manual_seed(0)
    network = FrameAttentionNetwork("score-fusion", len(EMOTIONS))
    card = ModelCard("score-fusion", PREPROCESSING, classes=EMOTIONS, trained_on="x", license="MIT")
    reader = recognizer.Recognizer(network, card, weights_file=path, detector=DrawnFaces())
    clips = sorted(folder.glob("*.avi"))
    features = np.stack([reader.features(clip).embeddings.mean(0) for clip in clips]).astype(np.float64)
    target = np.stack([np.where(np.array(EMOTIONS) == clip.stem.partition("-")[0], 6.0, 0.0) for clip in clips])
    mean = features.mean(0)
    weight = np.linalg.lstsq(features - mean, target - target.mean(0), rcond=1e-6)[0].T
    with torch.no_grad():
        network.classifier.weight.copy_(torch.from_numpy(weight))
        network.classifier.bias.copy_(torch.from_numpy(target.mean(0) - weight @ mean))
    save_weights(path, network, card)


class Set:
    """Real clips of each emotion, and what several generators made of them; a network that knows the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.weights = folder, folder / "network.safetensors"
        (folder / "real").mkdir()
        made: dict[str, Callable[[str, int], Pictures]] = {
            "blurred": lambda emotion, person: blurred(expression(emotion, person)),
            "shuffled": lambda emotion, person: shuffled(expression(emotion, person)),
            "other": lambda emotion, person: expression(EMOTIONS[(EMOTIONS.index(emotion) + 3) % 7], person),
        }
        rows = {"real": ["video,label,level"], "made": ["video,generator"]}
        for name in ("same", *made):
            (folder / "made" / name).mkdir(parents=True)
        for emotion in EMOTIONS:
            for person in range(PEOPLE):
                clip = f"{emotion}-{person}.avi"
                write_pictures(folder / "real" / clip, expression(emotion, person))
                shutil.copy(folder / "real" / clip, folder / "made" / "same" / clip)
                for name, make in made.items():
                    write_pictures(folder / "made" / name / clip, make(emotion, person))
                rows["real"].append(f"real/{clip},{emotion},{person}")
                rows["made"] += [f"made/{name}/{clip},{name}" for name in ("same", *made)]
        for name, lines in rows.items():
            (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        fit(self.weights, folder / "real")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return Set(tmp_path_factory.mktemp("compare"))


@pytest.fixture
def compare(drawn: Set, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer compare` in this process; gives exit code, stdout, stderr."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: DrawnFaces())

    def run(*arguments: object, weights: Path = drawn.weights) -> tuple[int, str, str]:
        code = main(["compare", *map(str, arguments), "--weights", str(weights)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def report(drawn: Set, compare, tmp_path: Path):
    """The JSON of a comparison that went well."""

    def run(*arguments: object, code: int = DONE) -> dict:
        got, _, err = compare(*arguments, "--out", tmp_path / "out")
        assert (got, err) == (code, "")
        return json.loads((tmp_path / "out" / "report.json").read_text())

    return run


@pytest.fixture(scope="module")
def all_of_it(drawn: Set, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The report of all generators."""
    out = tmp_path_factory.mktemp("report") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recognizer, "load_detector", lambda spec, device=None: DrawnFaces())
        patch.setattr("fan_fer.cli.options.WORKERS", 0)
        files = drawn.folder / "real.csv", drawn.folder / "made.csv"
        assert main(["compare", *map(str, files), "--weights", str(drawn.weights), "--out", str(out)]) == DONE
    return out, json.loads((out / "report.json").read_text())


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Known truth


def value(group: dict, name: str) -> float:
    return group[name]["value"]


def test_clips_beside_themselves(all_of_it) -> None:
    same = all_of_it[1]["groups"]["generator"]["same"]
    assert (value(same, "features"), value(same, "probabilities")) == (0, 0)
    assert value(same, "accuracy") == value(same, "real_accuracy") == value(same, "agreement") == 1
    assert same["accuracy_difference"] == {"value": 0, "interval": [0, 0]}
    fid = same["emo_fid"]
    assert fid["value"] < 1e-9
    assert fid["halves"] == pytest.approx(fid["floor"], rel=1e-9)
    assert fid["floor"] > 1e-3
    assert (same["compared"], same["points"], value(same, "longer")) == (14 * FRAMES, 14 * FRAMES, 1)


def test_shuffled_clips_are_the_same_but_for_time(all_of_it) -> None:
    groups = all_of_it[1]["groups"]["generator"]
    fid = groups["shuffled"]["emo_fid"]
    assert value(groups["shuffled"], "accuracy") == value(groups["shuffled"], "agreement") == 1
    assert fid["value"] < 1e-3 * fid["floor"]
    assert value(groups["shuffled"], "features") > 0.02 * value(groups["shuffled"], "unrelated_features")


def test_blurred_clips_have_other_features(all_of_it) -> None:
    groups = all_of_it[1]["groups"]["generator"]
    assert value(groups["blurred"], "features") > 0.5 * value(groups["blurred"], "unrelated_features")
    assert groups["blurred"]["emo_fid"]["value"] > 100 * groups["shuffled"]["emo_fid"]["value"]
    assert groups["blurred"]["emo_fid"]["halves"] > 1.2 * groups["blurred"]["emo_fid"]["floor"]
    assert value(groups["blurred"], "accuracy") < 0.8


def test_clips_of_another_emotion_are_wrong_and_no_frechet_distance_tells(all_of_it) -> None:
    other = all_of_it[1]["groups"]["generator"]["other"]
    assert (value(other, "accuracy"), value(other, "agreement"), value(other, "real_accuracy")) == (0, 0, 1)
    assert other["accuracy_difference"] == {"value": -1, "interval": [-1, -1]}
    assert value(other, "probabilities") > 0.8
    assert value(other, "features") > 0.2 * value(other, "unrelated_features")
    assert other["emo_fid"]["value"] < 1e-9  # the same clips, each in another's place


def test_generators_side_by_side(all_of_it) -> None:
    between = {(one["first"], one["second"]): one for one in all_of_it[1]["between"]}
    assert len(between) == 6
    one = between["same", "other"]
    assert one["real_clips"] == 14
    assert one["accuracy"] == {"value": 1, "interval": [1, 1]}
    assert one["probabilities"]["value"] < -0.8
    assert between["same", "shuffled"]["accuracy"]["value"] == 0


def test_groups_add_up(all_of_it) -> None:
    found = all_of_it[1]
    overall = found["overall"]
    assert (overall["pairs"], overall["real_clips"], overall["scored"]) == (56, 14, 56)
    assert sorted(found["groups"]) == ["emotion", "generator"]
    for groups in found["groups"].values():
        assert sum(group["pairs"] for group in groups.values()) == 56
        mean = np.average(
            [value(g, "accuracy") for g in groups.values()], weights=[g["pairs"] for g in groups.values()]
        )
        assert mean == pytest.approx(value(overall, "accuracy"))
    # Clips of the same real one move together: the interval is not that of 56 clips on their own.
    low, high = overall["accuracy"]["interval"]
    assert low <= value(overall, "accuracy") <= high


# What is written


def test_the_folder(all_of_it, drawn: Set) -> None:
    out, found = all_of_it
    assert names(out) == ["cache", *FILES]
    rows = read(out / "pairs.csv")
    assert len(rows) == 56
    assert [row["right"] for row in rows].count("1") / 56 == pytest.approx(value(found["overall"], "accuracy"))
    assert {row["level"] for row in rows} == {"0", "1"}
    row = next(row for row in rows if row["generated"] == "made/other/Sad-1.avi")
    assert (row["real"], row["generator"], row["class"], row["right"]) == ("real/Sad-1.avi", "other", "Sad", "0")
    assert sum(float(row[f"p_{name}"]) for name in EMOTIONS) == pytest.approx(1, abs=1e-5)
    assert (row["frames"], row["real_frames"], row["compared"]) == ("8", "8", "8")
    assert cv2.imread(str(out / "report.png")).shape[1] == 1920
    text = (out / "report.md").read_text()
    assert "made.csv beside " in text
    assert "56 pairs of 14 real clips, by name." in text
    assert "![Scores and distances](report.png)" in text
    assert found["model"]["sha256"] in text


def test_it_says_what_it_was_made_with(all_of_it, drawn: Set) -> None:
    found = all_of_it[1]
    assert found["schema_version"] == 1
    assert len(found["model"]["sha256"]) == 64
    assert found["model"]["classes"] == list(EMOTIONS)
    assert found["detector"] == "drawn"
    assert sorted(found["versions"]) == ["av", "fan_ext", "numpy", "opencv", "python", "torch"]
    assert found["versions"]["torch"] == torch.__version__
    assert found["settings"]["seed"] == 0


def test_the_same_command_gives_the_same_files_and_reads_nothing_twice(
    all_of_it, drawn: Set, compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = shutil.copytree(all_of_it[0], tmp_path / "out")
    monkeypatch.setattr(recognizer.Recognizer, "features", lambda *_: pytest.fail("a clip is read again"))
    for name in FILES:
        (out / name).unlink()
    code, text, _ = compare(drawn.folder / "real.csv", drawn.folder / "made.csv", "--out", out)
    assert code == DONE
    assert "cache/ may be deleted" in text
    for name in FILES:
        assert (out / name).read_bytes() == (all_of_it[0] / name).read_bytes(), name


# What is not there


def test_folders_have_no_labels_and_agreement_stays(drawn: Set, compare, monkeypatch, tmp_path: Path) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(comparison_picture, "save_figure", lambda path, figure: figures.append(figure))
    code, text, err = compare(drawn.folder / "real", drawn.folder / "made", "--out", tmp_path / "out")
    assert (code, err) == (DONE, "")
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["overall"]["accuracy"] is None
    assert found["overall"]["scored"] == 0
    assert sorted(found["groups"]) == ["generator"]
    agreement = {name: value(group, "agreement") for name, group in found["groups"]["generator"].items()}
    assert (agreement["same"], agreement["other"]) == (1, 0)
    assert "No pair has a label: what is right is not known" in text
    told = [line.get_text() for line in figures[0].axes[0].get_legend().get_texts()]
    assert told == ["generated clips, as the real clip"]  # nothing of what is not known


def test_clips_that_fail_count_as_wrong_and_are_named(drawn: Set, report, monkeypatch, tmp_path: Path) -> None:
    drawn_texts: list[str] = []
    monkeypatch.setattr(
        comparison_picture, "save_figure", lambda path, figure: drawn_texts.extend(x.get_text() for x in figure.texts)
    )
    folder = tmp_path / "set"
    shutil.copytree(drawn.folder / "real", folder / "real")
    shutil.copytree(drawn.folder / "made" / "same", folder / "made")
    write_pictures(folder / "made" / "Sad-0.avi", [np.full((80, 96, 3), 40, np.uint8)] * 2)
    (folder / "made" / "Happy-0.avi").write_bytes(b"dust")
    (folder / "real" / "Fear-1.avi").unlink()
    for name in ("real", "made"):
        files = [f"{emotion}-{person}.avi" for emotion in EMOTIONS for person in range(PEOPLE)]
        lines = [f"{name}/{file},{file.partition('-')[0]}" for file in files]
        (folder / f"{name}.csv").write_text("video,label\n" + "\n".join(lines) + f"\n{name}/{name}.avi,Sad\n")
    found = report(folder / "real.csv", folder / "made.csv", code=SOME_FAILED)
    overall = found["overall"]
    assert (overall["pairs"], overall["read"], overall["failed_real"], overall["failed_generated"]) == (14, 11, 1, 2)
    assert value(overall, "accuracy") == pytest.approx(12 / 14)
    assert value(overall, "real_accuracy") == pytest.approx(13 / 14)
    assert value(overall, "agreement") == pytest.approx(11 / 13)
    assert value(overall, "read_accuracy") == value(overall, "read_agreement") == 1
    failed = {(one["side"], one["video"]): one["error"] for one in found["failed"]}
    assert sorted(failed) == [
        ("generated", "made/Happy-0.avi"),
        ("generated", "made/Sad-0.avi"),
        ("real", "real/Fear-1.avi"),
    ]
    assert "no face found" in failed["generated", "made/Sad-0.avi"]
    assert "no such file" in failed["real", "real/Fear-1.avi"]
    unpaired = [(one["side"], one["video"], one["reason"]) for one in found["unpaired"]]
    assert unpaired == [
        ("real", "real/real.avi", "no generated clip of that name"),
        ("generated", "made/made.avi", "no real clip of that name"),
    ]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "1 real without a pair, 1 generated without a pair, 1 real failed, 2 generated failed" in text
    assert "## Generated clips that failed: 2" in text
    assert any("; 1 real failed; 2 generated failed" in line for line in drawn_texts)
    assert "Of the 11 pairs whose clips were both read: right 100.0" in text
    rows = {row["generated"]: row for row in read(tmp_path / "out" / "pairs.csv")}
    assert (rows["made/Sad-0.avi"]["right"], rows["made/Sad-0.avi"]["agrees"]) == ("0", "0")
    assert (rows["made/Fear-1.avi"]["agrees"], rows["made/Fear-1.avi"]["real_right"]) == ("", "0")


def test_labels_of_either_side_and_the_map(drawn: Set, report, tmp_path: Path) -> None:
    real, made = tmp_path / "real.csv", tmp_path / "made.csv"
    shown = drawn.folder / "real"
    real.write_text(f"video,label\n{shown}/Sad-0.avi,\n{shown}/Happy-0.avi,joy\n{shown}/Fear-0.avi,contempt\n")
    made.write_text(
        f"video,label,Intensity,subject\n{shown}/Sad-0.avi,sadness,Strong,p1\n{shown}/Happy-0.avi,,strong,P01\n"
        f"{shown}/Fear-0.avi,,weak,2\n"
    )
    found = report(real, made, "--label-map", "joy=Happy,sadness=Sad,contempt=-", "--by", "subject")
    assert (found["overall"]["scored"], value(found["overall"], "accuracy")) == (2, 1)
    assert {name: group["pairs"] for name, group in found["groups"]["intensity"].items()} == {"Strong": 2, "weak": 1}
    assert {name: group["pairs"] for name, group in found["groups"]["subject"].items()} == {"p1": 2, "2": 1}
    assert sorted(found["groups"]["emotion"]) == ["Happy", "Sad"]
    assert 'values of intensity "Strong", "strong": taken for one, Strong' in found["notes"]
    assert found["overall"]["emo_fid"] is None


def test_a_clip_that_is_to_show_something_else_than_the_real_one(drawn: Set, report, tmp_path: Path) -> None:
    shown = drawn.folder / "real"
    (tmp_path / "real.csv").write_text(f"video,label,k\n{shown}/Sad-0.avi,Sad,1\n{shown}/Fear-0.avi,Sad,2\n")
    (tmp_path / "made.csv").write_text(f"video,label,k\n{shown}/Happy-0.avi,Happy,1\n{shown}/Fear-0.avi,Fear,2\n")
    found = report(tmp_path / "real.csv", tmp_path / "made.csv", "--pair", "k")["overall"]
    assert (value(found, "accuracy"), value(found, "real_accuracy"), value(found, "agreement")) == (1, 0.5, 0.5)
    assert found["mean_recall_difference"] is None


def test_names_of_any_kind(drawn: Set, compare, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 |*_[x]\n.avi")
    for side in ("real", "made|"):
        (tmp_path / side).mkdir()
        shutil.copy(drawn.folder / "real" / "Sad-0.avi", tmp_path / side / odd)
    (tmp_path / "made|" / "dust.avi").write_bytes(b"dust")
    (tmp_path / "real" / "dust.avi").write_bytes(b"dust")
    code, text, err = compare(tmp_path / "real", tmp_path / "made|", "--out", tmp_path / "out")
    assert (code, err) == (SOME_FAILED, "")
    assert "made\\| beside " in text
    assert "2 pairs of 2 real clips" in text
    assert names(tmp_path / "out") == ["cache", *FILES]


def test_spellings_of_generators_are_one(drawn: Set, report, tmp_path: Path) -> None:
    lines = [f"{drawn.folder}/made/same/{name},{maker}" for name, maker in (("Sad-0.avi", "A"), ("Fear-0.avi", "a "))]
    (tmp_path / "made.csv").write_text("\n".join(["video,generator", *lines]))
    found = report(drawn.folder / "real.csv", tmp_path / "made.csv")
    assert (found["between"], found["notes"]) == ([], ['generators "A", "a": taken for one, A'])
    assert len(found["unpaired"]) == 12


# Kinds of clips


def test_folders_of_frames_clips_of_one_frame_and_other_rates(drawn: Set, report, tmp_path: Path) -> None:
    for emotion in ("Sad", "Happy"):
        pictures = expression(emotion, 0)
        for side, chosen in (("real", pictures), ("made", pictures[::2])):
            (tmp_path / side / emotion).mkdir(parents=True)
            for k, picture in enumerate(chosen):
                cv2.imwrite(str(tmp_path / side / emotion / f"{k}.png"), picture[..., ::-1])
        (tmp_path / side / f"{emotion}-one").mkdir()
        for side in ("real", "made"):
            (tmp_path / side / f"{emotion}-one").mkdir(exist_ok=True)
            shutil.copy(tmp_path / side / emotion / "0.png", tmp_path / side / f"{emotion}-one")
    found = report(tmp_path / "real", tmp_path / "made")
    assert (found["overall"]["pairs"], found["overall"]["points"]) == (4, 10)
    rows = {row["generated"]: row for row in read(tmp_path / "out" / "pairs.csv")}
    assert (rows["Sad"]["real_frames"], rows["Sad"]["frames"], rows["Sad"]["points"]) == ("8", "4", "4")
    assert (rows["Sad-one"]["points"], rows["Sad-one"]["features"], rows["Sad-one"]["seconds"]) == ("1", "0.0", "0.0")
    # The same in a list whose cells name folders, and pictures.
    for side in ("real", "made"):
        (tmp_path / f"{side}.csv").write_text(f"video,label\n{side}/Sad,Sad\n{side}/Happy/0.png,Happy\n")
    found = report(tmp_path / "real.csv", tmp_path / "made.csv")
    assert (found["overall"]["pairs"], value(found["overall"], "agreement")) == (2, 1)


def test_aligned_faces_are_not_looked_for(drawn: Set, monkeypatch, capsys, tmp_path: Path) -> None:
    """Frames that are what the detector would have cut out read the same."""
    monkeypatch.setattr(DrawnFaces, "detect", lambda *_: pytest.fail("a face is looked for"))
    out = tmp_path / "out"
    arguments = [drawn.folder / "real", drawn.folder / "real", "--aligned", "--weights", drawn.weights, "--out", out]
    assert main(["compare", *map(str, arguments)]) == DONE
    found = json.loads((out / "report.json").read_text())
    assert (found["detector"], value(found["overall"], "features")) == ("aligned", 0)
    assert found["settings"]["sampling"] == "every frame that can be decoded, each of them a face as a whole"
    assert found["overall"]["compared"] == found["overall"]["points"] == 14 * FRAMES


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of the published code, with the eight classes of MEAD."""
    torch.manual_seed(0)
    state = FrameAttentionNetwork("fan", 8).state_dict()
    renamed = {f"module.{n.removeprefix('backbone.')}": v for n, v in state.items() if n.startswith("backbone.")}
    for level, part in (("alpha", "self"), ("beta", "relation")):
        renamed[f"module.{level}.0.weight"] = state[f"attention.{part}_weight"][None]
        renamed[f"module.{level}.0.bias"] = state[f"attention.{part}_bias"]
    renamed |= {f"module.pred_fc2.{part}": state[f"classifier.{part}"] for part in ("weight", "bias")}
    path = tmp_path_factory.mktemp("published") / "mead.pth.tar"
    torch.save({"state_dict": renamed}, path)
    return path


def test_checkpoints_tuned_on_mead(drawn: Set, compare, tuned: Path, tmp_path: Path) -> None:
    sides = [tmp_path / name for name in ("real.csv", "made.csv")]
    for side in sides:
        lines = [f"{drawn.folder}/real/{name}-0.avi,{name.lower()}" for name in EXPRESSIONS if name in EMOTIONS]
        side.write_text("\n".join(["video,label", *lines, f"{drawn.folder}/real/Sad-1.avi,contempt"]) + "\n")
    assert_one_error(compare(*sides, weights=tuned), r"does not say which classes it has; --classes ckplus, afew, mead")
    code, _, err = compare(*sides, "--classes", "MEAD", "--out", tmp_path / "out", weights=tuned)
    assert code == DONE
    assert "its outputs are taken for Happy, Angry, Disgust, Fear, Sad, Neutral, Surprise, Contempt\n" in err
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["model"]["classes"][-1] == "Contempt"
    assert found["groups"]["emotion"]["Contempt"]["pairs"] == 1
    # A network that does not know it leaves it out where the map says so.
    assert_one_error(compare(*sides), r'the model has no class "contempt"')
    assert compare(*sides, "--label-map", "contempt=-")[0] == DONE


# Refusals and interruptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "colour"], r"--by colour: there is no such column; there are video, generator, label, level"),
        (["--pair", "take"], r"--pair take: .*real\.csv has no such column"),
        (["--label-map", "joy=Glad"], r'label map: "Glad": no class of the model'),
        (["--classes", "mead"], r"--classes is for published checkpoints"),
        (["--workers", "0"], r"--workers 0: at least 1 is wanted"),
        (["--time-limit", "0"], r"time limit 0: seconds above 0 are wanted"),
        (["--device", "cuda:99"], r'device "cuda:99"'),
    ],
)
def test_refusals(drawn: Set, compare, monkeypatch, tmp_path: Path, options: list[str], message: str) -> None:
    monkeypatch.setattr(recognizer.Recognizer, "features", lambda *_: pytest.fail("the work has begun"))
    files = drawn.folder / "real.csv", drawn.folder / "made.csv"
    assert_one_error(compare(*files, *options, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_nothing_that_can_be_compared(drawn: Set, compare, tmp_path: Path) -> None:
    real = drawn.folder / "real"
    assert_one_error(compare(real, tmp_path / "none.csv"), r"none\.csv: cannot be read")
    for name in ("real", "made"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Sad-0.avi").write_bytes(b"dust")
    (tmp_path / "file").touch()
    assert_one_error(compare(real, tmp_path / "made", "--out", tmp_path / "file"), r"file: .*/file is no folder")
    message = r"none of the 1 generated clips could be read; the first, Sad-0\.avi: .*not a video"
    assert_one_error(compare(real, tmp_path / "made", "--out", tmp_path / "out"), message)
    assert names(tmp_path / "out") == ["cache"]  # of the real clip


def test_what_was_read_before_an_interruption_is_kept(drawn: Set, compare, monkeypatch, tmp_path: Path) -> None:
    original, seen = recognizer.Recognizer.features, []

    def interrupted(self, path: Path, *rest: object) -> object:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(path)
        return original(self, path, *rest)

    files = drawn.folder / "real", drawn.folder / "made" / "same"
    monkeypatch.setattr(recognizer.Recognizer, "features", interrupted)
    code, out, err = compare(*files, "--out", tmp_path / "out")
    assert (code, out) == (INTERRUPTED, "")
    assert err == "fan-fer: what is read is kept; the same command goes on\nfan-fer: interrupted\n"
    assert len(names(tmp_path / "out" / "cache")) == 3
    again = []
    monkeypatch.setattr(
        recognizer.Recognizer, "features", lambda self, path, *rest: again.append(path) or original(self, path, *rest)
    )
    assert compare(*files, "--out", tmp_path / "out")[0] == DONE
    assert len(again) == 2 * 14 - 3
    assert not set(seen) & set(again)


def test_a_reading_is_that_of_the_clip_and_the_network(drawn: Set, compare, tmp_path: Path) -> None:
    """What changes either is read anew; a damaged file is as none."""
    shutil.copytree(drawn.folder / "real", tmp_path / "real")
    arguments = tmp_path / "real", drawn.folder / "made" / "same", "--out", tmp_path / "out"
    assert compare(*arguments)[0] == DONE
    cache = tmp_path / "out" / "cache"
    first = set(names(cache))
    (cache / min(first)).write_bytes(b"dust")
    assert readings._load(cache / min(first)) is None
    assert compare(*arguments)[0] == DONE
    assert set(names(cache)) == first
    assert readings._load(cache / min(first)) is not None
    clip = tmp_path / "real" / "Sad-0.avi"
    os.utime(clip, ns=(0, 0))
    assert compare(*arguments)[0] == DONE
    assert len(set(names(cache)) - first) == 1
    assert compare(*arguments, "--aligned")[0] == DONE
    assert len(names(cache)) == 2 * len(first) + 1


# Real faces


def test_a_real_clip_beside_itself_and_blurred(clips: Path, tmp_path: Path) -> None:
    for name in ("real", "made/same", "made/blurred"):
        (tmp_path / name).mkdir(parents=True)
    pictures = [frame.image for frame in recognizer.open_clip(clips / "single_face.mp4")][:12]
    for k, picture in enumerate(pictures):
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for name, shown in (("real", picture), ("made/same", picture), ("made/blurred", blurred([picture])[0])):
            (tmp_path / name / "face").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / "face" / f"{k:02d}.png"), shown[..., ::-1])
    code = main(["compare", str(tmp_path / "real"), str(tmp_path / "made"), "--out", str(tmp_path / "out")])
    assert code == DONE
    found = json.loads((tmp_path / "out" / "report.json").read_text())["groups"]["generator"]
    assert (value(found["same"], "features"), value(found["same"], "agreement")) == (0, 1)
    assert value(found["blurred"], "features") > 0.02
