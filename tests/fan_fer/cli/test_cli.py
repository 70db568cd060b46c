"""The command line: what it writes and prints, and for everything that goes wrong one line and the right exit code."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import cv2
import jsonschema
import pytest
import torch
from drawn_faces import DrawnFaces
from safetensors import safe_open
from safetensors.torch import save_file

from fan_fer import recognizer
from fan_fer.cli import options as cli_options
from fan_fer.cli import predict as predicting
from fan_fer.cli.clip_work import ClipResult, ClipTask
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, BROKEN_PIPE, DONE, INTERRUPTED, SOME_FAILED
from fan_fer.features.embedding import Embedder
from fan_fer.video.frame import Clip

from ..drawn_lists import draw_list, random_weights, write_list
from ..drawn_sets import prepared_afew
from ..fakes import SquareDetector, assert_one_error, every_nth, names, picture, turn, write_video

FACE = [(10, 10, 30)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [[(10 + i, 10, 30)] for i in range(4)] + [[]])


@pytest.fixture
def predict(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer predict` in this process, red squares being faces; gives exit code, stdout, stderr."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def run(*arguments: object) -> tuple[int, str, str]:
        options = [] if "--weights" in arguments else ["--weights", str(weights)]
        code = main(["predict", *map(str, arguments), *options])
        out, err = capsys.readouterr()
        return code, out, err

    return run


# Good input


def test_report(predict, clip: Path) -> None:
    code, out, err = predict(clip)
    assert (code, err) == (DONE, "")
    for name in ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
        assert re.search(rf"^{name} +\d+\.\d%", out, re.M), name
    assert "5 frames decoded, 4 with a face" in out
    assert "frames per second" in out
    rows = re.findall(r"^ +(\d+) +(\d\.\d\d) s +(\d+\.\d+)% +\d\.\d\d +([A-Z][a-z]+) \d+\.\d%", out, re.M)
    assert len(rows) == 4
    shares = [float(row[2]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.05)


def test_all_outputs(predict, clip: Path, tmp_path: Path) -> None:
    before = set(names(tmp_path))
    outputs = {"--json": tmp_path / "a.json", "--csv": tmp_path / "a.csv", "--plot": tmp_path / "a.png"}
    code, _, err = predict(clip, *(word for pair in outputs.items() for word in pair))
    assert (code, err) == (DONE, "")
    document = json.loads(outputs["--json"].read_text())
    schema = json.loads(resources.files("fan_fer").joinpath("prediction.schema.json").read_text())
    jsonschema.validate(document, schema)
    assert (document["video"], document["frames_total"], document["frames_with_face"]) == (str(clip), 5, 4)
    with outputs["--csv"].open() as file:
        assert [row["weight"] for row in csv.DictReader(file)] == [
            "" if frame["weight"] is None else str(frame["weight"]) for frame in document["frames"]
        ]
    assert cv2.imread(str(outputs["--plot"])) is not None
    assert set(names(tmp_path)) - before == {"a.json", "a.csv", "a.png"}


def test_it_abstains(predict, clip: Path, tmp_path: Path) -> None:
    code, out, _ = predict(clip, "--abstain", 1, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert code == DONE
    assert re.match(r"not sure  \d+\.\d%", out)
    assert len(re.findall(r"not sure \d+\.\d%", out)) == 4
    document = json.loads((tmp_path / "a.json").read_text())
    assert (document["label"], document["abstain"]) == (None, 1)
    with (tmp_path / "a.csv").open() as file:
        assert {(row["label"], row["segment_label"], row["emotion"]) for row in csv.DictReader(file)} == {("", "", "")}
    assert "not sure" in predict(clip, clip, "--abstain", 1)[1]


def test_the_same_table_as_parquet(predict, clip: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    code, _, err = predict(clip, clip, "--csv", tmp_path / "a.csv", "--parquet", tmp_path / "a.parquet")
    assert (code, err) == (DONE, "")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == list(rows[0])
    assert [str(value or "") for value in table.column("weight").to_pylist()] == [row["weight"] for row in rows]
    assert table.column("weight").null_count == 2
    code, _, err = predict(clip, "--csv", tmp_path / "b.csv", "--parquet", "/dev/full")
    assert (code, err) == (BAD_INPUT, "fan-fer: error: /dev/full: cannot be written (No space left on device)\n")
    assert (tmp_path / "b.csv").exists()


def test_json_on_standard_output(predict, clip: Path) -> None:
    code, out, err = predict(clip, "--json", "-")
    assert code == DONE
    assert json.loads(out)["frames_total"] == 5
    assert "5 frames decoded" in err


def test_several_clips(predict, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    other = write_video(tmp_path / "folder" / "clip.avi", [FACE] * 3)
    code, out, err = predict(clip, tmp_path / "folder", "--json", tmp_path / "a.json", "--plot", tmp_path / "plots")
    assert (code, err) == (DONE, "")
    assert "fps" in out
    document = json.loads((tmp_path / "a.json").read_text())
    assert [entry["video"] for entry in document["clips"]] == [str(clip), str(other)]
    assert names(tmp_path / "plots") == ["clip-2.png", "clip.png"]


def test_a_folder_s_other_files_are_counted_and_named(predict, clip: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.srt", "more/c.mp3", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    code, out, err = predict(tmp_path)
    assert code == DONE
    assert str(clip) in out
    assert err == f"fan-fer: warning: {tmp_path}: 3 files were not taken: a.jpg, b.srt, more/c.mp3\n"
    frames = tmp_path / "frames"
    frames.mkdir()
    cv2.imwrite(str(frames / "1.png"), picture(FACE)[..., ::-1])
    (frames / "notes.txt").touch()
    code, out, err = predict(frames)
    assert code == DONE
    assert err == f"fan-fer: warning: {frames}: 1 file was not taken: notes.txt\n"


def test_plot_into_a_folder(predict, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    assert predict(clip, "--plot", tmp_path / "plots")[0] == DONE
    assert names(tmp_path / "plots") == ["clip.png"]


def test_still_image(predict, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "face.png"), picture(FACE)[..., ::-1])
    code, out, _ = predict(tmp_path / "face.png")
    assert code == DONE
    assert "1 frames decoded, 1 with a face" in out


def test_rotated_video_gives_upright_boxes(predict, tmp_path: Path) -> None:
    path = turn(write_video(tmp_path / "phone.mp4", [FACE] * 3))  # 96 x 64, shown as 64 x 96
    assert predict(path, "--json", tmp_path / "a.json")[0] == DONE
    box = json.loads((tmp_path / "a.json").read_text())["frames"][0]["box"]
    # Turned clockwise, the square at (10, 10) to (40, 40) is at (64 - 40, 10) to (64 - 10, 40).
    assert box == pytest.approx([24, 10, 30, 30], abs=2)


# Bad videos


def test_missing_file(predict, tmp_path: Path) -> None:
    assert_one_error(predict(tmp_path / "none.mp4"), r"none\.mp4: no such file")


def test_names_that_are_too_long(predict, clip: Path, tmp_path: Path) -> None:
    assert_one_error(predict("x" * 300), r"x: cannot be opened \(File name too long\)")
    assert_one_error(predict(clip, "--json", tmp_path / ("x" * 300)), r"x: cannot write in .* \(File name too long\)")


def test_text_named_mp4(predict, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello\n" * 1000)
    assert_one_error(predict(tmp_path / "text.mp4", "--json", tmp_path / "a.json"), r"text\.mp4: ")
    assert names(tmp_path) == ["text.mp4"]


def test_truncated_mp4(predict, clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert_one_error(predict(clip), r"clip\.mp4: ")


def test_truncated_avi_is_done_as_far_as_it_goes(predict, tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.avi", [FACE] * 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, err = predict(path)
    assert code == DONE
    assert re.search(r"(2\d|3\d) frames decoded", out)
    assert re.fullmatch(r"fan-fer: warning: .*long\.avi: .*incomplete.*\n", err)


def test_zero_frames(predict, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert_one_error(predict(tmp_path / "empty.mp4"), r"empty\.mp4: .*empty")
    path = write_video(tmp_path / "none.avi", [])
    assert_one_error(predict(path), r"none\.avi: ")


def test_no_face(predict, tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mp4", [[]] * 3)
    assert_one_error(predict(path, "--csv", tmp_path / "a.csv"), r"grey\.mp4: no face found in any of the 3 frames")
    assert names(tmp_path) == ["grey.mp4"]


def test_folder_without_videos(predict, tmp_path: Path) -> None:
    assert_one_error(predict(tmp_path), re.escape(str(tmp_path)))


def test_one_bad_video_among_good_ones(predict, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    write_video(tmp_path / "grey.mp4", [[]] * 2)
    write_video(tmp_path / "good.mp4", [FACE])
    code, out, err = predict(
        tmp_path, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv", "--plot", tmp_path / "p"
    )
    assert code == SOME_FAILED
    assert "clip.mp4" in out
    assert "good.mp4" in out
    assert [line.split(": ")[2] for line in err.splitlines()] == [
        str(tmp_path / name) for name in ("bad.mp4", "grey.mp4")
    ]
    document = json.loads((tmp_path / "a.json").read_text())
    assert [Path(entry["video"]).name for entry in document["clips"]] == ["clip.mp4", "good.mp4"]
    assert [Path(entry["video"]).name for entry in document["failures"]] == ["bad.mp4", "grey.mp4"]
    assert names(tmp_path / "p") == ["clip.png", "good.png"]


def test_only_bad_videos(predict, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    code, out, err = predict(tmp_path / "bad.mp4", tmp_path / "none.mp4", "--json", tmp_path / "a.json")
    assert (code, out) == (BAD_INPUT, "")
    assert len(err.splitlines()) == 2
    assert names(tmp_path) == ["bad.mp4"]


def test_real_clip_without_a_face(clips: Path, weights: Path, tmp_path: Path, capsys) -> None:
    path = every_nth(clips / "no_face.mp4", tmp_path / "no_face.avi", 4)
    code = main(["predict", str(path), "--weights", str(weights), "--csv", str(tmp_path / "a.csv")])
    assert_one_error((code, *capsys.readouterr()), r"no_face\.avi: no face found in any of the \d+ frames")
    assert names(tmp_path) == ["no_face.avi"]


def test_real_clip_with_a_face_in_some_frames(clips: Path, weights: Path, tmp_path: Path) -> None:
    path = every_nth(clips / "face_noface.mov", tmp_path / "part.avi", 8)
    assert main(["predict", str(path), "--weights", str(weights), "--json", str(tmp_path / "a.json")]) == DONE
    document = json.loads((tmp_path / "a.json").read_text())
    faces = [frame["weight"] is not None for frame in document["frames"]]
    assert len(faces) == document["frames_total"]
    assert sum(faces) == document["frames_with_face"]
    # The man leaves the picture before its middle.
    assert all(faces[: len(faces) // 3])
    assert not any(faces[len(faces) // 2 :])
    assert sum(frame["weight"] or 0 for frame in document["frames"]) == pytest.approx(1, abs=1e-6)


# Outputs that cannot be written are known before any frame is decoded


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer.Recognizer, "predict", lambda *_: pytest.fail("the work has begun"))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--json", "", "is a folder"),
        ("--json", "none/a.json", "there is no folder"),
        ("--csv", "clip.mp4/a.csv", "there is no folder"),
        ("--csv", "clip.mp4", "is one of the clips"),
        ("--plot", "none/a.png", "there is no folder"),
        ("--plot", "a.txt", r"ends in one of \.png"),
    ],
)
def test_unwritable_outputs(predict, clip: Path, tmp_path: Path, option: str, name: str, message: str) -> None:
    content = clip.read_bytes()
    assert_one_error(predict(clip, option, tmp_path / name), message)
    assert names(tmp_path) == ["clip.mp4"]
    assert clip.read_bytes() == content


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("name", "message"), [("a.png", "name of a folder"), ("clip.mp4", "folder"), ("none/plots", "there is no folder")]
)
def test_unwritable_folders_of_plots(predict, clip: Path, tmp_path: Path, name: str, message: str) -> None:
    assert_one_error(predict(clip, clip, "--plot", tmp_path / name), message)
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.usefixtures("no_work")
def test_one_name_for_two_outputs(predict, clip: Path, tmp_path: Path) -> None:
    assert_one_error(predict(clip, "--json", tmp_path / "a", "--csv", tmp_path / "a"), "named for two outputs")


@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_tables_do_not_go_to_standard_output(predict, clip: Path, tmp_path: Path, monkeypatch, option: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_error(predict(clip, option, "-"), f"{option} -: --json alone goes to standard output")
    assert not (tmp_path / "-").exists()


def test_output_that_fails_in_the_end(predict, clip: Path) -> None:
    code, out, err = predict(clip, "--json", "/dev/full", "--csv", clip.with_name("a.csv"))
    assert (code, err) == (BAD_INPUT, "fan-fer: error: /dev/full: cannot be written (No space left on device)\n")
    assert "5 frames decoded" in out
    assert clip.with_name("a.csv").exists()


# Weights that are no trained network


def test_truncated_weights(predict, clip: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(weights.read_bytes()[:100_000])
    assert_one_error(predict(clip, "--weights", tmp_path / "w.safetensors"), r"w\.safetensors: truncated")


def test_pickled_weights(predict, clip: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "w.pth")
    assert_one_error(predict(clip, "--weights", tmp_path / "w.pth"), r"w\.pth: .*pickle")


def test_missing_weights(predict, clip: Path, tmp_path: Path) -> None:
    assert_one_error(predict(clip, "--weights", tmp_path / "none"), r"none: no such file")


def rewrite(source: Path, target: Path, drop: str = "", variant: str = "fan") -> Path:
    """A copy without the tensors whose names begin with `drop`, and with another variant on its card."""
    with safe_open(source, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if not drop or not name.startswith(drop)}  # noqa: SIM118
        metadata = dict(file.metadata())
    metadata["card"] = json.dumps({**json.loads(metadata["card"]), "variant": variant})
    save_file(tensors, target, metadata)
    return target


@pytest.mark.parametrize("part", ["attention", "classifier"])
def test_weights_without_a_head(predict, clip: Path, weights: Path, tmp_path: Path, part: str) -> None:
    path = rewrite(weights, tmp_path / "w.safetensors", drop=part)
    assert_one_error(predict(clip, "--weights", path), rf"w\.safetensors: .*{part}\.")


@pytest.mark.parametrize("variant", ["self", "score-fusion", "lstm"])
def test_weights_of_another_variant(predict, clip: Path, weights: Path, tmp_path: Path, variant: str) -> None:
    path = rewrite(weights, tmp_path / "w.safetensors", variant=variant)
    assert_one_error(predict(clip, "--weights", path), r"w\.safetensors: ")


# Usage


def test_unknown_detector(clip: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["predict", str(clip), "--weights", str(weights), "--detector", "eyes"])
    assert_one_error((code, *capsys.readouterr()), "eyes")


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--abstain", "1.5", "a probability, 0 to 1, is wanted"),
        ("--abstain", "nan", "a probability"),
        ("--min-segment", "0", "seconds, above 0, are wanted"),
        ("--min-segment", "nan", "seconds"),
    ],
)
def test_numbers_that_cannot_be(predict, clip: Path, option: str, value: str, wanted: str) -> None:
    assert_one_error(predict(clip, option, value), f"{option} {value}: {wanted}")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "cuda:99", 'device "cuda:99": .* finds no such GPU here; use "cpu"'),
        ("--device", "tpu", 'device "tpu": unknown; "auto", "cpu", "cuda" or "mps" is wanted'),
        ("--precision", "half", 'precision "half": unknown; one of auto, float32, bfloat16, float16 is wanted'),
        ("--batch-size", "0", "batch size 0: at least 1 is wanted"),
    ],
)
def test_unknown_devices_and_settings(predict, clip: Path, option: str, value: str, message: str) -> None:
    assert_one_error(predict(clip, option, value), message)


def test_batch_size_and_precision_reach_the_backbone(predict, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def embed(embedder: Embedder, faces: torch.Tensor) -> torch.Tensor:
        seen.append((len(faces), embedder.precision, embedder.device.type))
        return torch.zeros(len(faces), embedder.feature_size)

    monkeypatch.setattr(Embedder, "embed_preprocessed", embed)
    code, _, err = predict(clip, "--device", "cpu", "--batch-size", 3, "--precision", "bfloat16")
    assert (code, err) == (DONE, "")
    assert sum(count for count, *_ in seen) == 4
    assert max(count for count, *_ in seen) <= 3
    assert {tuple(rest) for _, *rest in seen} == {("bfloat16", "cpu")}


@pytest.mark.parametrize(
    "arguments", [[], ["predict"], ["predict", "a.mp4", "--nonsense"], ["predict", "a.mp4", "--faces", "some"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == BAD_INPUT
    assert "usage: fan-fer" in capsys.readouterr().err


def test_weights_tells_what_a_file_is(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights"]) == DONE
    own = " ".join(capsys.readouterr().out.split())
    for part in ("variant fan", "Angry, Disgust, Fear, Happy, Neutral, Sad, Surprise", "128 x 128, grey", "FER+"):
        assert part in own
    assert "research use" in own
    assert re.search(r"with --abstain P: P = 0.5 P = 0.8 P = 0.95 .* FER\+ valid faces, 3485 85\.9% \(96%\) ", own)
    assert main(["weights", str(weights)]) == DONE
    other = " ".join(capsys.readouterr().out.split())
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in other.replace(" ", "")
    assert "32 x 32" in other
    assert "--abstain" not in other
    assert "networks that ship: resnet18 (22" in other
    assert main(["weights", "none.safetensors"]) == BAD_INPUT
    assert "none.safetensors: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "predict clip.mp4 --weights face29",
        "predict-many list.csv --out many.csv --workers 1 --weights face29",
        "live clip.mp4 --json-lines --weights face29",
        "app --port 0 --no-browser --weights resnet18 --weights face29",
        "evaluate face29 list.csv",
        "export --onnx face29.onnx --weights face29",
        "train prepared-afew --init face29",
        "weights face29",
    ],
)
def test_a_network_that_does_not_ship(
    command: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fan_fer.attention.weights.PACKAGE_DATA", tmp_path / "package")
    (tmp_path / "package").mkdir()
    random_weights(tmp_path / "package" / "fan_resnet18.safetensors")
    prepared_afew(tmp_path, train=1, val=1, frames=2)
    write_list(tmp_path / "list.csv", [("clip.mp4", "Sad", "")])
    monkeypatch.chdir(tmp_path)
    code = main(command.split())
    message = "error: face29: no such file, nor one of the networks that ship: resnet18$"
    assert_one_error((code, *capsys.readouterr()), message)


def test_networks_that_ship(
    predict, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fan_fer.attention.weights.PACKAGE_DATA", tmp_path)
    random_weights(tmp_path / "fan_resnet18.safetensors")
    random_weights(tmp_path / "fan_face29.safetensors", backbone="face29")
    assert main(["weights", "face29"]) == DONE
    own = " ".join(capsys.readouterr().out.split())
    assert "network face29, variant fan" in own
    assert re.search(r"networks that ship: resnet18 \(22\.\d MB\), face29 \(11\.\d MB\)$", own)
    code, out, _ = predict(clip, "--weights", "face29", "--json", "-")
    assert code == DONE
    prediction = json.loads(out)
    assert prediction["model"]["backbone"] == "face29"
    assert prediction["weights_file"] == str(tmp_path / "fan_face29.safetensors")


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"fan_ext": "1.2.3"}.__getitem__)
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, "fan-fer 1.2.3\n")


def test_interrupt_leaves_nothing(predict, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recognizer.Recognizer, "predict", interrupt)
    assert predict(clip, "--json", tmp_path / "a.json") == (INTERRUPTED, "", "fan-fer: interrupted\n")
    assert names(tmp_path) == ["clip.mp4"]


def test_interrupt_keeps_the_clips_that_are_done(
    predict, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second.mp4"
    second.write_bytes(clip.read_bytes())
    original = recognizer.Recognizer.predict

    def interrupt_second(self, clip: Clip, *rest: object) -> object:
        if clip.name == str(second):
            raise KeyboardInterrupt
        return original(self, clip, *rest)

    monkeypatch.setattr(recognizer.Recognizer, "predict", interrupt_second)
    code, _, errors = predict(clip, second, "--json", tmp_path / "a.json")
    assert code == INTERRUPTED
    assert "interrupted" in errors
    (done,) = json.loads((tmp_path / "a.json").read_text())["clips"]
    assert done["video"] == str(clip)


def test_a_clip_that_no_process_survives_costs_nothing_else(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw_list(tmp_path / "videos").parent
    reader = recognizer.load_recognizer(weights, detector=DrawnFaces())
    known = {name: [reader.predict(folder / name)] for name in ("happy.avi", "sad.avi")}

    class Deadly:
        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, task: ClipTask, report: object) -> ClipResult:
            import os
            import signal
            import time

            if task.video.name == "deadly.avi":
                os.kill(os.getpid(), signal.SIGSEGV)
            if task.video.name == "endless.avi":
                time.sleep(60)
            return ClipResult(known[task.video.name], 1.0)

    monkeypatch.setattr(predicting, "ClipWork", Deadly)
    monkeypatch.setattr(cli_options, "WORKERS", 1)
    for name in ("deadly.avi", "endless.avi"):
        (folder / name).write_bytes((folder / "sad.avi").read_bytes())
    clips = [folder / name for name in ("happy.avi", "deadly.avi", "endless.avi", "sad.avi")]
    out = tmp_path / "a.json"
    options = ["--json", out, "--weights", weights, "--time-limit", 2]
    code = main(["predict", *map(str, clips), *map(str, options)])
    assert code == SOME_FAILED
    content = json.loads(out.read_text())
    assert [Path(clip["video"]).name for clip in content["clips"]] == ["happy.avi", "sad.avi"]
    died, hung = capsys.readouterr().err.splitlines()
    assert died == f"fan-fer: error: {clips[1]}: its process died (SIGSEGV), 2 times"
    assert hung == f"fan-fer: error: {clips[2]}: got no further for 2 seconds, the time limit, and was given up"


# In a process of its own


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fan_fer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from fan_fer.cli.main import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'cv2', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "fan-fer predict clip.mp4 --plot clip.png" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_bad_video_says_one_line_in_all(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello\n" * 1000)
    done = run("predict", tmp_path / "text.mp4", "--weights", weights)
    assert_one_error((done.returncode, done.stdout, done.stderr), r"text\.mp4: ")


def test_damaged_frames_say_one_line_in_all(weights: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "damaged.avi", [FACE] * 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run("predict", path, "--weights", weights)
    assert re.fullmatch(r"fan-fer: error: .*damaged\.avi: no face found .*\n", done.stderr)


def test_a_reader_that_leaves_early(clips: Path, weights: Path, tmp_path: Path) -> None:
    path = every_nth(clips / "single_face.mp4", tmp_path / "part.avi", 50)
    command = f'"{sys.executable}" -m fan_fer predict "{path}" --weights "{weights}" --json - | true; exit $PIPESTATUS'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")
