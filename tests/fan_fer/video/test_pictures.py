"""Pictures: how they lie, and those that move."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fan_fer.base.errors import VideoError
from fan_fer.video import images
from fan_fer.video.decoding import Video
from fan_fer.video.sources import list_videos, open_clip, passed_over

from .made import BLUE, GREEN, GREY, RED, corners, heic, quadrants, video

ORIENTED = {  # what EXIF calls the eight ways a picture can lie, and what is then at its corners
    1: [RED, GREEN, BLUE, GREY],
    2: [GREEN, RED, GREY, BLUE],
    3: [GREY, BLUE, GREEN, RED],
    4: [BLUE, GREY, RED, GREEN],
    5: [RED, BLUE, GREEN, GREY],
    6: [BLUE, RED, GREY, GREEN],
    7: [GREY, GREEN, BLUE, RED],
    8: [GREEN, GREY, RED, BLUE],
}


def encoded(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def oriented(suffix: str, orientation: int) -> bytes:
    """A photo of four colours with one entry of EXIF."""
    data = encoded(".png" if suffix == ".tiff" else suffix, quadrants())
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    if suffix == ".jpg":
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + data[2:]
    if suffix == ".png":
        chunk = b"eXIf" + exif
        return data[:33] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    if suffix == ".webp":
        size = (159).to_bytes(3, "little") + (95).to_bytes(3, "little")
        body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 8) + size + data[12:]
        body += b"EXIF" + struct.pack("<I", len(exif)) + exif
        return b"RIFF" + struct.pack("<I", len(body)) + body
    pixels = quadrants()
    fields = {256: 160, 257: 96, 258: 8, 259: 1, 262: 2, 273: 8, 274: orientation, 277: 3, 278: 96, 279: pixels.size}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    return b"II*\0" + struct.pack("<I", 8 + pixels.size) + pixels.tobytes() + struct.pack("<H", 10) + table + bytes(4)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_photos_are_turned_and_mirrored_as_the_camera_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(oriented(suffix, orientation))
    for source in (path, path.read_bytes(), [path], tmp_path):
        (frame,) = open_clip(source)
        assert corners(frame.image) == ORIENTED[orientation]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
def test_so_they_are_in_heic(tmp_path: Path, turns: int, mirror: int | None) -> None:
    shown = np.rot90(quadrants(64, 96), turns)
    shown = shown if mirror is None else np.flip(shown, mirror)
    path = tmp_path / "photo.heic"
    path.write_bytes(heic([quadrants(64, 96)], turns=turns, mirror=mirror, small=np.zeros((48, 64, 3), np.uint8)))
    for source in (path, [path], tmp_path):
        (frame,) = open_clip(source)
        assert frame.image.shape == shown.shape
        assert corners(frame.image) == corners(shown)


DURATIONS = [40, 80, 40, 120, 200, 40]  # milliseconds


def square(number: int) -> np.ndarray:
    """A red square that wanders over grey, RGB."""
    image = np.full((64, 96, 3), 128, np.uint8)
    image[20:40, 12 * number : 12 * number + 20] = RED
    return image


def animated(suffix: str) -> bytes:
    """Six pictures, of which the second and following need only hold what is new."""
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(square(number), cv2.COLOR_RGB2BGRA) for number in range(6)]
    animation.durations = np.array(DURATIONS)
    try:
        made, data = cv2.imencodeanimation(suffix, animation, [cv2.IMWRITE_WEBP_QUALITY, 101])
    except cv2.error:
        made = False
    if not made:
        pytest.skip(f"this OpenCV writes no {suffix}")
    return data.tobytes()


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif", ".avif"])
def test_every_picture_of_those_that_move(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moves{suffix}"
    path.write_bytes(animated(suffix))
    assert list_videos([tmp_path]) == [path]
    for source in (path, path.read_bytes()):
        clip = open_clip(source)
        frames = list(clip)
        assert [frame.time for frame in frames] == pytest.approx(np.cumsum([0, *DURATIONS[:-1]]) / 1000, abs=2e-3)
        for number, frame in enumerate(frames):
            inner = square(number)[..., 1] == 0
            assert np.abs(frame.image.astype(int) - square(number))[inner].mean() < (40 if suffix == ".gif" else 4)
            assert np.abs(frame.image[~inner].mean() - 128) < 8
        assert clip.warnings == []
        assert len(list(clip)) == 6


def test_a_long_one_is_decoded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = animated(".webp")
    monkeypatch.setattr(images, "AT_ONCE", 4 * 64 * 96 * 4)
    clip = Video(data)
    assert clip.frame_count == 6
    assert [int(frame.image[30, :, 0].argmax()) for frame in clip] == [12 * number for number in range(6)]


def test_pictures_that_are_put_over_those_before() -> None:
    """Transparent but for what is new, as GIF and APNG are made."""
    file = io.BytesIO()
    with av.open(file, "w", format="apng") as output:
        stream = output.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgba"
        for number in range(6):
            output.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.dstack([square(number), np.full((64, 96), 255, np.uint8)]), format="rgba"
                    )
                )
            )
        output.mux(stream.encode(None))
    for number, frame in enumerate(Video(file.getvalue())):
        assert np.array_equal(frame.image, square(number))


def test_one_that_broke_off_is_refused_or_reported() -> None:
    for suffix, frames in ((".png", 2), (".gif", 3)):
        data = animated(suffix)
        clip = Video(data[: 2 * len(data) // 3])
        assert len(list(clip)) >= frames
        assert "incomplete or damaged" in clip.warnings[0]
    webp = animated(".webp")
    with pytest.raises(VideoError, match="not an image, or a damaged one"):
        Video(webp[: 2 * len(webp) // 3])


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_one_among_the_pictures_of_a_clip(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(".png", square(3)))
    (tmp_path / f"b{suffix}").write_bytes(animated(suffix))
    assert list_videos([tmp_path]) == [tmp_path]
    clip = open_clip(tmp_path)
    for _ in range(2):
        assert [int(frame.image[30, :, 0].argmax()) for frame in clip] == [36, 0]
        assert clip.warnings == [f"{tmp_path}/b{suffix}: an animation, of which only the first picture is taken here"]


def test_a_name_that_says_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "moves.jpg"
    for data, count in ((animated(".gif"), 6), (animated(".png"), 6), (animated(".webp"), 6), (video(), 5)):
        path.write_bytes(data)
        assert len(list(open_clip(path))) == count


def test_what_is_passed_over_beside_videos(tmp_path: Path) -> None:
    still, moving = encoded(".png", square(0)), animated(".png")
    files = {
        "a.mp4": b"", "b.TS": b"", "c.ogv": b"", "d.gif": b"", "e.m2ts": b"", "moves.png": moving,
        "still.png": still, "photo.jpg": b"", "notes.txt": b"", "sub/f.mpe": b"", "sub/f.srt": b"",
        ".hidden": b"", ".git/g.mp4": b"", "sub/.DS_Store": b"",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    names = [str(path.relative_to(tmp_path)) for path in list_videos([tmp_path])]
    assert names == ["a.mp4", "b.TS", "c.ogv", "d.gif", "e.m2ts", "moves.png", "sub/f.mpe"]
    assert passed_over(tmp_path) == ["notes.txt", "photo.jpg", "still.png", "sub/f.srt"]


def test_what_is_passed_over_beside_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "preview.gif", "notes.txt", ".DS_Store", "more/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(".png", square(0)) if name.endswith("png") else animated(".gif"))
    assert list_videos([tmp_path / "more"]) == [tmp_path / "more"]
    clip = open_clip(tmp_path)
    assert len(list(clip)) == 2
    assert clip.warnings == [f"{tmp_path}: 3 files were not taken: more/c.png, notes.txt, preview.gif"]


def test_a_folder_with_neither(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").touch()
    words = r"no image in this folder \(7 files were not taken: 0\.txt, .*, 4\.txt, \.\.\.\); a video, or a folder of"
    with pytest.raises(VideoError, match=words):
        open_clip(tmp_path)
