"""The CUDA code in the built operators: what cuobjdump says of it. Skipped where they are built without CUDA."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import fan_ext

_MAX_THREADS = {"forward_kernel": 256, "backward_kernel": 256, "reduce_kernel": 1024}
_REGISTERS = 65536  # of a multiprocessor


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
            threads = next(n for kind, n in _MAX_THREADS.items() if kind in name)
            assert registers * threads <= _REGISTERS, f"{name} on {architecture}"
            kernels.setdefault(architecture, set()).add(name)
    assert kernels
    everywhere = set.union(*kernels.values())
    # For each dtype: forward and backward for a warp, a block with and without vectors, a cluster; and the sum.
    assert len(everywhere) == 9 * 4
    for architecture, names in kernels.items():
        assert names == everywhere, architecture
    assert set(kernels) == {f"sm_{a}" for a in _architectures()}


def test_features_are_read_and_written_16_bytes_at_a_time(library: Path) -> None:
    architecture = max(_architectures())
    function = ""
    accesses: dict[str, set[str]] = {}
    for line in _run("-sass", "-arch", f"sm_{architecture}", str(library)).splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            function = match.group(1)
        elif match := re.search(r"\b(LDG|LDGSTS|STG)\.\S*128", line):
            accesses.setdefault(function, set()).add(match.group(1))
    # Template arguments: aligned rows. Scope 2 is a cluster, which older devices do not have.
    vector = [name for name in accesses if "Lb1ELNS0_5ScopeE" in name]
    assert len(vector) == (6 if architecture >= 90 else 4) * 4
    wanted = {"LDG", "STG", "LDGSTS"} if architecture >= 80 else {"LDG", "STG"}
    assert all(accesses[name] == wanted for name in vector)
