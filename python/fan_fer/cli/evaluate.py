"""``fan-fer evaluate``: how often a network is right, on a prepared set or on the videos of a CSV file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fan_fer.base.errors import DataError, WeightsError, one_line
from fan_fer.base.extras import need
from fan_fer.cli import options
from fan_fer.cli.options import add_abstain, add_time_limit, check_abstain
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED, complain

if TYPE_CHECKING:
    from fan_fer.attention.network import FrameAttentionNetwork
    from fan_fer.attention.weights import ModelCard
    from fan_fer.evaluation.clips import EvaluatedClip
    from fan_fer.evaluation.summary import Summary
    from fan_fer.recognizer import Recognizer

EXAMPLE = """\
example:
  fan-fer evaluate runs/fan/best.safetensors prepared/afew --out scores
  fan-fer evaluate packaged videos.csv --label-map joy=Happy,other=- --by generator --out scores

exit code: 0 all done, 1 some videos failed (the others are scored), 2 nothing could be done
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy, recalls and confusions of a network, on a prepared set or a list of videos",
        description="Scores a network on labelled clips: accuracy, recalls and confusions, with intervals.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.set_defaults(run=run)
    evaluate.add_argument(
        "model",
        metavar="MODEL",
        help="a network: a file of fan-fer, a trained published checkpoint, or packaged, the one that ships",
    )
    evaluate.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a folder that fan-fer prepare made, or a CSV with the columns video[,label,...]",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="write predictions.csv, metrics.json and confusion.png there"
    )
    evaluate.add_argument(
        "--partition",
        metavar="NAME",
        help="of a prepared set: the test clips of fold-K, or of val (default: val or all)",
    )
    evaluate.add_argument("--split", metavar="NAME", help="only clips of this split, such as val")
    evaluate.add_argument(
        "--label-map",
        metavar="MAP",
        help="which class each label is: LABEL=CLASS,LABEL=- ('-': left out) or a JSON file",
    )
    evaluate.add_argument("--by", metavar="COLUMN", help="scores of every value of this column, too")
    evaluate.add_argument(
        "--formula",
        choices=("paper", "official-eval"),
        default="paper",
        help="how a prepared set's clips are pooled: as the paper says (default), or as the published code does",
    )
    evaluate.add_argument(
        "--frame-truth",
        type=Path,
        metavar="FILE",
        help="a CSV clip,frame,intensity,occluded: tells whether the weights follow the informative frames",
    )
    evaluate.add_argument(
        "--classes",
        metavar="NAMES",
        help="of a published checkpoint, which does not say: ckplus, afew, or the names in the order of its outputs",
    )
    evaluate.add_argument(
        "--detector", default="mtcnn", metavar="NAME", help="for videos: mtcnn (default) or yunet:FILE.onnx"
    )
    add_abstain(evaluate)
    add_time_limit(evaluate)
    evaluate.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def run(arguments: argparse.Namespace) -> int:
    need("train", "evaluate")
    from fan_fer.base.device import find_device
    from fan_fer.base.files import check_folder, is_folder, make_folder
    from fan_fer.base.workers import check_time_limit
    from fan_fer.datasets.prepared import open_prepared
    from fan_fer.evaluation.clips import choose_prepared, choose_videos, evaluate_prepared, with_truths
    from fan_fer.evaluation.informative import load_truth
    from fan_fer.evaluation.labels import parse_label_map
    from fan_fer.evaluation.summary import FILES, check_column, summarise, write_predictions, write_summary
    from fan_fer.recognizer import Recognizer

    prepared = open_prepared(arguments.data) if is_folder(arguments.data) else None
    if prepared is not None:
        which, clips = choose_prepared(prepared, arguments.partition, arguments.split)
    else:
        _check_video_options(arguments)
        which, clips = choose_videos(arguments.data, arguments.split)
    if arguments.by:
        arguments.by = check_column(clips, arguments.by)
    check_time_limit(arguments.time_limit)
    check_abstain(arguments.abstain)
    label_map = None if arguments.label_map is None else parse_label_map(arguments.label_map)
    truth = load_truth(arguments.frame_truth) if arguments.frame_truth else None
    device = find_device(arguments.device)
    if arguments.out:
        check_folder(arguments.out, FILES)

    network, card = _load(arguments, None if prepared is None else prepared.layout)
    clips = with_truths(clips, card.classes, label_map)
    if truth:
        truth.check_clips(clip.name for clip in clips if clip.truth is not None and not clip.error)
    recognizer = Recognizer(network, card, weights_file=arguments.model, device=device, detector=arguments.detector)
    interrupted = False
    if prepared is not None:
        clips = evaluate_prepared(recognizer, prepared, clips, arguments.formula.replace("-", "_"))
    else:
        clips, interrupted = _predict(recognizer, clips, arguments)

    if not any(clip.probabilities is not None for clip in clips):
        if interrupted:
            raise KeyboardInterrupt
        complain(f"{arguments.data}: none of the {len(clips)} clips could be done; the first: {clips[0].error}")
        return BAD_INPUT
    if arguments.out:
        make_folder(arguments.out)
        write_predictions(arguments.out, clips, card.classes, arguments.abstain)
    about = _about(arguments, card, which)
    summary = summarise(about, card.classes, clips, arguments.by, truth, arguments.abstain)
    if arguments.out:
        write_summary(arguments.out, summary)
    _print(summary)
    if interrupted:
        raise KeyboardInterrupt
    # That a prepared set's clip has no face was known before: nothing failed now.
    return SOME_FAILED if prepared is None and any(clip.error for clip in clips) else DONE


