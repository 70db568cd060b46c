"""The page on the service does what it says, with a server that is started as it says; and the Dockerfile fits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from load_service import Server, ask_until, free_port

from fan_fer.base.extras import EXTRAS
from fan_fer.cli.main import _parser

from .pages import PAGES, ROOT, python_blocks
from .test_code import real_clip

PAGE = "docs/serve.md"
ADDRESS = "http://127.0.0.1:8351"  # in the page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    real_clip(folder / "clip.mp4")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    data = str(folder / "data")
    server = Server([sys.executable, "-m", "fan_fer", "serve", "--port", str(free_port()), "--data", data])
    ask_until(server, "GET", "/v1/health", (200,))
    yield server
    assert server.end() == 0


def here(text: str, server: Server) -> str:
    assert ADDRESS in text
    return text.replace(ADDRESS, f"http://{server.host}:{server.port}")


def test_the_requests_are_answered(server: Server, folder: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    lines = re.findall(r"^    (curl .*)$", PAGES[PAGE].read_text(), re.MULTILINE)
    answers: list[str] = []
    for line in lines:
        command = here(line, server)
        if answers:
            command = command.replace("ID", json.loads(answers[0])["id"])
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
        answers.append(done.stdout)
    assert len(answers) == 4
    first, state, result = (json.loads(answer) for answer in answers[:3])
    assert set(first) >= set(json.loads(re.findall(r"`({\"id\".*?})`", PAGES[PAGE].read_text())[0]))
    assert state["state"] == "done"
    assert result["video"] == "clip.mp4"
    assert answers[3] == ""


def test_the_client_in_python_gets_its_result(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for line, code in python_blocks(PAGE):
        exec(compile("\n" * line + here(code, server), PAGES[PAGE], "exec"), {"__name__": "documentation"})
    label, probability = capsys.readouterr().out.split()
    assert label.isalpha()
    assert 1 / 7 < float(probability) <= 1


def test_requests_and_codes_of_the_page_are_the_servers(server: Server) -> None:
    with urllib.request.urlopen(f"http://{server.host}:{server.port}/openapi.json") as answer:
        described = json.load(answer)
    known = {
        (method.upper(), re.sub(r"{\w+}", "*", path))
        for path, methods in described["paths"].items()
        for method in methods
    }
    text = PAGES[PAGE].read_text()
    named = re.findall(r"^\| `(GET|POST|DELETE) ([^?`]+)", text, re.MULTILINE)
    assert len(named) > 8
    for method, path in named:
        assert any(method == other and fnmatch(path, pattern) for other, pattern in known), path
    codes = {code for methods in described["paths"].values() for one in methods.values() for code in one["responses"]}
    assert set(re.findall(r"^\| (4\d\d|5\d\d) \|", text, re.MULTILINE)) == {
        code for code in codes | {"401", "500"} if code >= "400" and code != "503"
    }
    metrics = ask_until(server, "GET", "/metrics", (200,)).decode()
    for name in re.findall(r"`(fan_fer_\w+)", text):
        assert name in metrics, name


# The Dockerfile

DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]


def instructions(name: str) -> list[str]:
    return re.findall(rf"^\s*{name} (.+)$", DOCKERFILE, re.MULTILINE)


def test_the_image_has_what_the_wheel_is_made_of() -> None:
    kept = {line[1:] for line in IGNORED if line[0] == "!"}
    assert IGNORED[0] == "*"
    assert [name for name in kept if not (ROOT / name).exists()] == []
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"([^"]+)"', re.findall(r"wheel\.packages = \[(.*)\]", project)[0])
    files = {"pyproject.toml", "CMakeLists.txt", *re.findall(r'readme = "(.*)"|license-files = \["(.*)"\]', project)[0]}
    wanted = {path.split("/")[0] for path in packages} | files - {""} | {"LICENSE", "README.md"}
    assert wanted <= kept
    for line in instructions("COPY"):
        source = line.split()[-2]
        assert source in (".", "/opt/fan-fer") or source in kept, line


def test_the_image_is_started_as_the_command_wants_it() -> None:
    (entry,), (arguments,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert json.loads(entry) == ["fan-fer"]
    parsed = _parser().parse_args(json.loads(arguments))
    assert parsed.host == "0.0.0.0"
    assert instructions("VOLUME") == [str(parsed.data)]
    assert instructions("EXPOSE") == [str(parsed.port)]
    extras = re.findall(r'whl\)\[(\w+)\]"', DOCKERFILE)
    assert extras == ["serve"]
    assert set(extras) <= set(EXTRAS)
    (user,) = instructions("USER")
    assert f"useradd --system --uid 10001 {user} " in DOCKERFILE
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert "apt-get" not in last
    assert "g++" not in last


def test_the_image_asks_for_its_own_health(server: Server) -> None:
    (check,) = instructions("HEALTHCHECK")
    python, option, code = json.loads(check.partition(" CMD ")[2])
    assert (python, option) == ("python", "-c")
    good = subprocess.run([sys.executable, "-c", here(code, server)], check=False, capture_output=True)
    assert good.returncode == 0
    gone = code.replace(ADDRESS, f"http://127.0.0.1:{free_port()}")
    assert subprocess.run([sys.executable, "-c", gone], check=False, capture_output=True).returncode != 0


def test_opencv_without_windows_is_the_version_that_is_tested() -> None:
    script = re.findall(r"\$\((sed -n .*?constraints\.txt)\)", DOCKERFILE)
    done = subprocess.run(["bash", "-c", script[0]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"opencv-python-headless==[\d.]+\n", done.stdout)
