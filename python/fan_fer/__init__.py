"""Facial expression recognition in video with frame attention networks.

>>> import fan_fer
>>> prediction = fan_fer.load_recognizer().predict("clip.mp4")
>>> prediction.label, prediction.frames[0].weight
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fan_fer.attention.network import FrameAttentionNetwork
    from fan_fer.attention.poolings.registry import register_pooling
    from fan_fer.base.emotions import EMOTIONS
    from fan_fer.base.errors import FanFerError
    from fan_fer.many.features import extract_features
    from fan_fer.many.predict import predict_many
    from fan_fer.output.features import ClipFeatures, FeatureSet
    from fan_fer.output.prediction import Prediction, Tracks
    from fan_fer.prediction import ClipPrediction, FramePrediction, Segment
    from fan_fer.recognizer import Recognizer, load_recognizer

__all__ = [
    "EMOTIONS",
    "ClipFeatures",
    "ClipPrediction",
    "FanFerError",
    "FeatureSet",
    "FrameAttentionNetwork",
    "FramePrediction",
    "Prediction",
    "Recognizer",
    "Segment",
    "Tracks",
    "extract_features",
    "load_recognizer",
    "predict_many",
    "register_pooling",
]

# Names are loaded on first use, so that `fan-fer --help` does not wait for torch.
_MODULES = {
    "EMOTIONS": "base.emotions",
    "ClipFeatures": "output.features",
    "ClipPrediction": "prediction",
    "FanFerError": "base.errors",
    "FeatureSet": "output.features",
    "FrameAttentionNetwork": "attention.network",
    "FramePrediction": "prediction",
    "Prediction": "output.prediction",
    "Recognizer": "recognizer",
    "Segment": "prediction",
    "Tracks": "output.prediction",
    "extract_features": "many.features",
    "load_recognizer": "recognizer",
    "predict_many": "many.predict",
    "register_pooling": "attention.poolings.registry",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
