"""Clips whose frames are faces already."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_faces import draw_face

import fan_fer
from fan_fer.cli.main import main
from fan_fer.faces.align import TEMPLATE

from ..drawn_lists import random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Of two people who take turns: one that follows faces would tell them apart."""
    return np.stack([draw_face(("Happy", "Sad")[k // 3 % 2], 1, k // 3 % 2)[:, 8:88] for k in range(12)])


@pytest.fixture
def folder(faces: np.ndarray, tmp_path: Path) -> Path:
    (tmp_path / "clip").mkdir()
    for k, face in enumerate(faces):
        cv2.imwrite(str(tmp_path / "clip" / f"{k}.png"), face[..., ::-1])
    return tmp_path / "clip"


def test_frames_are_read_as_faces_that_come_without_a_video(weights: Path, faces: np.ndarray) -> None:
    recognizer = fan_fer.load_recognizer(weights, detector="aligned")
    wanted = recognizer.classify_clip(faces)
    prediction = recognizer.predict(faces)
    assert prediction.probabilities == pytest.approx(wanted.probabilities, abs=1e-6)
    assert [frame.weight for frame in prediction.frames] == pytest.approx([frame.weight for frame in wanted.frames])
    assert prediction.frames_with_face == 12
    assert prediction.model["detector"] == "aligned"
    assert [frame.box for frame in prediction.frames] == [(0, 0, 80, 80)] * 12
    np.testing.assert_allclose(prediction.frames[3].landmarks, TEMPLATE * 80, rtol=1e-6)
    (person,) = recognizer.predict_faces(faces)
    assert person.probabilities == prediction.probabilities
    assert recognizer.features(faces).has_face.all()


def test_sizes_may_change_and_one_frame_will_do(weights: Path, faces: np.ndarray) -> None:
    recognizer = fan_fer.load_recognizer(weights, detector="aligned")
    sized = [cv2.resize(face, (64 + 8 * k, 100)) for k, face in enumerate(faces[:3])]
    prediction = recognizer.predict(sized)
    assert prediction.probabilities == pytest.approx(recognizer.classify_clip(sized).probabilities, abs=1e-6)
    assert prediction.frames[2].box == (0, 0, 80, 100)
    assert recognizer.predict(faces[:1]).frames_total == 1


def test_commands_take_them(
    weights: Path, faces: np.ndarray, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = fan_fer.load_recognizer(weights).classify_clip(faces)
    listing, options = tmp_path / "list.csv", ["--aligned", "--weights", str(weights)]
    listing.write_text("video,label\nclip,Sad\n")
    out = {name: tmp_path / name for name in ("clip.json", "plots", "clip.npz", "many.csv", "scores")}
    one = ["predict", str(folder), "--json", str(out["clip.json"]), "--plot", str(out["plots"])]
    assert main([*one, *options]) == 0
    assert json.loads(out["clip.json"].read_text())["clips"][0]["label"] == wanted.label
    assert cv2.imread(str(out["plots"] / "clip.png")) is not None
    assert main(["features", str(listing), "--out", str(out["clip.npz"]), "--workers", "1", *options]) == 0
    assert np.isfinite(np.load(out["clip.npz"])["embedding"]).all()
    assert main(["predict-many", str(listing), "--out", str(out["many.csv"]), "--workers", "1", *options]) == 0
    scored = ["evaluate", str(weights), str(listing), "--aligned", "--out", str(out["scores"])]
    assert main(scored) == 0
    for path in (out["many.csv"], out["scores"] / "predictions.csv"):
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row[f"p_{wanted.label}"]) == pytest.approx(wanted.probabilities[wanted.label], abs=1e-4)
    assert capsys.readouterr().err == ""


def test_a_folder_of_such_clips(weights: Path, folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "clips" / "second").mkdir(parents=True)
    folder.rename(tmp_path / "clips" / "first")
    (tmp_path / "clips" / "second" / "0.png").write_bytes((tmp_path / "clips" / "first" / "0.png").read_bytes())
    assert main(["predict", str(tmp_path / "clips"), "--aligned", "--weights", str(weights)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [count for line in out.splitlines() if "/clips/" in line for count in line.split()[3:4]] == ["12", "1"]


def test_a_published_checkpoint_becomes_a_file_for_every_command(folder: Path, tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    state = fan_fer.FrameAttentionNetwork("self", 8).state_dict()
    renamed = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
    renamed |= {"alpha.0.weight": state["attention.self_weight"][None], "alpha.0.bias": state["attention.self_bias"]}
    renamed |= {f"pred_fc1.{part}": state[f"classifier.{part}"] for part in ("weight", "bias")}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in renamed.items()}}, tmp_path / "mead.tar")
    out = tmp_path / "mead.safetensors"
    assert main(["weights", str(tmp_path / "mead.tar"), "--classes", "mead", "--save", str(out)]) == 0
    text, err = capsys.readouterr()
    assert "Happy, Angry, Disgust, Fear, Sad, Neutral, Surprise, Contempt" in text
    assert "its outputs are taken for Happy, Angry," in err
    assert main(["predict", str(folder), "--aligned", "--weights", str(out), "--json", str(tmp_path / "x.json")]) == 0
    assert "Contempt" in json.loads((tmp_path / "x.json").read_text())["clips"][0]["probabilities"]
