"""Reading videos and still images: frames, times, rotation, and what is said of files that are not right."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fan_fer.base.errors import VideoError
from fan_fer.video.decoding import Video
from fan_fer.video.frame import FALLBACK_FPS

from .made import BLUE, GREEN, GREY, RED, corners, quadrants


def write_video(path: Path, images: list[np.ndarray], fps: float = 12.5, codec: str = "mp4v") -> Path:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def atom(data: bytes | bytearray, name: bytes) -> int:
    """Where the contents of an mp4 file's box begin."""
    return data.index(name) + 4


def test_frames_are_rgb_numbered_and_timed(tmp_path: Path) -> None:
    video = Video(write_video(tmp_path / "clip.mp4", [quadrants()] * 7))
    frames = list(video)
    assert video.fps == pytest.approx(12.5)
    assert video.frame_count == 7
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(7) / 12.5)
    for frame in frames:
        assert frame.image.shape == (96, 160, 3)
        assert frame.image.dtype == np.uint8
        assert corners(frame.image) == [RED, GREEN, BLUE, GREY]
    assert video.warnings == []


def test_iterating_again_starts_anew(tmp_path: Path) -> None:
    video = Video(write_video(tmp_path / "clip.mp4", [quadrants()] * 3))
    first = next(iter(video))
    assert [frame.index for frame in video] == [0, 1, 2]
    assert [frame.index for frame in video] == [0, 1, 2]
    assert np.array_equal(next(iter(video)).image, first.image)


def test_times_are_those_of_the_frames_not_of_the_frame_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [quadrants()] * 4, fps=10)
    data = bytearray(path.read_bytes())
    timescale = struct.unpack(">I", data[atom(data, b"mdhd") + 12 :][:4])[0]
    runs = atom(data, b"stts")
    entries, count, duration = struct.unpack(">3I", data[runs + 4 : runs + 16])
    assert (entries, count, duration) == (1, 4, timescale // 10)
    data[runs + 12 : runs + 16] = struct.pack(">I", timescale // 4)
    start = data.index(b"edts")
    data[start : start + 4] = b"free"  # an edit list would cut the clip at its old duration
    path.write_bytes(data)
    assert [frame.time for frame in Video(path)] == pytest.approx([0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize("codec", ["MJPG", "mp4v"])
@pytest.mark.parametrize("shape", [(97, 161), (16, 16), (50, 300)])
def test_odd_sizes_and_a_single_frame(tmp_path: Path, codec: str, shape: tuple[int, int]) -> None:
    path = write_video(tmp_path / "clip.avi", [np.full((*shape, 3), 90, np.uint8)], codec=codec)
    frames = list(Video(path))
    assert len(frames) == 1
    assert frames[0].time == 0
    assert np.abs(np.subtract(frames[0].image.shape[:2], shape)).max() <= 1  # a codec may round to even


def test_grey_video_becomes_rgb(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "g.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 25, (64, 48), False)
    writer.write(np.full((48, 64), 77, np.uint8))
    writer.release()
    (frame,) = Video(tmp_path / "g.avi")
    assert frame.image.shape == (48, 64, 3)
    assert np.abs(frame.image.astype(int) - 77).max() <= 2


def test_read_gives_the_frames_asked_for(tmp_path: Path) -> None:
    images = [np.full((64, 64, 3), 20 * i + 20, np.uint8) for i in range(8)]
    video = Video(write_video(tmp_path / "clip.mp4", images))
    chosen = video.read([5, 2, 99])
    assert sorted(chosen) == [2, 5]
    assert chosen[2].mean() == pytest.approx(60, abs=4)
    assert chosen[5].mean() == pytest.approx(120, abs=4)
    assert video.read([]) == {}


def test_still_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    for name in ("still.png", "frame_001.jpg", "frame_002.JPG"):
        cv2.imwrite(str(tmp_path / name), cv2.cvtColor(quadrants(), cv2.COLOR_RGB2BGR))
    for name in ("still.png", "frame_001.jpg", "frame_002.JPG"):
        video = Video(tmp_path / name)
        (frame,) = video
        assert (video.frame_count, video.fps, frame.index, frame.time) == (1, FALLBACK_FPS, 0, 0.0)
        assert corners(frame.image) == [RED, GREEN, BLUE, GREY]
    assert list(video.read([0])) == [0]


def broken_files(folder: Path) -> dict[str, str]:
    """Names of files that are no videos, with a word that the message about each must hold."""
    whole = write_video(folder / "whole.mp4", [quadrants()] * 5).read_bytes()
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "cut.mp4").write_bytes(whole[: whole.index(b"moov") - 20])  # the index stands at the end
    header = whole[: whole.index(b"mdat") - 4]
    index = whole[whole.index(b"moov") - 4 :]
    (folder / "no_data.mp4").write_bytes(header + index)
    (folder / "text.png").write_text("This is not an image.")
    (folder / "folder.mp4").mkdir()
    return {
        "missing.mp4": "no such file",
        "folder.mp4": "not a file",
        "text.mp4": "not a video",
        "empty.mp4": "empty",
        "noise.avi": "not a video",
        "cut.mp4": "not a video",
        "no_data.mp4": "no frame",
        "text.png": "not an image",
    }


def test_files_that_are_no_videos_are_named_in_one_line(tmp_path: Path) -> None:
    for name, words in broken_files(tmp_path).items():
        with pytest.raises(VideoError) as caught:
            Video(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / name)), message
        assert words in message
        assert "\n" not in message


def test_nothing_but_our_messages_reaches_the_terminal(tmp_path: Path) -> None:
    names = list(broken_files(tmp_path))
    program = (
        "import os, sys\n"
        "from fan_fer.video.decoding import Video\n"
        "from fan_fer.base.errors import VideoError\n"
        "before = dict(os.environ)\n"
        "for path in sys.argv[1:]:\n"
        "    try: list(Video(path))\n"
        "    except VideoError: print('refused')\n"
        "assert dict(os.environ) == before\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV")}
    done = subprocess.run(
        [sys.executable, "-c", program, *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "refused\n" * len(names)


def test_video_that_ends_early_is_used_and_reported(tmp_path: Path, clips: Path) -> None:
    data = (clips / "WolfgangLanger_Pexels.mp4").read_bytes()  # its index comes first
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    video = Video(tmp_path / "half.mp4")
    assert video.frame_count == 472
    frames = sum(1 for _ in video)
    assert 100 < frames < 400
    (warning,) = video.warnings
    assert f"{frames} of 472 frames" in warning
    assert "half.mp4" in warning
    next(iter(video))
    assert video.warnings == []  # an iteration that is broken off knows nothing of the end


def test_real_clips(clips: Path) -> None:
    expected = {"single_face.mp4": (72, (360, 640)), "no_face.mp4": (95, (540, 960))}
    for name, (count, shape) in expected.items():
        video = Video(clips / name)
        times = []
        for frame in video:
            assert frame.image.shape[:2] == shape
            times.append(frame.time)
        assert len(times) == count
        assert np.all(np.diff(times) > 0)
        assert times[-1] == pytest.approx(count / video.fps, rel=0.1)
        assert video.warnings == []


def test_variable_frame_rate(clips: Path) -> None:
    times = [frame.time for frame in Video(clips / "noface_face.mov")]
    steps = np.diff(times)
    assert len(times) == 169
    assert steps.min() == pytest.approx(0.0137, abs=1e-4)
    assert steps.max() == pytest.approx(0.0417, abs=1e-4)
