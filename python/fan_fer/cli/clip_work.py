"""What ``fan-fer predict`` does with each of its clips, in this process or in one beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import FanFerError, fault_line
from fan_fer.base.timing import Profile
from fan_fer.cli.outcome import show_warnings

if TYPE_CHECKING:
    from fan_fer.base.workers import Report
    from fan_fer.output.prediction import Prediction
    from fan_fer.recognizer import Recognizer

    People = list[Prediction]  # of one video: the subject alone, or everyone


@dataclass(frozen=True)
class ClipTask:
    """A video, or its address, and the pictures that are wanted of it."""

    video: Path | str
    plot: Path | None
    annotated: Path | None

    def __str__(self) -> str:
        return str(self.video)


@dataclass
class ClipResult:
    """What came of it. ``people`` is None where nothing did; a picture may be lacking beside an error."""

    people: People | None = None
    seconds: float = 0.0
    profile: Profile | None = None
    error: str = ""


class ClipWork:
    """Reads clips; the network is loaded when there is something to read."""

    def __init__(
        self,
        weights: Path | None,
        device: str,
        detector: str,
        everyone: bool,
        abstain: float | None,
        min_segment: float,
    ) -> None:
        show_warnings()
        self._network = weights, device, detector
        self._everyone, self._abstain, self._min_segment = everyone, abstain, min_segment
        self._recognizer: Recognizer | None = None

    def __call__(self, task: ClipTask, report: Report) -> ClipResult:
        """Raises what loading the network raises."""
        from fan_fer.video.sources import open_clip

        try:
            clip = open_clip(task.video)
        except FanFerError as error:
            return ClipResult(error=str(error))
        recognizer = self._load(report)
        result = ClipResult(profile=Profile())
        try:
            start = time.perf_counter()
            people: People
            if self._everyone:
                people = recognizer.predict_faces(clip, report, result.profile)
            else:
                people = [recognizer.predict(clip, report, result.profile)]
            people = [person.abstaining(self._abstain) for person in people]
            result.people, result.seconds = people, time.perf_counter() - start
            if task.plot:
                _plot(task.plot, people, report)
            if task.annotated:
                _annotate(task.annotated, people, report)
        except FanFerError as error:
            result.error = str(error)
        except Exception as error:  # a fault that one of many clips brings to light does not cost the others
            result.error = f"{task}: {fault_line(error)}"
        return result

    def _load(self, report: Report) -> Recognizer:
        from fan_fer.recognizer import load_recognizer

        if self._recognizer is None:
            report("load", 0, None)
            self._recognizer = load_recognizer(*self._network)
            self._recognizer.min_segment = self._min_segment
            _ = self._recognizer.detector  # one that cannot be loaded is found out before the work begins
        return self._recognizer


def _plot(path: Path, people: People, report: Report) -> None:
    from fan_fer.base.files import make_folder
    from fan_fer.output.figure import strip_frames
    from fan_fer.output.plot import video_faces, write_plot
    from fan_fer.output.plot_people import track_faces, write_tracks_plot

    make_folder(path.parent)
    if people[0].track is not None:
        write_tracks_plot(path, people, track_faces(people, report))
    else:
        write_plot(path, people[0], video_faces(people[0], strip_frames(people[0]), report))


def _annotate(path: Path, people: People, report: Report) -> None:
    from fan_fer.base.files import make_folder
    from fan_fer.output.annotate import annotate_video

    make_folder(path.parent)
    annotate_video(people, path, report)
