"""`fan-fer predict-many`: the rows it writes, kills at any time, processes that die, and every refusal."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from drawn_faces import DrawnFaces

from fan_fer import FrameAttentionNetwork, load_recognizer
from fan_fer.attention.weights import ModelCard, save_weights
from fan_fer.base import workers as base_workers
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError, FanFerError, OutputError, WeightsError
from fan_fer.cli import main as cli
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED, SOME_FAILED
from fan_fer.evaluation.summary import Summary
from fan_fer.many import processes, work
from fan_fer.many.journal import Journal
from fan_fer.many.local import predict_manifest
from fan_fer.many.predict import predict_many
from fan_fer.recognizer import Recognizer

from ..command_process import end_command, start_command, wait_for_workers
from ..drawn_lists import FAILING, VIDEOS, WHITE, draw_list, draw_white, random_weights, read_rows, write_list
from ..fakes import PREPROCESSING, assert_one_error, every_nth, names


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    return draw_list(tmp_path / "videos")


@pytest.fixture
def run(weights: Path, tmp_path: Path):
    def call(listing: Path, out: str = "out.csv", **options: object) -> Summary:
        settings = {"workers": 0, "weights": weights, "detector": DrawnFaces(), **options}
        return predict_many(listing, tmp_path / out, **settings)

    return call


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that are predicted in this process."""
    predicted: list[str] = []
    original = Recognizer.predict

    def predict(self, path, *arguments, **options):
        predicted.append(Path(path).name)
        return original(self, path, *arguments, **options)

    monkeypatch.setattr(Recognizer, "predict", predict)
    return predicted


# The rows


def test_a_row_for_every_row_of_the_list(run, listing: Path, weights: Path, tmp_path: Path, seen) -> None:
    summary = run(listing)
    assert len(seen) == len(set(seen)) == 7  # the repeated one once
    rows, given = read_rows(tmp_path / "out.csv"), read_rows(listing)
    assert list(rows[0]) == [
        *("video", "label", "note", "predicted"),
        *(f"p_{name}" for name in EMOTIONS),
        *("frames", "faces", "heaviest", "warnings", "error"),
    ]
    assert [{name: row[name] for name in ("video", "label", "note")} for row in rows] == given
    recognizer = load_recognizer(weights, detector=DrawnFaces())
    for row in rows:
        if row["video"] in FAILING:
            assert FAILING[row["video"]] in row["error"]
            assert str(tmp_path) not in row["error"]
            assert {row[name] for name in ("predicted", "p_Happy", "frames", "faces", "heaviest", "warnings")} == {""}
            continue
        expected = recognizer.predict(listing.parent / row["video"])
        assert (row["predicted"], row["error"]) == (expected.label, "")
        assert [float(row[f"p_{name}"]) for name in EMOTIONS] == pytest.approx(
            list(expected.probabilities.values()), abs=1e-6
        )
        assert (row["frames"], row["faces"]) == ("4", "4")
        assert [float(t) for t in row["heaviest"].split()] == [round(f.time, 3) for f in expected.heaviest(3)]
    assert rows[0] == {**rows[5], "label": "Happy", "note": rows[0]["note"]}
    assert summary.counts() == {"clips": 8, "scored": 4, "failed": 3, "without_label": 1, "left_out": 0}
    right = sum(row["label"] == row["predicted"] for row in rows if row["label"] and row["predicted"])
    assert summary.scores is not None
    assert summary.scores.accuracy == right / 4


def test_spellings_of_columns_and_labels(run, listing: Path, tmp_path: Path) -> None:
    rows = [("happy.avi", "Happy", ""), ("sad.avi", "SAD\u00a0", ""), ("angry.avi", "sad", "")]
    write_list(listing, rows, "Video,\u200bLabel , Note")
    summary = run(listing)
    assert summary.counts()["scored"] == 3
    assert summary.notes == ('labels "SAD", "sad": taken for one, SAD',)
    assert list(read_rows(tmp_path / "out.csv")[0])[:3] == ["Video", "Label", "Note"]
    with pytest.raises(DataError, match='label map: "joy" and "JOY" are one label, mapped twice'):
        run(listing, "other.csv", label_map={"joy": "Happy", "JOY": "Sad"})


