"""From labels to classes: maps on the command line and in files, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError
from fan_fer.evaluation.labels import match_labels, parse_label_map


def test_map_on_the_command_line() -> None:
    assert parse_label_map("joy=Happy, rage = Angry,other=-,none=") == {
        "joy": "Happy",
        "rage": "Angry",
        "other": None,
        "none": None,
    }


def test_map_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"joy": "Happy", "other": null, "rest": "-"}')
    assert parse_label_map(str(path)) == {"joy": "Happy", "other": None, "rest": None}


def test_labels_become_classes() -> None:
    found = match_labels(["happy", "Sad", "Joy", "other", "happy"], EMOTIONS, {"joy": "happy", "OTHER": None})
    assert found == {"happy": 3, "Sad": 5, "Joy": 3, "other": None}


def test_a_map_may_exchange_classes() -> None:
    assert match_labels(["Happy", "Sad"], EMOTIONS, {"Happy": "Sad", "Sad": "Happy"}) == {"Happy": 5, "Sad": 3}


@pytest.mark.parametrize(
    ("labels", "label_map", "message"),
    [
        (
            ["Contempt", "Bored"],
            None,
            r'no class "Contempt", "Bored"; it has Angry, .*"Contempt=Angry" or "Contempt=-"',
        ),
        (["Happy"], {"x": "Joy"}, r'label map: "Joy": no class of the model; it has Angry'),
        ([str(n) for n in range(12)], None, r'"7" and 4 more'),
    ],
)
def test_labels_that_the_model_does_not_know(labels: list[str], label_map: dict | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        match_labels(labels, EMOTIONS, label_map)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joy=Happy,rage", "'rage' is no pair"),
        ("=Happy", "'' is no pair"),
        ("joy=Happy,joy=Sad", "'joy' is mapped twice"),
        ("joy", "cannot be read"),
        ("none.json", "cannot be read"),
    ],
)
def test_maps_that_are_none(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_label_map(text)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not JSON"), ("[1]", "not an object"), ('{"a": 1}', "of texts")]
)
def test_files_that_are_no_map(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        parse_label_map(str(path))
