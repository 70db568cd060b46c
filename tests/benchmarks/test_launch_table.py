"""The tables of docs/cuda.md are what the script prints."""

from __future__ import annotations

import re
from pathlib import Path

import launch_table
import pytest
from baselines import Size

import fan_ext

_PAGE = Path(__file__).parents[2] / "docs" / "cuda.md"
_TOOLKIT = "13.0"  # the page's


def test_page_has_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    cuda = fan_ext.build_info()["cuda"]
    if cuda is None or not cuda["toolkit"].startswith(_TOOLKIT):
        pytest.skip(f"the page's registers are those of CUDA {_TOOLKIT}, this is built with {cuda and cuda['toolkit']}")
    commands = re.findall(r"<!-- python benchmarks/launch_table\.py(.*?) -->\n((?:\|.*\n)+)", _PAGE.read_text())
    assert len(commands) == 2
    built = " ".join(cuda["architectures"])
    for arguments, table in commands:
        if ("80" if "--capability 8.0" in arguments else "90") not in built:
            continue  # its registers are not known
        launch_table.main(arguments.split())
        printed = capsys.readouterr().out
        assert "?" not in printed, "the registers of a kernel are not known: is cuobjdump installed?"
        assert table == printed, f"python benchmarks/launch_table.py{arguments} prints another table"


def test_eager_launches() -> None:
    """mv, add, sigmoid, mul, sum, sum, div, cat, mv, add, sigmoid, mul, mul, sum, sum, div."""
    assert launch_table.eager_launches("forward") == 16
    assert launch_table.eager_launches("forward", concatenation=False) > 10
    assert launch_table.eager_launches("backward") > launch_table.eager_launches("forward")


@pytest.mark.parametrize(
    ("threads", "shared", "registers", "blocks"),
    [
        (256, 0, 32, 8),  # 2048 threads
        (256, 0, 96, 2),  # 65536 / (96 * 256) = 2.7
        (256, 100 * 1024, 32, 2),  # 228 / (100 + 1)
        (32, 0, 32, 32),  # as many as there may be
    ],
)
def test_blocks_on_multiprocessor(threads: int, shared: int, registers: int, blocks: int) -> None:
    device = launch_table.DEVICES["9.0"]
    assert launch_table.blocks_on_multiprocessor(device, threads, shared, registers) == blocks


@pytest.mark.parametrize("which", launch_table.PASSES)
@pytest.mark.parametrize("frames", [3, 100, 1000, 10_000])
def test_no_less_than_the_compulsory_bytes_is_moved(frames: int, which: str) -> None:
    size = Size(4, frames, 512)
    plan = fan_ext.cuda_launch_plan(4, frames, 512, "float32", (9, 0), which == "backward")
    assert launch_table.moved_bytes(size, 4, which, plan) >= launch_table.compulsory_bytes(size, 4, which)
