"""What training shares: errors of scripts, progress, and checkpoints that survive a kill."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fan_fer.errors import FanFerError, first_line
from fan_fer.output import atomic_write


def run_main(main: Callable[[], None]) -> None:
    """Runs a script's main; an error the user can mend becomes one line on stderr and exit code 2."""
    try:
        main()
    except FanFerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


_active: Progress | None = None


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Bars on the terminal, where there is one. Inside another such block, bars below its own, gone at its end."""
    global _active
    if _active is not None:
        bars = _active
        before = set(bars.task_ids)
        try:
            yield bars
        finally:
            for task in set(bars.task_ids) - before:
                bars.remove_task(task)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        _active = bars
        try:
            yield bars
        finally:
            _active = None


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """A kill while it writes leaves the old file or the new one, nothing between."""
    with atomic_write(path) as temporary:
        torch.save(checkpoint, temporary)


def load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint a run with the same settings left at ``path``; None where there is none."""
    if not path.exists():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = checkpoint["settings"]
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise FanFerError(f"{path}: no checkpoint of a run ({first_line(error)}); delete it to begin anew") from error
    check_settings(path, found, settings)
    return checkpoint


def check_settings(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises FanFerError that names the settings in which what lies at ``path`` differs."""
    changed = [f"{name} {found.get(name)} -> {value}" for name, value in wanted.items() if found.get(name) != value]
    if changed:
        raise FanFerError(f"{path}: made with other settings ({', '.join(changed)}); use those, or another --out")