def test_a_network_that_overflows_gives_errors_and_no_labels(run, listing: Path, tmp_path: Path) -> None:
    network = FrameAttentionNetwork()
    torch.nn.init.constant_(network.classifier.weight, 3e38)
    torch.nn.init.constant_(network.classifier.weight[0], -3e38)
    save_weights(tmp_path / "loud.safetensors", network, ModelCard("fan", PREPROCESSING))
    summary = run(listing, weights=tmp_path / "loud.safetensors")
    assert (summary.scores, summary.counts()["failed"]) == (None, 8)
    errors = {row["video"]: row["error"] for row in read_rows(tmp_path / "out.csv") if not row["predicted"]}
    assert len(errors) == 7
    assert all(errors[video].startswith("the network's probabilities for this clip are not") for video in VIDEOS)


def test_processes_make_the_same_table_and_survive_deaths(run, listing: Path, tmp_path: Path) -> None:
    run(listing)
    draw_white(listing.parent / WHITE)
    deadly = write_list(listing.parent / "deadly.csv", [*listed_rows(listing), (WHITE, "", "")])
    died = tmp_path / "died"
    run(deadly, "deaths.csv", workers=2, detector=DrawnFaces(dies=died, deadly=True))
    assert died.exists()
    *rows, last = read_rows(tmp_path / "deaths.csv")
    assert last["error"] == "its process died (SIGKILL), 2 times; perhaps memory ran out"
    for row, expected in zip(rows, read_rows(tmp_path / "out.csv"), strict=True):
        for name in (f"p_{emotion}" for emotion in EMOTIONS):  # the number of threads may show in the last digit
            assert float(row.pop(name) or 0) == pytest.approx(float(expected.pop(name) or 0), abs=1e-5)
        assert row == expected


def listed_rows(listing: Path) -> list[tuple[str, ...]]:
    return [(row["video"], row["label"], f'"{row["note"]}"') for row in read_rows(listing)]


def test_processes_that_keep_dying_end_the_work(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_workers, "DEATHS", 2)
    draw_white(tmp_path / WHITE)
    listing = write_list(tmp_path / "list.csv", [(WHITE,)], "video")
    message = r"^worker processes keep dying \(SIGKILL\), the last one while at work on white.avi; perhaps.*--workers$"
    with pytest.raises(FanFerError, match=message):
        run(listing, workers=1, detector=DrawnFaces(deadly=True))


def test_an_unexpected_fault_is_the_row_of_its_video(run, listing: Path, tmp_path: Path) -> None:
    class Faulty(DrawnFaces):
        calls = 0

        def detect(self, image):
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("once\nonly")
            return super().detect(image)

    run(listing, detector=Faulty())
    assert [row["error"] for row in read_rows(tmp_path / "out.csv")][:2] == ["ZeroDivisionError: once", ""]


