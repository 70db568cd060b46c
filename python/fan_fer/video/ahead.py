"""What another thread makes while the caller works on what came before, and frames that come when they are due."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from fan_fer.video.frame import Frame

Item = TypeVar("Item")
PATIENCE = 1.0  # seconds that the end waits for a picture of a live clip, which may never come


def ahead(items: Iterable[Item], count: int = 4) -> Generator[Item, None, None]:
    """The items, made by another thread while the caller works on those before: at most ``count`` are held."""
    return _beside(items, count, drop=False)


def latest(frames: Iterable[Frame]) -> Generator[Frame, None, None]:
    """The newest frame each time: those that came before it while the caller worked are left out. One is held."""
    return _beside(frames, 1, drop=True)


def paced(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames, none before its time has come, counted from the first, and then as if it had just arrived."""
    start = None
    for frame in frames:
        now = time.monotonic()
        start = now - frame.time if start is None else start
        time.sleep(max(0.0, start + frame.time - now))
        yield replace(frame, arrived=time.monotonic())


def _beside(items: Iterable[Item], count: int, drop: bool) -> Generator[Item, None, None]:
    ready: queue.Queue[Item | BaseException | None] = queue.Queue(count)
    left = threading.Event()

    def put(item: Item | BaseException | None) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for made in items:
                if drop:
                    with suppress(queue.Empty):
                        ready.get_nowait()
                put(made)
                if left.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join(PATIENCE if drop else None)
