"""What commands and scripts share on a terminal: errors in one line, the console, and progress."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fan_fer.base.errors import FanFerError
from fan_fer.base.streams import note, write

LINE = 250  # characters, where there is no terminal


def run_main(main: Callable[[], None]) -> None:
    """Runs a script's main; an error the user can mend becomes one line on stderr and exit code 2."""
    try:
        main()
    except FanFerError as error:
        note(f"error: {error}")
        sys.exit(2)


def console(stderr: bool = False, **options: Any) -> Console:
    """A console on standard output or error; ``options`` are rich's. Where there is no terminal, lines stay whole.

    Texts are printed as they are: names with [brackets] or :colons: are no markup.
    """
    width = None if _is_terminal(stderr) else LINE
    return Console(stderr=stderr, width=width, markup=False, emoji=False, **options)


def _is_terminal(stderr: bool) -> bool:
    stream = sys.stderr if stderr else sys.stdout
    return stream is not None and not stream.closed and stream.isatty()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows what is being done while the block runs, where there is a terminal."""
    with console(stderr=True).status(what) if _is_terminal(stderr=True) else nullcontext():
        yield


def show(*parts: RenderableType, stderr: bool = False, **options: Any) -> None:
    """A report, as rich's ``Console.print`` takes it; ``streams.check_output`` tells whether it could be written."""
    if stderr and _active is not None and not _active.disable:  # above the bars
        _active.console.print(*parts, **options)
        return
    text = io.StringIO()
    console(stderr, file=text, force_terminal=_is_terminal(stderr) or None).print(*parts, **options)
    write(sys.stderr if stderr else sys.stdout, text.getvalue())


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
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = not _is_terminal(stderr=True)  # also where FORCE_COLOR asks for colours, as Jupyter does
    with Progress(*columns, console=console(stderr=True), transient=True, disable=hidden) as bars:
        _active = bars
        try:
            yield bars
        finally:
            _active = None
