"""Many clients at once, while a reader is killed, a client vanishes, the server is killed and the disk is full."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from load_service import (
    Piece,
    Server,
    ask_until,
    fill_disk,
    free_port,
    kill_reader,
    read_piece,
    restart,
    run_load,
    small_disk,
    vanish,
)

from ..fakes import names, write_video

pytest.importorskip("starlette", reason="no Starlette: pip install 'fan_ext[test]'")
SMALL = Path(__file__).parent / "small_server.py"
CLIENTS = 20


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[Piece]:
    """Clips of 3 to 9 frames; each has a name of its own."""
    folder = tmp_path_factory.mktemp("pieces")
    files = [write_video(folder / f"{count}.mp4", [[(10 + i, 10, 30)] for i in range(count)]) for count in range(3, 10)]
    contents = [path.read_bytes() for path in files]
    return [Piece(f"piece-{number}.mp4", 3 + number % 7, contents[number % 7]) for number in range(60)]


def start(folder: Path, workers: int = 1) -> Server:
    server = Server([sys.executable, str(SMALL), str(folder), str(workers), str(free_port())], OMP_NUM_THREADS="1")
    ask_until(server, "GET", "/v1/health", (200,))
    return server


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Server]:
    server = start(data, workers=2)
    yield server
    server.end(signal.SIGKILL)


def test_nothing_is_lost_and_nobody_sees_anothers_clip(server: Server, pieces: list[Piece], data: Path) -> None:
    for piece in pieces[:5]:
        read_piece(server, piece)
    before = server.memory()
    trouble = [partial(kill_reader, server), partial(vanish, server, pieces[0]), partial(restart, server)]
    load = run_load(server, pieces, CLIENTS, trouble)
    assert load.wrong == []
    assert len(load.seconds) == len(pieces)
    ask_until(server, "GET", "/v1/health", (200,))
    assert server.memory() < 1.25 * before
    # What is left was accepted just when the server was killed, and its client was not told.
    left = list((data / "clips").iterdir())
    assert len(left) < CLIENTS
    assert all((folder / "job.json").is_file() for folder in left)


def test_a_clip_that_kills_its_readers_fails_and_the_others_go_on(
    server: Server, pieces: list[Piece], tmp_path: Path
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "blue.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 64))
    for _ in range(3):
        writer.write(np.full((64, 96, 3), (255, 0, 0), np.uint8))
    writer.release()
    blue = (tmp_path / "blue.mp4").read_bytes()
    _, headers, _ = server.ask("POST", "/v1/clips?name=blue.mp4", blue)
    load = run_load(server, pieces[:10], CLIENTS)
    assert load.wrong == []
    status = json.loads(ask_until(server, "GET", f"{headers['location']}?wait=60", (200,)))
    assert status["state"] == "failed"
    assert status["error"] == "blue.mp4: its process died (SIGKILL), 2 times; perhaps memory ran out"


def test_sigterm_leaves_what_is_not_read_to_the_next(server: Server, pieces: list[Piece]) -> None:
    paths = []
    for piece in pieces[:20]:
        code, headers, _ = server.ask("POST", f"/v1/clips?name={piece.name}", piece.content)
        assert code == 201
        paths.append(headers["location"])
    readers = server.readers()
    assert server.end(signal.SIGTERM) == 0
    for reader in readers:
        with pytest.raises(ProcessLookupError):
            os.kill(reader, 0)
    server.start()
    for path in paths:
        assert b'"done"' in ask_until(server, "GET", f"{path}?wait=60", (200,))


def test_a_client_that_sends_too_slowly_is_given_up(tmp_path: Path) -> None:
    """The limits are shorter here than in the server that is used."""
    code = (
        "import sys, runpy; from fan_fer.app import operations; operations.SILENCE = 1.0; "
        f"sys.argv = ['small', {str(tmp_path / 'slow')!r}, '1', '{free_port()}']; "
        f"runpy.run_path({str(SMALL)!r}, run_name='__main__')"
    )
    slow = Server([sys.executable, "-c", code])
    try:
        for pause, words in ((30.0, b"nothing came for 1 seconds"), (0.2, b"comes at less than 20 kB a second")):
            with socket.create_connection((slow.host, slow.port)) as connection:
                head = f"POST /v1/clips?name=slow HTTP/1.1\r\nHost: {slow.host}\r\nContent-Length: 100000\r\n\r\n"
                connection.sendall(head.encode())
                connection.settimeout(pause)
                answer, end = b"", time.monotonic() + 30
                while words not in answer:
                    assert time.monotonic() < end, answer
                    try:
                        answer += connection.recv(10_000)
                    except TimeoutError:
                        connection.sendall(b"x")
                assert answer.startswith(b"HTTP/1.1 408 ")
        assert names(tmp_path / "slow" / "clips") == []
    finally:
        slow.end(signal.SIGKILL)


def test_a_disk_that_is_full(pieces: list[Piece]) -> None:
    try:
        with small_disk(1) as folder:
            full = start(folder)
            try:
                assert fill_disk(full, pieces) > 2
                assert names(folder / "clips") == []
            finally:
                full.end(signal.SIGKILL)
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("no file system may be mounted here")