def test_weights_that_are_not_the_same_everywhere(weights: Path, listing: Path, tmp_path: Path) -> None:
    local = work.make_work(listing, weights, DrawnFaces(), "cpu")
    other = random_weights(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(WeightsError, match="not the same file for all workers"):
        work.Work(local.folder, str(other), local.fingerprint, DrawnFaces(), "cpu").load()


# Interruptions


def test_interrupted_it_goes_on(run, listing: Path, tmp_path: Path, seen, monkeypatch: pytest.MonkeyPatch) -> None:
    run(listing, "whole.csv")
    del seen[:]
    add = Journal.add

    def interrupt(self: Journal, video: str, result: work.Result) -> None:
        add(self, video, result)
        if len(self.results) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(listing)
    assert not (tmp_path / "out.csv").exists()
    assert len(seen) == 3
    run(listing)
    assert len(seen) == len(set(seen)) == 7
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    run(listing)
    assert len(seen) == 7

    # A list that has grown has its new videos done, and failed ones are done again where that is asked for.
    (listing.parent / "gone.avi").write_bytes((listing.parent / "sad.avi").read_bytes())
    (listing.parent / "new.avi").write_bytes((listing.parent / "sad.avi").read_bytes())
    write_list(listing, [("new.avi", "Sad", ""), *listed_rows(listing)])
    del seen[:]
    run(listing)
    assert seen == ["new.avi"]
    run(listing, retry_failed=True)
    assert seen == ["new.avi", "blank.avi", "dust.avi", "gone.avi"]
    rows = read_rows(tmp_path / "out.csv")
    assert [row["video"] for row in rows if row["error"]] == ["blank.avi", "dust.avi"]
    assert rows[0]["p_Sad"] == next(row["p_Sad"] for row in rows if row["video"] == "gone.avi")


def test_a_torn_last_line_is_done_again(run, listing: Path, tmp_path: Path, seen) -> None:
    run(listing)
    journal = tmp_path / "out.csv.progress"
    table, whole = (tmp_path / "out.csv").read_bytes(), journal.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for kept in (1, len(last) // 2, len(last) - 1):
        journal.write_bytes(whole[: len(whole) - len(last) + kept])
        del seen[:]
        run(listing)
        assert seen == [json.loads(last)["video"]]
        assert (tmp_path / "out.csv").read_bytes() == table
        assert journal.read_bytes() == whole
    header = whole.splitlines(keepends=True)[0]
    for kept in (0, len(header) - 1):
        journal.write_bytes(header[:kept])
        del seen[:]
        run(listing)
        assert len(seen) == 7


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_ends_with_its_workers_and_the_next_goes_on(
    run, listing: Path, weights: Path, tmp_path: Path, seen, end: signal.Signals
) -> None:
    copies = []
    for number in range(40):
        copies.append((f"{number}.avi", "Sad", ""))
        (listing.parent / copies[-1][0]).write_bytes((listing.parent / "sad.avi").read_bytes())
    write_list(listing, copies)
    out = tmp_path / "out.csv"
    options = ["predict-many", str(listing), "--out", str(out), "--weights", str(weights), "--workers", "2"]
    process = start_command(tmp_path, [*options])
    journal, deadline = tmp_path / "out.csv.progress", time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(DataError, match=r"out\.csv\.progress: another process is at work on it"):
        run(listing)
    out_text, err = end_command(process, end)
    if end == signal.SIGINT:
        assert (process.returncode, out_text) == (INTERRUPTED, "")
        assert err == "fan-fer: what is done is kept; the same command goes on\nfan-fer: interrupted\n"
    wait_for_workers(process, deadline)
    assert not out.exists()
    done = {
        json.loads(line)["video"] for line in journal.read_bytes().splitlines(keepends=True)[1:] if line[-1:] == b"\n"
    }
    assert 2 <= len(done) < 40
    del seen[:]
    run(listing)
    assert sorted(seen) == sorted({video for video, _, _ in copies} - done)
    assert [row["video"] for row in read_rows(out)] == [video for video, _, _ in copies]
    assert {row["error"] for row in read_rows(out)} == {""}


# Refusals: nothing is written, nothing is lost


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"precision": "float16", "device": "cpu"}, {"precision": "int3"}])
def test_a_job_that_could_not_begin_binds_no_later_one(run, listing: Path, tmp_path: Path, bad: dict) -> None:
    with pytest.raises(FanFerError):
        run(listing, detector="aligned", **bad)
    assert (tmp_path / "out.csv.progress").exists()
    run(listing)
    with pytest.raises(FanFerError, match=r"made with other settings \(detector "):
        run(listing, detector="aligned")


def test_other_settings_are_refused(run, listing: Path, tmp_path: Path) -> None:
    run(listing)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(
        FanFerError, match=r"made with other settings \(weights \w+ -> \w+\); use those, or another --out"
    ):
        run(listing, weights=random_weights(tmp_path / "other.safetensors", seed=1))
    (tmp_path / "other.safetensors").unlink()
    (tmp_path / "day2").mkdir()
    with pytest.raises(FanFerError, match=r"other settings \(folder videos -> day2\)"):
        run(write_list(tmp_path / "day2" / "list.csv", [("happy.avi",)], "video"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"format": 99}\n', b"[]\n", b'{"format": 1}\nx\n'])
def test_a_foreign_file_is_left_as_it_is(run, listing: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.csv.progress"
    path.write_bytes(content)
    with pytest.raises(
        FanFerError, match=r"out\.csv\.progress: (holds no results of fan-fer|made with other settings)"
    ):
        run(listing)
    assert path.read_bytes() == content


def test_damage_within_is_refused(run, listing: Path, tmp_path: Path) -> None:
    run(listing)
    path = tmp_path / "out.csv.progress"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:10] + b"\n", *lines[2:]]))
    with pytest.raises(DataError, match="or is damaged; delete it"):
        run(listing)


def test_names_that_cannot_be_written_are_refused(run, listing: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in listing.parent.iterdir()}
    for out, message in (
        ("videos", "is no file"),
        ("none/out.csv", "there is no folder"),
        ("videos/list.csv", "is the list, or one of its videos"),
        ("videos/sad.avi", "is the list, or one of its videos"),
    ):
        with pytest.raises(OutputError, match=message):
            run(listing, out)
    assert {path: path.read_bytes() for path in listing.parent.iterdir()} == before


# The command line


