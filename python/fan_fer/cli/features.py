"""``fan-fer features``: embeddings, boxes, landmarks, times and weights of every frame, for other models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import one_line
from fan_fer.cli.options import add_aligned, add_recognizer, add_time_limit, add_weights, recognizer_options
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED, complain, warn

if TYPE_CHECKING:
    from fan_fer.output.features import FeatureSet

EXAMPLE = """\
example:
  fan-fer features clip.mp4 --out clip.npz
  fan-fer features videos.csv --out features.parquet --workers 4
  fan-fer features clips/ --weights last.safetensors --out features.npz

exit code: 0 all done, 1 some of several clips failed (the others are written), 2 nothing could be done
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    features = commands.add_parser(
        "features",
        help="what the backbone makes of every frame, for other models: .npz or .parquet",
        description="Writes embedding, time, box, landmarks and weight of every frame of the clips.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    features.set_defaults(run=run)
    features.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        help="a video, its address, a folder whose videos are all read, or a .csv with the columns video[,label,...]",
    )
    features.add_argument("--out", type=Path, metavar="FILE", required=True, help="write there: .npz or .parquet")
    features.add_argument("--workers", type=int, metavar="N", help="processes that read several clips (default: 1)")
    add_time_limit(features)
    add_weights(features)
    add_recognizer(features)
    add_aligned(features)


def run(arguments: argparse.Namespace) -> int:
    from fan_fer.base.files import check_writable
    from fan_fer.base.terminal import progress_bar, show
    from fan_fer.evaluation.clips import INTERRUPTED
    from fan_fer.many.features import extract_features
    from fan_fer.output.features import check_features

    check_features(arguments.out)
    check_writable(arguments.out)
    with progress_bar() as bars:
        bar = bars.add_task("clips", total=None)
        features = extract_features(
            arguments.clips,
            weights=arguments.weights,
            **recognizer_options(arguments),
            workers=arguments.workers,
            time_limit=arguments.time_limit,
            progress=lambda _, done, count: bars.update(bar, completed=done, total=count),
        )
    if features.clips:
        features.save(arguments.out)
        show(_summary(features, arguments.out), style="dim", markup=False, highlight=False, soft_wrap=True)
    for warning in (line for clip in features.clips for line in clip.prediction.warnings):
        warn(warning)
    left = [message for message in features.failures.values() if message.endswith(INTERRUPTED)]
    for message in dict.fromkeys(features.failures.values()):
        if message not in left[1:]:
            complain(message)
    if left:
        if len(left) > 1:
            complain(f"{len(left) - 1} more {INTERRUPTED}")
        raise KeyboardInterrupt
    if not features.failures:
        return DONE
    return SOME_FAILED if features.clips else BAD_INPUT


def _summary(features: FeatureSet, out: Path) -> str:
    clips = features.clips
    frames = sum(len(clip.embeddings) for clip in clips)
    faces = sum(int(clip.has_face.sum()) for clip in clips)
    many = f"{len(clips)} clip{'' if len(clips) == 1 else 's'}"
    size = clips[0].embeddings.shape[1]
    return f"{one_line(out)}: {many}, {frames} frames, {faces} of them with a face and {size} numbers"
