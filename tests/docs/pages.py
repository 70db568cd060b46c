"""The pages of the documentation, and the code and commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks(page: str) -> list[tuple[int, str]]:
    """The line that each block of Python begins at, and its code."""
    text = PAGES[page].read_text()
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in _BLOCK.finditer(text)]


def commands(page: str) -> list[list[str]]:
    """The arguments of every ``fan-fer`` command in the page's code, without what the page says beside it."""
    text = re.sub(r"\\\n\s*", "", PAGES[page].read_text())
    lines = re.findall(r"^(?:    )?(?:fan-fer|\S.* -m fan_fer) (.*)$", _code(text), re.MULTILINE)
    return [shlex.split(re.split(r"\s{2,}|\s#", line)[0].strip()) for line in lines]


def _code(text: str) -> str:
    """The lines that are indented or between fences."""
    kept, fenced = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            kept.append(line)
    return "\n".join(kept)
