"""tools/gpu_check.sh, rehearsed in short on the CPU: what is installed, a test or two, the calls, the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from native.cuda_kernels import REPOSITORY

_TESTS = "tests/gpu/test_launches.py::test_a_difference_is_named"


def _start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "OUT": str(folder / "out"),
        "FAN_TEST_DEVICE": "cpu",
        "FAN_WHEEL": "installed",
        "FAN_TESTS": _TESTS,
        "FAN_COMMIT": "abc123",
        **environment,
    }
    command = ["bash", str(REPOSITORY / "tools" / "gpu_check.sh")]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _summary(folder: Path) -> dict[str, str]:
    lines = (folder / "out" / "summary.txt").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def test_the_whole_way(tmp_path: Path) -> None:
    process = _start(tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    out = tmp_path / "out"
    assert output == (out / "summary.txt").read_text()
    assert output.splitlines()[-1].startswith("all is well, ")
    summary = _summary(tmp_path)
    stages = ("machine", "build", "versions", "initcheck", "memcheck", "racecheck", "synccheck", "tests", "report")
    assert sorted(summary) == sorted(stages)
    assert list(summary)[:3] + list(summary)[-1:] == ["machine", "build", "versions", "report"]
    assert all(fate.startswith("ok, ") for name, fate in summary.items() if name != "build")
    assert "1 passed" in summary["tests"]
    assert "9 of 9 cases, 0 errors" in summary["report"]

    files = {path.name for path in out.iterdir()}
    assert files == {
        *("summary.txt", "log.txt", "sanitizer.txt", "report.md", "report.json"),
        *("float32.png", "float16.png", "bfloat16.png"),
    }
    assert (out / "sanitizer.txt").read_text().count("0 errors, of a stand-in") == 4
    log = (out / "log.txt").read_text()
    assert {line.split("]")[0] for line in log.splitlines()} == {f"[{name}" for name in set(summary) - {"build"}}
    assert json.loads((out / "report.json").read_text())["run"]["commit"] == "abc123"


def test_a_stage_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    failing = tmp_path / "test_failing.py"
    failing.write_text("def test_it():\n    assert 1 == 2\n")
    process = _start(tmp_path, FAN_TESTS=str(failing))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    summary = _summary(tmp_path)
    assert summary["tests"].startswith("FAILED (1), ")
    assert all(summary[name].startswith("ok, ") for name in ("memcheck", "synccheck", "report"))
    assert output.splitlines()[-1].startswith("something failed: see log.txt, ")
    assert "assert 1 == 2" in (tmp_path / "out" / "log.txt").read_text()


def test_a_failed_installation_is_the_end(tmp_path: Path) -> None:
    process = _start(tmp_path, FAN_WHEEL=str(tmp_path / "none.whl"))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert list(_summary(tmp_path)) == ["machine", "build"]
    assert output.splitlines()[-1] == "there is nothing to check"


def test_a_run_that_is_killed_leaves_what_it_has_done(tmp_path: Path) -> None:
    process = _start(tmp_path)
    report = tmp_path / "out" / "report.json"
    end = time.monotonic() + 250
    while not report.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    for pid in _descendants(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    rows = json.loads(report.read_text())["results"]
    assert rows
    assert all(row["error"] is None for row in rows)
    assert "| 64 x 3 x 64 |" in (tmp_path / "out" / "report.md").read_text()
    assert _summary(tmp_path)["tests"].startswith("ok, ")
    assert "report" not in _summary(tmp_path)
    assert "1 passed" in (tmp_path / "out" / "log.txt").read_text()


def _descendants(pid: int) -> list[int]:
    """The process and all below it: stages are process groups of their own."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


@pytest.mark.parametrize("word", ["nvidia-smi -", "--lock", "-pl ", "-lgc"])
def test_the_card_is_left_as_it_is(word: str) -> None:
    """Its settings are read, by gpu_report.py, and never written."""
    assert word not in (REPOSITORY / "tools" / "gpu_check.sh").read_text()
