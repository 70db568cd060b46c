"""OpenCV: where it cannot be loaded one line says what to install. Other modules import it from here.

Its own messages can be kept from the terminal: the package reports each failure itself, in one line.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fan_fer.base.errors import LibraryError, first_line

USUAL = ("libgl1", "libglib2.0-0")  # packages of Debian that a system without windows lacks
AGAIN = "install it again: pip install --force-reinstall opencv-python"


def _cure(error: ImportError) -> str:
    """What is wrong with OpenCV, and what to install."""
    if error.name == "cv2" and isinstance(error, ModuleNotFoundError):
        return "OpenCV is not installed: pip install opencv-python, or opencv-python-headless, which has no windows"
    library = re.match(r"((lib[\w.+-]+)\.so\.(\d+)[.\d]*): cannot open shared object file", str(error))
    if library is None:
        return f"OpenCV cannot be loaded ({first_line(error)}); {AGAIN}"
    name = library[2].lower()
    package = f"{name}{'-' if name[-1].isdigit() else ''}{library[3]}"  # as Debian names them: libsm6, libx11-6
    packages = [*USUAL] if name.startswith(("libgthread", "libglib")) else dict.fromkeys([package, *USUAL])
    return (
        f"OpenCV cannot be loaded, {library[1]} is missing: apt-get install {' '.join(packages)}; or, without windows, "
        "pip uninstall opencv-python and pip install opencv-python-headless"
    )


try:
    import cv2 as cv2  # for others
except ImportError as error:
    raise LibraryError(_cure(error)) from None
if not hasattr(cv2, "imdecode"):  # a folder that an uninstallation left
    raise LibraryError(f"OpenCV is damaged, cv2 is empty; {AGAIN}")

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
