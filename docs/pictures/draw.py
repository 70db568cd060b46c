"""Draws the pictures of how-it-works.md, live.md and app.md: python docs/pictures/draw.py CLIP (the demo's)."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from playwright.sync_api import sync_playwright
from rich.console import Console

import fan_fer
from fan_fer.faces.align import align_face
from fan_fer.output.colors import BLUE, FAINT, INK, ORANGE
from fan_fer.output.live import LivePanel
from fan_fer.prediction import ClipPrediction
from fan_fer.video.ahead import paced
from fan_fer.video.decoding import Video

HERE = Path(__file__).parent


def draw_steps(prediction: ClipPrediction, index: int, side: int) -> Figure:
    """A frame with the face found in it, the face cut out, and what the network sees."""
    frame = prediction.frames[index]
    image = Video(prediction.video).read([index])[index]
    landmarks = np.array(frame.landmarks, np.float32)
    face = align_face(image, landmarks, side)
    grey = (face @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)

    figure = Figure(figsize=(11, 3.3), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ratio = image.shape[1] / image.shape[0]
    axes = figure.subplots(1, 3, width_ratios=(ratio, 1, 1))
    axes[0].imshow(image)
    axes[0].add_patch(Rectangle(frame.box[:2], *frame.box[2:], fill=False, edgecolor=ORANGE, linewidth=2))
    axes[0].scatter(*landmarks.T, s=14, color=ORANGE)
    axes[1].imshow(face)
    axes[2].imshow(grey, cmap="gray", vmin=0, vmax=255)
    titles = ("1  the face and its five landmarks", "2  upright, at one size", f"3  grey, {side} x {side}")
    for part, title in zip(axes, titles, strict=True):
        part.set_title(title, loc="left", fontsize=11, color=INK)
        part.axis("off")
    return figure


def draw_weights(prediction: ClipPrediction) -> Figure:
    """Self-attention, relation-attention and final weights of the frames, one below the other."""
    frames = [frame for frame in prediction.frames if frame.has_face]
    time = [frame.time for frame in frames]
    rows = (
        ("alpha", "self-attention weight\nalpha: this frame alone", BLUE),
        ("beta", "relation-attention weight\nbeta: frame beside the clip", BLUE),
        ("weight", "final weight: alpha x beta,\ndivided by its sum", ORANGE),
    )
    figure = Figure(figsize=(11, 4.6), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, label, color) in zip(figure.subplots(3, 1, sharex=True), rows, strict=True):
        values = [getattr(frame, name) for frame in frames]
        axes.fill_between(time, values, color=color, alpha=0.25, linewidth=0)
        axes.plot(time, values, color=color, linewidth=1.4)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
        axes.set_ylim(0, 1 if name == "alpha" else None)
        axes.margins(x=0)
        axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(1 / len(frames), color=FAINT, linestyle="--", linewidth=1)
    middle = (time[len(time) * 3 // 8], 1 / len(frames))
    axes.annotate("equal shares", middle, (0, 3), textcoords="offset points", ha="center", color=INK)
    axes.set_xlabel("seconds", color=INK)
    return figure


def draw_live(recognizer: fan_fer.Recognizer, clip: str, seconds: float, path: Path) -> None:
    """The terminal after so many seconds of `fan-fer live`, as PNG. Needs Chromium."""
    console = Console(record=True, width=88, file=io.StringIO(), force_terminal=True)
    panel = LivePanel(Path(clip).name, recognizer.card.classes, 5.0, console)
    for frame, prediction in recognizer.stream(paced(Video(clip)), window=5.0):
        panel.show(frame, prediction)
        if frame.time >= seconds:
            break
    console.print(panel)
    with tempfile.TemporaryDirectory() as folder:
        svg = Path(folder) / "live.svg"
        console.save_svg(str(svg), title=f"fan-fer live {Path(clip).name}")
        width, height = (
            int(float(number)) for number in svg.read_text().split('viewBox="0 0 ')[1].split('"')[0].split()
        )
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}")
        subprocess.run(["chromium", *options, f"--screenshot={path}", str(svg)], check=True, capture_output=True)


def draw_page(clip: str, folder: Path) -> None:
    """What `fan-fer app` shows of the clip, on a wide light screen and on a narrow dark one. Needs Chromium."""
    command = [sys.executable, "-m", "fan_fer", "app", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        address = re.findall(r"http://\S+", server.stdout.readline())[0]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, scheme in (("desktop", 1280, "light"), ("phone", 390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 1130}, color_scheme=scheme)
            page.goto(address)
            page.set_input_files("#file", clip)
            page.wait_for_selector("#result:not([hidden])")
            page.wait_for_timeout(2000)  # until the video shows the frame that is chosen
            page.screenshot(path=str(folder / f"{name}.jpg"), type="jpeg", quality=85)
        browser.close()
        server.send_signal(signal.SIGINT)


def main(clip: str) -> None:
    recognizer = fan_fer.load_recognizer()
    prediction = recognizer.predict(clip)
    heaviest = max(prediction.frames, key=lambda frame: frame.weight or 0)
    draw_steps(prediction, heaviest.index, recognizer.card.preprocessing.size).savefig(HERE / "steps.png", dpi=110)
    draw_weights(prediction).savefig(HERE / "weights.png", dpi=110)
    draw_live(recognizer, clip, 10.5, HERE / "live.png")
    draw_page(clip, HERE.parent / "app")


if __name__ == "__main__":
    main(sys.argv[1])
