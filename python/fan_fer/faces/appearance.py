"""What a person looks like from the head to the chest, in a few numbers: enough to tell two people in a scene apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.opencv import cv2
from fan_fer.faces.face import Face

CELLS = (4, 5)  # columns and rows of colours
SAMPLES = 16  # along each side of a cell
REGION = (0.5, 0.3, 1.2)  # beyond the box: to each side in widths, above and below in heights

Appearance = NDArray[np.uint8]


def appearance(image: NDArray[np.uint8], face: Face) -> Appearance:
    """The mean colours of a grid over hair, face, shoulders and chest: (60,) uint8, in CIE Lab.

    image: (H, W, 3) uint8 RGB. Beyond the image its border pixels are repeated.
    """
    x, y, width, height = face.box
    side, above, below = REGION
    left, top = x - side * width, y - above * height
    across, down = (1 + 2 * side) * max(width, 1), (1 + above + below) * max(height, 1)
    columns, rows = CELLS[0] * SAMPLES, CELLS[1] * SAMPLES
    to_image = np.array([[across / columns, 0, left], [0, down / rows, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    region = cv2.warpAffine(image, to_image, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    cells = cv2.resize(region, CELLS, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(cells, cv2.COLOR_RGB2LAB), np.uint8).reshape(-1)


def difference(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Mean absolute difference of two appearances, 0 to 255."""
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())
