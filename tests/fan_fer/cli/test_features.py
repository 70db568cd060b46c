"""`fan-fer features`: the numbers that other models start from, in both kinds of file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import DrawnFaces

import fan_fer
from fan_fer import recognizer
from fan_fer.base import extras
from fan_fer.base.errors import FanFerError, LibraryError, OutputError
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED, SOME_FAILED
from fan_fer.many import features as many
from fan_fer.output.features import FeatureSet

from ..drawn_lists import FAILING, VIDEOS, draw_list, random_weights
from ..fakes import SquareDetector, assert_one_error, names, write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [[(10 + i, 10, 30)] for i in range(4)] + [[]])


@pytest.fixture
def run(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer features` in this process, red squares being faces; gives exit code, stdout, stderr."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["features", *map(str, arguments), "--workers", "0", "--weights", str(weights)])
        return code, *capsys.readouterr()

    return run


def test_a_clip_as_npz(run, clip: Path, weights: Path, tmp_path: Path) -> None:
    code, out, err = run(clip, "--out", tmp_path / "a.npz")
    assert (code, err) == (DONE, "")
    assert "1 clip, 5 frames, 4 of them with a face and 512 numbers" in out
    with np.load(tmp_path / "a.npz") as file:  # allow_pickle stays off
        made = dict(file)
    assert (made["video"].tolist(), made["label"].tolist(), made["offsets"].tolist()) == ([str(clip)], [""], [0, 5])
    assert json.loads(str(made["network"]))["backbone"] == "resnet18"

    loaded = fan_fer.load_recognizer(weights, detector=SquareDetector())
    prediction = loaded.predict(str(clip))
    assert made["frame"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(made["time"], [frame.time for frame in prediction.frames])
    np.testing.assert_allclose(made["box"][:4], [frame.box for frame in prediction.frames[:4]], rtol=1e-6)
    np.testing.assert_allclose(made["landmarks"][:4], [frame.landmarks for frame in prediction.frames[:4]], rtol=1e-6)
    np.testing.assert_allclose(made["weight"][:4], [frame.weight for frame in prediction.frames[:4]], rtol=1e-6)
    for name in ("box", "landmarks", "weight", "embedding"):
        assert np.isnan(made[name][4]).all(), name
        assert np.isfinite(made[name][:4]).all(), name
    # The embeddings are what the network's head reads.
    import torch

    logits = loaded.network.classify(torch.from_numpy(made["embedding"][None, :4])).logits
    assert logits.softmax(-1)[0].tolist() == pytest.approx(list(prediction.probabilities.values()), abs=1e-5)


def test_parquet_holds_the_same_in_a_row_per_frame(run, clip: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    for name in ("a.npz", "a.PARQUET"):
        assert run(clip, "--out", tmp_path / name)[0] == DONE
    with np.load(tmp_path / "a.npz") as file:
        made = dict(file)
    table = pq.read_table(tmp_path / "a.PARQUET")
    assert table.column("video").to_pylist() == [str(clip)] * 5
    assert table.column("weight").to_pylist()[4] is None
    assert table.column("embedding").to_pylist()[4] is None
    np.testing.assert_array_equal(np.stack(table.column("embedding").to_pylist()[:4]), made["embedding"][:4])
    np.testing.assert_array_equal(table.column("right_mouth_y").to_numpy(), made["landmarks"][:, 4, 1])
    assert json.loads(table.schema.metadata[b"fan_fer"]) == json.loads(str(made["network"]))


def test_a_table_for_pandas_has_the_same_columns(weights: Path, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    loaded = fan_fer.load_recognizer(weights, detector=SquareDetector())
    features = FeatureSet((loaded.features(clip),))
    features.save(tmp_path / "a.parquet")
    table, frames = parquet.read_table(tmp_path / "a.parquet"), features.clips[0].to_pandas()
    assert list(frames) == table.column_names
    np.testing.assert_array_equal(frames["weight"], table.column("weight").to_numpy(zero_copy_only=False))
    assert [row is None for row in frames["embedding"]] == [
        row is None for row in table.column("embedding").to_pylist()
    ]
    np.testing.assert_array_equal(frames["embedding"][0], features.clips[0].embeddings[0])


def test_a_list_keeps_its_names_labels_and_order(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = draw_list(tmp_path / "videos")
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: DrawnFaces())
    code, out, err = run(listing, "--out", tmp_path / "a.npz")
    assert code == SOME_FAILED
    for name, why in FAILING.items():
        assert any(name in line and why in line for line in err.splitlines()), name
    assert err.count("fan-fer: error:") == len(FAILING)
    with np.load(tmp_path / "a.npz") as file:
        assert file["video"].tolist() == ["happy.avi", "sad.avi", "happy.avi", "angry.avi", "fear.avi"]
        assert file["label"].tolist() == ["Happy", "Sad", "", "Angry", "Fear"]
        assert file["offsets"].tolist() == [0, 4, 8, 12, 16, 20]
        assert len(file["embedding"]) == 20
    assert "5 clips, 20 frames" in out


def test_a_folder_and_processes_of_their_own(weights: Path, tmp_path: Path) -> None:
    folder = draw_list(tmp_path / "videos").parent
    made = fan_fer.extract_features(folder, weights=weights, detector=DrawnFaces(), workers=2)
    assert [features.prediction.video for features in made.clips] == [str(folder / name) for name in sorted(VIDEOS)]
    assert set(made.failures) == {str(folder / name) for name in ("blank.avi", "dust.avi")}
    here = fan_fer.load_recognizer(weights, detector=DrawnFaces()).features(str(folder / "angry.avi"))
    np.testing.assert_allclose(made.clips[0].embeddings, here.embeddings, atol=1e-4)
    assert here.has_face.tolist() == [True] * 4


def test_an_interruption_keeps_what_is_done(run, clip: Path, tmp_path: Path, monkeypatch) -> None:
    write_video(clip.with_name("other.avi"), [[(10, 10, 30)]] * 2)
    original, seen = many._Extract.__call__, []

    def interrupted(self, task, report):
        if seen:
            raise KeyboardInterrupt
        seen.append(task)
        return original(self, task, report)

    monkeypatch.setattr(many._Extract, "__call__", interrupted)
    code, _, err = run(tmp_path, "--out", tmp_path / "a.npz")
    assert code == INTERRUPTED
    assert "other.avi: not done: interrupted" in err
    assert "more not done" not in err
    with np.load(tmp_path / "a.npz") as file:
        assert file["video"].tolist() == [str(clip)]


def test_an_interruption_of_many_is_two_lines(run, clip: Path, tmp_path: Path, monkeypatch) -> None:
    for number in range(5):
        write_video(clip.with_name(f"{number}.avi"), [[(10, 10, 30)]] * 2)

    def interrupted(self, task, report):
        raise KeyboardInterrupt

    monkeypatch.setattr(many._Extract, "__call__", interrupted)
    code, _, err = run(tmp_path, "--out", tmp_path / "a.npz")
    assert code == INTERRUPTED
    assert re.search(r"0\.avi: not done: interrupted\n[^\n]*: 5 more not done: interrupted\n", err), err
    assert "1.avi" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "--out", "a.csv"], r"a\.csv: the name of a file of features ends in \.npz or \.parquet"),
        (["clip.mp4", "--out", "no/a.npz"], r"there is no folder"),
        (["gone.mp4", "--out", "a.npz"], r"gone\.mp4: no such file"),
        (["gone.csv", "--out", "a.npz"], r"gone\.csv: cannot be read"),
        (["clip.mp4", "--out", "a.npz", "--time-limit", "0"], r"time limit 0"),
    ],
)
def test_refusals(run, clip: Path, tmp_path: Path, monkeypatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_error(run(*arguments), message, BAD_INPUT)
    assert names(tmp_path) == ["clip.mp4"]


def test_without_pyarrow_one_line_says_what_to_install(run, clip: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    wanted = r"a\.parquet: writing Parquet needs pyarrow: pip install 'fan_ext\[parquet\]'"
    assert_one_error(run(clip, "--out", tmp_path / "a.parquet"), wanted)
    with pytest.raises(LibraryError, match="pyarrow"):
        FeatureSet(()).save(tmp_path / "a.parquet")


def test_what_python_refuses(clip: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(FanFerError, match=r"^-1 workers: 0 or more are wanted$"):
        fan_fer.extract_features(clip, weights=weights, workers=-1)
    nothing = fan_fer.extract_features(tmp_path / "gone.mp4", weights=weights, detector=SquareDetector())
    assert (nothing.clips, list(nothing.failures)) == ((), [str(tmp_path / "gone.mp4")])
    with pytest.raises(OutputError, match="there is no clip with features"):
        nothing.save(tmp_path / "a.npz")
