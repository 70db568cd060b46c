"""The report of a clip on a terminal: where its reading changes, and what it is not sure of."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from fan_fer.output.terminal import clip_report

from ..fakes import make_clip


@pytest.mark.parametrize("abstain", [None, 1])
def test_segments_are_listed_where_the_reading_changes(abstain: float | None) -> None:
    for borders in ((), (20,), (20, 31)):
        clip = make_clip(60, borders=borders, missing=(19,)).abstaining(abstain)
        out = io.StringIO()
        Console(file=out, width=100).print(clip_report(clip, 1.0))
        told = re.findall(r"^(\d\.\d\d) s +(\d\.\d\d) s +(\w.*?) +(\d+\.\d)% *$", out.getvalue(), re.M)
        segments = clip.segments if borders else ()
        assert told == [
            (f"{part.start:.2f}", f"{part.end:.2f}", part.label or "not sure", f"{100 * part.confidence:.1f}")
            for part in segments
        ]
        assert ("where the reading changes" in out.getvalue()) == bool(borders)
