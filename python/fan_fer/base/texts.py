"""Text and JSON as editors and other programs write them; JSON as every program can read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fan_fer.base.errors import OutputError
from fan_fer.base.files import write_text
from fan_fer.base.finite import not_finite


def decode_text(content: bytes, errors: str = "strict") -> str:
    """A text in UTF-8, or in UTF-16 or UTF-32, with a byte order mark or without. Raises UnicodeDecodeError."""
    return content.decode(json.detect_encoding(content), errors)


def parse_json(content: bytes, errors: str = "strict") -> Any:
    """What JSON in such a text says. Raises ValueError, also for a key given twice and numbers that are not finite."""
    try:
        value = json.loads(decode_text(content, errors), object_pairs_hook=_members)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    broken = not_finite(value)
    if broken is not None:
        raise ValueError(f"{broken or 'the number'} is not finite")
    return value


def to_json(value: Any, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The value as JSON. Raises ValueError that names a number that is not finite: JSON has none."""
    broken = not_finite(value)
    if broken is not None:
        raise ValueError(f"{broken or 'the number'} is not finite")
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def write_json(
    path: Path, value: Any, indent: int | None = None, errors: str = "strict", ensure_ascii: bool = True
) -> None:
    """Writes the value and a line break, with ``errors`` as for str.encode. Raises OutputError."""
    try:
        text = to_json(value, indent, ensure_ascii)
    except ValueError as error:
        raise OutputError(f"{path}: not written, as {error}") from None
    write_text(path, text + "\n", errors)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {json.dumps(next(name for name in names if names.count(name) > 1))} is given twice")
    return members
