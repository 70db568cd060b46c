"""OpenCV without its own messages on the terminal: the package reports each failure itself, in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's log, and FFmpeg's if this is the process's first use of it; then restores the settings."""
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # moved in 4.13
    level = log.getLogLevel()
    log.setLogLevel(0)  # silent
    # FFmpeg's log level is read from the environment once, when the first video is opened, and then kept.
    name = "OPENCV_FFMPEG_LOGLEVEL"
    unset = name not in os.environ
    if unset:
        os.environ[name] = "-8"  # AV_LOG_QUIET
    try:
        yield
    finally:
        log.setLogLevel(level)
        if unset:
            os.environ.pop(name, None)
