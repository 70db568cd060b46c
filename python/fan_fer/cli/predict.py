"""``fan-fer predict``: the emotion of the person in a clip, and the weight of every frame."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import FanFerError, OutputError, one_line
from fan_fer.base.files import check_writable, distinct_names, exists, is_folder, make_folder, real_path, write_text
from fan_fer.base.streams import write_output
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED, complain, warn

if TYPE_CHECKING:
    from fan_fer.output.prediction import Prediction
    from fan_fer.recognizer import Progress, Recognizer

    Source = Path | str  # a file, or an address
    People = list[Prediction]  # of one video: the subject alone, or everyone

STDOUT = Path("-")

EXAMPLE = """\
example:
  fan-fer predict clip.mp4 --plot clip.png --json clip.json
  fan-fer predict clips/ --csv frames.csv --plot plots/
  fan-fer predict party.mp4 --faces all --annotate annotated.mp4

for every video of a CSV file: fan-fer predict-many (predict --manifest is the same)

exit code: 0 all done, 1 some of several clips failed (the others are done), 2 nothing could be done
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser(
        "predict",
        help="the emotion of the person in a clip, and the weight of every frame",
        description="Reads clips and tells the emotion of the person in each, and how much every frame counted.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.set_defaults(run=run)
    predict.add_argument(
        "clips", nargs="+", metavar="CLIP", help="a video, its address, or a folder whose videos are all read"
    )
    predict.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write everything as JSON; '-' for standard output. One video: its object; several, or a folder: "
        '{"clips": [...], "failures": [...]}',
    )
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write a table, one row per frame and face")
    predict.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw faces and weights: .png, .pdf, .svg, .jpg or .webp. Several videos, or a folder: the name of a "
        "folder that gets one CLIP.png each",
    )
    predict.add_argument(
        "--annotate",
        type=Path,
        metavar="FILE",
        help="write the video (.mp4) with boxes, emotions and weights drawn on it. Several videos, or a folder: the "
        "name of a folder that gets one CLIP.mp4 each",
    )
    predict.add_argument(
        "--faces", choices=("largest", "all"), help="whose emotion: the largest face's (default), or everyone's"
    )
    predict.add_argument("--weights", type=Path, metavar="FILE", help="network to use (default: the one that ships)")
    predict.add_argument(
        "--detector", default="mtcnn", metavar="NAME", help="face detector: mtcnn (default) or yunet:FILE.onnx"
    )
    predict.add_argument("--profile", action="store_true", help="say where the time went")
    predict.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.video.decoding import is_address
    from fan_fer.video.sources import list_videos

    videos: list[Source] = []
    for clip in arguments.clips:
        videos += [clip] if is_address(clip) else list_videos([clip])
    single = len(arguments.clips) == 1 and not is_folder(arguments.clips[0])
    plots, annotated = _plan_outputs(arguments, videos, single)
    done, failures, interrupted = _recognize(arguments, videos, plots, annotated, single)
    unwritten = _write(arguments, done, failures, single) if done else []
    for warning in (line for people, _ in done for line in people[0].warnings):
        warn(warning)
    for message in (*failures.values(), *unwritten):
        complain(message)
    if interrupted:
        raise KeyboardInterrupt
    if unwritten:
        return BAD_INPUT
    if not failures:
        return DONE
    return SOME_FAILED if done else BAD_INPUT


def _recognize(
    arguments: argparse.Namespace,
    videos: Sequence[Source],
    plots: Sequence[Path],
    annotated: Sequence[Path],
    single: bool,
) -> tuple[list[tuple[People, float]], dict[Source, str], bool]:
    """The predictions with the seconds each took, their pictures made; what was wrong with the other videos; and
    whether the user ended it early, which keeps what is done."""
    from fan_fer.base.terminal import show, working
    from fan_fer.base.timing import Profile
    from fan_fer.output.terminal import clip_progress, profile_report
    from fan_fer.video.sources import open_clip

    failures: dict[Source, str] = {}
    # What is no video at all is found before the seconds that loading a network takes.
    for video in videos:
        try:
            open_clip(video)
        except FanFerError as error:
            failures[video] = str(error)
    if len(failures) == len(set(videos)):
        return [], failures, False

    with working("loading the network"):
        recognizer = _load(arguments)
    done: list[tuple[People, float]] = []
    interrupted = False
    for number, video in enumerate(videos):
        if video in failures:
            continue
        name = one_line(Path(video).name if single else f"{number + 1}/{len(videos)} {Path(video).name}")
        start, profile = time.perf_counter(), Profile()
        try:
            with clip_progress(name) as progress:
                if arguments.faces == "all":
                    people = recognizer.predict_faces(video, progress, profile)
                else:
                    people = [recognizer.predict(video, progress, profile)]
            done.append((people, time.perf_counter() - start))
            if arguments.profile:
                show(profile_report(profile, people[0], done[-1][1]), stderr=True)
            if plots:
                _plot(plots[number], people)
            if annotated:
                with clip_progress(name) as progress:
                    _annotate(annotated[number], people, progress)
        except FanFerError as error:
            failures[video] = str(error)
        except KeyboardInterrupt:
            interrupted = True
            break
    return done, {video: failures[video] for video in videos if video in failures}, interrupted


