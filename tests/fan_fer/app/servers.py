"""Servers of the tests' own, which read red squares in this process, and clients of theirs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fan_fer import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard
from fan_fer.recognizer import Recognizer

from ..fakes import PREPROCESSING, SquareDetector

testclient = pytest.importorskip("starlette.testclient", reason="no Starlette: pip install 'fan_ext[test]'")
from fan_fer.app.desk import Desk  # noqa: E402  (needs Starlette)
from fan_fer.app.reading import Networks, network_names  # noqa: E402
from fan_fer.app.server import make_app  # noqa: E402
from fan_fer.app.uploads import Limits  # noqa: E402

ADDRESS = "http://127.0.0.1:8350"
LIMITS = Limits(minutes=0.5, megabytes=1)


def make_recognizer(variant: str = "fan", name: str = "random") -> Recognizer:
    torch.manual_seed(0)
    card = ModelCard(variant, PREPROCESSING)
    network = FrameAttentionNetwork(variant)
    return Recognizer(network, card, weights_file=f"{name}.safetensors", detector=SquareDetector())


class Hold(SquareDetector):
    """Finds squares once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def detect(self, image: np.ndarray) -> list:
        self.begun.set()
        assert self.go.wait(30)
        return super().detect(image)


def as_networks(recognizers: list[Recognizer]) -> Networks:
    paths = [Path(recognizer.weights_file) for recognizer in recognizers]
    return Networks(network_names(paths), recognizers[0].card.classes, lambda: recognizers)


def open_server(recognizers: list[Recognizer], limits: Limits = LIMITS, keep: float = 300, data=None, **options):
    """A client of a server; ``desk`` is its desk, which is to be closed, ``folder`` the desk's."""
    desk = Desk(as_networks(recognizers), limits, 0, keep, data)
    client = testclient.TestClient(make_app(desk, **options), base_url=ADDRESS)
    client.desk, client.folder = desk, desk.folder
    return client


def upload(client, content: bytes | Path, name: str = "clip.mp4", pictures: bool = True):
    body = content.read_bytes() if isinstance(content, Path) else content
    return client.post("/v1/clips", params={"name": name, "pictures": pictures}, content=body)


def until(client, id: str, *states: str) -> dict:
    end = time.monotonic() + 60
    while (status := client.get(f"/v1/clips/{id}").json())["state"] not in states:
        assert time.monotonic() < end, status
        time.sleep(0.01)
    return status


def kept(client) -> list[Path]:
    """Everything that lies in the clips' folders, but for the notes about clips that failed."""
    return [path for path in client.folder.glob("*/*") if path.name != "job.json"]
