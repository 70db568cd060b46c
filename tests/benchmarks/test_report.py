"""PyTorch's forms in the grid compute what the operator does; timing takes turns; the page shows what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import report
import torch
from baselines import PASSES, Size
from cpu_cases import FLOOR, FORMS, FUSED, LAYOUTS, make_case
from interleave import interleave

import fan_ext


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_forms_compute_the_same(form: str, layout: str) -> None:
    case = make_case(Size(4, 9, 32), torch.float64, layout)
    ours = fan_ext.frame_attention(*case.ours, **case.options)
    theirs = FORMS[form](*case.theirs, *([] if case.present is None else [case.present]))
    torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-11)
    parameters = [
        torch.autograd.grad(out.sum(), leaves)[1:] for out, leaves in ((ours, case.ours), (theirs, case.theirs))
    ]
    torch.testing.assert_close(*parameters, rtol=1e-9, atol=1e-11)


def test_layouts() -> None:
    dense, masked, packed = (make_case(Size(8, 40, 16), torch.float32, layout) for layout in LAYOUTS)
    assert dense.options == {}
    assert 0.8 < masked.options["mask"].float().mean() < 0.95
    lengths = packed.options["offsets"].diff()
    assert lengths.min() >= 20
    assert lengths.max() <= 40
    assert len(packed.ours[0]) == lengths.sum()


def test_calls_take_turns() -> None:
    order: list[str] = []
    found = interleave({name: lambda name=name: order.append(name) for name in "ab"}, seconds=0, rounds=3)
    assert set(found) == {"a", "b"}
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["a", "b"] * 4


def test_the_page(tmp_path: Path) -> None:
    benchmarks = []
    for passes in PASSES:
        for dtype in ("float32", "bfloat16"):
            calls = make_case(Size(2, 5, 16), torch.float32, "dense").calls(passes, with_compiled=False)
            seconds = dict.fromkeys(calls, 3e-06) | {FUSED: 1e-6, FLOOR: 5e-7}
            seconds |= {f"{name}, compiled": 2e-6 for name in FORMS}
            info = {"size": [2, 5, 16], "dtype": dtype, "layout": "dense", "passes": passes, "threads": 1}
            benchmarks.append({"extra_info": info | {"seconds": seconds}})
    (tmp_path / "one.json").write_text(json.dumps({"benchmarks": benchmarks}))
    points = report.read_points([tmp_path / "one.json"])
    assert [point.speedup for point in points] == pytest.approx([2] * len(points))
    assert [point.over_floor for point in points] == pytest.approx([2] * len(points))
    text = report.page(points, "the videos", "the command")
    assert "| forward, float32, 1 thread | 2.0 | 2.0 (2 x 5 x 16, dense) | 2.0 |" in text
    assert text.count("| 2 x 5 x 16, float32, dense, 1 | 1 | 2.0 | 3.0 | 2.0 | 3.0 | 2.0 |") == len(PASSES)
    assert "| any point, 1 thread | 2 | 2.0; 0 of 6 points below 2 |" in text
    assert "| bfloat16, 1 thread: largest of its times as long as float32 | 1 | 1.00; 0 of 3 above 1 |" in text
    assert "the videos" in text
    assert "the command" in text
    kept = [replace(points[2], memory="kept", seconds=points[2].seconds | {FUSED: 5e-7})]
    assert "| 2 x 5 x 16, 1 thread | 1 (2.0; 2.0) | 0 (1.0; 4.0) |" in report.page([*points, *kept], "", "")
    report.plot(points, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
