"""How long an uploaded clip may be, and the copy of it that every browser plays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fan_fer.app.playable import playable_copy
from fan_fer.app.uploads import Limits, TooLarge, check_upload, span
from fan_fer.video.decoding import Video

from ..fakes import turn, write_video
from ..video.made import corners, quadrants, video, with_edits, with_sound

SECOND = Limits(minutes=1 / 60)
GREY = np.full((48, 64, 3), 90, np.uint8)


def recorded(times: list[int], header: bool, path: Path) -> bytes:
    """A WebM of pictures at so many milliseconds; without a header's length, as browsers record, if that is wanted."""
    with av.open(str(path), "w", options={} if header else {"live": "1"}) as output:
        stream = output.add_stream("libvpx", rate=1000, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(GREY, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def stamps(count: int, step: float, start: float = 0) -> list[int]:
    return [round(start + step * number) for number in range(count)]


QUICK = {"images": [GREY] * 220, "stamps": stamps(220, 1000 / 240)}  # 240 pictures a second


@pytest.mark.parametrize(
    "make",
    {
        "240 a second": lambda path: video("mp4", "mjpeg", "yuvj420p", **QUICK),
        "240 a second, Matroska": lambda path: video("matroska", "mjpeg", "yuvj420p", **QUICK),
        "240 a second, AVI": lambda path: video("avi", "mjpeg", "yuvj420p", rate=240, images=[GREY] * 220),
        "header": lambda path: recorded(stamps(9, 100), True, path),
        "no header": lambda path: recorded(stamps(95, 10), False, path),
        "just as long": lambda path: video(images=25),
        "longer sound": lambda path: with_sound(video(images=20), "mp4", 3.0),
        "longer sound, Matroska": lambda path: with_sound(video(images=20), "matroska", 3.0),
        "a late start": lambda path: video("mp4", stamps=stamps(20, 40, 5000), images=20),
        "a late start, Matroska": lambda path: video("matroska", stamps=stamps(20, 40, 5000), images=20),
        "an empty edit": lambda path: with_edits(video(images=50), [(2000, -1), (500, 0)]),
        "an edit": lambda path: with_edits(video(images=100, options={"bf": "2"}), [(800, 12800)]),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_the_limit_takes(tmp_path: Path, make: tuple) -> None:
    path = tmp_path / "clip.webm"
    path.write_bytes(make[1](path))
    check_upload(path, "clip", SECOND)


@pytest.mark.parametrize(
    ("seconds", "make"),
    [
        (r"1\.02", lambda path: video(images=51, rate=50)),
        (r"11\.01", lambda path: recorded(stamps(12, 1000), True, path)),
        (r"3\.6\d", lambda path: recorded(stamps(10, 400), False, path)),
        (
            r"7\.2\d?",
            lambda path: video("mp4", "mjpeg", "yuvj420p", images=[GREY] * 216, stamps=stamps(216, 100 / 3)),
        ),  # slow motion
        ("2", lambda path: video("mpeg", "mpeg2video", images=25) * 2),
    ],
)
def test_what_the_limit_refuses_and_why(tmp_path: Path, seconds: str, make) -> None:
    path = tmp_path / "clip.webm"
    path.write_bytes(make(path))
    words = rf"^b\.webm: lasts {seconds} seconds; at most 1 seconds are taken \(--max-minutes\)$"
    with pytest.raises(TooLarge, match=words):
        check_upload(path, "b.webm", SECOND)


def test_times_in_words() -> None:
    assert [span(seconds) for seconds in (15, 15.001, 15.2, 59.991, 60, 300.01, 0.3 * 60)] == [
        "15 seconds",
        "15.01 seconds",
        "15.2 seconds",
        "60 seconds",
        "1 minutes",
        "5.01 minutes",
        "18 seconds",
    ]


def test_the_playable_copy_lies_as_the_clip_does(tmp_path: Path) -> None:
    clip = turn(write_video(tmp_path / "phone.mp4", [[(10, 10, 20)]] * 4))
    copy = [frame.image for frame in Video(playable_copy(clip, tmp_path, 0))]
    images = [frame.image for frame in Video(clip)]
    assert len(copy) == len(images) == 4
    assert copy[0].shape == images[0].shape == (96, 64, 3)
    assert np.abs(copy[0].astype(int) - images[0]).mean() < 8


def test_the_playable_copy_has_square_pixels_and_one_shape(tmp_path: Path) -> None:
    parts = [
        video("mpegts", images=6, sample_aspect_ratio=Fraction(2)),
        video("mpegts", images=[quadrants(160, 96)] * 6),
    ]
    (tmp_path / "clip").write_bytes(b"".join(parts))
    copy = [frame.image for frame in Video(playable_copy(tmp_path / "clip", tmp_path, 0))]
    assert {image.shape for image in copy} == {(96, 320, 3)}
    left = round((320 - 96 * 96 / 160) / 2)
    assert corners(copy[0]) == corners(copy[11][:, left:-left]) == corners(quadrants())
    assert copy[11][:, : left - 4].max() < 30
