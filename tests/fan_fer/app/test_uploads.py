"""How long an uploaded clip may be, and the copy of it that every browser plays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fan_fer.app.reading import VIDEO, write_playable
from fan_fer.app.uploads import Limits, TooLarge, Upload, check_upload
from fan_fer.video.decoding import Video

from ..fakes import turn, write_video

SECOND = Limits(minutes=1 / 60)


def recorded(path: Path, times: list[int], header: bool) -> Path:
    """A WebM of pictures at so many milliseconds; without a header's length, as browsers record, if that is wanted."""
    with av.open(str(path), "w", options={} if header else {"live": "1"}) as output:
        stream = output.add_stream("libvpx", rate=1000, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_the_header_s_seconds_are_what_counts(tmp_path: Path) -> None:
    check_upload(recorded(tmp_path / "a.webm", list(range(0, 900, 100)), header=True), "a.webm", SECOND)
    long = recorded(tmp_path / "b.webm", list(range(0, 12_000, 1000)), header=True)
    with pytest.raises(TooLarge, match=r"^b\.webm: lasts 1[12].* seconds; at most 1 seconds are taken"):
        check_upload(long, "b.webm", SECOND)


def test_without_a_header_the_frames_tell(tmp_path: Path) -> None:
    # At 60 a second they would take longer than is taken.
    quick = recorded(tmp_path / "quick.webm", list(range(0, 950, 10)), header=False)
    check_upload(quick, "quick.webm", SECOND)
    assert sum(1 for _ in Upload(quick, "quick.webm", SECOND)) == 95
    slow = recorded(tmp_path / "slow.webm", list(range(0, 4000, 400)), header=False)
    check_upload(slow, "slow.webm", SECOND)
    with pytest.raises(TooLarge, match=r"^slow\.webm: lasts 1\.2 seconds; at most 1 seconds are taken"):
        list(Upload(slow, "slow.webm", SECOND))


def test_the_playable_copy_lies_as_the_clip_does(tmp_path: Path) -> None:
    turn(write_video(tmp_path / "phone.mp4", [[(10, 10, 20)]] * 4)).rename(tmp_path / VIDEO)
    copy = [frame.image for frame in Video(write_playable(tmp_path))]
    images = [frame.image for frame in Video(tmp_path / VIDEO)]
    assert len(copy) == len(images) == 4
    assert copy[0].shape == images[0].shape == (96, 64, 3)
    assert np.abs(copy[0].astype(int) - images[0]).mean() < 8
