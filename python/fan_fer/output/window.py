"""A window with the picture of a source that is being read, and the reading drawn on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from fan_fer.base.errors import OutputError
from fan_fer.base.opencv import cv2
from fan_fer.output.annotate import draw_face, draw_summary
from fan_fer.prediction import ClipPrediction
from fan_fer.video.frame import Frame

LARGEST = (1280, 720)  # pixels of the window at first: width, height
ENDING = (ord("q"), 27)  # keys: q and Esc
QUIET = {"QT_LOGGING_RULES": "*.warning=false"}  # OpenCV's wheels come without fonts, and say so
TRIAL = "import cv2; cv2.namedWindow('fan-fer')"


def check_window() -> None:
    """Raises OutputError where no window can be shown."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError("window: there is no display (DISPLAY is not set); --show terminal is wanted")
    if re.search(r"GUI: +NONE", cv2.getBuildInformation()):
        raise OutputError("window: opencv-python-headless has none; --show terminal, or opencv-python, is wanted")
    # Tried in another process, because Qt ends the one that cannot reach its display.
    trial = subprocess.run([sys.executable, "-c", TRIAL], env={**os.environ, **QUIET}, capture_output=True, check=False)
    if trial.returncode != 0:
        raise OutputError("window: OpenCV cannot open one on this display; --show terminal is wanted")


class LiveWindow:
    """The window, while the block runs. window: seconds that a prediction looks back."""

    def __init__(self, name: str, window: float) -> None:
        self._name, self._what = f"fan-fer live: {name}", f"last {window:g} s"
        self._sized = False

    def __enter__(self) -> LiveWindow:
        os.environ.update(QUIET)
        cv2.namedWindow(self._name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        return self

    def __exit__(self, *_: object) -> None:
        cv2.destroyAllWindows()

    def show(self, frame: Frame, prediction: ClipPrediction | None) -> bool:
        """Takes what ``Recognizer.stream`` gives. Returns whether to go on: q, Esc and closing the window end it."""
        image = frame.image.copy()
        if prediction is not None:
            draw_face(image, prediction, prediction.frames[-1], max(seen.weight or 0.0 for seen in prediction.frames))
            draw_summary(image, [prediction], frame.index, self._what)
        if not self._sized:
            high, wide = image.shape[:2]
            scale = min(1.0, LARGEST[0] / wide, LARGEST[1] / high)
            cv2.resizeWindow(self._name, round(wide * scale), round(high * scale))
            self._sized = True
        cv2.imshow(self._name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        pressed = cv2.waitKey(1) & 0xFF
        return pressed not in ENDING and cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) >= 1
