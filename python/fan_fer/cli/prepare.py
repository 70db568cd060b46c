"""``fan-fer prepare``: the faces of a data set, found and aligned once, with tables that describe them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from fan_fer.base.processes import cpus
from fan_fer.cli.options import add_detector, add_time_limit, check_count
from fan_fer.cli.outcome import DONE, warn

LISTED = 20  # warnings on the terminal

LAYOUTS = """\
layouts:
  crema-d   SRC/VideoFlash/1001_DFA_ANG_XX.flv
  ravdess   SRC/Video_Speech_Actor_01/Actor_01/01-01-03-01-01-01-01.mp4
  mead      SRC/M003/video/front/angry/level_1/001.mp4
  dfew      SRC/Clip/clip_224x224/00001/*.jpg and SRC/EmoLabel_DataSplit/test(single-labeled)/set_1.csv
  ferv39k   SRC/2_ClipsforFaceCrop/Action/Happy/0267/*.jpg and SRC/4_setups/All_scenes/test_All.csv
  mafw      SRC/clips/00001.mp4 and SRC/single/no_caption/set_1/test.txt
  ckplus    SRC/cohn-kanade-images/S005/001/*.png and SRC/Emotion/S005/001/*_emotion.txt
  afew      SRC/Train_AFEW/Angry/*.avi and SRC/Val_AFEW/Angry/*.avi
  folders   SRC/CLASS/*.mp4 or SRC/CLASS/CLIP/*.png, perhaps below SRC/train, SRC/val, SRC/test
  csv       SRC is a CSV with the columns video, label, and perhaps split, subject and fold

example:
  fan-fer prepare --layout ravdess RAVDESS/ prepared/ravdess --classes Calm=Neutral

Interrupted or killed, it goes on when it is given again. Clips that cannot be read or show no face are listed and
left out. exit code: 0 done, 2 nothing could be done
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="find and align the faces of a data set, once",
        description="Finds the subject's face in every frame of a data set and writes aligned crops and tables.",
        epilog=LAYOUTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prepare.set_defaults(run=run)
    prepare.add_argument("source", type=Path, metavar="SRC", help="the data set")
    prepare.add_argument("target", type=Path, metavar="DST", help="folder to write the prepared set to")
    prepare.add_argument("--layout", required=True, metavar="NAME", help="how SRC lies on disk, see below")
    prepare.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="side of the crops in pixels (default: 128, as the network that ships takes)",
    )
    add_detector(prepare)
    prepare.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="divide the persons into N folds (default: 10 for ckplus, 6 for ravdess, 5 for crema-d, mead, and a csv "
        "that names a subject for each clip and no split; none for the others)",
    )
    prepare.add_argument(
        "--classes",
        metavar="NAMES",
        help="which classes to keep, and which labels to put into others: Happy,Neutral,Calm=Neutral (default: all)",
    )
    prepare.add_argument(
        "--workers", type=int, default=cpus(), metavar="N", help="processes (default: one per core, %(default)s)"
    )
    add_time_limit(prepare)


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.base.terminal import show
    from fan_fer.datasets.files import CLIPS_FILE
    from fan_fer.datasets.prepare import prepare
    from fan_fer.datasets.report import summary

    check_count("--workers", arguments.workers)
    start = time.perf_counter()
    preparation = prepare(
        arguments.layout.lower().replace("_", "-"),
        arguments.source,
        arguments.target,
        size=arguments.size,
        detector=arguments.detector,
        folds=arguments.folds,
        classes=arguments.classes,
        workers=arguments.workers,
        time_limit=arguments.time_limit,
    )
    show(summary(preparation, time.perf_counter() - start))
    odd = [f"{row['clip']}: {row['message']}" for row in preparation.clips if row["message"]]
    for message in odd[:LISTED]:
        warn(message)
    if len(odd) > LISTED:
        warn(f"{len(odd) - LISTED} more in {arguments.target / CLIPS_FILE}")
    return DONE
