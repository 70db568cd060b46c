"""Faces cut out of images at one size, upright, with their landmarks in the same places."""

from __future__ import annotations

import math

import numpy as np

from fan_fer.base.opencv import cv2

TEMPLATE = np.array([(331, 385), (669, 385), (500, 582), (372, 752), (655, 750)], np.float32) / 1000
"""Where the landmarks of a `Face` come to lie, as fractions of the square: their mean places in FER2013."""


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The shift, rotation and scale, as a matrix (2, 3), that take points (n, 2) nearest to the target (n, 2).

    Least squares in closed form, never a reflection. Raises ValueError where no such transform is defined:
    points that are not finite or all the same, or that do not resemble the target in any rotation.
    """
    if source.shape != target.shape:
        raise ValueError(f"source {source.shape} and target {target.shape}: points of one shape (n, 2) are wanted")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError(f"no similarity takes these points to the target: {source.tolist()}")
    # Points as complex numbers: a rotation with scale is then one product, fitted as a slope is.
    p, q = source.astype(np.float64) @ (1, 1j), target.astype(np.float64) @ (1, 1j)
    p0, q0 = p - p.mean(), q - q.mean()
    covariance, spread = np.vdot(p0, q0), np.vdot(p0, p0).real
    resemblance = abs(covariance) / math.sqrt(max(spread * np.vdot(q0, q0).real, 1e-12))  # at most 1
    if resemblance < 0.1:
        raise ValueError(f"no similarity takes these points to the target: {np.round(source, 1).tolist()}")
    slope = covariance / spread
    shift = q.mean() - slope * p.mean()
    return np.array([[slope.real, -slope.imag, shift.real], [slope.imag, slope.real, shift.imag]])


def align_face(image: np.ndarray, landmarks: np.ndarray, size: int, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """The face with these landmarks as a square image (size, size, 3) uint8.

    image: (H, W, 3) uint8.
    landmarks: (5, 2) pixels, measured from the image's top left corner: pixel i covers i to i + 1.
    template: (5, 2) where they should come to lie, as fractions of the square.

    Beyond the image its border pixels are repeated. A larger face is averaged down, so that fine patterns do not
    alias. Raises ValueError for landmarks that do not make a face (not finite, all in one point).
    """
    matrix = similarity_transform(np.asarray(landmarks), np.asarray(template) * size)
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if scale < 1:
        image, matrix = _shrink(image, matrix, scale, size)
    # OpenCV measures from the centre of the top left pixel.
    half = np.array([0.5, 0.5])
    matrix[:, 2] += matrix[:, :2] @ half - half
    return cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _shrink(image: np.ndarray, matrix: np.ndarray, scale: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that `matrix` takes into the square, averaged down by `scale`, and its matrix."""
    corners = np.array([(0, 0), (size, 0), (0, size), (size, size)])
    inside = (corners - matrix[:, 2]) @ matrix[:, :2] / scale**2
    limits = np.array(image.shape[1::-1])
    margin = 2 / scale  # interpolation looks one pixel beyond the square
    low = np.clip(np.floor(inside.min(0) - margin), 0, limits - 1).astype(int)
    high = np.clip(np.ceil(inside.max(0) + margin), low + 1, limits).astype(int)
    small = np.maximum(np.rint((high - low) * scale), 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    part = cv2.resize(part, tuple(int(side) for side in small), interpolation=cv2.INTER_AREA)
    linear = matrix[:, :2] * ((high - low) / small)
    return part, np.column_stack([linear, matrix[:, 2] + matrix[:, :2] @ low])
