"""How names that people write are compared: labels, persons, splits, columns. One rule, wherever they meet."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

_JOINERS = "\u200c\u200d"  # not seen, but they shape the letters and emoji that they stand between
# What Unicode lets a comparison pass over, beside the categories Cc and Cf: joiners, fillers, variation selectors.
_IGNORED = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def tidy(name: str) -> str:
    """A name as it is kept and shown: composed (NFC), without what cannot be seen, with single blanks inside."""
    seen = "".join(mark for mark in name if mark in _JOINERS or not _is_hidden(mark))
    return " ".join(unicodedata.normalize("NFC", seen).split())


def strip_hidden(text: str) -> str:
    """The text without blanks and marks that cannot be seen at its ends, as copying leaves them."""
    text = text.strip()
    if text.isprintable():
        return text
    seen = [place for place, mark in enumerate(text) if not (mark.isspace() or _is_hidden(mark))]
    return text[seen[0] : seen[-1] + 1] if seen else ""


@lru_cache(10_000)
def name_key(name: str) -> str:
    """What a name is compared by; "" for one of which nothing can be seen.

    Two names are one where case, blanks around and between words, marks that cannot be seen, or the way in which
    Unicode writes the same letters is all that tells them apart. That is NFKC with case folding, as Unicode compares
    identifiers, and not NFC: full-width letters, no-break blanks and ligatures come from keyboards and word processors,
    not from people who mean another class.
    """
    seen = _IGNORED.sub("", "".join(mark for mark in name if not _is_hidden(mark)))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return " ".join(folded.split())


def person_key(name: str) -> str:
    """What a person, or a fold, is compared by: also "1", "01" and "1.0", "p1", "P01" and "p-1" are one.

    Leading zeros, and what divides words and numbers, do not count. Two persons taken for one cost a fold some of its
    balance; one person taken for two is trained on and tested on.
    """
    key = name_key(name)
    if re.fullmatch(r"\d+[.,]0+", key):  # a number as spreadsheets and data frames write it
        key = re.split("[.,]", key)[0]
    parts = re.findall(r"\d+|[^\d\s_.,/\-]+", key)
    return "-".join((part.lstrip("0") or "0") if part[0].isdecimal() else part for part in parts) or key


class Spellings:
    """Names of one kind as they are met: of those that are the same, the first spelling is kept.

    what: the kind, for :meth:`notes`: "labels".
    known: spellings that come before all others.
    """

    def __init__(self, what: str, key: Callable[[str], str] = name_key, known: Iterable[str] = ()) -> None:
        self._what, self._key = what, key
        self._kept = {key(name): name for name in known}
        self._met: dict[str, dict[str, None]] = {}

    def keep(self, name: str) -> str:
        """The spelling that is kept of this name."""
        key = self._key(name)
        self._met.setdefault(key, {})[name] = None
        return self._kept.setdefault(key, tidy(name))

    def notes(self) -> list[str]:
        """A line for each name that was met in several spellings."""
        return [
            f"{self._what} {quoted(met)}: taken for one, {self._kept[key]}"
            for key, met in self._met.items()
            if len(met) > 1
        ]


def quoted(names: Iterable[str], between: str = ", ", shown: int = 8) -> str:
    """The names in quotes, with escapes where a name is not what can be seen of it; the first few of many."""
    names = list(names)
    more = f"{between}{len(names) - shown} more" if len(names) > shown else ""
    return between.join(f'"{name}"' if _is_plain(name) else json.dumps(name) for name in names[:shown]) + more


def _is_hidden(mark: str) -> bool:
    return not mark.isspace() and unicodedata.category(mark) in ("Cc", "Cf")


def _is_plain(name: str) -> bool:
    return unicodedata.normalize("NFC", name) == name and all(mark.isprintable() for mark in name)
