"""Videos of every kind: how the picture lies, its pixels, colours, containers, damage."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fan_fer.video.decoding import Video
from fan_fer.video.encoding import Mp4Writer

from .made import (
    BLUE,
    GREEN,
    GREY,
    RED,
    corner_pixels,
    corners,
    joined,
    quadrants,
    video,
    with_matrix,
    with_sound,
    with_tags,
)

LYING = {  # the eight ways a picture can lie, and what is then at its corners
    (1, 0, 0, 1): [RED, GREEN, BLUE, GREY],
    (0, 1, -1, 0): [BLUE, RED, GREY, GREEN],
    (-1, 0, 0, -1): [GREY, BLUE, GREEN, RED],
    (0, -1, 1, 0): [GREEN, GREY, RED, BLUE],
    (-1, 0, 0, 1): [GREEN, RED, GREY, BLUE],
    (1, 0, 0, -1): [BLUE, GREY, RED, GREEN],
    (0, 1, 1, 0): [RED, BLUE, GREEN, GREY],
    (0, -1, -1, 0): [GREY, GREEN, BLUE, RED],
}


@pytest.mark.parametrize("kind", ["mp4", "mov"])
@pytest.mark.parametrize("matrix", LYING)
def test_pictures_are_turned_and_mirrored_as_the_file_asks(kind: str, matrix: tuple[int, int, int, int]) -> None:
    images = [frame.image for frame in Video(with_matrix(video(kind, images=2), *matrix))]
    assert len(images) == 2
    assert images[1].shape == ((160, 96, 3) if matrix[0] == 0 else (96, 160, 3))
    assert corners(images[1]) == LYING[matrix]
    assert images[1].flags.c_contiguous
    assert images[1].flags.writeable


@pytest.mark.parametrize("kind", ["matroska", "3gp"])
@pytest.mark.parametrize("matrix", LYING)
def test_so_they_are_in_other_containers(kind: str, matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    data = joined(kind, [video(images=2)], [a, b, 0, c, d, 0, 0, 0, 1 << 30])
    assert [corners(frame.image) for frame in Video(data)] == [LYING[matrix]] * 2


def test_a_way_of_lying_that_changes_midway() -> None:
    """As a decoder finds it in the stream; the frames between two key frames need not repeat it."""
    upright, turned = (video("mpegts", images=6, options={"bf": "0"}) for _ in range(2))
    rotation = "h264_metadata=display_orientation=insert:rotate=180"
    frames = list(Video(upright + joined("mpegts", [turned], bitstream_filter=rotation) + upright))
    standing, lying = LYING[1, 0, 0, 1], LYING[-1, 0, 0, -1]
    assert [corners(frame.image) for frame in frames] == [standing] * 6 + [lying] * 6 + [standing] * 6


def test_a_matrix_that_shows_nothing_is_not_believed() -> None:
    (frame,) = Video(with_matrix(video(images=1), 0, 0, 1, 0))
    assert corners(frame.image) == [RED, GREEN, BLUE, GREY]


@pytest.mark.parametrize(
    ("kind", "aspect", "width"),
    [
        ("mp4", Fraction(2), 320),
        ("matroska", Fraction(1, 2), 80),
        ("matroska", Fraction(12, 11), 175),
        ("mpegts", Fraction(16, 11), 233),
        ("mp4", Fraction(100), 160),
        ("matroska", Fraction(1, 50), 160),
    ],
)
def test_pixels_become_square(kind: str, aspect: Fraction, width: int) -> None:
    frame = next(iter(Video(video(kind, sample_aspect_ratio=aspect))))
    assert frame.image.shape == (96, width, 3)
    assert corners(frame.image) == [RED, GREEN, BLUE, GREY]


def test_wide_pixels_of_a_turned_picture_make_it_high() -> None:
    data = with_matrix(video(sample_aspect_ratio=Fraction(2)), 0, 1, -1, 0)
    assert next(iter(Video(data))).image.shape == (320, 96, 3)


@pytest.mark.parametrize("width", [34, 62, 94, 126, 158, 202])
def test_lines_that_are_padded(width: int) -> None:
    frame = next(iter(Video(video("matroska", "ffv1", "yuv420p", [quadrants(34, width)]))))
    assert frame.image.shape == (34, width, 3)
    assert np.abs(corner_pixels(frame.image) - [RED, GREEN, BLUE, GREY]).max() <= 4


@pytest.mark.parametrize(
    ("kind", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv444p"),
        ("matroska", "libx264", "yuv420p10le"),
        ("mp4", "libx265", "yuv420p10le"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("avi", "mjpeg", "yuvj420p"),
        ("matroska", "ffv1", "yuv422p16le"),
        ("matroska", "ffv1", "bgra"),
        ("matroska", "libx264rgb", "rgb24"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("webm", "libvpx", "yuv420p"),
        ("mov", "qtrle", "rgb24"),
        ("avi", "rawvideo", "bgr24"),
        ("apng", "apng", "rgb24"),
        ("gif", "gif", "rgb8"),
        ("mpegts", "mpeg2video", "yuv420p"),
        ("flv", "flv", "yuv420p"),
        ("asf", "wmv2", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("h264", "libx264", "yuv420p"),
    ],
)
def test_colours_numbers_and_times(kind: str, codec: str, pixels: str) -> None:
    clip = Video(video(kind, codec, pixels, images=8))
    frames = list(clip)
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(8) / 25, abs=1e-3)
    assert clip.fps == pytest.approx(25, rel=0.01)
    assert clip.warnings == []
    assert corners(frames[7].image) == [RED, GREEN, BLUE, GREY]
    if kind != "gif":
        assert np.abs(corner_pixels(frames[7].image) - [RED, GREEN, BLUE, GREY]).max() <= 5


@pytest.mark.parametrize("space", [1, 5, 6, 7])  # of H.273: HD's, the older ones
@pytest.mark.parametrize("span", [1, 2])  # of the brightness: part of the values, or all
def test_colours_are_those_that_the_file_says_it_has(space: int, span: int) -> None:
    data = video("matroska", "ffv1", "yuv444p", colorspace=space, color_range=span)
    assert np.abs(corner_pixels(next(iter(Video(data))).image) - [RED, GREEN, BLUE, GREY]).max() <= 4


def test_grey_and_colour_spaces_that_are_not_known() -> None:
    for settings in (
        {"pixels": "gray"},
        {"pixels": "gray10le"},
        {"pixels": "gray16le"},
        {"pixels": "yuv420p", "colorspace": 8},
    ):
        frame = next(iter(Video(video("matroska", "ffv1", images=[np.full((48, 64, 3), 77, np.uint8)], **settings))))
        assert np.abs(frame.image.astype(int) - 77).max() <= 2


def test_a_large_picture() -> None:
    (frame,) = Video(video("mov", "mjpeg", "yuvj420p", images=[quadrants(2160, 3840)]))
    assert frame.image.shape == (2160, 3840, 3)
    assert corners(frame.image) == [RED, GREEN, BLUE, GREY]


@pytest.mark.parametrize("kind", ["mp4", "matroska", "mpegts", "flv"])
def test_times_begin_with_the_pictures(kind: str) -> None:
    clip = Video(with_sound(video("mp4", "libx264", images=10, stamps=[5000 + 40 * i for i in range(10)]), kind, 6))
    assert [frame.time for frame in clip] == pytest.approx(np.arange(10) / 25, abs=2e-3)
    assert clip.warnings == []


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_files_that_were_joined_go_on(codec: str) -> None:
    clip = Video(video("mpegts", codec, images=12) * 3)
    assert [frame.time for frame in clip] == pytest.approx(np.arange(36) / 25, abs=2e-3)
    assert clip.warnings == []


def test_a_recording_that_does_not_say_how_long_it_is() -> None:
    clip = Video(video("webm", "libvpx", images=10, options={"deadline": "realtime"}, container={"live": "1"}))
    assert (clip.duration, clip.frame_count) == (None, None)
    assert len(list(clip)) == 10
    assert clip.warnings == []


@pytest.mark.parametrize(
    ("kind", "codec", "sound"),
    [
        ("mp4", "libx264", "ac3"),
        ("mpegts", "libx264", "ac3"),
        ("mpegts", "mpeg2video", "mp2"),
        ("avi", "mpeg4", "pcm_s16le"),
    ],
)
def test_sound_of_all_kinds_is_passed_over(kind: str, codec: str, sound: str) -> None:
    clip = Video(with_sound(video(kind, codec, images=10), kind, 2, sound))
    assert len(list(clip)) == 10
    assert clip.warnings == []


def test_drawing_on_a_frame_changes_no_other() -> None:
    for kind, codec, pixels in (("apng", "apng", "rgb24"), ("matroska", "ffv1", "yuv420p")):
        for frame in Video(video(kind, codec, pixels, images=4)):
            assert corners(frame.image) == [RED, GREEN, BLUE, GREY]
            frame.image[:] = 0


PARTS = {
    "MPEG-TS": ("mpegts", "libx264", None),
    "MPEG-TS, MPEG-2": ("mpegts", "mpeg2video", None),
    "MPEG-TS, HEVC": ("mpegts", "libx265", None),
    "H.264 alone": ("h264", "libx264", None),
    "MP4": ("mpegts", "libx264", "mp4"),
    "Matroska": ("mpegts", "libx264", "matroska"),
    "FLV": ("mpegts", "libx264", "flv"),
    "WebM": ("webm", "libvpx", "webm"),
}


@pytest.mark.parametrize(("kind", "codec", "whole"), PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("frames", ["0", "2"])  # that are decoded from later ones
def test_a_size_that_changes_midway(kind: str, codec: str, whole: str | None, frames: str) -> None:
    sizes = [(96, 160), (160, 96), (96, 160)]
    options = {"bf": frames, "x265-params": "log-level=none", "deadline": "realtime"}
    parts = [video(kind, codec, images=[quadrants(*size)] * 6, options=options) for size in sizes]
    clip = Video(joined(whole, parts) if whole else b"".join(parts))
    found = list(clip)
    assert [frame.image.shape[:2] for frame in found] == [size for size in sizes for _ in range(6)]
    assert all(corners(frame.image) == [RED, GREEN, BLUE, GREY] for frame in found)
    assert np.all(np.diff([frame.time for frame in found]) > 0)
    assert clip.warnings == []


@pytest.mark.parametrize("whole", [None, "matroska", "mp4"])
def test_a_shape_of_pixels_that_changes_midway(whole: str | None) -> None:
    aspects = [Fraction(1), Fraction(16, 11), Fraction(1)]
    parts = [video("mpegts", images=6, options={"bf": "0"}, sample_aspect_ratio=aspect) for aspect in aspects]
    widths = [frame.image.shape[1] for frame in Video(joined(whole, parts) if whole else b"".join(parts))]
    assert widths == [160] * 6 + [233] * 6 + [160] * 6


def test_a_shape_of_pixels_that_changes_with_the_size() -> None:
    narrow = video("mpegts", images=[quadrants(96, 80)] * 6, sample_aspect_ratio=Fraction(2), options={"bf": "2"})
    frames = list(Video(video("mpegts", images=6, options={"bf": "2"}) + narrow))
    assert [frame.image.shape for frame in frames] == [(96, 160, 3)] * 12


def test_nothing_stays_open_behind_an_iteration_that_is_left(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(video(images=30))

    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))

    gc.collect()
    before = held()
    frames = iter(Video(path))
    next(frames)
    assert held()[0] > before[0]
    frames.close()
    gc.collect()
    assert held() == before


def test_decoded_frames_are_freed_as_they_go(tmp_path: Path) -> None:
    """Not only when Python looks for cycles, which in a long video it seldom does."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(video(images=30))

    def held() -> int:
        return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())

    gc.collect()
    before = held()
    gc.disable()
    try:
        assert sum(1 for _ in Video(path)) == 30
        assert held() - before <= 2
    finally:
        gc.enable()


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_every_frame_of_an_animated_image_is_read(tmp_path: Path, suffix: str) -> None:
    animation = cv2.Animation()
    animation.frames = [np.full((32, 48, 4), (number, number, number, 255), np.uint8) for number in (0, 80, 160, 240)]
    animation.durations = [100, 200, 100, 100]
    assert cv2.imwriteanimation(str(tmp_path / f"moving{suffix}"), animation)
    frames = list(Video(tmp_path / f"moving{suffix}"))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4])
    assert [frame.image.mean() for frame in frames] == pytest.approx([0, 80, 160, 240], abs=20)


@pytest.mark.parametrize("kind", ["matroska", "mov", "mp4"])
def test_tags_that_are_no_utf_8_keep_neither_pictures_nor_sound_from_being_read(kind: str, tmp_path: Path) -> None:
    tag = "Die schönsten Gefühle".encode("latin-1")
    source, copy = tmp_path / "source", tmp_path / "copy.mp4"
    source.write_bytes(with_tags(with_sound(video(), "mp4", 0.2), kind, tag))
    assert source.read_bytes().count(tag) == 3
    with Mp4Writer(copy, (160, 96), 25.0, source) as writer:
        for frame in Video(source):
            writer.write(frame.image, frame.time)
    assert [corners(frame.image) for frame in Video(copy)] == [[RED, GREEN, BLUE, GREY]] * 5
    with av.open(str(copy)) as written:
        assert len(written.streams.audio) == 1
