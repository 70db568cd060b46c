"""The same frames put together in three ways: how much the attention changes the answer."""

from __future__ import annotations

from dataclasses import dataclass

from fan_fer.prediction import ClipPrediction


@dataclass(frozen=True)
class Variant:
    """One way to put the frames together, and the probabilities (sum 1) that it gives."""

    name: str
    how: str
    probabilities: dict[str, float]


def compare(prediction: ClipPrediction) -> list[Variant]:
    """The network's own answer; then the frames' own readings averaged, by self-attention and all alike.

    A variant that the network has no weights for, or that is its own answer, is left out.
    """
    frames = [frame for frame in prediction.frames if frame.probabilities is not None]
    own = {
        "fan": "features weighted by self-attention and relation-attention",
        "self": "features weighted by self-attention",
        "score-fusion": "the frames' own readings, all alike",
    }.get(str(prediction.model["variant"]), f"pooled by {prediction.model['variant']}")
    variants = [Variant("This network", own, dict(prediction.probabilities))]

    def average(weights: list[float]) -> dict[str, float]:
        total = max(sum(weights), 1e-30)
        return {
            name: sum(w * (f.probabilities or {})[name] for w, f in zip(weights, frames, strict=True)) / total
            for name in prediction.probabilities
        }

    alphas = [frame.alpha for frame in frames if frame.alpha is not None]
    if len(alphas) == len(frames):
        how = "the frames' own readings, weighted by alpha alone"
        variants.append(Variant("Averaged by self-attention", how, average(alphas)))
    if prediction.model["variant"] != "score-fusion":
        how = "the frames' own readings, all alike"
        variants.append(Variant("Mean of the frames", how, average([1.0] * len(frames))))
    return variants
