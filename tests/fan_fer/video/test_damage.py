"""What is said of files that broke off or were overwritten, and that nothing is said of those that were cut."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from fan_fer.video.decoding import Video

from .made import video, with_edits, with_sound


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(count)]


def cut(data: bytes, kind: str, first: float, last: float, key: bool = False) -> bytes:
    """What lies between two times in seconds, cut out without encoding it anew.

    key: with what stands before since the last key frame, at times below 0.
    """
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=kind) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        begin = first
        if key:
            times = [packet.pts * packet.time_base for packet in packets if packet.is_keyframe]
            begin = max(time for time in times if time <= first)
        for packet in packets:
            if begin <= packet.pts * packet.time_base < last:
                if key:
                    shift = round(first / packet.time_base)
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


GROUPS = {
    "one after the other": {"g": "20", "bf": "0"},
    "B-frames": {"g": "20", "bf": "2"},
    "open groups": {"bf": "3", "x264-params": "keyint=20:open-gop=1"},
}


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska", "mpegts", "flv", "avi"])
@pytest.mark.parametrize("options", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("key", [False, True])
def test_a_recording_cut_out_of_another_is_not_damaged(kind: str, options: dict[str, str], key: bool) -> None:
    whole = video("mpegts" if kind in ("mpegts", "avi") else "mp4", images=60, options=options)
    clip = Video(cut(whole, kind, 0.9, 1.9, key))
    frames = list(clip)
    assert len(frames) >= 6
    assert np.diff([frame.time for frame in frames]).min() > 0
    assert clip.warnings == []


@pytest.mark.parametrize("part", [0.1, 0.37, 0.63])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_broadcast_that_is_joined_midway_is_not_damaged(codec: str, part: float) -> None:
    data = video("mpegts", codec, images=noise(60), options={"g": "12", "bf": "2"})
    clip = Video(data[188 * int(part * len(data) / 188) :])
    assert len(list(clip)) > 10
    assert clip.warnings == []


@pytest.mark.parametrize(
    ("edits", "count"),
    [
        ([(1000, 0)], 25),
        ([(1000, 16896)], 25),
        ([(2000, -1), (1000, 16896)], 25),
        ([(9000, 0)], 60),
    ],
)
def test_an_edit_that_shows_a_part_is_not_damage(edits: Sequence[tuple[int, int]], count: int) -> None:
    clip = Video(with_edits(video(images=60, options={"g": "15", "bf": "0"}), edits))
    frames = list(clip)
    assert len(frames) == count
    assert frames[0].time == 0
    assert frames[-1].time == pytest.approx((count - 1) / 25)
    assert clip.warnings == []


@pytest.mark.parametrize(
    "stamps",
    [
        [0, 40, 40, 80, 120, 160, 9000, 9040],
        [0, 1, 2, 3, 4, 5, 6, 5000],
        [5000, 5040, 5041, 5042, 5200, 7000, 7001, 7002],
    ],
)
def test_odd_stamps_are_not_damage(stamps: list[int]) -> None:
    clip = Video(with_sound(video("matroska", "ffv1", images=8, stamps=stamps), "matroska", 20))
    assert len(list(clip)) == 8
    assert clip.warnings == []


def test_an_avi_that_counts_more_finely_than_its_pictures_is_not_damaged() -> None:
    clip = Video(cut(video("mp4", "mpeg4", images=20), "avi", 0, 9))
    assert clip.frame_count != 20  # it counts the places that hold nothing
    assert len(list(clip)) == 20
    assert clip.warnings == []


def index_first(data: bytes, path: Path, kind: str = "mp4", flags: str = "+faststart") -> bytes:
    """An MP4 file whose index stands in front, as in those made for the web."""
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(str(path), "w", format=kind, options={"movflags": flags}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return path.read_bytes()


QUICK = {"g": "10", "preset": "ultrafast", "deadline": "realtime", "cpu-used": "8"}
KINDS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("libx264", "yuv420p"),
    "matroska": ("libx264", "yuv420p"),
    "webm": ("libvpx", "yuv420p"),
    "flv": ("libx264", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "asf": ("wmv2", "yuv420p"),
    "ogg": ("libvpx", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "apng": ("apng", "rgb24"),
}


@pytest.mark.parametrize("part", [0.5, 0.9])
@pytest.mark.parametrize("kind", [*KINDS, "fragments"])
def test_a_file_that_lost_its_end_is_reported(tmp_path: Path, kind: str, part: float) -> None:
    codec, pixels = KINDS["mp4" if kind == "fragments" else kind]
    data = video("mp4" if kind == "fragments" else kind, codec, pixels, images=noise(40), options=QUICK)
    if kind in ("mp4", "mov", "fragments"):
        flags = "frag_keyframe+empty_moov" if kind == "fragments" else "+faststart"
        data = index_first(data, tmp_path / "clip", "mov" if kind == "mov" else "mp4", flags)
    whole, rest = Video(data), Video(data[: int(part * len(data))])
    assert sum(1 for _ in whole) == 40
    assert whole.warnings == []
    count = sum(1 for _ in rest)
    assert 40 * part - 15 < count < 40
    (warning,) = rest.warnings
    assert f"incomplete or damaged: {count} " in warning


def test_a_live_recording_has_no_end_to_lose() -> None:
    data = video("matroska", "ffv1", images=noise(10))
    segment = data.index(b"\x18\x53\x80\x67") + 4
    endless = data[:segment] + b"\x01" + b"\xff" * 7 + data[segment + 8 :]
    for clip in (Video(endless), Video(endless[: 2 * len(endless) // 3])):
        assert 5 <= len(list(clip)) <= 10
        assert clip.warnings == []


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "libx264"), ("mov", "mpeg4"), ("avi", "mpeg4")])
def test_what_follows_a_damaged_place_is_read(kind: str, codec: str) -> None:
    data = bytearray(video(kind, codec, images=noise(60), options={"g": "10"}))
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    clip = Video(bytes(data))
    frames = list(clip)
    assert 40 < len(frames) <= 60
    if kind != "avi":  # there the places of the pictures that are lost are lost, too
        assert frames[-1].time == pytest.approx(59 / 25)
    (warning,) = clip.warnings
    assert f"{len(frames)} of 60 frames" in warning


def test_what_stands_behind_the_end_is_no_loss() -> None:
    for kind, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")):
        for more in (b"\0" * 5000, b"more" * 1000, struct.pack(">I", 99_999_999) + b"uuid" + bytes(100)):
            clip = Video(video(kind, codec, images=10) + more)
            assert len(list(clip)) == 10
            assert clip.warnings == []
