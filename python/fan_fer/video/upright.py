"""Decoded pictures as they are to be seen: RGB, with square pixels, turned and mirrored as the file asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

COLOUR_SPACES = (0, 1, 2, 4, 5, 6, 7, 9)  # of H.273, those that FFmpeg converts
UNSPECIFIED = 2
WIDEST = 4.0  # a pixel's width by its height; beyond it, and below its inverse, the file is not believed


def upright(image: NDArray[np.uint8], matrix: bytes | None) -> NDArray[np.uint8]:
    """A picture (H, W, 3) turned and mirrored as a display matrix says: nine little-endian int32, as FFmpeg has them.

    Turns by other than quarters become the nearest of the eight ways in which a picture can lie.
    """
    if matrix is None or len(matrix) < 36:
        return image
    # A pixel at (x, y), y downwards, is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, "<i4")[:5])
    if a * d == b * c:  # shows nothing
        return image
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, mirror, flip = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        mirror, flip = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip else 1, :: -1 if mirror else 1])


class Converter:
    """Makes decoded frames of one stream RGB images."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._turned = 0
        self._matrix: bytes | None = None

    def image(self, frame: Any, aspect: float) -> NDArray[np.uint8]:
        """A frame of PyAV's as uint8 RGB (H, W, 3), upright, with square pixels. Raises av.FFmpegError.

        aspect: a pixel's width by its height.
        """
        width = max(1, round(frame.width * aspect)) if 1 / WIDEST <= aspect <= WIDEST else frame.width
        if frame.colorspace not in COLOUR_SPACES:
            frame.colorspace = UNSPECIFIED
        rgb = self._reformatter.reformat(frame, width=width, format="rgb24", threads=1)
        plane: Any = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        image = rows[: rgb.height, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
        # A frame that was RGB comes back as it is, and the decoder may build the next on it.
        image = image.copy() if rgb is frame else np.ascontiguousarray(image)
        # A frame that has been asked for its matrix is only freed when Python next looks for cycles. In a stream it can
        # change at a key frame; those between need not repeat it.
        size, turned = (frame.width, frame.height), frame.rotation
        if self._size != size or (frame.key_frame and self._turned != turned):
            self._size, self._turned = size, turned
            side = frame.side_data.get("DISPLAYMATRIX")
            self._matrix = None if side is None else bytes(side)
        return upright(image, self._matrix)
