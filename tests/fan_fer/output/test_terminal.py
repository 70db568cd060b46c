"""The report of a clip on a terminal: where its reading changes, and what it is not sure of."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from fan_fer.output.terminal import batch_table, clip_report, tracks_table

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


def test_tables_have_a_column_where_a_reading_changes() -> None:
    def printed(*clips) -> list[str]:
        out = io.StringIO()
        console = Console(file=out, width=160)
        console.print(batch_table([(clip, 1.0) for clip in clips]))
        console.print(tracks_table([([replace(clip, track=1) for clip in clips], 1.0)]))
        return out.getvalue().splitlines()

    steady, changing, often = make_clip(60), make_clip(60, borders=(20,)), make_clip(60, borders=(10, 20, 30))
    assert not any("segments" in line for line in printed(steady))
    lines = printed(steady, changing, often)
    assert sum(line.rstrip().endswith("segments") for line in lines) == 2
    told = f"{changing.segments[0].label} from 0.0 s, {changing.segments[1].label} from 0.8 s"
    assert sum(line.rstrip().endswith(told) for line in lines) == 2
    assert sum(line.rstrip().endswith("4 of them") for line in lines) == 2
