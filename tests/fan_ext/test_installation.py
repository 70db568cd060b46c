"""What was built, and what an incomplete installation does and says."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from bare import run_bare

import fan_ext
from fan_ext import functional


def test_build_info() -> None:
    info = fan_ext.build_info()
    assert info["version"] == importlib.metadata.version("fan_ext") == fan_ext.__version__
    assert info["cpu_in_use"] in info["cpu"]
    assert info["cuda"] is None or info["cuda"]["architectures"]
    assert info["fallback"] is None


def test_import_is_quick() -> None:
    """Beside torch it loads next to nothing; torch's compiler alone takes seconds."""
    code = (
        "import sys, torch; before = set(sys.modules); import fan_ext; fan_ext.FrameAttention; "
        "print(*(name for name in set(sys.modules) - before if not name.startswith('fan_ext')))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert len(result.stdout.split()) < 10, result.stdout


def test_torch_and_numpy_are_all_it_needs(tmp_path: Path) -> None:
    code = (
        "import torch, fan_ext; x = torch.randn(2, 3, 8, requires_grad=True); "
        "fan_ext.FrameAttention(8)(x).sum().backward(); fan_ext.numpy; print(fan_ext.build_info()['fallback'])"
    )
    done = run_bare(tmp_path, ["torch", "numpy"], ["-c", code], ["fan_ext"])
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


@pytest.fixture
def copy_of_package(tmp_path: Path) -> Path:
    """The Python files of fan_ext alone, in a folder of their own."""
    source = Path(fan_ext.__file__).parent
    shutil.copytree(source, tmp_path / "sources" / "fan_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path / "sources"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The installed packages but fan_ext."""
    folder = tmp_path / "site"
    folder.mkdir()
    for package in Path(torch.__file__).parents[1].iterdir():
        if "fan_ext" not in package.name:
            (folder / package.name).symlink_to(package)
    return folder


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    # -S: without site-packages' .pth files, which would find the true package first.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, env=environment, cwd=path[0], capture_output=True, text=True, timeout=120)


# Everything that a user does, twice; what it says of itself.
_USE = """
import torch, fan_ext
pool = fan_ext.FrameAttention(4)
features = torch.randn(2, 3, 4, requires_grad=True)
for _ in range(2):
    out, weights = pool(features, return_weights=True)
    out.sum().backward()
    torch.compile(pool, backend="aot_eager")(features).sum().backward()
parameters = (pool.self_weight, pool.relation_weight, pool.self_bias, pool.relation_bias)
torch.testing.assert_close(out, fan_ext.reference.frame_attention(features, *parameters))
print(fan_ext.build_info()["fallback"])
"""


def test_complete_installation_says_nothing() -> None:
    result = subprocess.run([sys.executable, "-c", _USE], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "None\n", "")


@pytest.mark.parametrize("broken", [False, True])
def test_without_the_compiled_operators_the_reference_serves(copy_of_package: Path, site: Path, broken: bool) -> None:
    reason = "its torch operators (_torch_ops) are missing"
    if broken:
        (copy_of_package / "fan_ext" / "_torch_ops.so").write_bytes(b"not a library")
        reason = f"its torch operators do not load with torch {torch.__version__}"
    result = run(_USE, copy_of_package, site)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("RuntimeWarning") == 1
    assert reason in result.stderr
    assert "Until then plain PyTorch serves" in result.stderr
    assert "fan_ext: its native module is missing" in result.stdout  # which comes first
    assert "pip install" in result.stdout


def test_what_only_native_code_has_says_so(copy_of_package: Path, site: Path) -> None:
    result = run("import fan_ext; fan_ext.cuda_launch_plan(1, 2, 3)", copy_of_package, site)
    assert result.returncode == 1
    assert "fan_ext: its native module is missing" in result.stderr
    assert "pip install" in result.stderr


@pytest.mark.parametrize("use", ["frame_attention", "FrameAttention", "build_info()", "numpy.frame_attention([], [])"])
def test_sources_that_hide_the_installed_package(copy_of_package: Path, site: Path, use: str) -> None:
    """Python started in the checkout: to build again would not help."""
    (site / "fan_ext").mkdir()
    (site / "fan_ext" / "_torch_ops.so").touch()
    result = run(f"import fan_ext; fan_ext.{use}", copy_of_package, site)
    assert result.returncode == 1
    message = result.stderr.splitlines()[-1]
    assert (
        f"{copy_of_package / 'fan_ext'} holds sources and hides the package installed in {site / 'fan_ext'}" in message
    )
    assert "start Python in another folder" in message
    assert "pip install" not in result.stderr


@pytest.mark.parametrize("problem", ["the driver is too old", "", None])
def test_a_gpu_is_asked_once_whether_the_kernels_run(monkeypatch: pytest.MonkeyPatch, problem: str | None) -> None:
    """Also inside a compiled function, which takes the answer for a constant. Not built at all: no warning."""
    asked: list[int] = []

    def answer(device: int) -> str | None:
        asked.append(device)
        return problem

    monkeypatch.setattr(functional.operators, "cuda_problem", answer)
    monkeypatch.setattr(functional, "_cuda_runs", {})
    torch.compiler.reset()  # compiled code keeps the answer

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if functional._runs_on(3) else x - 1

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runs = [functional._runs_on(3) for _ in range(3)]
        assert compiled(torch.zeros(())) == (1 if problem is None else -1)
    assert asked == [3]
    assert runs == [problem is None] * 3
    ours = [str(warning.message) for warning in said if "fan_ext" in str(warning.message)]
    assert ours == (
        [f"fan_ext: its CUDA kernels do not run on device 3: {problem}. Plain PyTorch serves, slower"] * bool(problem)
    )
