"""What ``fan-fer predict`` shows on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Group, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from fan_fer.base.errors import one_line
from fan_fer.base.terminal import progress_bar
from fan_fer.base.timing import STAGES, Profile
from fan_fer.output.colors import track_color
from fan_fer.prediction import NOT_SURE, ClipPrediction, FramePrediction

HEAVIEST = 5  # frames listed
TOLD = 3  # segments of a clip among several
BAR = 30  # characters of a probability of 1

_STAGES = {
    "load": "loading the network",
    "faces": "reading faces",
    "plot": "drawing",
    "annotate": "writing the video",
}


@contextmanager
def clip_progress() -> Iterator[ClipProgress]:
    """Shows the progress of clips, one after the other, while the block runs and where there is a terminal."""
    with progress_bar() as bars:
        yield ClipProgress(bars)


class ClipProgress:
    """Told the name of a clip, and what ``Recognizer.predict`` and ``annotate_video`` tell their progress."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._shown = bars, ("", "")
        self._task = bars.add_task("", total=None, visible=False)

    def __call__(self, name: str, stage: str, done: int, total: int | None) -> None:
        if (name, stage) != self._shown:
            self._shown = name, stage
            self._bars.reset(self._task, description=f"{name}: {_STAGES.get(stage, stage)}", visible=True)
        self._bars.update(self._task, completed=done, total=total)


def profile_report(profile: Profile, prediction: ClipPrediction, seconds: float) -> RenderableType:
    """Where the time of one clip went. Decoding and embedding go on beside the rest: the parts may exceed the whole."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("part", "seconds", "ms a frame"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for name, spent in [*((stage, profile.seconds[stage]) for stage in STAGES), ("whole", seconds)]:
        table.add_row(name, f"{spent:.2f}", f"{1000 * spent / prediction.frames_total:.2f}")
    return table


def clip_report(prediction: ClipPrediction, seconds: float) -> RenderableType:
    """One clip in full: label, probabilities, the frames that weighed most, how long it took."""
    title = Text.assemble(
        (prediction.label or NOT_SURE, "bold"),
        f"  {prediction.confidence:.1%}   ",
        (one_line(prediction.video), "dim"),
    )
    counts = (
        f"{prediction.frames_total} frames decoded, {prediction.frames_with_face} with a face; "
        f"{seconds:.1f} s, {prediction.frames_total / seconds:.1f} frames per second"
    )
    parts = ["", _segments(prediction)] if len(prediction.segments) > 1 else []
    return Group(
        title, "", _probabilities(prediction), *parts, "", _heaviest(prediction), "", Text(counts, style="dim")
    )


def batch_table(done: Sequence[tuple[ClipPrediction, float]]) -> RenderableType:
    """Several clips and the seconds each took, a row each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("clip", overflow="fold")
    table.add_column("emotion", style="bold", no_wrap=True)
    for heading in ("prob.", "frames", "faces", "seconds", "fps"):
        table.add_column(heading, justify="right", no_wrap=True)
    changing = _add_changes(table, [prediction for prediction, _ in done])
    for prediction, seconds in done:
        table.add_row(
            Text(one_line(prediction.video)),
            prediction.label or NOT_SURE,
            f"{prediction.confidence:.1%}",
            str(prediction.frames_total),
            str(prediction.frames_with_face),
            f"{seconds:.1f}",
            f"{prediction.frames_total / seconds:.1f}",
            *([_changes(prediction)] if changing else []),
        )
    return table


def tracks_table(done: Sequence[tuple[Sequence[ClipPrediction], float]]) -> RenderableType:
    """Everyone in each of the clips, a row per track, and how long it took. Without the clips' names for one alone."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    if len(done) > 1:
        table.add_column("clip", overflow="fold")
    table.add_column("track", justify="right")
    table.add_column("emotion", style="bold", no_wrap=True)
    for heading in ("prob.", "from", "to", "faces"):
        table.add_column(heading, justify="right", no_wrap=True)
    changing = _add_changes(table, [track for tracks, _ in done for track in tracks])
    for tracks, _ in done:
        for track in tracks:
            span = track.span
            table.add_row(
                *([Text(one_line(track.video))] if len(done) > 1 else []),
                Text(str(track.track), style=f"bold {track_color(track.track)}"),
                track.label or NOT_SURE,
                f"{track.confidence:.1%}",
                f"{span[0].time or 0.0:.2f} s",
                f"{span[-1].time or 0.0:.2f} s",
                str(track.frames_with_face),
                *([_changes(track)] if changing else []),
            )
    frames, seconds = sum(tracks[0].frames_total for tracks, _ in done), sum(spent for _, spent in done)
    counts = f"{frames} frames decoded; {seconds:.1f} s, {frames / seconds:.1f} frames per second"
    title = [Text(one_line(done[0][0][0].video), style="dim")] if len(done) == 1 else []
    return Group(*title, table, Text(counts, style="dim"))


def _add_changes(table: Table, predictions: Sequence[ClipPrediction]) -> bool:
    """A column for the segments, where some clip has several; returns whether there is."""
    if changing := any(len(prediction.segments) > 1 for prediction in predictions):
        table.add_column("segments")
    return changing


def _changes(prediction: ClipPrediction) -> str:
    told = [f"{part.label or NOT_SURE} from {part.start or 0.0:.1f} s" for part in prediction.segments]
    if len(told) > TOLD:
        return f"{len(told)} of them"
    return ", ".join(told) if len(told) > 1 else ""


def _probabilities(prediction: ClipPrediction) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, value in prediction.probabilities.items():
        style = "bold" if name == prediction.label else ""
        table.add_row(name, f"{value:.1%}", "█" * round(BAR * value), style=style)
    return table


def _segments(prediction: ClipPrediction) -> RenderableType:
    table = _titled("where the reading changes")
    for heading in ("from", "to"):
        table.add_column(heading, justify="right")
    table.add_column("emotion", style="bold")
    table.add_column("prob.", justify="right")
    for part in prediction.segments:
        table.add_row(
            f"{part.start or 0.0:.2f} s", f"{part.end or 0.0:.2f} s", part.label or NOT_SURE, f"{part.confidence:.1%}"
        )
    return table


def _titled(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )


def _heaviest(prediction: ClipPrediction) -> RenderableType:
    table = _titled("frames that weighed most")
    for heading in ("frame", "time", "weight", "x mean"):
        table.add_column(heading, justify="right")
    table.add_column("on its own")
    for frame in prediction.heaviest(HEAVIEST):
        table.add_row(*_row(frame, prediction.frames_with_face))
    return table


def _row(frame: FramePrediction, faces: int) -> tuple[str, ...]:
    weight, own = frame.weight or 0.0, f"{frame.emotion or NOT_SURE} {frame.confidence or 0.0:.1%}"
    return str(frame.index), f"{frame.time or 0.0:.2f} s", f"{weight:.2%}", f"{weight * faces:.2f}", own
