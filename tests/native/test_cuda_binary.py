"""The CUDA code in the built operators: what cuobjdump says of it. Skipped where they are built without CUDA."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import fan_ext

# For each dtype, by their other template argument: with relation-attention or without.
_BOTH = ("Lb0", "Lb1")
_KERNELS = {
    "register_forward_kernel": _BOTH,
    "forward_kernel": _BOTH,
    "sums_kernel": ("",),
    "combine_kernel": _BOTH,
    "register_backward_kernel": _BOTH,
    "gradient_sums_kernel": _BOTH,
    "backward_kernel": _BOTH,
    "reduce_kernel": ("",),
}
_PROBE = "probe_kernel"  # never launched; of no dtype
_DTYPES = 4
_REGISTERS = 65536  # of a multiprocessor


def _parse(function: str) -> tuple[str, str]:
    """The kernel and its template arguments but for the dtype, of a mangled name."""
    name = max((name for name in (*_KERNELS, _PROBE) if re.search(rf"\d{name}", function)), key=len)
    return name, " ".join(re.findall(r"Lb[01]", function))


def _tool() -> str:
    folders = [Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin", *Path("/usr/local").glob("cuda*/bin")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    tool = shutil.which("cuobjdump", path=path)
    if tool is None:
        pytest.skip("no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    return tool


@pytest.fixture(scope="module")
def library() -> Path:
    if fan_ext.build_info()["cuda"] is None:
        pytest.skip("built without CUDA")
    spec = importlib.util.find_spec("fan_ext")
    assert spec is not None
    assert spec.submodule_search_locations
    found = [path for folder in spec.submodule_search_locations for path in Path(folder).glob("_torch_ops*.so")]
    assert found
    return found[0]


def _architectures() -> list[int]:
    """Those with machine code: "90-real" or "90", not "90-virtual"."""
    names = fan_ext.build_info()["cuda"]["architectures"]
    return [int(re.sub(r"\D.*", "", name)) for name in names if not name.endswith("-virtual")]


def _run(*arguments: str) -> str:
    tool = _tool()
    environment = {**os.environ, "PATH": f"{Path(tool).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True, env=environment).stdout


def test_kernels_of_every_architecture_fit_their_registers(library: Path) -> None:
    kernels: dict[str, set[str]] = {}
    architecture = ""
    name = ""
    for line in _run("-res-usage", str(library)).splitlines():
        if match := re.match(r"arch = (sm_\d+)", line):
            architecture = match.group(1)
        elif match := re.match(r"\s*Function (\S+):", line):
            name = match.group(1)
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", line):
            registers, stack, local = map(int, match.groups())
            # Registers that do not fit are spilled to the stack, in local memory.
            assert (stack, local) == (0, 0), f"{name} spills on {architecture}"
            threads = 1024 if _parse(name)[0] == "reduce_kernel" else 256
            assert registers * threads <= _REGISTERS, f"{name} on {architecture}"
            kernels.setdefault(architecture, set()).add(name)
    assert kernels
    everywhere = set.union(*kernels.values())
    found = Counter(_parse(name) for name in everywhere)
    wanted = {(name, which): _DTYPES for name, all_of_it in _KERNELS.items() for which in all_of_it}
    assert found == wanted | {(_PROBE, ""): 1}
    for architecture, names in kernels.items():
        assert names == everywhere, architecture
    assert set(kernels) == {f"sm_{a}" for a in _architectures()}


@pytest.fixture(scope="module")
def code(library: Path) -> dict[str, list[tuple[int, str]]]:
    """The instructions of each kernel for the newest architecture that it is built for, with their addresses."""
    code: dict[str, list[tuple[int, str]]] = defaultdict(list)
    function = ""
    for line in _run("-sass", "-arch", f"sm_{max(_architectures())}", str(library)).splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            function = match.group(1)
        elif match := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", line):
            code[function].append((int(match.group(1), 16), match.group(2)))
    return code


def test_features_are_read_and_written_16_bytes_at_a_time(code: dict[str, list[tuple[int, str]]]) -> None:
    # To shared memory, but for clips in registers; what is written are results and, of parts, the sums of rows.
    copies = "LDGSTS" if max(_architectures()) >= 80 else "LDG"
    reads = {name: "LDG" if "register" in name else copies for name in _KERNELS}
    del reads["combine_kernel"], reads["reduce_kernel"]
    for function, instructions in code.items():
        name, _ = _parse(function)
        found = {m.group(1) for _, text in instructions if (m := re.search(r"\b(LDG|LDGSTS|STG)\.\S*128", text))}
        if name in reads:
            assert reads[name] in found, function
            assert "STG" in found or name == "gradient_sums_kernel", function


def _innermost_loops(instructions: list[tuple[int, str]]) -> list[Counter[str]]:
    """How often each operation stands in a loop that has no other loop in it."""
    ends = {}
    for at, text in instructions:
        if (match := re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)) and int(match.group(1), 16) <= at:
            ends[int(match.group(1), 16)] = at
    inner = [
        (b, e) for b, e in ends.items() if not any(b < b2 or e2 < e for b2, e2 in ends.items() if b <= b2 and e2 <= e)
    ]
    operation = re.compile(r"(?:@!?U?P\w+\s+)?(\w+)")
    return [
        Counter(m.group(1) for at, text in instructions if b <= at <= e and (m := operation.match(text)))
        for b, e in inner
    ]


@pytest.mark.parametrize("dtype", ["4HalfE", "8BFloat16E"])
def test_instructions_for_a_row_in_half_precision(code: dict[str, list[tuple[int, str]]], dtype: str) -> None:
    """While an H100's memory brings 4 rows of 512 elements to a multiprocessor, that has slots for 1,133."""
    function = next(f for f in code if re.search(rf"\dforward_kernelI\S*{dtype}Lb1", f))
    loops = _innermost_loops(code[function])

    def length(wanted: dict[str, int]) -> int:
        return min(sum(loop.values()) for loop in loops if wanted.items() <= loop.items())

    dots = length({"FFMA": 8 * 3 * 8})  # of 8 rows, 256 columns
    copies = length({"LDGSTS": 8})  # likewise
    sums = length({"FFMA": 4 * 2 * 8})  # of 4 rows, 256 columns
    assert dots + copies + 2 * sums <= 620
