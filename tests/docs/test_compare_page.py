"""The page on `fan-fer compare`: its commands run, and it names every member of what they write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from drawn_faces import DrawnFaces, draw_face

from fan_fer import FrameAttentionNetwork, recognizer
from fan_fer.attention.checkpoints import PUBLISHED_CLASSES
from fan_fer.base.emotions import EMOTIONS
from fan_fer.cli.main import main
from fan_fer.faces.align import TEMPLATE

from ..fan_fer.drawn_sets import write_pictures
from .pages import PAGES, commands

PAGE = "docs/compare.md"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all commands of the page were given, one after the other."""
    folder = tmp_path_factory.mktemp("page")
    for side in ("real", "generated"):
        (folder / side).mkdir()
        rows = ["video,label" + (",generator,intensity" if side == "generated" else "")]
        for number, emotion in enumerate(EMOTIONS[:5]):
            name = f"{side}/{emotion}.avi"
            write_pictures(folder / name, [draw_face(emotion, k / 2, number, shift=(k, 0)) for k in range(3)])
            rows.append(f"{name},{emotion}" + (f",mine,{number % 2}" if side == "generated" else ""))
        (folder / f"{side}.csv").write_text("\n".join(rows) + "\n")
    tuned(folder / "mead.pth.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(recognizer, "load_detector", lambda spec, device=None: DrawnFaces())
        patch.setattr("fan_fer.cli.options.WORKERS", 0)
        for arguments in commands(PAGE):
            assert main(arguments) == 0, arguments
    return folder


def tuned(path: Path) -> None:
    """A trained network of the published code with eight classes."""
    torch.manual_seed(0)
    state = FrameAttentionNetwork("fan", 8).state_dict()
    renamed = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
    for level, part in (("alpha", "self"), ("beta", "relation")):
        renamed[f"{level}.0.weight"] = state[f"attention.{part}_weight"][None]
        renamed[f"{level}.0.bias"] = state[f"attention.{part}_bias"]
    renamed |= {f"pred_fc2.{part}": state[f"classifier.{part}"] for part in ("weight", "bias")}
    torch.save({"state_dict": renamed}, path)


def test_its_commands_run(ran: Path) -> None:
    assert {arguments[0] for arguments in commands(PAGE)} == {"compare", "weights"}
    written = {path.name for path in (ran / "report").iterdir()}
    assert written == {"report.md", "report.json", "report.png", "pairs.csv", "cache"}
    assert (ran / "mead.safetensors").is_file()
    named = re.findall(r"^\| `([\w./]+)` \|", PAGES[PAGE].read_text().partition("## Clips")[0], re.MULTILINE)
    assert {name.rstrip("/") for name in named} == written


def members(value: object) -> set[str]:
    """Names in JSON, but for those of groups, which the data gives."""
    if isinstance(value, list):
        return set().union(*map(members, value))
    if not isinstance(value, dict):
        return set()
    inner = [part for name, part in value.items() if name != "groups"]
    groups = [group for own in value.get("groups", {}).values() for group in own.values()]
    return set(value).union(*map(members, [*inner, *groups]))


def test_it_names_all_that_is_written(ran: Path) -> None:
    text = PAGES[PAGE].read_text().partition("## report.json")[2]
    named = set(re.findall(r'[`"](\w+)[`"]', text))
    found = json.loads((ran / "report" / "report.json").read_text())
    assert found["schema_version"] == 1
    assert members(found) - named == set()
    header = (ran / "report" / "pairs.csv").read_text().partition("\n")[0].split(",")
    ours = {re.sub("^p_.*", "p_CLASS", name.removeprefix("real_")) for name in header[header.index("real") :]}
    assert ours - named == set()


def test_what_it_says_of_the_code() -> None:
    text = " ".join(PAGES[PAGE].read_text().split())
    assert f"`mead` is {', '.join(PUBLISHED_CLASSES['mead'])}," in text
    for x, y in TEMPLATE:
        assert f"({x:.3f}, {y:.3f})" in text
