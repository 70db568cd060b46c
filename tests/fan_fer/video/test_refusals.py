"""What is no video, and what cannot be decoded: one line that says why, and what would help."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from fan_fer.base.errors import VideoError
from fan_fer.video import decoding
from fan_fer.video.decoding import Video
from fan_fer.video.sources import open_clip

from .made import BLUE, GREEN, GREY, RED, corners, heic, quadrants, video, with_sound

HELP = r"cannot be decoded here; as H\.264 they can: ffmpeg -i IN -c:v libx264 OUT\.mp4$"


def refusal(data: bytes) -> str:
    with pytest.raises(VideoError) as caught:
        Video(data)
    message = str(caught.value)
    assert message.startswith("the clip: ")
    assert "\n" not in message
    return message.removeprefix("the clip: ")


def song(kind: str, codec: str = "aac", cover: str | None = "mjpeg", marked: bool = True) -> bytes:
    """A second of silence with a cover picture, which need not be marked as one."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as output:
        sound = output.add_stream(codec, rate=44100)
        if cover is not None:
            picture = output.add_stream(cover, rate=1)
            picture.width, picture.height = 160, 96
            picture.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}.get(cover, "yuv420p")
            picture.disposition = Disposition.attached_pic if marked else Disposition(0)
        output.start_encoding()
        if cover is not None:
            output.mux(picture.encode(av.VideoFrame.from_ndarray(quadrants(), format="rgb24")))
            output.mux(picture.encode(None))
        change = av.AudioResampler(sound.codec_context.format.name, sound.codec_context.layout.name, 44100)
        for number in range(20):
            silence = np.zeros((1, sound.codec_context.frame_size or 2048), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, number * silence.size
            for each in change.resample(frame):
                output.mux(sound.encode(each))
        output.mux(sound.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "codec", "cover", "marked"),
    [
        ("mp3", "libmp3lame", "mjpeg", True),
        ("mp3", "libmp3lame", "png", True),
        ("mp4", "aac", "mjpeg", True),
        ("flac", "flac", "mjpeg", True),
        ("mp4", "aac", "png", False),
        ("mov", "aac", "mjpeg", False),
        ("mp4", "aac", "libx264", False),
        ("matroska", "aac", "mjpeg", False),
        ("matroska", "aac", "libx264", False),
        ("avi", "libmp3lame", "mjpeg", False),
    ],
)
def test_a_song_with_a_cover_is_no_video(kind: str, codec: str, cover: str, marked: bool) -> None:
    assert refusal(song(kind, codec, cover, marked)) == "no video in it, only sound and a cover picture"


def test_a_song_with_an_image_attached_is_no_video() -> None:
    file = io.BytesIO()
    jpeg = video("mjpeg", "mjpeg", "yuvj420p", images=1)
    with av.open(io.BytesIO(song("matroska", cover=None))) as source, av.open(file, "w", format="matroska") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        output.add_attachment("cover.jpg", "image/jpeg", jpeg)
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    assert refusal(file.getvalue()) == "no video in it, only sound and a cover picture"


