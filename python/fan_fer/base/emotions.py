"""The basic emotions, in the class order that every network, file and table of the project uses."""

from __future__ import annotations

EMOTIONS: tuple[str, ...] = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
