"""What the tests of the server share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fan_fer.recognizer import Recognizer

from ..fakes import names, write_video


@pytest.fixture(scope="module")
def recognizers() -> list[Recognizer]:
    from .servers import make_recognizer

    return [make_recognizer(), make_recognizer("self", "other")]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [[(10 + i, 10, 30)] for i in range(6)] + [[]])


@pytest.fixture
def serve(recognizers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Starts a server; at the end no file of it is left, but for those in a folder of data."""
    from .servers import open_server

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    clients = []

    def serve(use=None, *arguments, **options):
        clients.append(open_server(use or recognizers[:1], *arguments, **options))
        return clients[-1]

    yield serve
    for client in clients:
        client.desk.close()
    assert names(temporary) == []
