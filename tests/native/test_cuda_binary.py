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

# For each dtype, by their template arguments: a team of threads is a warp, a block, a cluster, or a block with a part.
_WARP, _BLOCK, _CLUSTER, _PART = range(4)
_KERNELS = {
    "forward_kernel": (_WARP, _BLOCK, _CLUSTER),
    "self_parts_kernel": (None,),
    "relation_parts_kernel": (None,),
    "combine_parts_kernel": (None,),
    "backward_kernel": (_WARP, _BLOCK, _CLUSTER, _PART),
    "gradient_parts_kernel": (None,),
    "reduce_kernel": (None,),
}
_PROBE = "probe_kernel"  # never launched; of no dtype
_DTYPES = 4
_REGISTERS = 65536  # of a multiprocessor


def _parse(function: str) -> tuple[str, int | None]:
    """The kernel and its kind of team, of a mangled name."""
    name = max((name for name in (*_KERNELS, _PROBE) if name in function), key=len)
    team = re.search(r"ScopeE(\d)", function)
    return name, None if team is None else int(team.group(1))


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
    wanted = {(name, team): _DTYPES for name, teams in _KERNELS.items() for team in teams}
    assert found == wanted | {(_PROBE, None): 1}
    for architecture, names in kernels.items():
        assert names == everywhere, architecture
    assert set(kernels) == {f"sm_{a}" for a in _architectures()}


def test_features_are_read_and_written_16_bytes_at_a_time(library: Path) -> None:
    architecture = max(_architectures())
    function = ""
    accesses: dict[str, set[str]] = defaultdict(set)
    for line in _run("-sass", "-arch", f"sm_{architecture}", str(library)).splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            function = match.group(1)
        elif match := re.search(r"\b(LDG|LDGSTS|STG)\.\S*128", line):
            accesses[function].add(match.group(1))
    seen = Counter()
    for function, found in accesses.items():
        name, team = _parse(function)
        seen[name, team] += 1
        # The second sweep over parts does not keep its rows; the first of the backward pass writes but scalars.
        copied = {"LDGSTS"} if architecture >= 80 and name != "relation_parts_kernel" else set()
        written = {"STG"} if name != "gradient_parts_kernel" else set()
        assert found == {"LDG"} | copied | written, function
    # The others read no features. Older devices have no clusters.
    readers = set(_KERNELS) - {"combine_parts_kernel", "reduce_kernel"}
    wanted = {(name, team) for name in readers for team in _KERNELS[name] if architecture >= 90 or team != _CLUSTER}
    assert seen == dict.fromkeys(wanted, _DTYPES)
