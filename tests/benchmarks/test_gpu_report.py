"""The whole way of the GPU's report, on the CPU with a tiny grid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gpu_report
import pytest
import torch
from gpu_cases import (
    CASES,
    COMPILED,
    DTYPES,
    FORMS,
    FUSED,
    FUSED_SELF,
    LAYOUTS,
    NEAREST,
    PADDED,
    Case,
    functions,
    make_call,
    make_inputs,
    needed_bytes,
)
from gpu_clock import Clock
from gpu_kernels import planned
from operator_cases import TOLERANCE

import fan_ext

_CPU = ["--device", "cpu", "--rounds", "2", "--dtype", "float32", "--compile-seconds", "0"]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "report.json").read_text())["results"]


def test_report_on_the_cpu(tmp_path: Path) -> None:
    sizes = ["--size", "3x2x16", "--size", "4x9x8:packed", "--size", "4x9x8:unknown"]
    assert gpu_report.main([*_CPU, *sizes, "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.json", "float32.png"}

    run, rows = json.loads((tmp_path / "report.json").read_text()).values()
    assert run["commit"]
    if shutil.which("git") and "FAN_COMMIT" not in os.environ:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
        assert run["commit"].startswith(commit.stdout.strip() or "unknown")
    assert run["torch"] == torch.__version__
    names = [FUSED, *FORMS, FUSED_SELF, NEAREST, COMPILED]
    assert [row["implementation"] for row in rows] == 3 * names + 2 * 3 * [FUSED, PADDED]
    for row in rows:
        assert row["error"] is None
        assert row["launches"] is row["kernels"] is row["user_us"] is None  # no GPU, no launches
        if row["implementation"] == COMPILED:
            assert row["us"] is None
            continue
        features = row["clips"] * row["frames"] * row["dim"] * 4
        assert row["share_of_clone"] == pytest.approx(row["bytes"] / row["us"] / (2 * features / row["clone_us"]))
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["us"] / 1e3)
        assert (row["times_fused"] == 1) or row["implementation"] != FUSED

    text = (tmp_path / "report.md").read_text()
    assert "No figure here is a GPU's." in text
    assert text.count("| 3 x 2 x 16 |") == text.count("| 4 x 9 x 8, packed, longest unknown |") == 3
    assert "![float32" in text


def test_report_of_a_gpu_names_card_and_kernels(tmp_path: Path) -> None:
    """What a GPU adds to the page, made up."""
    assert gpu_report.main([*_CPU, "--size", "3x2x16", "--output", str(tmp_path)]) == 0
    run = {
        "device": "a card",
        "device_type": "cuda",
        "torch": "2.11",
        "cuda": "13.0",
        "capability": "9.0",
        "commit": "c",
    }
    run |= {"as_found": {"clocks.sm": "1980 MHz"}, "at_the_end": {"clocks.sm": "1755 MHz"}, "again": 12.34}
    rows = _rows(tmp_path)
    for row in rows:
        row |= {"kernels": ["forward_kernel"], "launches": 1, "regime": "registers", "user_us": 8.24}
    text = gpu_report.markdown(run, rows)
    assert text.startswith("# Frame attention on a card\n\ntorch 2.11, CUDA 13.0, compute capability 9.0, commit c.\n")
    assert "The card as found: clocks.sm 1980 MHz." in text
    assert "The card at the end: clocks.sm 1755 MHz." in text
    assert "The first forward pass again, at the end: 12.3 us." in text
    assert "CPU" not in text
    assert "| 3 x 2 x 16 | float32 | backward | registers | forward_kernel |" in text
    (line,) = [line for line in text.partition("## Backward")[0].splitlines() if line.startswith("| 3 x 2 x 16 |")]
    assert line.startswith("| 3 x 2 x 16 | registers |")
    assert " | 8.2 | " in line
    assert line.endswith("| 1 / 1 / 1 |")


def test_commit_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAN_COMMIT", "abc123")
    assert gpu_report.describe_run(Clock("cpu", 1), "cpu")["commit"] == "abc123"


def test_the_card_is_asked_how_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\necho "580.1, 1980 MHz, 1980 MHz, 2619 MHz, 2619 MHz, 70 W, 700 W, 30"\necho $* >&2\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    state = gpu_report.card_state()
    assert (state["driver_version"], state["clocks.mem"], state["temperature.gpu"]) == ("580.1", "2619 MHz", "30")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert "exit status 9" in gpu_report.card_state()["nvidia-smi"]


def test_an_implementation_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no room\nfor more")

    def one_broken(*arguments: Any) -> Any:
        return functions(*arguments) | {"eager": (broken, [])}

    monkeypatch.setattr(gpu_report, "functions", one_broken)
    assert gpu_report.main([*_CPU, "--size", "1x2x4", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "- eager, 1 x 2 x 4, float32, forward: no room\n" in text
    assert "failed |" in text


@pytest.mark.parametrize("wrong", ["fails", "is off", "is not a number"])
def test_ours_must_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    def ours(features: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        if wrong == "fails":
            raise RuntimeError("no kernel image")
        return fan_ext.frame_attention(features, *parameters) * (1.1 if wrong == "is off" else float("nan"))

    def with_wrong(case: Case, inputs: Any) -> Any:
        return functions(case, inputs) | {FUSED: (ours, inputs.leaves)}

    monkeypatch.setattr(gpu_report, "functions", with_wrong)
    assert gpu_report.main([*_CPU, "--size", "1x2x4", "--output", str(tmp_path)]) == 1
    text = (tmp_path / "report.md").read_text()
    assert (
        f"- fused, 1 x 2 x 4, float32, forward: {'no kernel image' if wrong == 'fails' else 'its results are'}" in text
    )


@pytest.mark.parametrize("fallen_back", [False, True])
def test_kernels_must_be_those_that_are_planned(monkeypatch: pytest.MonkeyPatch, fallen_back: bool) -> None:
    """The kernels that the plan has, and in place of one call's those of the plain reference."""
    case = Case(gpu_report.Size(4, 300, 512))
    passes = ("forward", "backward", "both")
    rows = [{"implementation": name, "pass": p, "error": None} for name in (FUSED, FUSED_SELF) for p in passes]
    shape = (4, 300, 512, "float16", (9, 0))
    seen = [planned(row["pass"], *shape, relation=row["implementation"] == FUSED)[1] for row in rows]
    if fallen_back:
        seen[1] = ["at::native::vectorized_elementwise_kernel"]
    monkeypatch.setattr(gpu_report, "kernels_seen", lambda _: seen)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    gpu_report.name_kernels(case, "float16", [(row, lambda: None) for row in rows])
    assert [row["kernels"] for row in rows] == seen
    assert [row["launches"] for row in rows] == [len(kernels) for kernels in seen]
    assert all(row["regime"] for row in rows)
    wrong = [row["error"] for row in rows if row["error"]]
    if not fallen_back:
        assert wrong == []
    else:
        expected = ", ".join(planned("backward", *shape)[1])
        assert wrong == [f"its kernels are at::native::vectorized_elementwise_kernel, expected {expected}"]


