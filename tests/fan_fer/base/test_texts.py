"""JSON in, JSON out, as editors write it and as every program can read it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fan_fer.base.errors import OutputError
from fan_fer.base.finite import is_number, not_finite
from fan_fer.base.texts import parse_json, to_json, write_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_json_in_every_encoding(encoding: str) -> None:
    assert parse_json('{"é": [1, 2.5]}'.encode(encoding)) == {"é": [1, 2.5]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": [1, NaN]}}', "a.b.1 is not finite"),
        ("-Infinity", "the number is not finite"),
        ("[1e999]", "0 is not finite"),
        ('{"a": 1, "b": {"a": 2, "a": 2}}', 'the key "a" is given twice'),
        ("[" * 100_000, "nested too deeply"),
        ("", "Expecting value"),
        ("\udce9", "can't decode"),
    ],
)
def test_what_is_no_json(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text.encode("utf-8", "surrogateescape"))


def test_no_number_that_is_none_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1.5, None, True], "é": "nan"}, indent=1)
    before = path.read_bytes()
    assert parse_json(before) == {"a": [1.5, None, True], "é": "nan"}
    with pytest.raises(OutputError, match=r"x\.json: not written, as a\.0 is not finite$"):
        write_json(path, {"a": (math.inf,)})
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"^the number is not finite$"):
        to_json(math.nan)


def test_where_a_number_is_none() -> None:
    assert not_finite({"a": [torch.ones(2), {"b": torch.tensor([1.0, math.nan])}]}) == "a.1.b"
    assert not_finite([1, 2.0, "nan", None, torch.tensor([1, 2])]) is None
    assert [is_number(value) for value in (1, 2.5, True, "1", math.nan, 1e300, 10**400)] == [True, True] + [False] * 5
