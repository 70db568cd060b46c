"""What a prediction can do with itself: be told in a line, drawn, written, made a table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import fan_fer
from fan_fer import Prediction, Recognizer
from fan_fer.base.errors import OutputError, VideoError
from fan_fer.output.json_csv import clip_json, write_csv
from fan_fer.output.prediction import Tracks

from ..drawn_lists import random_weights
from ..fakes import SquareDetector, names, write_video


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    weights = random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")
    return fan_fer.load_recognizer(weights, detector=SquareDetector())


@pytest.fixture
def prediction(recognizer: Recognizer, tmp_path: Path) -> Prediction:
    frames = [[(10 + index, 10, 30)] if index != 2 else [] for index in range(5)]
    return recognizer.predict(write_video(tmp_path / "clip.mp4", frames))


def test_it_is_told_in_a_line(prediction: Prediction) -> None:
    share = f"{prediction.probabilities[prediction.label]:.3f}"
    told = f"{prediction.video}: {prediction.label} {share}, 4 of 5 frames with a face>"
    assert repr(prediction) == f"<Prediction {told}"
    assert repr(replace(prediction, track=3)) == f"<Prediction {prediction.video}: track 3, {told.split(': ', 1)[1]}"


def test_it_is_saved_as_the_suffix_says(prediction: Prediction, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.json", "a.csv", "a.PNG", "a.svg", "a.mp4"):
        prediction.save(out / name)
    assert names(out) == ["a.PNG", "a.csv", "a.json", "a.mp4", "a.svg"]
    assert (out / "a.json").read_text() == clip_json(prediction)
    assert len(json.loads((out / "a.json").read_text())["frames"]) == 5
    pytest.importorskip("pyarrow", reason="pyarrow, which writes Parquet, is not installed")
    prediction.save(out / "a.parquet")
    assert (out / "a.parquet").read_bytes()[:4] == b"PAR1"
    write_csv(out / "b.csv", [prediction])
    assert (out / "a.csv").read_text() == (out / "b.csv").read_text()
    assert cv2.imread(str(out / "a.PNG")).shape[1] > 1000
    assert [frame.shape for frame in fan_fer_frames(out / "a.mp4")] == [(64, 96, 3)] * 5
    for name in ("a.txt", "a", ".json"):
        with pytest.raises(OutputError, match=r"the name of what is saved ends in one of \.json, "):
            prediction.save(str(out / name))


def fan_fer_frames(path: Path) -> list[np.ndarray]:
    from fan_fer.video.sources import open_clip

    return [frame.image for frame in open_clip(path)]


def test_pictures_need_the_clip_or_its_faces(recognizer: Recognizer, prediction: Prediction, tmp_path: Path) -> None:
    images = np.full((3, 64, 96, 3), 128, np.uint8)
    images[:, 10:40, 10:40] = (250, 10, 10)
    unnamed = recognizer.predict(images)
    with pytest.raises(ValueError, match="prediction: has no video"):
        unnamed.plot(tmp_path / "a.png")
    with pytest.raises(ValueError, match="prediction: has no video"):
        unnamed.annotate(tmp_path / "a.mp4")
    unnamed.plot(tmp_path / "a.png", faces=dict(enumerate(images[:, 10:40, 10:40])))
    assert (tmp_path / "a.png").stat().st_size > 10_000
    Path(prediction.video).unlink()
    with pytest.raises(VideoError, match="no such file"):
        prediction.plot(tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_it_is_a_table_of_its_frames(
    recognizer: Recognizer, prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    table = prediction.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table["frame"]) == list(range(5))
    assert table["weight"].sum() == pytest.approx(1)
    assert table["weight"].isna().tolist() == [False, False, True, False, False]
    assert table.dtypes["p_Happy"].kind == "f"
    assert set(table["label"]) == {prediction.label}
    everyone = recognizer.predict_faces(prediction.video)
    assert isinstance(everyone, Tracks)
    assert list(everyone.to_pandas()["track"]) == [1] * 5
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas needs pandas: pip install pandas"):
        prediction.to_pandas()


def test_it_abstains_below_a_probability(recognizer: Recognizer, prediction: Prediction) -> None:
    share = max(prediction.probabilities.values())
    assert prediction.abstaining(None) is prediction
    assert prediction.abstaining(share).label == prediction.label
    unsure = prediction.abstaining(1)
    assert (unsure.label, unsure.abstain, unsure.confidence) == (None, 1, share)
    assert {part.label for part in unsure.segments} == {frame.emotion for frame in unsure.frames} == {None}
    assert unsure.probabilities == prediction.probabilities
    assert f"not sure {share:.3f}" in repr(unsure)
    assert unsure.abstaining(None) == prediction
    assert recognizer.predict(prediction.video, abstain=1) == unsure
    assert recognizer.predict_faces(prediction.video, abstain=1)[0].label is None
    assert {p.label for _, p in recognizer.stream(prediction.video, abstain=1) if p} == {None}
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"^abstain: got {wrong}; a probability, 0 to 1, is wanted$"):
            recognizer.predict("no-such-file.mp4", abstain=wrong)


def test_what_is_not_sure_is_shown(prediction: Prediction, tmp_path: Path) -> None:
    unsure = prediction.abstaining(1)
    for name in ("a.json", "a.csv", "a.png", "a.mp4"):
        unsure.save(tmp_path / name)
    document = json.loads((tmp_path / "a.json").read_text())
    assert (document["label"], document["abstain"], document["frames"][0]["emotion"]) == (None, 1, None)
    header, first, *_ = (tmp_path / "a.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    assert (cells["label"], cells["emotion"], cells["segment_label"]) == ("", "", "")
    assert float(cells["weight"]) > 0
