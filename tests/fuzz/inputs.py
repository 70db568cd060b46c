"""What the fuzzing begins with, and the ways in which it is damaged."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import hypothesis.strategies as st
import numpy as np
import torch
from drawn_faces import DrawnFaces, draw_face
from safetensors.torch import save

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.datasets.files import CLIPS_FILE, FRAMES_FILE, SETTINGS_FILE
from fan_fer.datasets.prepare import prepare

VIDEOS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mov": ("mov", "mpeg4", "yuv420p"),
    "mkv": ("matroska", "libx265", "yuv420p"),
    "webm": ("webm", "libvpx", "yuv420p"),
    "vp9": ("webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "mjpeg", "yuvj420p"),
    "flv": ("flv", "flv", "yuv420p"),
    "ts": ("mpegts", "mpeg2video", "yuv420p"),
    "wmv": ("asf", "wmv2", "yuv420p"),
    "ogv": ("ogg", "libtheora", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
    "apng": ("apng", "apng", "rgb24"),
    "h264": ("h264", "libx264", "yuv420p"),
}
STILLS = (".jpg", ".png", ".webp", ".bmp", ".tiff")
SPLICED = 4096  # bytes at most that are moved or repeated
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@lru_cache
def videos() -> Mapping[str, bytes]:
    """Ten frames of a face as a file of every kind that this FFmpeg writes, and pictures."""
    faces = [draw_face("Happy", frame / 9, 0) for frame in range(10)]
    files = {name: data for name, kind in VIDEOS.items() if (data := _video(faces, *kind))}
    for suffix in STILLS:
        files[suffix] = cv2.imencode(suffix, faces[-1])[1].tobytes()
    animation = cv2.Animation()
    animation.frames = [np.dstack([face, np.full(face.shape[:2], 255, np.uint8)]) for face in faces[:4]]
    animation.durations = np.array([40] * 4, np.int32)
    files["animated webp"] = cv2.imencodeanimation(".webp", animation)[1].tobytes()
    return files


def _video(images: list[np.ndarray], container: str, codec: str, pixels: str) -> bytes:
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=25, options={"x265-params": "log-level=none"})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pixels
            sound = output.add_stream("aac", rate=8000) if container in ("mp4", "matroska") else None
            for image in images:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode(None))
            if sound is not None:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
                frame.sample_rate = 8000
                output.mux(sound.encode(frame))
                output.mux(sound.encode(None))
    except (av.FFmpegError, ValueError):  # a codec that this build does not have
        return b""
    return file.getvalue()


@lru_cache
def networks() -> Mapping[str, bytes]:
    """Files of weights, small and incomplete: what is wrong with them must be told in any case."""
    state = FrameAttentionNetwork("self").state_dict()
    tensors = {name: tensor for name, tensor in state.items() if tensor.numel() < 600}
    card = {"variant": "self", "preprocessing": {"size": 32}, "classes": ["Happy", "Sad"]}
    named = save(tensors, {"fan_fer": "1", "card": json.dumps(card)})
    pickled = io.BytesIO()
    torch.save({"state_dict": tensors, "epoch": 3}, pickled)
    old = io.BytesIO()
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    return {"safetensors": named, "plain safetensors": save(tensors), "zip": pickled.getvalue(), "old": old.getvalue()}


TABLES = {
    "list": b"video,label,split,subject\na.mp4,Happy,train,p1\nb.mp4,Sad,val,p2\n",
    "quoted": b'"video", Label ,note\r\n"a, b.mp4",Happy,"say ""no"""\r\n\r\nc.mp4,,\r\n',
    "semicolons": "\ufeffVideo;Label\na.mp4;Fröhlich\n".encode(),
    "tabs": "video\tlabel\na.mp4\tSad\n".encode("utf-16"),
    "frames": b"clip,frame,intensity,occluded\na,0,0.5,0\na,1,1,1\n",
}
MAPS = {
    "pairs": b"joy=Happy,other=-,Traurig=Sad",
    "json": b'{"joy": "Happy", "other": null, "traurig": "Sad"}',
    "json with a mark": b'\xef\xbb\xbf{"joy": "Happy"}',
}
RECIPES = {
    "recipe": b"epochs = 3\nlr = 0.1\nbatch_size = 4\n[layout.afew]\nepochs = 5\n[variant.fan]\nlr = 1e-3\n",
    "values": b"epochs = 1\nlr = 1\nmean = [0.5, 0.5, 0.5]\nstd = [1, 1, 1]\ndropout = 0.5\n",
}


