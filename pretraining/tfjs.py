"""Weights as TensorFlow.js stores them: arrays one behind another, little-endian, and a JSON file that lists them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fan_fer.base.errors import FanFerError, first_line

TYPES = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "uint16": "<u2"}


def load_arrays(index: Path) -> dict[str, Tensor]:
    """The arrays that ``index`` lists, by name: a manifest of weights, or a model that contains one.

    Those stored as whole numbers with a scale and a smallest value become float32. Raises FanFerError.
    """
    found = {}
    try:
        listed = json.loads(index.read_bytes())
        for group in listed["weightsManifest"] if isinstance(listed, dict) else listed:
            data, start = b"".join((index.parent / name).read_bytes() for name in group["paths"]), 0
            for entry in group["weights"]:
                stored = entry.get("quantization", entry)
                values = np.frombuffer(data, TYPES[stored["dtype"]], math.prod(entry["shape"]), start)
                start += values.nbytes
                if stored is not entry:
                    values = (values * stored["scale"] + stored["min"]).astype(np.float32)
                found[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]).copy())
            if start != len(data):
                raise ValueError(f"{', '.join(group['paths'])}: {len(data)} bytes, {start} of them listed")
    except FileNotFoundError as error:
        raise FanFerError(f"{error.filename}: no such file; weights of TensorFlow.js are wanted") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FanFerError(f"{index}: no list of weights of TensorFlow.js ({first_line(error)})") from error
    return found