def _load(arguments: argparse.Namespace) -> Recognizer:
    from fan_fer.recognizer import load_recognizer

    recognizer = load_recognizer(arguments.weights, arguments.device, arguments.detector)
    _ = recognizer.detector  # one that cannot be loaded is found out before the work begins
    return recognizer


def _plan_outputs(
    arguments: argparse.Namespace, videos: Sequence[Source], single: bool
) -> tuple[list[Path], list[Path]]:
    """The paths of every video's plot and annotated video, where they are wanted.

    Raises OutputError for an output that could not be written in the end, FanFerError where a library is missing.
    """
    from fan_fer.output.figure import check_picture

    plots, annotated = [], []
    if arguments.plot:
        plots = _picture_paths(arguments.plot, videos, single, "plot", ".png", check_picture)
    if arguments.annotate:
        from fan_fer.output.annotate import check_video

        annotated = _picture_paths(arguments.annotate, videos, single, "annotated video", ".mp4", check_video)
        check_video(annotated[0])
    outputs = [path for path in (arguments.json, arguments.csv) if path and path != STDOUT] + plots + annotated
    inputs = {real_path(video) for video in videos}
    seen: set[Path] = set()
    for path in outputs:
        target = real_path(path)
        if target in inputs:
            raise OutputError(f"{path}: is one of the clips; another name is wanted")
        if target in seen:
            raise OutputError(f"{path}: is named for two outputs; two names are wanted")
        seen.add(target)
        # A folder of pictures that is still to be made is checked by its own name.
        new = path in (*plots, *annotated) and not single and not exists(path.parent)
        check_writable(path.parent if new else path)
    return plots, annotated


def _picture_paths(
    given: Path, videos: Sequence[Source], single: bool, what: str, suffix: str, check: Callable[[Path], None]
) -> list[Path]:
    """The file that is given for one video; for several, a file named after each in the folder that is given."""
    if single and not is_folder(given):
        check(given)
        return [given]
    if given.suffix and not is_folder(given):
        raise OutputError(f"{given}: several {what}s go into a folder; the name of a folder is wanted")
    if os.path.lexists(given) and not is_folder(given):
        raise OutputError(f"{given}: is no folder; several {what}s go into a folder")
    # Clips of the same name in different folders: clip.png, clip-2.png, ...
    return [given / name for name in distinct_names([Path(video).stem or "clip" for video in videos], suffix)]


def _write(
    arguments: argparse.Namespace,
    done: Sequence[tuple[People, float]],
    failures: dict[Source, str],
    single: bool,
) -> list[str]:
    """The files, and the table for the terminal; with JSON on standard output the table goes to standard error.

    Returns what was wrong with those that could not be written; the others are.
    """
    from fan_fer.base.terminal import show
    from fan_fer.output.json_csv import batch_json, clip_json, write_csv
    from fan_fer.output.terminal import batch_table, clip_report, tracks_table

    everyone = arguments.faces == "all"
    clips = [people if everyone else people[0] for people, _ in done]
    unwritten = []
    try:
        if arguments.csv:
            write_csv(arguments.csv, [person for people, _ in done for person in people])
    except OutputError as error:
        unwritten.append(str(error))
    try:
        if arguments.json:
            text = clip_json(clips[0]) if single else batch_json(clips, failures)
            if arguments.json == STDOUT:
                write_output(text)
            else:
                write_text(arguments.json, text)
    except OutputError as error:
        unwritten.append(str(error))
    subjects = [(people[0], seconds) for people, seconds in done]
    whole = clip_report(*subjects[0]) if single else batch_table(subjects)
    show(tracks_table(done) if everyone else whole, stderr=arguments.json == STDOUT)
    return unwritten


def _plot(path: Path, people: People) -> None:
    from fan_fer.output.figure import strip_frames
    from fan_fer.output.plot import video_faces, write_plot
    from fan_fer.output.plot_people import track_faces, write_tracks_plot

    make_folder(path.parent)
    if people[0].track is not None:
        write_tracks_plot(path, people, track_faces(people))
    else:
        write_plot(path, people[0], video_faces(people[0], strip_frames(people[0])))


def _annotate(path: Path, people: People, progress: Progress) -> None:
    from fan_fer.output.annotate import annotate_video

    make_folder(path.parent)
    annotate_video(people, path, progress)
