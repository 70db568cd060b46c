"""The operator beside PyTorch's forms of it, and beside the floor that the memory sets, over many sizes, on the CPU.

    OMP_NUM_THREADS=1 pytest benchmarks/bench_operator.py --benchmark-json=one.json

Every test times all implementations in turn (interleave.py) and leaves the medians, in seconds, in ``extra_info``.
report.py makes a page of them. For a GPU there is gpu_report.py.
"""

from __future__ import annotations

import os

import pytest
import torch
import torch._dynamo.config
import torch._functorch.config
from baselines import PASSES
from cpu_cases import DTYPES, FUSED, GRID, LAYOUTS, make_case
from interleave import interleave

# What is compared with torch.compile must be able to go backward twice.
torch._functorch.config.donated_buffer = False
# Rather no figure than eager's under the name of torch.compile.
torch._dynamo.config.fail_on_recompile_limit_hit = True

# With MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=10000000000 memory once used stays with the process, and a large result
# does not pay for the zeroing of new pages.
MEMORY = "kept" if os.environ.get("MALLOC_MMAP_MAX_") == "0" else "fresh"


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", GRID, ids=str)
def test_operator(benchmark, size, dtype: str, layout: str, passes: str) -> None:
    torch.compiler.reset()  # every case is compiled for itself
    calls = make_case(size, DTYPES[dtype], layout).calls(passes)
    benchmark.group = f"{passes} {size} {dtype} {layout}"
    benchmark.extra_info |= {
        "size": list(size), "dtype": dtype, "layout": layout, "passes": passes, "memory": MEMORY,
        "threads": torch.get_num_threads(), "seconds": interleave(calls),
    }  # fmt: skip
    benchmark.pedantic(calls[FUSED], rounds=5, warmup_rounds=1)
