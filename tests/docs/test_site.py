"""The site builds without a warning, holds every page, and asks nothing of another computer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import fan_ext
import fan_fer

from .pages import PAGES, ROOT

LOADS = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}


class Loads(HTMLParser):
    """What a browser fetches to show a page, and the text that the page shows."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name == LOADS.get(tag) and value]
        for name, value in attributes:
            if name == "style" and value:
                self.found += re.findall(r"url\(['\"]?([^'\")]+)", value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {Path(page).stem for page in PAGES if page.startswith("docs/")}
    built = {path.stem for path in site.glob("*.html")}
    assert pages <= built
    menu = (site / "index.html").read_text()
    lost = [page for page in sorted(pages) if f'href="{page}.html"' not in menu and page != "index"]
    assert lost == [], "name them under nav in mkdocs.yml"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    local = 0
    for page in pages:
        for address in Loads(page).found:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
            local += 1
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)['\"]?(https?:)?//", sheet.read_text()), sheet
    assert local > 3 * len(pages)


def test_what_pages_load_is_there(site: Path) -> None:
    for page in site.glob("*.html"):
        if page.name == "404.html":  # its addresses are those of a server's root
            continue
        for address in Loads(page).found:
            if not address.startswith(("data:", "#")):
                assert (page.parent / re.split("[?#]", address)[0]).exists(), f"{page.name}: {address}"


def test_the_interface_is_documented(site: Path) -> None:
    page = (site / "api.html").read_text()
    for package in (fan_ext, fan_fer):
        for name in package.__all__:
            assert f"{package.__name__}.{name}" in page, name
    for name in (
        "fan_fer.attention.weights.save_weights",
        "fan_fer.attention.export.export_onnx",
        "fan_fer.base.errors.VideoError",
    ):
        assert f'id="{name}"' in page, name
    assert ":func:" not in page
    assert ":class:" not in page


def test_the_tests_that_robustness_names_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)`", PAGES["docs/robustness.md"].read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / "fan_fer" / name).is_file()] == []