@pytest.mark.parametrize("kind", ["mp4", "matroska", "mpegts", "mp3"])
def test_sound_alone_is_no_video(kind: str) -> None:
    assert refusal(song(kind, "libmp3lame" if kind == "mp3" else "aac", None)) == "no video in it, only sound"


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_cover_before_the_video_is_passed_over(kind: str, marked: bool) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as output:
        streams = [output.add_stream(codec, rate=25) for codec in ("mjpeg", "libx264")]
        for stream, pixels in zip(streams, ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = 160, 96, pixels
        if marked:
            streams[0].disposition = Disposition.attached_pic
        output.start_encoding()
        images = [np.full((96, 160, 3), 200, np.uint8), *[quadrants()] * 5]
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = max(0, number - 1)
            output.mux(streams[min(number, 1)].encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    frames = list(Video(file.getvalue()))
    assert [corners(frame.image) for frame in frames] == [[RED, GREEN, BLUE, GREY]] * 5


@pytest.mark.parametrize("kind", ["mp4", "matroska", "avi"])
def test_few_pictures_beside_sound_are_a_video(kind: str) -> None:
    data = with_sound(video(kind, "mpeg4", images=2), kind, 2, "libmp3lame" if kind == "avi" else "aac")
    assert len(list(Video(data))) == 2


def checksum(data: bytes) -> int:
    """That of the tables of MPEG-TS."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ 0x04C11DB7 if value >> 31 else value << 1
            value &= 0xFFFFFFFF
    return value


def with_stream_type(data: bytes, number: int) -> bytes:
    """An MPEG-TS whose table says that its one stream is of another type."""
    changed = bytearray(data)
    for place in range(0, len(data), 188):
        if int.from_bytes(data[place + 1 : place + 3], "big") & 0x1FFF == 0x1000:
            start = place + 5 + data[place + 4]
            end = start - 1 + (int.from_bytes(data[start + 1 : start + 3], "big") & 0xFFF)
            changed[start + 12] = number
            changed[end : end + 4] = checksum(changed[start:end]).to_bytes(4, "big")
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (r" \(zzz1\)", video().replace(b"avc1", b"zzz1")),
        (r" \(EVC\)", video("mov").replace(b"avc1", b"evc1")),
        (r" \(Blackmagic RAW\)", video("mov").replace(b"avc1", b"brxq")),
        (r" \(Canon RAW\)", with_sound(video(), "mp4", 1).replace(b"avc1", b"CRAW")),
        (r" \(V_MPEG9/ISO/XYZ\)", video("matroska").replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ")),
        (r" \(XYZ1\)", video("avi").replace(b"H264", b"XYZ1")),
        ("", with_stream_type(video("mpegts", images=20), 0xD4)),
        ("", video("flv", images=1).replace(b"\x17\x00\x00\x00\x00", b"\x1f\x00\x00\x00\x00")),
    ],
)
def test_codecs_that_no_decoder_is_there_for(name: str, data: bytes) -> None:
    with pytest.raises(VideoError, match=rf"^the clip: its pictures are in a format{name} that {HELP}"):
        Video(data)


@pytest.mark.parametrize(("kind", "codec"), [("mp4", b"av01"), ("matroska", b"V_AV1")])
def test_av1_where_only_a_graphics_card_could_decode_it(
    monkeypatch: pytest.MonkeyPatch, kind: str, codec: bytes
) -> None:
    def decode(*_: object) -> None:
        raise av.error.NotImplementedError(38, "Function not implemented")

    monkeypatch.setattr(decoding._Decoding, "_decode", decode)
    data = video(kind, images=2).replace(b"V_MPEG4/ISO/AVC", codec.ljust(15, b"\0")).replace(b"avc1", codec)
    with pytest.raises(VideoError, match=rf"^the clip: its pictures are in a format \(AV1\) that {HELP}"):
        Video(data)


def test_pictures_that_their_decoder_does_not_begin_with() -> None:
    data = video("avi", "huffyuv", "yuv422p")
    with av.open(io.BytesIO(data)) as container:
        tables = container.streams.video[0].codec_context.extradata
    assert refusal(data.replace(tables, b"\xff" * len(tables))) == "no frame of this video can be decoded"


def test_what_is_encrypted() -> None:
    for code in (b"encv", b"drmi"):
        assert refusal(video().replace(b"avc1", code)) == "its pictures are encrypted"


def test_what_is_something_else(tmp_path: Path) -> None:
    files = {
        "page.mp4": b"<html><body>not found</body></html>",
        "subtitles.srt": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n" * 5,
        "tty.txt": b"\x1b[2J\x1b[31mHello" * 100,
        "zeros.mkv": bytes(10_000),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match=rf"^[^\n]*{name}: not a video, or a damaged one$"):
            Video(tmp_path / name)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.flv", "clip", "face.png", "face.webp"])
def test_what_git_lfs_did_not_fetch(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        VideoError, match=rf"{name}: is a pointer of Git LFS; `git lfs pull` fetches what it stands for"
    ):
        next(iter(open_clip(tmp_path / name)))


def test_a_picture_in_tiles(tmp_path: Path) -> None:
    """As telephones write them; a small picture of the whole is beside it, and is not taken for it."""
    tiles = [np.full((64, 64, 3), value, np.uint8) for value in (10, 90, 170, 250)]
    path = tmp_path / "photo.heic"
    path.write_bytes(heic(tiles, rows=2, small=quadrants(48, 64)))
    words = r"photo\.heic: a picture in tiles, which cannot be read; as JPEG or PNG it can$"
    with pytest.raises(VideoError, match=words):
        open_clip(path)
    for source in (tmp_path, [path]):
        clip = open_clip(source)
        assert list(clip) == []
        assert re.search(words, clip.damaged[0])
