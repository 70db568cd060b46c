"""Frames decoded by another thread while those before are worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable

from fan_fer.video.frame import Frame


def ahead(frames: Iterable[Frame], count: int = 4) -> Generator[Frame, None, None]:
    """The frames, decoded by another thread while the caller works on those before: at most ``count`` are held."""
    ready: queue.Queue[Frame | BaseException | None] = queue.Queue(count)
    left = threading.Event()

    def put(item: Frame | BaseException | None) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def decode() -> None:
        try:
            for frame in frames:
                put(frame)
                if left.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=decode, name="decoder", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join()
