"""Tensors in files that ``torch.save`` wrote, whatever they lie in. Nothing that could run code is opened."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fan_fer.base.errors import WeightsError, first_line

WANTED = "a .safetensors file or a state_dict that torch.save wrote is wanted"
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"(\xb5/\xfd": "zstd"}


def read_torch_file(path: Path) -> dict[str, dict[str, Tensor]]:
    """All sets of named tensors in the file, by the names they lie under, such as "state_dict"; "" for the file itself.

    Numbers, arrays, options, paths and times beside them are passed over. Raises WeightsError, which names the first
    object of another class, or says what the file is.
    """
    try:
        container = _other_container(path)
        if container is not None:
            raise WeightsError(f"{path}: {container}; {WANTED}")
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(_plain_data()):
            warnings.simplefilter("ignore")  # torch's, about files of older versions
            try:
                content = torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                # What torch says of a pickle is how to run its code all the same.
                raise WeightsError(_refusal(path, str(error))) from error
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # what a damaged pickle raises can be anything
        raise WeightsError(f"{path}: damaged ({first_line(error)[:160]}); {WANTED}") from error
    found = _tensor_sets(content)
    if not found:
        raise WeightsError(f"{path}: holds {type(content).__name__}, not named tensors; {WANTED}")
    return found


def _other_container(path: Path) -> str | None:
    """In words, what the file is where torch cannot open it; None where torch may try."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        return "the file is empty"
    if start.startswith(b"\x80"):  # a pickle
        return None
    if not start.startswith(b"PK\x03\x04"):
        packed = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
        packed = packed or ("tar" if tarfile.is_tarfile(path) else None)
        return f"packed with {packed}" if packed else f"no checkpoint, it begins with {start.decode('latin-1')!r}"
    if not zipfile.is_zipfile(path):
        return "truncated"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return "a program of TorchScript, whose tensors are torch.jit.load(FILE).state_dict()"
    if any(name.endswith("/data.pkl") for name in names):
        return None
    return f"a zip archive of {', '.join(names[:2])}, ..."


def _refusal(path: Path, message: str) -> str:
    """What torch, with its message, does not take: the class that it met first, and two more."""
    found = re.search(r"GLOBAL (\S+)|<class '([^']+)'>", message)
    if found is None:
        return f"{path}: damaged, or of a pickle protocol other than torch's; {WANTED}"
    named = [found[1] or found[2]]
    with contextlib.suppress(Exception):  # torch cannot tell of old files
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        named += sorted(name for name in others if name.removeprefix("builtins.") not in named)
    objects = ", ".join([*named[:3], *(["..."] if len(named) > 3 else [])])
    return (
        f"{path}: not opened: it holds {objects}, which could run code; "
        "where it was made, torch.save(model.state_dict(), FILE) writes the tensors alone"
    )


def _plain_data() -> list[Any]:
    """Classes that hold data and do nothing when they are made. Training scripts store such beside the tensors."""
    arrays = getattr(np, "_core", None) or np.core  # numpy 2, numpy 1; a file may have the names of either
    codes = f"?{np.typecodes['AllInteger']}{np.typecodes['AllFloat']}SUmM"
    plain: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in codes}]
    for name in ("scalar", "_reconstruct"):
        plain += [(getattr(arrays.multiarray, name), f"numpy.{core}.multiarray.{name}") for core in ("core", "_core")]
    plain += [argparse.Namespace, date, datetime, timedelta]
    for kind, path in {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}.items():
        names = (kind, f"Pure{kind}")
        plain += [(path, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in names]
    return plain


def _tensor_sets(content: object) -> dict[str, dict[str, Tensor]]:
    """Each mapping or list that holds tensors, however deep; the outermost first."""
    found: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    parts = [("", content)] if isinstance(content, (Mapping, list, tuple)) else []
    for where, part in parts:  # which grows
        if id(part) in seen:  # one may hold itself
            continue
        seen.add(id(part))
        members = dict(part) if isinstance(part, Mapping) else dict(enumerate(part))
        for name, value in members.items():
            if isinstance(value, Tensor):
                found.setdefault(where, {})[str(name)] = value
            elif isinstance(value, (Mapping, list, tuple)):
                parts.append((f"{where}.{name}" if where else str(name), value))
    return found
