"""OpenCV without its own messages on the terminal: the package reports each failure itself, in one line."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_lock = threading.Lock()
_depth = 0  # blocks entered, in all threads
_level = 0  # of the log before the first


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's log, and FFmpeg's if this is the process's first use of it; then restores the settings."""
    global _depth, _level
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # moved in 4.13
    # FFmpeg's log level is read from the environment once, when the first video is opened, and then kept.
    name = "OPENCV_FFMPEG_LOGLEVEL"
    with _lock:
        _depth += 1
        if _depth == 1:
            _level = log.getLogLevel()
            log.setLogLevel(0)  # silent
    unset = name not in os.environ
    if unset:
        os.environ[name] = "-8"  # AV_LOG_QUIET
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                log.setLogLevel(_level)
        if unset:
            os.environ.pop(name, None)
