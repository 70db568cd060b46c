"""A ratio that has fallen is found, one that noise made fall is not; every ratio that is measured was committed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import check
import pytest
import torch
from baselines import Size


def test_committed_ratios_are_those_measured() -> None:
    committed = json.loads(check.RATIOS.read_text())
    assert set(committed) == set(check.measures(Path("clip.mp4")))
    assert all(ratio > 1 for ratio in committed.values())


def test_a_slower_operator_is_found() -> None:
    text, good = check.compare({"a": lambda: 1.4, "b": lambda: 4.0}, {"a": 3.0, "b": 4.0})
    assert not good
    assert "a" + " " * 41 + "   1.40 times as fast, was   3.00  <- fallen: at least 1.50 was wanted" in text
    assert text.count("fallen") == 1


def test_noise_is_not() -> None:
    found = iter([1.0, 1.0, 1.5])
    assert check.compare({"a": lambda: next(found)}, {"a": 3.0})[1]
    assert next(found, None) is None


def test_ratio_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    used = []

    def timed(calls: dict[str, Callable[[], object]], **_: object) -> dict[str, float]:
        used.append(torch.get_num_threads())
        for call in calls.values():
            call()
        return dict.fromkeys(calls, 6.0) | {check.FUSED: 2.0}

    monkeypatch.setattr(check, "interleave", timed)
    assert check.operator_ratio(Size(1, 3, 64), "float32", "packed", "both") == 3
    assert used == [1]
    assert torch.get_num_threads() == threads