@lru_cache
def prepared_sets() -> Mapping[str, bytes]:
    """The files that describe a prepared set of two clips."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        for split, label in (("train", "Happy"), ("val", "Sad")):
            clip = source / split / label / "clip"
            clip.mkdir(parents=True)
            cv2.imwrite(str(clip / "0.png"), draw_face(label, 1, 0)[..., ::-1])
        prepare("folders", source, Path(folder) / "set", size=32, detector=DrawnFaces())
        return {name: (Path(folder) / "set" / name).read_bytes() for name in (SETTINGS_FILE, CLIPS_FILE, FRAMES_FILE)}


JOURNAL = {
    "journal": b'{"format": 1, "weights": "a"}\n{"video": "a.mp4", "result": {"error": "x"}}\n',
    "empty": b"",
}


@st.composite
def damaged(draw: st.DrawFn, whole: Callable[[], Mapping[str, bytes]]) -> tuple[str, bytes]:
    """One of the files, whose name comes along, cut, flipped, overwritten, repeated and spliced with others."""
    files = whole()
    name = draw(st.sampled_from(sorted(files)))
    data = bytearray(files[name])
    for _ in range(draw(st.integers(0, 5))):
        _damage(draw, data, files)
    return name, bytes(data)


def _damage(draw: st.DrawFn, data: bytearray, files: Mapping[str, bytes]) -> None:
    # What matters most in a file often stands near its beginning.
    reach = draw(st.sampled_from((64, 1024, len(data))))
    place = draw(st.integers(0, max(0, min(reach, len(data)) - 1)))
    length = draw(st.integers(1, SPLICED))
    way = draw(st.sampled_from(("cut", "flip", "number", "erase", "repeat", "random", "splice", "text")))
    if way == "cut":
        del data[place:]
    elif way == "flip" and data:
        data[place] ^= 1 << draw(st.integers(0, 7))
    elif way == "number":
        width = draw(st.sampled_from((1, 2, 4, 8)))
        number = draw(st.sampled_from(NUMBERS)) % 256**width
        data[place : place + width] = number.to_bytes(width, draw(st.sampled_from(("big", "little"))))
    elif way == "erase":
        del data[place : place + length]
    elif way == "repeat":
        data[place:place] = data[place : place + length]
    elif way == "random":
        data[place : place + 16] = draw(st.binary(max_size=32))
    elif way == "text":
        data[place:place] = draw(st.text(max_size=8)).encode("utf-8", "surrogatepass")
    elif way == "splice":
        other = files[draw(st.sampled_from(sorted(files)))]
        start = draw(st.integers(0, max(0, len(other) - 1)))
        data[place:place] = other[start : start + length]


def some(files: Mapping[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    return damaged(lambda: files)


SHAPES = st.lists(st.integers(0, 5), max_size=4)
KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any shape, dtype, strides and device that can be had without memory."""
    shape, dtype = draw(SHAPES), draw(st.sampled_from(KINDS))
    tensor = torch.zeros(shape, dtype=dtype)
    if dtype.is_floating_point and draw(st.booleans()):
        tensor = tensor + draw(st.sampled_from((1.0, -3.0, 1e30, float("inf"), float("nan"))))
    if tensor.dim() > 1 and draw(st.booleans()):
        tensor = tensor.transpose(0, 1)
    if tensor.dim() and draw(st.integers(0, 9)) == 0:
        tensor = tensor[:1].expand(draw(st.integers(0, 2**20)), *tensor.shape[1:]) if len(tensor) else tensor
    if draw(st.integers(0, 19)) == 0:
        tensor = tensor.to("meta")
    if draw(st.integers(0, 19)) == 0 and tensor.layout == torch.strided and tensor.device.type == "cpu":
        tensor = tensor.to_sparse()
    if (dtype.is_floating_point or dtype.is_complex) and draw(st.integers(0, 3)) == 0:
        tensor = tensor.detach().requires_grad_()
    return tensor


@st.composite
def operator_arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Of ``fan_ext.frame_attention``: right ones with up to two that are something else."""
    clips, frames, size = draw(st.integers(0, 4)), draw(st.integers(0, 6)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(KINDS[:4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    arguments: dict[str, Any] = {"features": random(clips, frames, size), "self_weight": random(size)}
    if draw(st.booleans()):
        arguments |= {"relation_weight": random(2 * size), "relation_bias": random(1)}
    if draw(st.booleans()):
        arguments["mask"] = torch.rand(clips, frames, generator=generator) < 0.5
    elif draw(st.booleans()):
        arguments["features"] = random(frames, size)
        arguments["offsets"] = torch.tensor(sorted([0, frames, *draw(st.lists(st.integers(0, frames), max_size=3))]))
    odd = st.one_of(tensors(), st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=3))
    names = (
        "features",
        "self_weight",
        "relation_weight",
        "self_bias",
        "relation_bias",
        "mask",
        "offsets",
        "max_frames",
    )
    for _ in range(draw(st.integers(0, 2))):
        arguments[draw(st.sampled_from(names))] = draw(odd)
    arguments["return_weights"] = draw(st.booleans())
    return arguments


def words() -> st.SearchStrategy[list[str]]:
    """Command lines that begin no server and find no file."""
    commands = ("predict", "predict-many", "prepare", "train", "evaluate", "table", "weights", "export")
    options = ("--json", "--csv", "--plot", "--annotate", "--faces", "--weights", "--detector", "--out", "--label-map")
    more = ("--workers", "--time-limit", "--layout", "--size", "--folds", "--seed", "--device", "--split", "--recipe")
    values = (
        "none",
        "0",
        "-1",
        "nan",
        "1e309",
        "all",
        "csv",
        "yunet:none",
        "a=b",
        "cpu",
        "cuda:99",
        "tpu",
        "fast",
        "-",
    )
    word = st.one_of(st.sampled_from((*options, *more)), st.sampled_from(values), st.text(max_size=6))
    return st.tuples(st.sampled_from(commands), st.lists(word, max_size=7)).map(lambda pair: [pair[0], *pair[1]])
