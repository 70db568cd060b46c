"""Griffe extension: what the project's docstrings hold beyond Markdown is turned into it, for the site alone."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data):`~?\.?([\w.]+)`")
ITEM = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): ", re.MULTILINE)


class Docstrings(griffe.Extension):
    """:func:`name` becomes `name`; lines ``name: text`` about arguments or attributes become a list."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = ITEM.sub(self._item, ROLE.sub(r"`\1`", obj.docstring.value))
            obj.docstring.value = text.replace("\nRaises ", "\n\nRaises ")  # a paragraph, not the last item's end

    @staticmethod
    def _item(match: re.Match[str]) -> str:
        names = ", ".join(f"**{name}**" for name in match[1].split(", "))
        return f"\n- {names}: "
