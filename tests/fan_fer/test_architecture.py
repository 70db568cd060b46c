"""Who imports whom, held against the picture of the rooms in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ROOT / "python"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = re.findall(r"^    (.+)$", PAGE.partition("## The way")[0], re.MULTILINE)
LEVEL = {Path(name).stem: level for level, line in enumerate(PICTURE) for name in line.split()}
MODULES = {".".join(path.relative_to(CODE).with_suffix("").parts): path for path in CODE.glob("fan_fer/**/*.py")}
OURS = ("fan_ext", "fan_fer", "pretraining", "benchmarks")


def imports(path: Path) -> Iterator[str]:
    """Modules of the repository that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module or "" for name in whole]
        yield from (name for name in names if name.partition(".")[0] in OURS)


def room(module: str) -> str:
    return module.removeprefix("fan_fer.").partition(".")[0]


def test_nothing_is_imported_from_above_or_beside() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in imports(path)
        if room(module) in LEVEL and room(name) != room(module) and LEVEL.get(room(name), -1) <= LEVEL[room(module)]
    ]
    assert wrong == []
    assert len(MODULES) > 80


def test_opencv_is_imported_in_one_place() -> None:
    direct = re.compile(r"^\s*(import|from) cv2\b", re.MULTILINE)
    assert [name for name, path in MODULES.items() if direct.search(path.read_text())] == ["fan_fer.base.opencv"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: set(imports(path)) for module, path in MODULES.items()}).prepare()


def test_the_page_names_every_room_and_file() -> None:
    folders = {path.parent.name for path in CODE.glob("fan_fer/*/__init__.py")}
    files = {path.stem for path in CODE.glob("fan_fer/*.py")} - {"__init__", "__main__"}
    assert set(LEVEL) == {"fan_ext"} | folders | files
    assert {Path(name).stem for name in re.findall(r"^\| `([\w.]+)/?` \|", PAGE, re.MULTILINE)} == folders | files
    named = re.findall(r"`(\w+/\w+\.py)`", PAGE)
    assert [name for name in named if not (CODE / "fan_fer" / name).is_file() and not (CODE / name).is_file()] == []
