"""Many clients at `fan-fer serve` at once, while a reader is killed, a client vanishes, the server is killed, and the
disk is full: python benchmarks/load_service.py CLIP

Pieces of the clip are uploaded, each of another length and name, so that an answer that belongs to another client is
noticed. Nothing may be lost. Prints the rate, the times from the upload to the result, and the memory of all processes.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 300.0  # seconds for one clip


@dataclass(frozen=True)
class Piece:
    """A clip to upload: its name, which no other has, the frames in it, and the file's bytes."""

    name: str
    frames: int
    content: bytes


@dataclass
class Load:
    """What came of it. seconds: from the upload to the result, by clip. memory: MB of all processes, as it went on."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    wall: float = 0.0


class Server:
    """A server that was started with a command; the address is in its first line."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._command, self._environment = command, {**os.environ, **environment}
        self.start()

    def start(self) -> None:
        """Again, where it was killed."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=self._environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://(\S+):(\d+)/", line)
        assert found, f"it does not start: {line}"
        self.host, self.port = found[1], int(found[2])

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        self.process.send_signal(how)
        return self.process.wait(60)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer. Raises OSError, HTTPException where there is none."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=90)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def readers(self) -> list[int]:
        """The processes that it has started, without Python's own helper."""
        return [pid for pid in children(self.process.pid) if b"resource_tracker" not in command_line(pid)]

    def memory(self) -> float:
        """MB (10^6 bytes) resident of it and its processes; what several have in common is counted once."""
        pids = [self.process.pid, *children(self.process.pid)]
        return sum(resident(pid) for pid in pids) / 1e6


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def resident(pid: int) -> int:
    """Bytes; of memory that several processes share, its part."""
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def ask_until(server: Server, method: str, path: str, wanted: tuple[int, ...], body: bytes | None = None) -> Any:
    """The answer with one of these codes; goes on asking while the server is away, busy or full."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            code, headers, content = server.ask(method, path, body)
            if code in wanted:
                return content
            pause = min(2.0, float(headers.get("retry-after", "0.2")))
            last = f"{code} {content.decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            pause, last = 0.2, repr(error)
        assert time.monotonic() < end, f"{method} {path}: {last}"
        time.sleep(pause)


def read_piece(server: Server, piece: Piece, keep: bool = False) -> float:
    """Has a piece read as a client would; seconds from the upload to the result. Raises AssertionError."""
    begun = time.monotonic()
    accepted = json.loads(ask_until(server, "POST", f"/v1/clips?name={piece.name}", (201,), piece.content))
    path = f"/v1/clips/{accepted['id']}"
    end = begun + PATIENCE
    while True:
        status = json.loads(ask_until(server, "GET", f"{path}?wait=30", (200,)))
        if status["state"] in ("done", "failed"):
            break
        assert time.monotonic() < end, status
    assert status["state"] == "done", status
    result = json.loads(ask_until(server, "GET", f"{path}/result", (200,)))
    seconds = time.monotonic() - begun
    assert (result["video"], result["frames_total"]) == (piece.name, piece.frames), "another client's clip"
    if not keep:
        ask_until(server, "DELETE", path, (204, 404))
    return seconds


def vanish(server: Server, piece: Piece) -> None:
    """Uploads half a clip, and is gone."""
    with socket.create_connection((server.host, server.port)) as connection:
        head = (
            f"POST /v1/clips?name=gone HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(piece.content)}\r\n\r\n"
        )
        connection.sendall(head.encode() + piece.content[: len(piece.content) // 2])
        time.sleep(0.3)


def kill_reader(server: Server) -> None:
    readers = server.readers()
    assert readers
    os.kill(readers[0], signal.SIGKILL)


def restart(server: Server) -> None:
    """Kills the server without a warning, and starts it again on the same port and data."""
    server.end(signal.SIGKILL)
    server.start()


def run_load(
    server: Server, pieces: Sequence[Piece], clients: int, trouble: Sequence[Callable[[], object]] = ()
) -> Load:
    """All pieces, by so many clients at a time; each trouble comes when its share of them is done."""
    load, lock = Load(), threading.Lock()
    due = [((place + 1) * len(pieces) // (len(trouble) + 1), act) for place, act in enumerate(trouble)]

    def read(piece: Piece) -> None:
        try:
            seconds = read_piece(server, piece)
        except AssertionError as error:
            with lock:
                load.wrong.append(f"{piece.name}: {error}")
            return
        with lock:
            load.seconds.append(seconds)
            now = [act for count, act in due if count == len(load.seconds)]
            if len(load.seconds) % 10 == 0:
                load.memory.append(server.memory())
        for act in now:
            act()

    begun = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(read, pieces))
    load.wall = time.monotonic() - begun
    return load


def fill_disk(server: Server, pieces: Sequence[Piece]) -> int:
    """Uploads without an end until the disk is full, then makes room; how many clips were taken, all of which are
    read. Raises AssertionError where one is lost, or the server does not go on."""
    taken = []
    for number in range(10_000):
        piece = pieces[number % len(pieces)]
        code, _, content = server.ask("POST", f"/v1/clips?name={piece.name}", piece.content)
        if code == 507:
            assert b"disk is full" in content, content
            break
        if code == 429:
            time.sleep(0.1)
            continue
        assert code == 201, content
        taken.append(json.loads(content)["id"])
    else:
        raise AssertionError("the disk is never full")
    left, end = list(taken), time.monotonic() + PATIENCE
    while left:
        for id in list(left):
            status = json.loads(ask_until(server, "GET", f"/v1/clips/{id}", (200,)))
            assert status["state"] != "failed", status
            if status["state"] == "done":
                ask_until(server, "DELETE", f"/v1/clips/{id}", (204,))
                left.remove(id)
        assert time.monotonic() < end, f"{len(left)} clips are not read"
        time.sleep(0.1)
    read_piece(server, pieces[0])
    return len(taken)


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system in memory of this size. Raises CalledProcessError where one may not be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "fan-fer-test", folder],
            check=True,
            capture_output=True,
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def cut(clip: Path, count: int, frames: int, folder: Path) -> list[Piece]:
    """So many pieces of a clip at half its size, of ``frames`` frames and up to nine more."""
    import cv2

    from fan_fer.video.decoding import Video

    images = [cv2.resize(frame.image[..., ::-1], None, fx=0.5, fy=0.5) for frame in Video(clip)]
    pieces = []
    for number in range(count):
        length, path = frames + number % 10, folder / "piece.mp4"
        begin = (number * 7) % (len(images) - length)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, images[0].shape[1::-1])
        for image in images[begin : begin + length]:
            writer.write(image)
        writer.release()
        pieces.append(Piece(f"piece-{number}.mp4", length, path.read_bytes()))
    return pieces


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1, help="without trouble, before the one with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pieces = cut(arguments.clip, arguments.clips, arguments.frames, folder)
        size = statistics.mean(len(piece.content) for piece in pieces) / 1e3
        print(f"{len(pieces)} clips of {arguments.frames} to {arguments.frames + 9} frames, {size:.0f} kB on average")

        def command(data: Path) -> list[str]:
            options = {"--port": free_port(), "--data": data, "--workers": arguments.workers}
            return [sys.executable, "-m", "fan_fer", "serve", *(str(word) for pair in options.items() for word in pair)]

        server = Server(command(folder / "data"))
        ask_until(server, "GET", "/v1/health", (200,))
        read_piece(server, pieces[0])
        before = server.memory()
        for _ in range(arguments.runs):
            report("no trouble", run_load(server, pieces, arguments.clients), server, before)
        trouble = [
            lambda: kill_reader(server),
            lambda: vanish(server, pieces[0]),
            lambda: restart(server),
        ]
        load = run_load(server, pieces, arguments.clients, trouble)
        report("a reader killed, a client gone, the server killed", load, server, before)
        left = list((folder / "data" / "clips").iterdir())
        print(f"left on disk after all were deleted: {len(left)} clips")
        print(f"SIGTERM: exit code {server.end()}")
        try:
            with small_disk(8) as disk:
                server = Server([*command(disk), "--max-clips", "1000"])
                taken = fill_disk(server, pieces)
                print(f"a disk of 8 MB: full after {taken} clips, all of them read, then goes on")
                server.end()
        except subprocess.CalledProcessError:
            print("a disk that is full: not tried, as no file system may be mounted here")


def report(title: str, load: Load, server: Server, before: float) -> None:
    cuts = statistics.quantiles(load.seconds, n=100)
    print(
        f"{title}: {len(load.seconds)} clips read, {len(load.wrong)} lost or wrong, in {load.wall:.1f} s: "
        f"{len(load.seconds) / load.wall:.2f} clips/s; upload to result p50 {cuts[49]:.1f} s, p95 {cuts[94]:.1f} s; "
        f"memory {before:.0f} MB before, {server.memory():.0f} MB after"
    )
    each = (resident(pid) / 1e6 for pid in (server.process.pid, *server.readers()))
    print("  memory now of the server and each reader, MB: " + " ".join(f"{value:.0f}" for value in each))
    print("  memory on the way, MB: " + " ".join(f"{value:.0f}" for value in load.memory))
    for line in load.wrong:
        print(f"  {line}")


if __name__ == "__main__":
    main()
