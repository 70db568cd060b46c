"""Which names are one, and which are not."""

from __future__ import annotations

import pytest

from fan_fer.base.names import Spellings, name_key, person_key, quoted, strip_hidden, tidy


@pytest.mark.parametrize(
    "names",
    [
        ("Happy", "happy", " HAPPY\t", "Happy\u00a0", "\ufeffHappy", "Hap\u200bpy", "\uff28\uff41ppy", "Hap\u00adpy"),
        ("F\u00e9roce", "Fe\u0301roce", "FE\u0301ROCE"),
        ("very happy", "very  happy", "Very\u3000Happy", "very\nhappy"),
        ("\uac00", "\u1100\u1161"),  # a Korean syllable, and its letters as a Mac stores them
        ("\u304c", "\u304b\u3099"),
        ("Stra\u00dfe", "STRASSE", "stra\u1e9ee"),
        ("\ufb01n", "fin"),
        ("\u2639\ufe0f", "\u2639"),
    ],
)
def test_spellings_of_one_name(names: tuple[str, ...]) -> None:
    assert len(set(map(name_key, names))) == 1


@pytest.mark.parametrize(
    "names", [("e", "\u00e9"), ("sad", "sadd"), ("a b", "ab"), ("1", "01"), ("\u0131", "i"), ("x", "")]
)
def test_names_that_are_two(names: tuple[str, str]) -> None:
    assert name_key(names[0]) != name_key(names[1])


def test_names_of_which_nothing_is_seen() -> None:
    assert {name_key(name) for name in ("", " ", "\u200b\u00a0", "\u3164", "\ufe0f", "\x00")} == {""}


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("1", "01", "001", "1.0", "1,0", "1.00", " 1 "), 1),
        (("p1", "P01", "p-1", "p_1", "p 1", "p/1"), 1),
        (("0", "00", "0.0"), 1),
        (("1-1", "11", "1-10"), 3),
        (("1", "10", "1.5", "p1", "1p"), 5),
        (("\u0915\u093f", "\u0915\u093e"), 2),  # vowel signs of Devanagari
        (("-", "--"), 2),
    ],
)
def test_persons(names: tuple[str, ...], count: int) -> None:
    assert len(set(map(person_key, names))) == count


def test_what_is_kept_and_shown() -> None:
    assert tidy(" Fe\u0301roce\u200b \u00a0x ") == "F\u00e9roce x"
    assert (
        tidy("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645") == "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    )
    assert strip_hidden("\u202a a\u200bb\ufeff\n") == "a\u200bb"
    assert quoted(["a", "e\u0301", "b\u00a0"]) == r'"a", "e\u0301", "b\u00a0"'
    spellings = Spellings("labels", known=["Sad"])
    assert [spellings.keep(name) for name in ("happy", "SAD", "Happy ", "happy")] == ["happy", "Sad", "happy", "happy"]
    assert spellings.notes() == ['labels "happy", "Happy ": taken for one, happy']
