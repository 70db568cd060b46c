"""What figures depend on beside the data, so that a report can be made again: network, detector, versions, sampling."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from fan_fer.attention.weights import weights_digest
from fan_fer.base.files import readable
from fan_fer.base.opencv import cv2
from fan_fer.evaluation.frechet import FEWEST, SEED, SPLITS
from fan_fer.evaluation.metrics import RESAMPLES
from fan_fer.recognizer import Recognizer

SAMPLING = "every frame that can be decoded; the person with the largest face over the clip"
ALIGNED = "every frame that can be decoded, each of them a face as a whole"
ALIGNMENT = (
    "from the first frame of each clip on, at steps of the longer of the two frame durations, as long as both clips "
    "last; at each step the nearest frame of each clip; steps at which one of them shows no face are left out, counted"
)
FAILED = "a clip that cannot be read, or shows no face, counts as wrong, and as no agreement with the real clip"


def pins(recognizer: Recognizer, weights: Path) -> dict[str, Any]:
    """Under the names of report.json. Raises WeightsError where the file of the network is gone."""
    card = recognizer.card
    detector = recognizer.detector.name
    return {
        "model": {
            "file": readable(str(weights)),
            "sha256": weights_digest(weights),
            "variant": card.variant,
            "backbone": card.backbone,
            "classes": list(card.classes),
            "trained_on": card.trained_on,
            "license": card.license,
        },
        "detector": detector,
        "device": str(recognizer.device),
        "precision": recognizer.embedder.precision,
        "versions": {
            "fan_ext": version("fan_ext"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "av": av.__version__,
            "opencv": cv2.__version__,
        },
        "settings": {
            "sampling": ALIGNED if detector == "aligned" else SAMPLING,
            "alignment": ALIGNMENT,
            "failed_clips": FAILED,
            "resamples": RESAMPLES,
            "splits": SPLITS,
            "fewest_real_clips": FEWEST,
            "seed": SEED,
        },
    }
