r"""What each part of the mixture that attention learns from does to plain clips, brief ones and those of a video set.

    python -m pretraining.mixture --data ferplus.npz --clips ict-afew/Train_AFEW --valid-clips ict-afew/Val_AFEW \
        --detector yunet:yunet_n_640_640.onnx --backbone runs/backbone/backbone.safetensors --out runs/attention

Trains the heads with everything, then with one part left out at a time, over the same features. Prints a table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fan_fer.base.errors import first_line
from fan_fer.base.terminal import run_main
from fan_fer.evaluation.text import markdown_table
from fan_fer.features.embedding import Embedder
from pretraining.attention import AttentionSettings, add_settings, calibrate, distilled, settings_of, train
from pretraining.features import load_backbone
from pretraining.pooling import make_heads
from pretraining.score import AGREED, EVERY_AGREED, Figures, measure, prepare
from pretraining.training_data import (
    add_arguments,
    features_source,
    load_clip_faces,
    load_training_data,
    preprocessing_of,
)

PARTS: Mapping[str, Mapping[str, Any]] = {
    "all of it": {},
    "without plain clips": {"plain": 0},
    "plain clips: every emotion as often": {"neutral": 0},
    "without brief clips": {"brief": 0},
    "without single faces": {"faces": 0},
    "the video set alone": {"plain": 0, "brief": 0, "faces": 0},
}


def report(outcomes: Mapping[str, Figures]) -> str:
    """A row a mixture: accuracy of every set; of clips also that of the frames' mean, and the area of the weights."""
    first = next(iter(outcomes.values()))
    names = [name for name in first.sets if name not in (EVERY_AGREED, AGREED)]
    rows = []
    for mixture, figures in outcomes.items():
        cells = []
        for measured in (figures.sets[name] for name in names):
            cell = f"{100 * measured.scores.accuracy:.1f}"
            if measured.mean is not None:
                cell += f" (mean {100 * measured.mean_scores.accuracy:.1f})"
            if measured.attention.weights is not None:
                cell += f", {measured.attention.weights.mean:.3f}"
            cells.append(f"{cell}, {measured.scores.calibration_error:.3f}")
        rows.append([mixture, *cells])
    return markdown_table(["accuracy %, ROC area, calibration error", *names], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.mixture", description=first_line(__doc__))
    add_arguments(parser)
    add_settings(parser)
    paths = parser.parse_args()
    settings = settings_of(paths)
    paths.out.mkdir(parents=True, exist_ok=True)
    network, weight, bias = load_backbone(paths.backbone)
    source = features_source(paths, settings.size)
    data = distilled(load_training_data(paths, network, settings.size, settings.seed), weight, bias, settings.distil)
    preprocessing = preprocessing_of(settings.size)
    embedder = Embedder(network.backbone, network.feature_size, preprocessing, paths.device)
    faces = load_clip_faces(paths, paths.valid_clips, preprocessing)
    prepared = prepare(embedder, paths.data, paths.valid_clips, faces)

    outcomes = {}
    for number, (name, changes) in enumerate(PARTS.items()):
        out = paths.out / f"mixture-{number}"
        out.mkdir(exist_ok=True)
        heads = make_heads(network, "fan", weight, bias)
        changed: AttentionSettings = replace(settings, **changes)
        train(heads, data, out, changed, "fan", source)
        calibrate(heads, prepared)
        outcomes[name] = measure(heads, prepared)
    print(report(outcomes))


if __name__ == "__main__":
    run_main(main)
