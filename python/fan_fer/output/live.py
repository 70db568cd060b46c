"""What ``fan-fer live`` shows on a terminal: the running reading, redrawn some times a second."""

from __future__ import annotations

import io
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fan_fer.base.streams import write
from fan_fer.output.colors import class_colors
from fan_fer.prediction import NOT_SURE, ClipPrediction, FramePrediction
from fan_fer.video.frame import Frame

REDRAWN = 8  # times a second
RECENT = 2.0  # seconds over which the rate and the lateness are taken
WIDEST = 88  # characters
ROWS = 2  # of the strip of weights
ACROSS, UPWARDS = " ▏▎▍▌▋▊▉█", " ▁▂▃▄▅▆▇█"  # eighths of a character


class Pace(NamedTuple):
    """Frames read a second; seconds from a frame's arrival to its reading; frames left out so far."""

    rate: float = 0.0
    late: float = 0.0
    dropped: int = 0


class PaceKeeper:
    """Call it with every frame as soon as it is read."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()  # when a frame was read, and how late that was
        self._read = 0

    def __call__(self, frame: Frame) -> Pace:
        now = time.monotonic()
        self._read += 1
        self._recent.append((now, now - frame.arrived))
        while now - self._recent[0][0] > RECENT:
            self._recent.popleft()
        seconds = now - self._recent[0][0]
        late = sum(late for _, late in self._recent) / len(self._recent)
        return Pace((len(self._recent) - 1) / (seconds or 1.0), late, frame.index + 1 - self._read)


class LivePanel:
    """The panel, while the block runs; the last one stays. Where there is no terminal, that alone is printed.

    name: of the source. classes: of the network. window: seconds that a prediction looks back.
    """

    def __init__(self, name: str, classes: Sequence[str], window: float, console: Console) -> None:
        self._name, self._colors, self._window = name, class_colors(classes), window
        self._keep = PaceKeeper()
        self._reading: tuple[ClipPrediction | None, Pace] | None = None
        self._console = console
        self._live = Live(console=console, refresh_per_second=REDRAWN, get_renderable=lambda: self)

    def __enter__(self) -> LivePanel:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
            return
        text = io.StringIO()
        Console(file=text, width=self._console.width, emoji=False).print(self)
        write(self._console.file, text.getvalue())

    def show(self, frame: Frame, prediction: ClipPrediction | None) -> bool:
        """Takes what ``Recognizer.stream`` gives. Returns whether to go on."""
        self._reading = prediction, self._keep(frame)
        return True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = min(options.max_width, WIDEST)
        inner = width - 4
        prediction, pace = self._reading or (None, Pace())
        seen = prediction is not None and prediction.frames[-1].has_face
        head = Table.grid(expand=True)
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        head.add_row(self._title(prediction), Text("● face" if seen else "○ no face", "green" if seen else "dim"))
        body = Group(
            head,
            "",
            *(self._bar(name, prediction, inner) for name in self._colors),
            "",
            Text(f"weights of the last {self._window:g} s", "dim"),
            *self._strip(prediction, inner),
            "",
            Text(f"{pace.rate:.0f} frames/s  {1000 * pace.late:.0f} ms late  {pace.dropped} dropped", "dim"),
        )
        yield Panel(body, title=Text(self._name), subtitle=Text("Ctrl-C ends it", "dim"), width=width)

    def _title(self, prediction: ClipPrediction | None) -> Text:
        if prediction is None:
            return Text("waiting for a picture" if self._reading is None else "no face to read", "dim")
        part = prediction.segments[-1]
        since = f"  ({part.label or NOT_SURE} {part.confidence:.0%} since {part.start or 0.0:.1f} s)"
        return Text.assemble(
            (prediction.label or NOT_SURE, "bold"),
            f"  {prediction.confidence:.0%}",
            (since if len(prediction.segments) > 1 else "", "dim"),
        )

    def _bar(self, name: str, prediction: ClipPrediction | None, width: int) -> Text:
        value = 0.0 if prediction is None else prediction.probabilities[name]
        names = max(map(cell_len, self._colors))
        whole, eighths = divmod(round(8 * value * max(width - names - 8, 0)), 8)
        told = "" if prediction is None else f"{value:.1%}"
        bold = "bold" if prediction is not None and name == prediction.label else ""
        line = Text.assemble(
            (f"{set_cell_size(name, names)}{told:>7} ", bold), (ACROSS[8] * whole + ACROSS[eighths], self._colors[name])
        )
        line.no_wrap, line.overflow = True, "crop"
        return line

    def _strip(self, prediction: ClipPrediction | None, width: int) -> list[Text]:
        """Lines of blocks as high as the weights, in the colours of the frames on their own."""
        columns = [] if prediction is None else by_column(prediction.frames, self._window, width)
        heaviest = max((frame.weight or 0.0 for frame in columns if frame), default=0.0) or 1.0
        lines = [Text() for _ in range(ROWS)]
        for frame in columns:
            high, style = 0, ""
            if frame is not None and frame.weight is not None:
                high, style = (
                    max(1, round(8 * ROWS * frame.weight / heaviest)),
                    self._colors.get(frame.emotion or "", "dim"),
                )
            for row, line in enumerate(reversed(lines)):
                line.append(UPWARDS[min(max(high - 8 * row, 0), 8)], style)
        return lines


def by_column(frames: Sequence[FramePrediction], window: float, columns: int) -> list[FramePrediction | None]:
    """The frame that each of ``columns`` equal parts of ``window`` seconds shows; the last ends with the last frame.

    Of several it is the heaviest. Parts without a frame show the next one, those before the first frame none.
    """
    shown: list[FramePrediction | None] = [None] * columns
    end = frames[-1].time or 0.0
    last: int | None = None
    for frame in frames:
        part = (1 - (end - (frame.time or 0.0)) / window) * columns
        place = max(math.ceil(part - 1e-6) - 1, 0)
        for column in range(place if last is None else min(last + 1, place), place + 1):
            before = shown[column]
            if before is None or (frame.weight or 0.0) > (before.weight or 0.0):
                shown[column] = frame
        last = place
    return shown
