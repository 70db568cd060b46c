"""Alignment: the transform is exact where it can be, landmarks land on the template, fine patterns do not alias."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fan_fer.faces.align import TEMPLATE, align_face, similarity_transform


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("scale", [0.01, 0.5, 1, 30])
@pytest.mark.parametrize("degrees", [0, 15, 90, -170])
def test_known_similarity_is_recovered(scale: float, degrees: float) -> None:
    matrix = similarity(scale, degrees, 12, -340)
    points = np.random.default_rng(0).uniform(-50, 900, (5, 2))
    found = similarity_transform(points, apply(matrix, points))
    np.testing.assert_allclose(found, matrix, rtol=1e-9, atol=1e-9)


def test_fit_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(1)
    source, target = TEMPLATE * 200 + rng.normal(0, 9, (5, 2)), TEMPLATE * 64
    # The same problem as a linear one in (a, b, x, y) of the matrix [[a, -b, x], [b, a, y]].
    one, zero = np.ones(5), np.zeros(5)
    rows = np.concatenate(
        [
            np.column_stack([source[:, 0], -source[:, 1], one, zero]),
            np.column_stack([source[:, 1], source[:, 0], zero, one]),
        ]
    )
    a, b, x, y = np.linalg.lstsq(rows, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)[0]
    np.testing.assert_allclose(similarity_transform(source, target), [[a, -b, x], [b, a, y]], rtol=1e-8)


def test_mirrored_points_are_not_mirrored_back() -> None:
    matrix = similarity_transform(TEMPLATE * (-100, 100), TEMPLATE * 100)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 40.0),
        np.full((5, 2), np.nan),
        np.where(np.eye(5, 2) > 0, np.inf, 10.0),
        np.zeros((5, 2), np.float32),
    ],
)
def test_landmarks_that_make_no_face_are_refused(landmarks: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no similarity"):
        align_face(np.zeros((100, 100, 3), np.uint8), landmarks, 64)


def test_wrong_number_of_landmarks_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        align_face(np.zeros((100, 100, 3), np.uint8), np.ones((4, 2)), 64)


@pytest.mark.parametrize("side", [40, 64, 90, 300, 1000])
@pytest.mark.parametrize("degrees", [0, 30, -100])
def test_landmarks_land_on_the_template(side: float, degrees: float) -> None:
    """A soft dot at each landmark of a face of any size and turn comes to lie where the template says."""
    width, height = int(1.6 * side) + 50, int(1.5 * side) + 60
    matrix = similarity(side, degrees, width / 2, height / 2)
    landmarks = apply(matrix, TEMPLATE - 0.5)
    for i, (x, y) in enumerate(landmarks):
        rows, columns = np.mgrid[:height, :width] + 0.5
        dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (0.04 * side) ** 2))
        image = np.repeat((dot * 255).astype(np.uint8)[:, :, None], 3, 2)
        face = align_face(image, landmarks.astype(np.float32), 64)[:, :, 0].astype(float)
        assert face.shape == (64, 64)
        face[face < 40] = 0
        centre = np.array([(face.sum(0) * (np.arange(64) + 0.5)).sum(), (face.sum(1) * (np.arange(64) + 0.5)).sum()])
        np.testing.assert_allclose(centre / face.sum(), TEMPLATE[i] * 64, atol=0.3)


@pytest.mark.parametrize("shrink", [2.5, 4.3, 9.7])
@pytest.mark.parametrize("degrees", [0, 12])
def test_fine_patterns_do_not_alias(shrink: float, degrees: float) -> None:
    side = 64 * shrink
    checker = (np.indices((900, 900)).sum(0) % 2 * 255).astype(np.uint8)
    landmarks = apply(similarity(side, degrees, 450, 450), TEMPLATE - 0.5)
    face = align_face(np.repeat(checker[:, :, None], 3, 2), landmarks, 64)
    assert face.std() < 25  # plain interpolation, which takes single pixels, leaves some 60 and more
    assert face.mean() == pytest.approx(127.5, abs=3)
    plain = cv2.warpAffine(checker, similarity_transform(landmarks, TEMPLATE * 64), (64, 64))
    assert plain.std() > 2 * face.std()


def test_border_is_repeated_beyond_the_image() -> None:
    image = np.full((80, 80, 3), 30, np.uint8)
    image[:, :10] = 200
    for side, size in ((60, 64), (400, 64)):  # enlarged, and shrunk from far larger than the image
        landmarks = apply(similarity(side, 0, 0, 40), TEMPLATE - 0.5)
        face = align_face(image, landmarks, size)
        assert np.all(face[:, :28] == 200)
        assert face[:, -1].max() == 30


def test_face_outside_the_image_is_all_border() -> None:
    image = np.full((40, 50, 3), 60, np.uint8)
    face = align_face(image, TEMPLATE * 300 + 5000, 48)
    assert face.shape == (48, 48, 3)
    assert np.all(face == 60)


def test_the_image_is_not_changed_and_the_template_can_be() -> None:
    image = np.random.default_rng(2).integers(0, 255, (120, 120, 3), dtype=np.uint8)
    before = image.copy()
    template = TEMPLATE * 0.5 + 0.25
    landmarks = template * 120
    np.testing.assert_array_equal(align_face(image, landmarks, 120, template), image)
    np.testing.assert_array_equal(image, before)
