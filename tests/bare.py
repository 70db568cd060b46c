"""Python as it is where some packages are installed, with all that they need, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

_ONLY = """
import sys


class Only:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES or name.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, path, target)


NAMES = sys.stdlib_module_names | {names}
sys.meta_path[:] = map(Only, sys.meta_path)
"""


def run_bare(
    folder: Path, requirements: Iterable[str], arguments: Sequence[object], names: Iterable[str]
) -> subprocess.CompletedProcess[str]:
    """Runs Python; it and the processes it starts import what the requirements bring, and the modules ``names``."""
    allowed = {*names, *(name for package in _with_theirs(requirements) for name in _modules(package))}
    (folder / "sitecustomize.py").write_text(_ONLY.replace("{names}", repr(allowed)))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, cwd=folder, capture_output=True, text=True, timeout=240
    )


def _with_theirs(requirements: Iterable[str]) -> set[str]:
    """The packages, and those that they require, and so on."""
    found: set[str] = set()
    todo = list(map(Requirement, requirements))
    while todo:
        requirement = todo.pop()
        known = requirement.name.lower() in found
        if known or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(requirement.name.lower())
        try:
            todo += map(Requirement, metadata.requires(requirement.name) or ())
        except metadata.PackageNotFoundError:
            continue  # for another system
    return found


def _modules(package: str) -> set[str]:
    try:
        files = metadata.files(package) or ()
    except metadata.PackageNotFoundError:
        return set()
    return {file.parts[0].partition(".")[0] for file in files}
