"""Reads real clips frame by frame: what each second shows, and whether the reading flickers.

    python -m pretraining.stability CLIP... [--plots FOLDER] [--weights FILE] [--detector NAME]

A flicker is a reading that lasts at most three frames between two longer ones of one and the same emotion. Prints
Markdown tables; draws the figure of ``fan-fer predict`` for every clip, where asked.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from fan_fer.base.errors import first_line
from fan_fer.base.files import make_folder
from fan_fer.base.terminal import progress_bar, run_main
from fan_fer.evaluation.text import markdown_table
from fan_fer.output.figure import strip_frames
from fan_fer.output.plot import video_faces, write_plot
from fan_fer.prediction import ClipPrediction
from fan_fer.recognizer import load_recognizer

SHORT = 3  # frames


def flickers(emotions: Sequence[str | None]) -> int:
    """How many short readings stand between two longer ones of one emotion; None is a frame without a face."""
    runs = [(emotion, len(list(frames))) for emotion, frames in groupby(emotions)]
    return sum(
        middle[1] <= SHORT and before[0] == after[0] is not None and min(before[1], after[1]) > SHORT
        for before, middle, after in zip(runs, runs[1:], runs[2:], strict=False)
    )


def changes(emotions: Sequence[str | None]) -> int:
    """How often the reading changes."""
    return sum(1 for _ in groupby(emotions)) - 1


def report(predictions: Sequence[ClipPrediction]) -> str:
    """A table of the clips, and for each one of its seconds."""
    rows, seconds = [], []
    for prediction in predictions:
        name = Path(prediction.video or "").name
        emotions = [frame.emotion for frame in prediction.frames]
        label = f"{prediction.label} {100 * prediction.confidence:.0f} %"
        faces = f"{prediction.frames_with_face} of {prediction.frames_total}"
        rows.append([name, label, faces, str(changes(emotions)), str(flickers(emotions))])
        shown = []
        for second, frames in groupby(prediction.frames, key=lambda frame: int(frame.time or 0)):
            counts = Counter(frame.emotion or "no face" for frame in frames).most_common()
            shown.append([str(second), ", ".join(f"{emotion} {count}" for emotion, count in counts)])
        seconds.append(f"{name}:\n\n" + markdown_table(["second", "frames"], shown))
    headings = ["clip", "label", "frames with a face", "changes of the reading", "flickers"]
    return "\n\n".join([markdown_table(headings, rows), *seconds])


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.stability", description=first_line(__doc__))
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--plots", type=Path, help="folder for a figure of each clip")
    parser.add_argument("--weights", type=Path, help="weights file; default: the packaged one")
    parser.add_argument("--detector", default="mtcnn", help='"mtcnn" or "yunet:FILE"')
    arguments = parser.parse_args()
    recognizer = load_recognizer(arguments.weights, detector=arguments.detector)
    predictions = []
    with progress_bar() as progress:
        for path in progress.track(arguments.clips, description="clips"):
            prediction = recognizer.predict(path)
            predictions.append(prediction)
            if arguments.plots is not None:
                make_folder(arguments.plots)
                faces = video_faces(prediction, strip_frames(prediction))
                write_plot(arguments.plots / f"{path.stem}.png", prediction, faces)
    print(report(predictions))


if __name__ == "__main__":
    run_main(main)