@pytest.fixture
def command(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer predict-many` in this process with drawn faces; gives exit code, stdout, stderr."""
    monkeypatch.setattr(work, "load_detector", lambda spec, device=None: DrawnFaces())
    monkeypatch.setattr("fan_fer.recognizer.load_detector", lambda spec, device=None: DrawnFaces())
    here = lambda job, videos, workers, time_limit: processes.predict_here(job, videos)  # noqa: E731
    monkeypatch.setattr(processes, "predict_in_processes", here)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["predict-many", "--weights", str(weights), *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_report_with_labels(command, listing: Path, tmp_path: Path) -> None:
    write_list(listing, [(name,) for name in VIDEOS], "video")
    command(listing, "--out", tmp_path / "first.csv")
    labels = [row["predicted"] for row in read_rows(tmp_path / "first.csv")]
    wrong = next(name for name in EMOTIONS if name != labels[3])
    rows = list(zip(VIDEOS, [*labels[:3], wrong], strict=True))
    write_list(listing, [*rows, ("blank.avi", wrong), ("gone.avi", "")], "video,label")
    code, out, err = command(listing, "--out", tmp_path / "out.csv", "--workers", 2)
    assert (code, err) == (SOME_FAILED, "")
    # Wilson's interval of 3 of 4.
    assert re.search(r"^accuracy \(WAR\) +75\.0% +30\.1 to 95\.4 +Wilson, 95 % *$", out, re.M)
    assert "mean recall (UAR)" in out
    confusion = out[out.index("what they were taken for") :]
    for name in EMOTIONS:
        counts = Counter(p for p, (_, label) in zip(labels, rows, strict=True) if label == name)
        cells = re.search(rf"^{name} +(.+)$", confusion, re.M)
        assert cells is not None
        assert cells[1].split() == [str(counts[p]) if counts[p] else "." for p in EMOTIONS]
    assert "  blank.avi: no face found in any of the 2 frames" in out
    assert "out.csv: 6 rows, 2 of them with an error" in out


def test_report_without_labels_and_exit_codes(command, listing: Path, tmp_path: Path) -> None:
    write_list(listing, [(name,) for name in VIDEOS], "video")
    code, out, err = command(listing, "--out", tmp_path / "a.csv")
    assert (code, err) == (DONE, "")
    predicted = [row["predicted"] for row in read_rows(tmp_path / "a.csv")]
    for name in EMOTIONS:
        assert re.search(rf"^{name} +{predicted.count(name)} +{predicted.count(name) / 4:.1%}$", out, re.M), name
    assert "accuracy" not in out
    write_list(listing, [(name,) for name in FAILING], "video")
    assert command(listing, "--out", tmp_path / "b.csv")[0] == BAD_INPUT
    assert len(read_rows(tmp_path / "b.csv")) == 3


def test_it_abstains_without_doing_anything_again(command, listing: Path, tmp_path: Path) -> None:
    write_list(listing, [(name,) for name in VIDEOS], "video")
    command(listing, "--out", tmp_path / "out.csv")
    whole, journal = read_rows(tmp_path / "out.csv"), (tmp_path / "out.csv.progress").read_bytes()
    code, out, err = command(listing, "--out", tmp_path / "out.csv", "--abstain", 1)
    assert (code, err) == (DONE, "")
    assert re.search(r"^not sure +4 +100\.0%$", out, re.M)
    assert read_rows(tmp_path / "out.csv") == [row | {"predicted": ""} for row in whole]
    assert (tmp_path / "out.csv.progress").read_bytes() == journal
    command(listing, "--out", tmp_path / "out.csv", "--abstain", 0)
    assert read_rows(tmp_path / "out.csv") == whole


def test_results_as_parquet(command, listing: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    write_list(listing, [(name, label) for name, label in VIDEOS.items()] + [("gone.avi", "")], "video,label")
    for name in ("a.csv", "a.parquet"):
        assert command(listing, "--out", tmp_path / name)[0] == SOME_FAILED
    table = parquet.read_table(tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.csv")
    assert [{name: "" if v is None else str(v) for name, v in row.items()} for row in table.to_pylist()] == rows
    assert {str(table.schema.field(name).type) for name in ("frames", "faces")} == {"int64"}
    assert {str(table.schema.field(f"p_{name}").type) for name in EMOTIONS} == {"double"}
    about = json.loads(table.schema.metadata[b"fan_fer"])
    assert (about["schema_version"], about["abstain"], about["backbone"]) == (1, None, "resnet18")
    (tmp_path / "a.parquet").unlink()
    assert command(listing, "--out", tmp_path / "a.parquet")[0] == SOME_FAILED
    assert parquet.read_table(tmp_path / "a.parquet").equals(table)


def test_results_for_pandas(run, listing: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    frames = run(listing).to_pandas()
    rows = read_rows(tmp_path / "out.csv")
    assert list(frames["video"]) == [row["video"] for row in rows]
    assert list(frames["predicted"].fillna("")) == [row["predicted"] for row in rows]
    assert ["" if math.isnan(value) else f"{value:.0f}" for value in frames["faces"]] == [row["faces"] for row in rows]


def test_label_map(command, listing: Path, tmp_path: Path) -> None:
    write_list(listing, [("happy.avi", "joy", ""), ("sad.avi", "bored", "")])
    where = (listing, "--out", tmp_path / "a.csv")
    assert_one_error(command(*where), 'the model has no class "joy", "bored"; .* --label-map says which class')
    assert names(tmp_path) == ["videos"]
    code, out, _ = command(*where, "--label-map", "joy=Happy,bored=-")
    assert code == DONE
    assert "1 of 2 clips scored, 1 left out by the label map" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("LIST", "--out", "OUT", "--workers", "0"), "--workers 0: at least 1 is wanted"),
        (("LIST", "--out", "OUT", "--time-limit", "0"), "time limit 0: seconds above 0 are wanted"),
        (("LIST", "--out", "OUT", "--time-limit", "nan"), "time limit nan: seconds above 0 are wanted"),
        (("LIST", "--out", "OUT", "--abstain", "-1"), "--abstain -1: a probability, 0 to 1, is wanted"),
        (("none.csv", "--out", "OUT"), r"none\.csv: cannot be read \(No such file"),
        (("LIST", "--out", "OUT", "--weights", "none"), "none: cannot be read"),
        (("LIST", "--out", "OUT", "--device", "tpu"), 'device "tpu": unknown'),
    ],
)
def test_arguments_that_cannot_be(command, listing: Path, tmp_path: Path, arguments, message: str) -> None:
    places = {"LIST": listing, "OUT": tmp_path / "out.csv"}
    assert_one_error(command(*(places.get(word, word) for word in arguments)), message)
    assert names(tmp_path) == ["videos"]


def test_predict_with_a_manifest_is_predict_many(
    command, weights: Path, listing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--weights", weights, "--out", tmp_path / "a.csv"]
    assert cli.main([*map(str, words), "--manifest", str(listing)]) == SOME_FAILED
    assert cli.main([*map(str, words), f"--manifest={listing}"]) == SOME_FAILED
    assert names(tmp_path) == ["a.csv", "a.csv.progress", "videos"]
    predict_manifest(manifest=listing, out=tmp_path / "b.csv", workers=0, weights=weights, detector=DrawnFaces())
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    capsys.readouterr()
    for more in (["clip.mp4"], ["--json", "a.json"], ["--faces", "all"]):
        with pytest.raises(SystemExit) as end:
            cli.main([*map(str, words), *more, "--manifest", str(listing)])
        assert end.value.code == BAD_INPUT
        assert capsys.readouterr().err.splitlines()[-1].startswith("fan-fer: error: unrecognized arguments: ")


def test_columns_that_the_results_have_too(command, listing: Path, tmp_path: Path) -> None:
    write_list(listing, [("sad.avi", "x")], "video,predicted")
    result = command(listing, "--out", tmp_path / "out.csv")
    assert_one_error(result, r"list\.csv: has the column predicted, which the results have too")
    write_list(listing, [("sad.avi", "x")], "file,label")
    result = command(listing, "--out", tmp_path / "out.csv")
    assert_one_error(result, r"list\.csv: line 1 has no column video")
    assert names(tmp_path) == ["videos"]


def test_without_ray_one_line_says_how_to_get_it(
    command, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = command(listing, "--out", tmp_path / "out.csv", "--ray", "local")
    assert_one_error(result, r"a Ray cluster needs ray: pip install 'fan_ext\[ray\]'")


def test_real_clips_through_the_real_command(clips: Path, tmp_path: Path) -> None:
    every_nth(clips / "single_face.mp4", tmp_path / "face.avi", 12)
    listing = write_list(tmp_path / "list.csv", [("face.avi",), ("gone.mp4",)], "video")
    command = [
        Path(sys.executable).with_name("fan-fer"),
        "predict-many",
        listing,
        "--out",
        tmp_path / "out.csv",
    ]
    process = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (SOME_FAILED, "")
    face, gone = read_rows(tmp_path / "out.csv")
    assert face["predicted"] in EMOTIONS
    assert int(face["faces"]) > 0
    assert gone["error"] == "no such file"
