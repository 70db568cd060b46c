r"""What attention is worth: FAN, self-attention, score fusion, the plain mean and the oracle over the same features.

    python -m pretraining.comparison --data ferplus.npz --clips ict-afew/Train_AFEW \
        --valid-clips ict-afew/Val_AFEW --detector yunet:yunet_n_640_640.onnx \
        --backbone runs/backbone/backbone.safetensors --out runs/attention --seeds 5

Each is trained as the packaged network is (same losses, steps, learning rates) and measured on the valid clips after
the last epoch. The oracle weights frames by how strongly they really show the clip's emotion, as ``frames.csv`` of
both folders says: how much there is to win. Prints a Markdown table with 95 % intervals, and which share of the
distance between mean and oracle each method closes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, first_line
from fan_fer.base.terminal import run_main
from fan_fer.evaluation.informative import clip_areas, rank
from fan_fer.evaluation.metrics import Interval, bootstrap_interval, difference, score
from fan_fer.evaluation.text import difference_texts, interval_text, markdown_table, ranking_text, share_text
from fan_fer.features.cache import cached
from pretraining.attention import add_settings, distilled, settings_of, train
from pretraining.features import FRAME_TRUTH, ClipSet, embed_clips, load_backbone
from pretraining.mixed_clips import NEUTRAL
from pretraining.pooling import POOLINGS, clip_logits, make_heads, pad_clips
from pretraining.score import informative_frames
from pretraining.training_data import (
    add_arguments,
    features_source,
    load_clip_faces,
    load_intensities,
    load_training_data,
    preprocessing_of,
)


@dataclass(frozen=True)
class Outcome:
    """One pooling over S seeds and n clips."""

    probabilities: NDArray[np.float64]  # (S, n, C)
    areas: NDArray[np.float64]  # (S, n): ROC area of the frames' weights
    rules: NDArray[np.float64]  # (S, n): of one minus each frame's own probability of neutral


def evaluate(
    network: FrameAttentionNetwork, pooling: str, clips: ClipSet, truth: Path
) -> tuple[NDArray[np.float64], ...]:
    """Probabilities (n, C), areas (n,) and rules (n,) on clips of features."""
    lengths = clips.offsets.diff().tolist()
    intensities = load_intensities(truth, clips).split(lengths)
    padded = pad_clips(list(clips.frames.split(lengths)), clips.labels, list(intensities))
    with torch.inference_mode():
        probabilities = clip_logits(network, pooling, padded).softmax(-1)
        own = network.classify(clips.frames.unsqueeze(1)).logits.softmax(-1)
        # Mean and score fusion weigh all frames alike; the oracle's weights are the truth.
        final = intensities
        if pooling in ("fan", "self"):
            final = network.classify(clips.frames, offsets=clips.offsets).weights.final.split(lengths)
        elif pooling != "oracle":
            final = [torch.ones(length) for length in lengths]
    areas, rules = clip_areas(final, own.split(lengths), informative_frames(truth, clips), NEUTRAL)
    return probabilities.double().numpy(), areas, rules


def closed(
    labels: NDArray[np.int64], outcome: Outcome, mean: Outcome, oracle: Outcome
) -> tuple[float, Interval | None]:
    """Which share of the distance in accuracy between mean and oracle is closed, and its interval over the clips."""
    rates = [(one.probabilities.argmax(-1) == labels).mean(0) for one in (outcome, mean, oracle)]
    method, low, high = rates

    def share(clips: NDArray[np.int64]) -> NDArray[np.float64]:
        distance = high[clips].mean(-1) - low[clips].mean(-1)
        gain = method[clips].mean(-1) - low[clips].mean(-1)
        return np.asarray(gain / np.where(distance > 0, distance, np.nan))

    return float(share(np.arange(len(labels)))), bootstrap_interval(share, len(labels))


def report(labels: NDArray[np.int64], outcomes: dict[str, Outcome]) -> str:
    """Two Markdown tables."""
    rows, gains = [], []
    for pooling, outcome in outcomes.items():
        scores = score(EMOTIONS, labels, outcome.probabilities)
        share, ends = closed(labels, outcome, outcomes["mean"], outcomes["oracle"])
        rows.append([
            pooling,
            share_text(scores.accuracy, scores.accuracy_interval),
            share_text(scores.mean_recall, scores.mean_recall_interval),
            f"{scores.calibration_error:.3f}",
            "-" if pooling in ("mean", "oracle") else f"{100 * share:.0f} % ({interval_text(ends, 0)})",
            ranking_text(rank(outcome.areas)),
            ranking_text(rank(outcome.rules)),
        ])  # fmt: skip
    fan = outcomes["fan"]
    for pooling, outcome in outcomes.items():
        if pooling != "fan":
            change = difference(labels, fan.probabilities, outcome.probabilities)
            area = rank(fan.areas - outcome.areas)
            gains.append([f"fan - {pooling}", *difference_texts(change), ranking_text(area)])
    gains.append(["fan's weights - its own rule", "", "", ranking_text(rank(fan.areas - fan.rules))])
    headings = ["", "accuracy %", "mean recall %", "calibration error", "closed of mean to oracle"]
    headings += ["ROC area, weights", "1 - p(neutral)"]
    return "\n\n".join([
        markdown_table(headings, rows),
        markdown_table(["points", "accuracy", "mean recall", "ROC area"], gains),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.comparison", description=first_line(__doc__))
    add_arguments(parser)
    add_settings(parser)
    parser.add_argument("--seeds", type=int, default=5, help="how often each is trained (default 5)")
    paths = parser.parse_args()
    for folder in (paths.clips, paths.valid_clips):
        if not (folder / FRAME_TRUTH).is_file():
            raise FanFerError(f"{folder}: no {FRAME_TRUTH}; the oracle needs to know how strong each frame is")
    settings = settings_of(paths)
    paths.out.mkdir(parents=True, exist_ok=True)
    network, weight, bias = load_backbone(paths.backbone)
    data = load_training_data(paths, network, settings.size, settings.seed)
    data = distilled(data, weight, bias, settings.distil)
    source = features_source(paths, settings.size)
    preprocessing = preprocessing_of(settings.size)
    valid = load_clip_faces(paths, paths.valid_clips, preprocessing)
    what = f"frames of {paths.valid_clips.name}"
    features = cached(
        paths.out / "features_valid_clips.safetensors",
        f"{source} {paths.valid_clips}",
        lambda: {"frames": embed_clips(network, valid, preprocessing, what, paths.device)},
    )
    valid = replace(valid, frames=features["frames"])

    outcomes = {}
    for pooling in POOLINGS:
        found = []
        for seed in range(paths.seeds):
            out = paths.out / f"{pooling}-{seed}"
            out.mkdir(exist_ok=True)
            heads = make_heads(network, pooling, weight, bias)
            train(heads, data, out, replace(settings, seed=seed), pooling, source)
            found.append(evaluate(heads, pooling, valid, paths.valid_clips / FRAME_TRUTH))
        outcomes[pooling] = Outcome(*(np.stack(values) for values in zip(*found, strict=True)))
    print(report(valid.labels.numpy(), outcomes))


if __name__ == "__main__":
    run_main(main)
