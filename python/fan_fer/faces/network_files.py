"""The files of detectors' networks."""

from __future__ import annotations

import os
from pathlib import Path

from fan_fer.base.errors import DetectorError
from fan_fer.base.files import is_file, read_file


def read_network(file: str | os.PathLike[str], detector: str, wanted: str) -> bytes:
    """What the file holds. Libraries get that, as they open no file whose name is not in UTF-8.

    wanted: the network in words, for the message. Raises DetectorError where there is no file that can be read.
    """
    path = Path(file)
    if not is_file(path):
        raise DetectorError(f"detector {detector}: {path}: no such file; wanted: {wanted} (.onnx)")
    try:
        return read_file(path)
    except OSError as error:
        raise DetectorError(f"detector {detector}: {path}: cannot be read ({error.strerror})") from None
