"""The annotated video: its frames, what is drawn where, its sound, and where it refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fan_fer.base.errors import OutputError
from fan_fer.output.annotate import annotate_video
from fan_fer.output.colors import rgb, track_color
from fan_fer.prediction import ClipPrediction
from fan_fer.video.decoding import Video

from ..fakes import make_clip, names, turn, write_video

SIZE = (320, 240)


def clip_of(
    path: Path, boxes: list[tuple[float, float, float, float] | None], track: int | None = None
) -> ClipPrediction:
    """A prediction of made-up numbers with these boxes."""
    clip = make_clip(len(boxes), missing=[i for i, box in enumerate(boxes) if box is None], video=str(path))
    frames = tuple(replace(frame, box=box) for frame, box in zip(clip.frames, boxes, strict=True))
    return replace(clip, frames=frames, track=track)


def like(image: np.ndarray, color: str) -> np.ndarray:
    """Where the picture has a colour, but for what the compression does to it."""
    return np.abs(image.astype(int) - rgb(color)).max(axis=-1) < 45


def write_sound(path: Path, source: Path, codec: str, seconds: float) -> Path:
    """A copy of a video with a tone of 440 Hz."""
    with av.open(str(source)) as pictures, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(pictures.streams.video[0])
        audio = output.add_stream(codec, rate=8000, layout="mono")
        for packet in pictures.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                output.mux(packet)
        tone = np.sin(2 * np.pi * 440 / 8000 * np.arange(int(8000 * seconds)))
        frame = av.AudioFrame.from_ndarray((tone[None] * 20000).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return path


def test_the_file_is_what_browsers_play(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.avi", [[(20, 20, 60)]] * 12, SIZE)
    steps: list[tuple[str, int, int | None]] = []
    annotate_video(clip_of(source, [(20, 20, 60, 60)] * 12), tmp_path / "out.mp4", lambda *step: steps.append(step))
    assert steps == [("annotate", i + 1, 12) for i in range(12)]
    assert names(tmp_path) == ["clip.avi", "out.mp4"]
    with av.open(str(tmp_path / "out.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec.canonical_name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == SIZE
        assert stream.duration * stream.time_base == pytest.approx(12 / 25, abs=0.01)
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    frames = list(Video(tmp_path / "out.mp4"))
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(12)], abs=1e-3)


def test_boxes_are_where_the_prediction_has_them(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.avi", [[]] * 4, SIZE)
    first = [(20.0, 60.0, 80.0, 100.0), (30.0, 60.0, 80.0, 100.0), None, (20.0, 60.0, 80.0, 100.0)]
    second = [(200.0, 90.0, 60.0, 70.0)] * 4
    people = [clip_of(source, first, track=1), clip_of(source, second, track=2)]
    annotate_video(people, tmp_path / "out.mp4")
    for frame, *boxes in zip(Video(tmp_path / "out.mp4"), first, second, strict=True):
        lower = frame.image.copy()
        lower[:56] = 128  # the emotions of the clip stand above
        for track, box in enumerate(boxes, start=1):
            found = like(lower, track_color(track))
            if box is None:
                assert found.sum() < 20
                continue
            x, y, width, height = map(round, box)
            edges = (found[y, x : x + width], found[y + height, x : x + width])
            sides = (found[y : y + height, x], found[y : y + height, x + width])
            assert min(edge.mean() for edge in (*edges, *sides)) > 0.9
            inside = found[y + 6 : y + height - 6, x + 6 : x + width - 6]
            assert inside.mean() < 0.02
            assert found[y : y + height, : x - 6].mean() < 0.002  # a label above may begin further left


def test_the_bar_is_as_long_as_the_weight(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.avi", [[]] * 8, SIZE)
    clip = clip_of(source, [(60, 60, 200, 100)] * 8)
    annotate_video(clip, tmp_path / "out.mp4")
    heaviest = max(frame.weight for frame in clip.frames)
    for frame, read in zip(Video(tmp_path / "out.mp4"), clip.frames, strict=True):
        bar = frame.image[60 + 100 + 6]
        mark = like(bar, "#ffffff")
        filled = np.flatnonzero(like(bar, track_color(None)) | mark)
        length = len(filled) if len(filled) > 6 else 0
        assert length == pytest.approx(198 * read.weight / heaviest, abs=8)
    assert min(frame.weight for frame in clip.frames) < 0.5 * heaviest


@pytest.mark.parametrize("size", [(95, 64), (96, 63), (33, 31)])
def test_odd_sizes_become_even(tmp_path: Path, size: tuple[int, int]) -> None:
    source = write_video(tmp_path / "clip.avi", [[]] * 3, size)
    width, height = next(iter(Video(source))).image.shape[1::-1]
    annotate_video(clip_of(source, [(-10, -10, 200, 20), None, (20, 20, 500, 500)]), tmp_path / "out.mp4")
    frames = list(Video(tmp_path / "out.mp4"))
    assert len(frames) == 3
    assert frames[0].image.shape[1::-1] == (width + width % 2, height + height % 2)


def test_times_that_are_not_even_are_kept(tmp_path: Path) -> None:
    times = [0, 40, 100, 120, 500, 520]  # milliseconds
    with av.open(str(tmp_path / "clip.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    clip = clip_of(tmp_path / "clip.mp4", [(20, 20, 60, 60)] * 6)
    annotate_video(clip, tmp_path / "out.mp4")
    assert [frame.time for frame in Video(tmp_path / "out.mp4")] == pytest.approx([t / 1000 for t in times], abs=1e-3)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "mp3"), (".mov", "pcm_s16le")])
def test_sound_is_kept(tmp_path: Path, suffix: str, codec: str) -> None:
    silent = write_video(tmp_path / "silent.mp4", [[]] * 25, SIZE)
    source = write_sound(tmp_path / f"clip{suffix}", silent, codec, seconds=1)
    annotate_video(clip_of(source, [None] * 24 + [(20, 20, 60, 60)]), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec.canonical_name == "aac"
        sound = np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])
    assert len(sound) / 8000 == pytest.approx(1, abs=0.3)
    spectrum = np.abs(np.fft.rfft(sound - sound.mean()))
    assert spectrum.argmax() * 8000 / len(sound) == pytest.approx(440, abs=10)
    assert len(list(Video(tmp_path / "out.mp4"))) == 25


def test_sound_that_no_decoder_is_there_for_is_left_out(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", [[]] * 4, SIZE)
    source = write_sound(tmp_path / "clip.mkv", silent, "mp3", seconds=0.2)
    source.write_bytes(source.read_bytes().replace(b"A_MPEG/L3", b"A_XYZ9/L3"))
    annotate_video(clip_of(source, [(20, 20, 60, 60)] * 4), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_browser_plays_it(chromium: str, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    silent = write_video(tmp_path / "silent.mp4", [[(20, 20, 60)]] * 25, SIZE)
    source = write_sound(tmp_path / "clip.mp4", silent, "aac", seconds=1)
    annotate_video(clip_of(source, [(20, 20, 60, 60)] * 25), tmp_path / "out.mp4")
    (tmp_path / "page.html").write_text('<video src="out.mp4" muted></video>')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        played = page.evaluate("""async () => {
          const video = document.querySelector("video");
          const ended = new Promise((resolve, reject) => {
            video.onended = resolve;
            video.onerror = () => reject(video.error.message);
          });
          await video.play();
          await ended;
          return [video.videoWidth, video.videoHeight, video.currentTime, video.webkitAudioDecodedByteCount];
        }""")
        browser.close()
    assert played[:2] == [320, 240]
    assert played[2] == pytest.approx(1, abs=0.3)
    assert played[3] > 0


def test_a_phone_s_rotation_is_applied(tmp_path: Path) -> None:
    source = turn(write_video(tmp_path / "phone.mp4", [[(60, 60, 80)]] * 3, SIZE))
    width, height = SIZE
    annotate_video(clip_of(source, [(height - 140.0, 60.0, 80.0, 80.0)] * 3), tmp_path / "out.mp4")
    image = next(iter(Video(tmp_path / "out.mp4"))).image
    assert image.shape[:2] == (width, height)
    face = image[70:130, height - 130 : height - 70]
    assert np.median(face[..., 0]) > 200 > 100 > np.median(face[..., 1])


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.avi", [[]] * 3, SIZE)
    (tmp_path / "out.mp4").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"^[^\n]*out\.mp4: cannot be written \(No space left on device\)$"):
        annotate_video(clip_of(source, [(20, 20, 60, 60)] * 3), tmp_path / "out.mp4")


def test_a_still_image_becomes_a_video_of_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "face.png"), np.full((100, 120, 3), 90, np.uint8))
    annotate_video(clip_of(tmp_path / "face.png", [(20, 40, 60, 40)]), tmp_path / "out.mp4")
    assert len(list(Video(tmp_path / "out.mp4"))) == 1


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", [[]] * 2, SIZE)
    before = source.read_bytes()
    clip = clip_of(source, [(20, 20, 60, 60)] * 2)
    (tmp_path / "link.mp4").symlink_to("clip.mp4")
    for name, message in (
        ("clip.mp4", "is the clip itself"),
        ("link.mp4", "is the clip itself"),
        ("out.avi", "ends in .mp4"),
        ("none/out.mp4", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=message):
            annotate_video(clip, tmp_path / name)
    with pytest.raises(ValueError, match="prediction: has no video"):
        annotate_video(make_clip(2, video=None), tmp_path / "out.mp4")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate_video(clip, tmp_path / "out.mp4", stop)
    assert source.read_bytes() == before
    assert names(tmp_path) == ["clip.mp4", "link.mp4"]


def test_a_size_that_changes_midway_is_scaled_to_the_first(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.ts"), "w") as first, av.open(str(tmp_path / "b.ts"), "w") as second:
        for output, size in ((first, (64, 48)), (second, (48, 96))):
            stream = output.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for _ in range(6):
                image = np.full((size[1], size[0], 3), 200, np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode(None))
    source = tmp_path / "clip.ts"
    source.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    annotate_video(clip_of(source, [(20, 20, 10, 10)]), tmp_path / "out.mp4")
    frames = list(Video(tmp_path / "out.mp4"))
    assert len(frames) > 10
    last = frames[-1].image
    assert last.shape == (48, 64, 3)
    assert last[40].mean(axis=-1) == pytest.approx([0] * 20 + [200] * 24 + [0] * 20, abs=30)


def test_pixels_become_square(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "wide.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 80, 3), 200, np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    annotate_video(clip_of(tmp_path / "wide.mp4", [(20, 20, 10, 10)]), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        (stream,) = container.streams
        assert (stream.width, stream.height) == (160, 48)
        assert stream.sample_aspect_ratio in (None, 0, 1)
