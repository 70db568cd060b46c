"""The operator beside PyTorch's forms of it, and beside the floor that the memory sets, over many sizes, on the CPU.

    OMP_NUM_THREADS=1 pytest benchmarks/bench_grid.py --benchmark-json=one.json

Every test times all implementations in turn (interleave.py) and leaves the medians, in seconds, in ``extra_info``.
report.py makes a page of them.
"""

from __future__ import annotations

import pytest
import torch
import torch._functorch.config
from baselines import PASSES
from cpu_cases import DTYPES, FUSED, GRID, LAYOUTS, make_case
from interleave import interleave

# What is compared with torch.compile must be able to go backward twice.
torch._functorch.config.donated_buffer = False


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", GRID, ids=str)
def test_operator(benchmark, size, dtype: str, layout: str, passes: str) -> None:
    calls = make_case(size, DTYPES[dtype], layout).calls(passes)
    benchmark.group = f"{passes} {size} {dtype} {layout}"
    benchmark.extra_info |= {
        "size": list(size), "dtype": dtype, "layout": layout, "passes": passes,
        "threads": torch.get_num_threads(), "seconds": interleave(calls),
    }  # fmt: skip
    benchmark.pedantic(calls[FUSED], rounds=5, warmup_rounds=1)
