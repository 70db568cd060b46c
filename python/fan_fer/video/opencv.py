"""OpenCV without its own messages on the terminal: the package reports each failure itself, in one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_lock = threading.Lock()
_depth = 0  # blocks entered, in all threads
_level = 0  # of the log before the first


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's log, then restores its level."""
    global _depth, _level
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # moved in 4.13
    with _lock:
        _depth += 1
        if _depth == 1:
            _level = log.getLogLevel()
            log.setLogLevel(0)  # silent
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                log.setLogLevel(_level)