def _check_video_options(arguments: argparse.Namespace) -> None:
    for option, unset in (("partition", None), ("formula", "paper")):
        if getattr(arguments, option) != unset:
            raise DataError(f"{arguments.data}: is no prepared set; --{option} needs one (fan-fer prepare makes it)")


def _load(arguments: argparse.Namespace, layout: str | None) -> tuple[FrameAttentionNetwork, ModelCard]:
    """The network and its card; a published checkpoint is told its classes by ``--classes`` or the set's layout."""
    from fan_fer.attention.checkpoints import PACKAGED, PUBLISHED_CLASSES, import_network
    from fan_fer.attention.weights import find_weights, is_safetensors, load_weights
    from fan_fer.base.files import is_file
    from fan_fer.base.names import name_key, tidy
    from fan_fer.base.terminal import show, working

    path = find_weights(None if arguments.model == PACKAGED else arguments.model)
    published = is_file(path) and not is_safetensors(path)
    if arguments.classes and not published:
        raise WeightsError(f"{arguments.model}: --classes is for published checkpoints; this network has its own")
    with working("loading the network"):
        if not published:
            return load_weights(path)
        names = name_key(arguments.classes or layout or "")
        if names not in PUBLISHED_CLASSES and "," not in names:
            raise WeightsError(
                f"{path}: does not say which classes it has; --classes ckplus, afew, or NAME,NAME,... is wanted"
            )
        classes = PUBLISHED_CLASSES.get(names) or tuple(map(tidy, arguments.classes.split(",")))
        network, card, report = import_network(path, classes)
    for line in report.lines():
        show(one_line(line), stderr=True, style="dim", markup=False, highlight=False, soft_wrap=True)
    return network, card


def _predict(
    recognizer: Recognizer, clips: Sequence[EvaluatedClip], arguments: argparse.Namespace
) -> tuple[list[EvaluatedClip], bool]:
    """Videos, with a progress bar; and whether the user ended it early."""
    from fan_fer.base.terminal import progress_bar
    from fan_fer.evaluation.clips import predict_videos

    _ = recognizer.detector  # one that cannot be loaded is found out before the work begins
    with progress_bar() as bars:
        bar = bars.add_task("videos", total=len({clip.name for clip in clips}))
        folder, done = arguments.data.parent, partial(bars.advance, bar)
        return predict_videos(recognizer, clips, folder, done, options.WORKERS, arguments.time_limit)


def _about(arguments: argparse.Namespace, card: ModelCard, which: str) -> dict[str, Any]:
    model = {"file": arguments.model, "variant": card.variant, "classes": list(card.classes)}
    model |= {"trained_on": card.trained_on, "license": card.license}
    return {"model": model, "data": str(arguments.data), "which": which, "formula": arguments.formula}


def _print(summary: Summary) -> None:
    from fan_fer.base.terminal import show
    from fan_fer.evaluation.report import summary_report

    show(summary_report(summary))
