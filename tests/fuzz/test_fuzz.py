"""A short run of ``make fuzz``, and that it notices what it is there to notice."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
from fuzz import run
from fuzz.checks import TARGETS
from fuzz.run import fuzz
from fuzz.target import Target


def test_a_short_run_finds_nothing() -> None:
    summary = fuzz(TARGETS, inputs=500, limit=60)
    assert summary.findings == []
    assert set(summary.tried) == set(TARGETS)
    assert summary.tried.total() >= 480  # of a kind with few inputs there may be no more


def test_faults_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = partial(st.integers, 0, 99)

    def check(number: int, folder: Path) -> None:
        if number == 77:
            raise ZeroDivisionError("seventy-seven")

    def die(number: int, folder: Path) -> None:
        import os
        import signal

        if number == 99:
            os.kill(os.getpid(), signal.SIGSEGV)

    def leak(number: int, folder: Path, kept: list[bytes] = []) -> None:  # noqa: B006, that is what leaks
        kept.append(bytes(range(100)) * 1000)

    monkeypatch.setattr(run, "GROWTH", 5)
    leaky = fuzz({"leaky": Target(numbers, leak, 1)}, inputs=1000, limit=60).findings
    assert [finding.split(" by ")[0] for finding in leaky] == ["a process grew"]

    targets = {"wrong": Target(numbers, check, 1), "deadly": Target(numbers, die, 1)}
    findings = fuzz(targets, inputs=400, limit=60).findings
    (wrong,) = {finding.split(": ", 1)[1] for finding in findings if "wrong" in finding}
    assert wrong.startswith("ZeroDivisionError: seventy-seven Failing test case: check( made=77")
    died = [finding for finding in findings if "deadly" in finding]
    assert "its process died (SIGSEGV), 2 times; the input is in build/fuzz/deadly-" in died[0]
    assert (tmp_path / died[0].rsplit(" ", 1)[1]).read_text() == "99"
