"""``fan-fer predict``: the emotion of the person in a clip, and the weight of every frame."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fan_fer.base.errors import FanFerError, OutputError, one_line
from fan_fer.base.extras import need
from fan_fer.base.files import check_writable, distinct_names, exists, is_folder, real_path, write_text
from fan_fer.base.streams import write_output
from fan_fer.cli import options
from fan_fer.cli.clip_work import ClipTask, ClipWork
from fan_fer.cli.options import (
    add_abstain,
    add_aligned,
    add_min_segment,
    add_recognizer,
    add_time_limit,
    add_weights,
    check_abstain,
    check_min_segment,
    recognizer_options,
)
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED, complain, warn

if TYPE_CHECKING:
    from fan_fer.cli.clip_work import People

    Source = Path | str  # a file, or an address

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
    predict.add_argument("--parquet", type=Path, metavar="FILE", help="write the same table as Parquet (needs pyarrow)")
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
    add_abstain(predict)
    add_min_segment(predict)
    add_weights(predict)
    add_recognizer(predict)
    add_aligned(predict)
    predict.add_argument("--profile", action="store_true", help="say where the time went")
    add_time_limit(predict)


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.base.workers import check_time_limit
    from fan_fer.video.decoding import is_address
    from fan_fer.video.sources import list_videos, not_taken, passed_over

    check_time_limit(arguments.time_limit)
    check_abstain(arguments.abstain)
    check_min_segment(arguments.min_segment)
    videos: list[Source] = []
    for clip in arguments.clips:
        found: list[Source] = [clip] if is_address(clip) else [*list_videos([clip])]
        if found != [Path(clip)] and not is_address(clip) and (others := passed_over(Path(clip))):
            warn(f"{clip}: {not_taken(others)}")
        videos += found
    single = len(arguments.clips) == 1 and not is_folder(arguments.clips[0])
    plots, annotated = _plan_outputs(arguments, videos, single)
    tasks = [ClipTask(video, plot, video_out) for video, plot, video_out in zip_longest(videos, plots, annotated)]
    done, failures, interrupted = _recognize(arguments, tasks, single)
    unwritten = _write(arguments, done, failures, single) if done else []
    for warning in (line for people, _ in done for line in people[0].warnings):
        warn(warning)
    for message in dict.fromkeys((*failures.values(), *unwritten)):
        complain(message)
    if interrupted:
        raise KeyboardInterrupt
    if unwritten:
        return BAD_INPUT
    if not failures:
        return DONE
    return SOME_FAILED if done else BAD_INPUT


def _recognize(
    arguments: argparse.Namespace, tasks: Sequence[ClipTask], single: bool
) -> tuple[list[tuple[People, float]], dict[Source, str], bool]:
    """The predictions with the seconds each took, their pictures made; what was wrong with the other videos; and
    whether the user ended it early, which keeps what is done."""
    from fan_fer.base.terminal import show
    from fan_fer.base.workers import Lost, run_tasks
    from fan_fer.output.terminal import clip_progress, profile_report

    network = arguments.weights, recognizer_options(arguments)
    work = partial(ClipWork, *network, arguments.faces == "all", arguments.abstain, arguments.min_segment)
    numbers = {task: number for number, task in enumerate(tasks, start=1)}
    left = dict.fromkeys(task.video for task in tasks)
    done: list[tuple[People, float]] = []
    failures: dict[Source, str] = {}
    interrupted = False

    def progress(task: ClipTask, *stage: Any) -> None:
        name = one_line(Path(task.video).name)
        bar(name if single else f"{numbers[task]}/{len(tasks)} {name}", *stage)

    workers = options.WORKERS if len(tasks) > 1 else 0
    with clip_progress() as bar, closing(run_tasks(work, tasks, workers, arguments.time_limit, progress)) as results:
        try:
            for task, result in results:
                left.pop(task.video, None)
                if isinstance(result, Lost):
                    failures[task.video] = f"{task}: {result.why}"
                    continue
                if result.people is not None:
                    done.append((result.people, result.seconds))
                    if arguments.profile:
                        show(profile_report(result.profile, result.people[0], result.seconds), stderr=True)
                if result.error:
                    failures[task.video] = result.error
        except KeyboardInterrupt:
            interrupted = True
        except FanFerError as error:
            if not done:
                raise
            failures |= dict.fromkeys(left, f"{len(left)} not read: {error}")
    order = {task.video: failures[task.video] for task in tasks if task.video in failures}
    return done, order, interrupted


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
    for option, path in (("--csv", arguments.csv), ("--parquet", arguments.parquet)):
        if path == STDOUT:
            raise OutputError(f"{option} -: --json alone goes to standard output; the name of a file is wanted")
    if arguments.parquet:
        need("parquet", f"{arguments.parquet}: writing Parquet")
    files = arguments.json, arguments.csv, arguments.parquet
    outputs = [path for path in files if path and path != STDOUT] + plots + annotated
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
    from fan_fer.output.json_csv import batch_json, clip_json, write_csv, write_frames_parquet
    from fan_fer.output.terminal import batch_table, clip_report, tracks_table

    everyone = arguments.faces == "all"
    clips = [people if everyone else people[0] for people, _ in done]
    unwritten = []
    everybody = [person for people, _ in done for person in people]
    for path, write in ((arguments.csv, write_csv), (arguments.parquet, write_frames_parquet)):
        try:
            if path:
                write(path, everybody)
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
