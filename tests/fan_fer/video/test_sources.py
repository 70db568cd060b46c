"""What a user may call a clip, and names that are unlike others."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from fan_fer.base.errors import VideoError
from fan_fer.video.ahead import ahead, latest, paced
from fan_fer.video.frame import FALLBACK_FPS, Clip, Frame, read_frames
from fan_fer.video.images import read_image
from fan_fer.video.sources import list_videos, open_clip, passed_over

from .made import BLUE, GREEN, GREY, RED, corners, quadrants, video

IMAGES = [np.full((8, 12, 3), 10 * number, np.uint8) for number in range(5)]


def write_image(path: Path, image: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
    return path


def seen(clip: Clip) -> list[tuple[int, float, int]]:
    return [(frame.index, round(frame.time, 6), int(frame.image[0, 0, 0])) for frame in clip]


EXPECTED = [(number, number / FALLBACK_FPS, 10 * number) for number in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose order by number is not that by letter, and what is no part of the clip."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        write_image(folder / f"frame{7 + number}.png", image)
    (folder / "notes.txt").write_text("none of them")
    (folder / ".hidden.png").write_text("none of them")
    return folder


def test_a_folder_of_images(folder: Path) -> None:
    clip = open_clip(str(folder))
    assert seen(clip) == EXPECTED
    assert (clip.name, clip.fps, clip.frame_count, clip.consecutive) == (str(folder), FALLBACK_FPS, 5, False)
    assert sorted(read_frames(clip, [1, 3, 9])) == [1, 3]


def test_damaged_images_are_named_and_their_numbers_kept(folder: Path) -> None:
    (folder / "frame8.png").write_bytes(b"no image")
    (folder / "frame9.png").write_bytes(b"")
    clip = open_clip(folder)
    assert seen(clip) == [EXPECTED[0], *EXPECTED[3:]]
    assert list(clip.damaged) == [1, 2]
    assert "frame8.png: not an image, or a damaged one" in clip.damaged[1]


def test_a_list_of_images(folder: Path) -> None:
    files = [folder / f"frame{number}.png" for number in (9, 7)]
    assert [pixel for _, _, pixel in seen(open_clip(files))] == [20, 0]
    assert [pixel for _, _, pixel in seen(open_clip(tuple(map(str, files))))] == [20, 0]


def test_arrays_and_iterators() -> None:
    timed = [(0.0, IMAGES[0]), (0.5, IMAGES[1]), (np.float64(2), IMAGES[2])]
    frames = [Frame(3, 1.0, IMAGES[0]), Frame(7, 1.5, IMAGES[1])]
    assert seen(open_clip(np.stack(IMAGES))) == EXPECTED
    for again in range(2):
        clip = open_clip(IMAGES)
        assert seen(clip) == EXPECTED, again
    assert seen(open_clip(iter(IMAGES))) == EXPECTED
    assert seen(open_clip(iter(timed))) == [(0, 0.0, 0), (1, 0.5, 10), (2, 2.0, 20)]
    assert seen(open_clip(frame for frame in frames)) == [(3, 1.0, 0), (7, 1.5, 10)]
    clip = open_clip(np.stack(IMAGES))
    assert open_clip(clip) is clip
    assert clip.name is None


def test_an_iterator_is_read_once() -> None:
    clip = open_clip(iter(IMAGES))
    list(clip)
    with pytest.raises(ValueError, match="can be read once"):
        list(clip)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((2, 8, 8), np.uint8), r"clip: got an array of shape \(2, 8, 8\); wanted RGB"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"clip\[0\]: got shape \(8, 8, 4\); wanted RGB"),
        (np.zeros((2, 8, 8, 3), np.float32), r"clip\[0\]: got dtype float32; wanted RGB images of uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), "clip: got no image"),
        ([np.zeros((8, 8), np.uint8)], r"clip\[0\]: got shape \(8, 8\)"),
        ([IMAGES[0], None], r"clip\[1\]: got NoneType"),
        ([(1.0, IMAGES[0]), (1.0, IMAGES[1])], r"clip\[1\]: got 1.0 s after 1.0 s"),
        ([(0.0, IMAGES[0]), (float("nan"), IMAGES[1])], r"clip\[1\]: got nan s"),
        ([], "clip: got nothing"),
        (None, "clip: got NoneType"),
        (True, "clip: got bool"),
        (2.5, "clip: got float"),
    ],
)
def test_what_is_no_clip_is_named(source: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^{words}[^\n]*$"):
        list(open_clip(source))


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_the_bytes_of_a_file(kind: type) -> None:
    assert len(list(open_clip(kind(video())))) == 5
    (frame,) = open_clip(kind(cv2.imencode(".png", quadrants())[1].tobytes()))
    assert corners(frame.image) == [BLUE, GREEN, RED, GREY]


NAMES = [
    b"z\xc4\xe3.mp4",
    ("表" * 80).encode() + b"x.mp4",
    b"concat:a.mp4",
    b"http:x.mp4",
    b"frame%03d.mp4",
    b"line\nbreak.mp4",
    b"-",
    b"no suffix",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name)
    Path(path).write_bytes(video(images=2))
    clip = open_clip(path)
    assert len(list(clip)) == 2
    assert clip.name == path
    os.unlink(path)  # noqa: PTH108
    with pytest.raises(VideoError, match=r"^[^\n]*: no such file$"):
        open_clip(path)


@pytest.mark.parametrize("name", [b"z\xc4\xe3.png", ("表" * 80).encode() + b"x.jpg"])
def test_any_name_will_do_for_an_image(tmp_path: Path, name: bytes) -> None:
    path = write_image(tmp_path / os.fsdecode(name), quadrants())
    assert corners(read_image(path)) == [RED, GREEN, BLUE, GREY]
    (frame,) = open_clip(path)
    assert corners(frame.image) == [RED, GREEN, BLUE, GREY]


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop.mp4").symlink_to("loop.mp4")
    Path("void").mkdir()
    Path("file").touch()
    sources = {
        "a" * 5000: "too long",
        "zero\0byte": "null byte",
        "loop.mp4": "links",
        "void": "no image in this folder",
        "file/clip.mp4": "Not a directory",
        "file": "the file is empty",
        "/dev/null": "not a file",
        "http://127.0.0.1:9/clip.mp4": "cannot be opened",
        "none://clip": "cannot be opened",
        b"": "empty",
        b"text": "not a video",
        93: "camera 93: no such camera",
    }
    for source, words in sources.items():
        with pytest.raises(VideoError, match=rf"^[^\n]*{words}[^\n]*$"):
            open_clip(source)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_address(tmp_path: Path, address: str) -> None:
    (tmp_path / "clip.mkv").write_bytes(video("matroska"))
    clip = open_clip(f"{address}/clip.mkv")
    assert clip.name == f"{address}/clip.mkv"
    assert len(list(clip)) == 5
    with pytest.raises(VideoError, match="cannot be opened"):
        open_clip(f"{address}/none.mkv")


def test_ahead_gives_the_frames_and_the_error_of_the_clip() -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from IMAGES[:2]
        raise VideoError("broken")

    frames = ahead(open_clip(failing()))
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(VideoError, match="broken"):
        next(frames)


def test_list_videos_expands_folders(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.AVI", "sub/c.mov", "notes.txt", ".hidden.mp4", "still.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "void").mkdir()
    listed = list_videos([tmp_path, tmp_path / "notes.txt", tmp_path / "void", "missing.mp4"])
    assert [path.name for path in listed] == ["a.AVI", "b.mp4", "c.mov", "notes.txt", "void", "missing.mp4"]


def test_folders_of_pictures_are_clips_where_there_is_nothing_else(tmp_path: Path) -> None:
    for name in ("one/1.png", "one/2.jpg", "one/notes.txt", "two/deep/1.webp", "two/.hidden.png", "void/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_videos([tmp_path]) == [tmp_path / "one", tmp_path / "two" / "deep"]
    assert passed_over(tmp_path) == ["one/notes.txt", "void/a.txt"]
    assert list_videos([tmp_path / "void"]) == [tmp_path / "void"]
    (tmp_path / "two" / "clip.mp4").touch()
    assert list_videos([tmp_path]) == [tmp_path / "two" / "clip.mp4"]
    assert passed_over(tmp_path) == ["one/1.png", "one/2.jpg", "one/notes.txt", "two/deep/1.webp", "void/a.txt"]


def test_the_latest_frame_takes_the_place_of_those_before() -> None:
    gone_by = threading.Event()

    def quick() -> Iterator[Frame]:
        for index in range(50):
            yield Frame(index, index / 25, IMAGES[0])
        gone_by.set()

    frames = latest(quick())
    first = next(frames).index
    assert gone_by.wait(10)
    assert [frame.index for frame in frames] in ([49], [] if first == 49 else [49])

    def failing() -> Iterator[Frame]:
        yield Frame(0, 0.0, IMAGES[0])
        raise VideoError("broken")

    frames = latest(failing())
    assert next(frames).index == 0
    with pytest.raises(VideoError, match="broken"):
        next(frames)


def test_the_latest_frame_leaves_a_source_that_is_silent() -> None:
    silent = threading.Event()

    def stalled() -> Iterator[Frame]:
        yield Frame(0, 0.0, IMAGES[0])
        silent.wait(30)

    frames = latest(stalled())
    next(frames)
    start = time.monotonic()
    frames.close()
    assert time.monotonic() - start < 5
    silent.set()


def test_paced_frames_come_when_they_are_due() -> None:
    start = time.monotonic()
    frames = list(paced(Frame(index, 7 + index / 20, IMAGES[0]) for index in range(5)))
    assert [frame.time for frame in frames] == [7 + index / 20 for index in range(5)]
    for frame in frames:
        assert frame.arrived - start >= frame.time - 7 - 1e-3
    assert frames[-1].arrived - start < 5


def test_an_address_without_an_end_is_live(tmp_path: Path, address: str) -> None:
    """MPEG-TS over UDP, as a camera in the network sends it; what a server has as a file is read to its end."""
    (tmp_path / "clip.mkv").write_bytes(video("matroska"))
    assert not open_clip(f"{address}/clip.mkv").live
    assert not open_clip(tmp_path / "clip.mkv").live
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{free.getsockname()[1]}"
    ended = threading.Event()

    def send() -> None:
        with av.open(f"{url}?pkt_size=1316", "w", format="mpegts") as out:
            stream = out.add_stream("mpeg2video", rate=25, options={"g": "5"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            number = 0
            while not ended.wait(0.005):
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
                picture.pts, number = number, number + 1
                out.mux(stream.encode(picture))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        clip = open_clip(url)
        assert clip.live
        frames = latest(clip)
        assert [next(frames).image.shape for _ in range(3)] == [(48, 64, 3)] * 3
        frames.close()
    finally:
        ended.set()
        sender.join()
