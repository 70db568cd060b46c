"""Stand-ins that make tests quick and exact: videos of red squares, a detector that finds them, made-up predictions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fan_fer.base.emotions import EMOTIONS
from fan_fer.cli.outcome import BAD_INPUT
from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.face import Face
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.prediction import ClipPrediction, FramePrediction, Segment
from fan_fer.video.decoding import Video

PREPROCESSING = Preprocessing(
    size=32,
    grayscale=True,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    template=tuple((float(x), float(y)) for x, y in TEMPLATE),
)

Square = tuple[int, int, int]  # left, top, side


class SquareDetector:
    """Takes every red square of at least 8 pixels for a face."""

    name = "squares"

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, image: np.ndarray) -> list[Face]:
        self.calls += 1
        red = (image[..., 0] > 150) & (image[..., 1:].max(axis=-1) < 110)
        _, _, stats, _ = cv2.connectedComponentsWithStats(red.astype(np.uint8))
        return [_face(*map(float, box[:4])) for box in stats[1:] if box[2:4].min() >= 8]


def _face(x: float, y: float, width: float, height: float) -> Face:
    landmarks = np.asarray(TEMPLATE) * (width, height) + (x, y)
    return Face((x, y, width, height), landmarks.astype(np.float32), 1.0)


def picture(squares: Iterable[Square], size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """An RGB image, `size` wide and high, with red squares on grey."""
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    for left, top, side in squares:
        image[top : top + side, left : left + side] = (250, 10, 10)
    return image


def write_video(
    path: Path, frames: Sequence[Iterable[Square]], size: tuple[int, int] = (96, 64), fps: float = 25
) -> Path:
    """A video of red squares; AVI is Motion JPEG, others MPEG-4."""
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, size)
    assert writer.isOpened()
    for squares in frames:
        writer.write(cv2.cvtColor(picture(squares, size), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def turn(path: Path) -> Path:
    """Has an MP4 file say that it is to be shown turned clockwise by 90 degrees, as phones do; gives the path back."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # of the track header: a, b, u, c, d, v, x, y, w
    height = Video(path).read([0])[0].shape[0]
    quarter_turn = [0, 0x10000, 0, 0xFFFF0000, 0, 0, height << 16, 0, 0x40000000]
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in quarter_turn)
    path.write_bytes(content)
    return path


def every_nth(source: Path, target: Path, step: int) -> Path:
    """A Motion JPEG copy of a video with every `step`-th frame, at the rate that keeps the times."""
    video = Video(source)
    writer = cv2.VideoWriter()
    for frame in video:
        if frame.index == 0:
            size = frame.image.shape[1::-1]
            assert writer.open(str(target), cv2.VideoWriter.fourcc(*"MJPG"), video.fps / step, size)
        if frame.index % step == 0:
            writer.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    writer.release()
    return target


def names(folder: Path) -> list[str]:
    """What is in a folder, sorted."""
    return sorted(entry.name for entry in folder.iterdir())


def make_clip(
    frames: int = 5,
    *,
    missing: Sequence[int] = (),
    variant: str = "fan",
    video: str | None = "clip.mp4",
    borders: Sequence[int] = (),
) -> ClipPrediction:
    """A prediction of random numbers, without a face in the frames `missing`; a further segment begins at `borders`."""
    rng = np.random.default_rng(frames)
    weights = np.where(np.isin(np.arange(frames), missing), 0, rng.random(frames) + 0.01)
    if variant == "score-fusion":
        weights = (weights > 0).astype(float)
    weights /= weights.sum()
    part = np.searchsorted(borders, np.arange(frames), "right")

    def segment(number: int) -> Segment:
        first, *_, last = [int(index) for index in np.flatnonzero(part == number) if index not in missing] * 2
        shown = rng.dirichlet(np.ones(len(EMOTIONS)))
        return Segment(
            first,
            last,
            start=None if video is None else first / 25,
            end=None if video is None else last / 25,
            frames_with_face=int((weights[part == number] > 0).sum()),
            label=EMOTIONS[shown.argmax()],
            probabilities=dict(zip(EMOTIONS, shown.tolist(), strict=True)),
        )

    def frame(index: int) -> FramePrediction:
        time = None if video is None else index / 25
        if index in missing:
            return FramePrediction(index, time)
        own = rng.dirichlet(np.ones(len(EMOTIONS)))
        x, y = rng.random(2) * 100
        return FramePrediction(
            index,
            time,
            box=None if video is None else (x, y, 40.0, 50.0),
            landmarks=None if video is None else tuple((x + i, y + i / 3) for i in range(5)),
            alpha=None if variant == "score-fusion" else rng.random(),
            beta=rng.random() if variant == "fan" else None,
            weight=float(weights[index]),
            emotion=EMOTIONS[own.argmax()],
            probabilities=dict(zip(EMOTIONS, own.tolist(), strict=True)),
            segment=int(part[index]),
            segment_weight=float(weights[index] / weights[part == part[index]].sum()),
        )

    whole = rng.dirichlet(np.ones(len(EMOTIONS)))
    return ClipPrediction(
        video=video,
        label=EMOTIONS[whole.argmax()],
        probabilities=dict(zip(EMOTIONS, whole.tolist(), strict=True)),
        fps=None if video is None else 25.0,
        frames=tuple(frame(index) for index in range(frames)),
        frames_total=frames,
        frames_with_face=frames - len(missing),
        weights_file="weights.safetensors",
        model={
            "variant": variant,
            "backbone": "resnet18",
            "detector": None if video is None else "mtcnn",
            "trained_on": "faces",
            "license": "MIT",
        },
        segments=tuple(segment(number) for number in range(len(borders) + 1)),
    )


def assert_one_error(result: tuple[int, str, str], message: str, code: int = BAD_INPUT) -> None:
    got, out, err = result
    assert got == code
    assert out == ""
    assert re.fullmatch(r"fan-fer: error: .*\n", err), err
    assert re.search(message, err), err
