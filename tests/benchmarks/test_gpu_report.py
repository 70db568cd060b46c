"""The whole way of the GPU's report, on the CPU with a tiny grid."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import gpu_report
import pytest
import torch


def test_report_on_the_cpu(tmp_path: Path) -> None:
    sizes = ["--size", "3x2x16", "--size", "1x9x8"]
    options = [
        "--device",
        "cpu",
        "--rounds",
        "2",
        "--dtype",
        "float32",
        "--without-compiled",
        "--output",
        str(tmp_path),
    ]
    assert gpu_report.main([*options, *sizes]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.json", "float32.png"}

    report = json.loads((tmp_path / "report.json").read_text())
    run, rows = report["run"], report["results"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert run["commit"].startswith(commit.stdout.strip() or "unknown")
    assert run["torch"] == torch.__version__
    assert run["copy_bytes_per_second"] > 0
    names = ["fused", "eager", "eager, no concatenation"]
    assert len(rows) == 2 * 3 * len(names)
    assert [row["implementation"] for row in rows[:3]] == names
    for row in rows:
        assert row["error"] is None
        assert row["launches"] is None  # no GPU, no launches
        assert row["share_of_peak"] == pytest.approx(
            row["compulsory_bytes"] / (row["median_us"] * 1e-6) / run["copy_bytes_per_second"]
        )
        assert row["speed_up"] > 0
        assert (row["speed_up"] == 1) or row["implementation"] != "fused"

    text = (tmp_path / "report.md").read_text()
    assert "No figure here is a GPU's." in text
    assert text.count("| 3 x 2 x 16 |") == text.count("| 1 x 9 x 8 |") == 3
    assert "![float32" in text


def test_an_implementation_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no room\nfor more")

    fused = gpu_report.implementations(False)["fused"]
    monkeypatch.setattr(gpu_report, "implementations", lambda _: {"fused": fused, "broken": broken})
    options = ["--device", "cpu", "--rounds", "1", "--size", "1x2x4", "--dtype", "float32", "--output", str(tmp_path)]
    assert gpu_report.main(options) == 0
    text = (tmp_path / "report.md").read_text()
    assert "- broken, 1 x 2, float32: no room" in text
    assert "failed |" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_report.main([]) == 2
    assert capsys.readouterr().err.startswith("gpu_report: no GPU that torch can use")


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_report.main(["--device", "cpu", "--rounds", "0"]) == 2
    assert "--rounds is 0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        gpu_report.main(["--size", "3x3"])
    assert stopped.value.code == 2
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "report"
    assert gpu_report.main(["--device", "cpu", "--rounds", "1", "--size", "1x2x4", "--output", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err
