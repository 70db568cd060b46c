"""What a clip is to all who read one: frames in their order, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FALLBACK_FPS = 25.0  # of what has no rate of its own


@dataclass(frozen=True)
class Frame:
    """One decoded frame: its number from 0, its time in seconds, its uint8 RGB image (H, W, 3).

    arrived: when it was at hand, in seconds of ``time.monotonic``.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
    arrived: float = field(default_factory=monotonic, compare=False)


@runtime_checkable
class Clip(Protocol):
    """Frames as a stream. Numbers and times increase strictly; numbers of damaged frames are left out.

    Attributes:
        name: what a prediction calls the clip: the path or the address as given; None where there is none.
        fps: the rate that the header gives, which need not be that of the frames.
        frame_count: the number of frames according to the header, which need not be true; None if it has none.
        duration: seconds according to the header; None if it has none.
        warnings: a line for each thing that was wrong, known after an iteration to the end.
        damaged: numbers of the frames that iterating so far could not read, and what was wrong with each.
        consecutive: whether the frames follow each other in time, as the pictures of a folder need not.
        live: whether frames come when they happen, and do not wait for who reads them.
    """

    @property
    def name(self) -> str | None: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def frame_count(self) -> int | None: ...
    @property
    def duration(self) -> float | None: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def damaged(self) -> dict[int, str]: ...
    @property
    def consecutive(self) -> bool: ...
    @property
    def live(self) -> bool: ...
    def __iter__(self) -> Iterator[Frame]: ...


Progress = Callable[[str, int, "int | None"], None]
"""Called after every frame with the stage, the frames done, and how many there are (None where nobody knows)."""


def reporting(frames: Iterable[Frame], stage: str, total: int | None, progress: Progress | None) -> Iterator[Frame]:
    """The frames, each of them told to ``progress``."""
    for frame in frames:
        yield frame
        if progress is not None:
            progress(stage, frame.index + 1, total)


def read_frames(clip: Iterable[Frame], indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    """The images of the frames numbered ``indices``; numbers that are damaged or beyond the end are left out.

    Decodes from the start up to the last of them, because seeking lands beside the frame in many files.
    """
    wanted = set(indices)
    images: dict[int, NDArray[np.uint8]] = {}
    if wanted:
        for frame in clip:
            if frame.index in wanted:
                images[frame.index] = frame.image
            if frame.index >= max(wanted):
                break
    return images