def test_kernels_that_are_not_seen_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_: object) -> None:
        raise RuntimeError("the profiler saw 3 marks, expected 4 or more: it has lost kernels")

    monkeypatch.setattr(gpu_report, "kernels_seen", lose)
    row = {"implementation": FUSED, "pass": "forward", "error": None}
    gpu_report.name_kernels(Case(gpu_report.Size(4, 300, 512)), "float16", [(row, lambda: None)])
    assert row["error"].endswith("it has lost kernels")


def test_time_that_ends_leaves_cases_out(tmp_path: Path) -> None:
    sizes = ["--size", "1x2x4", "--size", "1x3x4", "--seconds", "0"]
    assert gpu_report.main([*_CPU, *sizes, "--output", str(tmp_path)]) == 0
    assert _rows(tmp_path) == []
    text = (tmp_path / "report.md").read_text()
    assert "Not measured, for want of time: 1 x 2 x 4, float32; 1 x 3 x 4, float32." in text


def test_what_is_done_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = gpu_report.measure_case

    def stop_at_the_second(clock: Clock, case: Case, *rest: Any) -> Any:
        if case.size.frames == 3:
            raise KeyboardInterrupt
        return measure(clock, case, *rest)

    monkeypatch.setattr(gpu_report, "measure_case", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        gpu_report.main([*_CPU, "--size", "1x2x4", "--size", "1x3x4", "--output", str(tmp_path)])
    assert {row["frames"] for row in _rows(tmp_path)} == {2}
    assert "| 1 x 2 x 4 |" in (tmp_path / "report.md").read_text()


def test_time_for_compiling_ends() -> None:
    rows = [{"implementation": name, "us": us} for name, us in zip(FORMS, (2.0, 1.0), strict=True)]
    compiler = gpu_report.Compiler(1e-9)
    assert compiler.best(rows) == list(FORMS)[1]
    with compiler.charged():
        pass
    assert compiler.best(rows) is None
    assert gpu_report.Compiler(1).best([]) is None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("clips", [1, 4, 5])
def test_cases_are_the_same_to_all(layout: str, clips: int) -> None:
    case = Case(gpu_report.Size(clips, 7, 16), layout)
    inputs = make_inputs(case, torch.float64, "cpu")
    assert inputs.leaves[0].numel() == clips * 7 * 16
    if layout != "dense":
        lengths = inputs.options["offsets"].diff()
        assert lengths.min() > 0
        assert case.longest is None or lengths.max() <= case.longest == inputs.options["max_frames"]
    results = {name: function(*leaves).detach() for name, (function, leaves) in functions(case, inputs).items()}
    for name in (PADDED,) if PADDED in results else FORMS:
        torch.testing.assert_close(results[name], results[FUSED], rtol=1e-10, atol=1e-12)
    if FUSED_SELF in results:  # g is the second half of out
        torch.testing.assert_close(results[FUSED_SELF], results[FUSED][:, 16:], rtol=1e-10, atol=1e-12)
        q0 = inputs.leaves[1]
        weights = torch.softmax(inputs.leaves[0] @ q0, 1)
        torch.testing.assert_close(results[NEAREST], torch.einsum("bn,bnd->bd", weights, inputs.leaves[0]).detach())


def test_passes_ask_for_every_gradient() -> None:
    case = Case(gpu_report.Size(2, 3, 8))
    function, leaves = functions(case, make_inputs(case, torch.float32, "cpu"))[FUSED]
    assert not make_call(function, leaves, "forward")().requires_grad
    backward = make_call(function, leaves, "backward")
    for gradients in (backward(), backward(), make_call(function, leaves, "both")()):
        assert [g.shape for g in gradients] == [leaf.shape for leaf in leaves]
    assert all(leaf.grad is None for leaf in leaves)


def test_needed_bytes() -> None:
    case = Case(gpu_report.Size(2, 5, 8))
    features, out = 2 * 5 * 8 * 2, 2 * 16 * 2
    wanted = {"forward": features + out, "backward": 2 * features, "both": 3 * features + out}
    assert {p: needed_bytes(case, torch.float16, p, FUSED) for p in wanted} == wanted
    assert needed_bytes(case, torch.float16, "forward", FUSED_SELF) == features + out // 2
    assert needed_bytes(case, torch.float16, "backward", NEAREST) == 2 * features


def test_cases_are_worth_their_time() -> None:
    assert len(set(CASES)) == len(CASES)
    found = {
        planned(p, case.size.clips, case.longest, case.size.dim, dtype, total_frames=case.total_frames)[0]
        for case in CASES
        for dtype in DTYPES
        for p in ("forward", "backward")
    }
    dense = (*range(1, 100), 300, 1000, 3000, 10_000)
    for dim in (64, 512, 768, 1024):
        for dtype in DTYPES:
            assert {planned("forward", 4, frames, dim, dtype)[0] for frames in dense} <= found
    assert set(DTYPES.values()) < set(TOLERANCE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_report.main([]) == 2
    assert capsys.readouterr().err.startswith("gpu_report: no GPU that torch can use")


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_report.main(["--device", "cpu", "--rounds", "0"]) == 2
    assert "--rounds is 0" in capsys.readouterr().err
    for size in ("3x3", "3x3x3:ragged"):
        with pytest.raises(SystemExit) as stopped:
            gpu_report.main(["--size", size])
        assert stopped.value.code == 2
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "report"
    assert gpu_report.main([*_CPU, "--size", "1x2x4", "--output", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err
