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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["map.json", "map.JSON", "map", "joy=Happy.txt"])
def test_a_file_is_read_whatever_wrote_it(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_bytes('{" Fröhlich": "Happy ", "rest": null}'.encode(encoding))
    assert parse_label_map(str(path)) == {"Fröhlich": "Happy", "rest": None}


def test_a_label_has_many_spellings() -> None:
    classes = ("Féroce", "Happy")
    labels = [
        "Féroce",
        "Fe\u0301roce",
        "FÉROCE ",
        "\u200bhappy",
        "Happy\u00a0",
        "\uff28\uff41\uff50\uff50\uff59",
        "hap\u200bpy",
    ]
    assert list(match_labels(labels, classes).values()) == [0, 0, 0, 1, 1, 1, 1]
    assert match_labels(labels[:1], classes, {"fe\u0301roce": "HAPPY"}) == {"Féroce": 1}
    with pytest.raises(DataError, match=r'classes "Féroce" and "Fe\\u0301roce" are spellings of one'):
        match_labels(labels, ("Féroce", "Fe\u0301roce"))


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
        ([str(n) for n in range(12)], None, r'"7", 4 more'),
        (["Happy"], {"joy": "Happy", "Joy": "Sad"}, r'label map: "joy" and "Joy" are one label, mapped twice'),
    ],
)
def test_labels_that_the_model_does_not_know(labels: list[str], label_map: dict | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        match_labels(labels, EMOTIONS, label_map)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joy=Happy,rage", "'rage' is no pair"),
        ("=Happy", "'' is no label"),
        ("\u200b=Happy", "is no label"),
        ("joy=Happy,joy=Sad", '"joy" is mapped twice'),
        ("joy=Happy,Joy=Sad", '"joy" and "Joy" are one label, mapped twice'),
        ("joy=Happy, joy\u00a0=Sad", "are one label, mapped twice"),
        ("josé=Happy,jose\u0301=Sad", r'"josé" and "jose\\u0301" are one label, mapped twice'),
        ("", "cannot be read"),
        ("a\0b", "embedded null byte"),
        ("joy", "cannot be read"),
        ("none.json", "cannot be read"),
    ],
)
def test_maps_that_are_none(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_label_map(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ("{}", "not an object of texts"),
        ("null", "not an object"),
        ('{"a": 1}', '"a" is mapped to 1; the name of a class, or null, is wanted'),
        ('{"a": ["Sad"]}', r"\['Sad'\]; the name of a class"),
        ('{"joy": "Happy", "joy": "Sad"}', 'the key "joy" is given twice'),
        ('{"joy": "Happy", "Joy ": "Sad"}', '"joy" and "Joy " are one label, mapped twice'),
        ('{"": "Happy"}', "'' is no label"),
        ('{"a": NaN}', "a is not finite"),
        ("[" * 100_000, "nested too deeply"),
        ("\ufeff", "not JSON"),
    ],
)
def test_files_that_are_no_map(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        parse_label_map(str(path))
