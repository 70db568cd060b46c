"""The CUDA kernels, compiled for the CPU and run by tests/native/cuda_runner: tensors in, tensors out."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
RUNNER = REPOSITORY / "tests" / "native" / "cuda_runner"
CUDA = REPOSITORY / "csrc" / "cuda"

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
REGIMES = ("registers", "resident", "cluster", "split")
# In this order in cuda_on_cpu.h.
ORDERS = ("ahead ascending", "ahead descending", "ahead random", "steps ascending", "steps random")
_FLAGS = (
    *("-std=c++17", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas"),
    *("-fsanitize=address", "-fno-omit-frame-pointer"),
)
# To compile the kernels costs more than to run them. Each access of theirs is a call, which memory_watch.h sees.
_WATCHED = ("-O0", "--param", "asan-instrumentation-with-call-threshold=0")
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=0"}


def build_runner(source: Path = REPOSITORY) -> Path:
    """Compile the runner with the kernels under ``source``."""
    return build_program("cuda_runner", [RUNNER / "main.cpp", source / "csrc" / "cuda" / "plan.cpp"], source)


def build_program(name: str, sources: list[Path], source: Path = REPOSITORY) -> Path:
    """Compile ``sources`` and the scheduler, with the headers under ``source``; once for the same source and flags."""
    # What the mutation check leaves of the kernels may have parameters that nobody uses.
    flags = _FLAGS if source == REPOSITORY else (*_FLAGS, "-w")
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("no C++ compiler: set CXX")
    read = [
        source / "csrc" / "types.h",
        *(source / "csrc" / "cuda").glob("*.*"),
        *RUNNER.glob("*.*"),
        *(source / "csrc" / "cpu").glob("*.h"),
    ]
    state = hashlib.sha256(" ".join([compiler, *flags, *_WATCHED]).encode())
    for file in sorted({*read, *sources}):
        state.update(file.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"fan_ext_cuda_runner_{os.getuid()}" / state.hexdigest()[:24]
    program = folder / name
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as building:
        compilations = [(path, list(_WATCHED)) for path in sources]
        compilations += [(RUNNER / "cuda_on_cpu.cpp", ["-O2", "-fno-sanitize=address"])]
        objects = [Path(building) / f"{path.stem}.o" for path, _ in compilations]
        command = [compiler, *flags, f"-I{source}", f"-I{RUNNER}", "-c"]
        compiling = [
            subprocess.Popen([*command, *own, str(path), "-o", str(to)])
            for (path, own), to in zip(compilations, objects, strict=True)
        ]
        codes = [process.wait() for process in compiling]  # all, before the folder goes
        if any(codes):
            raise RuntimeError("the CUDA kernels do not compile for the CPU")
        linked = Path(building) / name
        subprocess.run([compiler, *flags, *map(str, objects), "-o", str(linked), "-ldl", "-pthread"], check=True)
        linked.replace(program)  # another process may be building the same one
    return program


@dataclass(frozen=True)
class Plan:
    regime: str
    blocks: int
    threads: int
    shared_bytes: int
    rows: int
    aligned: bool
    cluster: int
    launches: int
    part_rows: int
    copy_bytes: int


@dataclass
class Inputs:
    """Clips, dense or packed, and the four parameters in the operator's order."""

    features: Tensor
    parameters: Sequence[Tensor | None]
    mask: Tensor | None = None
    offsets: Tensor | None = None
    max_frames: int | None = None

    @property
    def accumulator(self) -> torch.dtype:
        return torch.float64 if self.features.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Kernels:
    """The forward and backward operators of fan_ext, as the CUDA kernels compute them.

    order and seed choose in which order threads get on, and whether asynchronous copies arrive late (even seeds).
    displacement, in bytes, keeps the features off a multiple of 16. Blocks before first_block do not run. The
    backward pass's blocks, or clusters, are at most max_blocks. shared_per_block, if not 0, is all that a block gets.
    """

    program: Path
    compute_capability: int = 90
    order: str = ORDERS[0]
    seed: int = 0
    displacement: int = 0
    first_block: int = 0
    max_blocks: int = 2**28
    shared_per_block: int = 0

    def forward(self, inputs: Inputs, return_weights: bool = False) -> tuple[Any, ...]:
        """(plan, out, saved, alpha, beta, final)."""
        features, a, relation = inputs.features, inputs.accumulator, inputs.parameters[1] is not None
        plan, out, saved, *weights = self._run(inputs, [], return_weights=return_weights)
        clips = len(features) if inputs.offsets is None else len(inputs.offsets) - 1
        return (
            plan,
            _tensor(out, features.dtype).reshape(clips, features.shape[-1] * (2 if relation else 1)),
            _tensor(saved, a).reshape(5 if relation else 2, features[..., 0].numel()),
            *(None if w is None else _tensor(w, a).reshape(features.shape[:-1]) for w in weights),
        )

    def backward(
        self,
        inputs: Inputs,
        grads: Sequence[Tensor | None],
        out: Tensor,
        saved: Tensor,
        features_need_grad: bool = True,
    ) -> tuple[Any, ...]:
        """(plan, gradients of features, self_weight, relation_weight, self_bias, relation_bias).

        grads: those of out, alpha and beta. out, saved: the forward pass's.
        """
        grad_out, *direct = grads
        arrays = [grad_out, *(None if g is None else g.to(inputs.accumulator) for g in direct), out, saved]
        plan, grad_features, *gradients = self._run(inputs, arrays, features_need_grad=features_need_grad)
        features = inputs.features
        return (
            plan,
            None if grad_features is None else _tensor(grad_features, features.dtype).reshape(features.shape),
            *(None if p is None else _tensor(g, p.dtype) for g, p in zip(gradients, inputs.parameters, strict=True)),
        )

    def _run(
        self,
        inputs: Inputs,
        more: Sequence[Tensor | None],
        return_weights: bool = False,
        features_need_grad: bool = False,
    ) -> tuple[Any, ...]:
        """Send the fields of main.cpp's Case and the arrays; more: what the backward pass is given beside."""
        features, offsets = inputs.features, inputs.offsets
        packed = offsets is not None
        longest = -1 if inputs.max_frames is None else inputs.max_frames
        clips, frames = (len(offsets) - 1, longest) if packed else features.shape[:2]
        narrow = [p is not None and p.dtype != inputs.accumulator for p in inputs.parameters]
        header = [len(more) > 0, DTYPES.index(features.dtype), ORDERS.index(self.order), self.seed]
        header += [self.compute_capability, clips, frames, features[..., 0].numel(), features.shape[-1]]
        header += [0 if packed else features.stride(0), features.stride(-2), inputs.parameters[1] is not None]
        header += [return_weights, features_need_grad, self.displacement, self.first_block, self.max_blocks]
        header += [self.shared_per_block, packed and offsets.dtype == torch.int32]
        header += [sum(is_narrow << k for k, is_narrow in enumerate(narrow))]
        message = struct.pack(f"={len(header)}q", *map(int, header))
        for array in (_storage(features), *map(_bytes, (inputs.mask, offsets, *inputs.parameters, *more))):
            message += struct.pack("=q", -1 if array is None else len(array)) + (array or b"")
        environment = {**os.environ, **ENVIRONMENT}
        if packed and bool((offsets[1:] < offsets[:-1]).any()):
            # Clips share frames, as only offsets that lie make them: they write the same places, in any order.
            environment["CUDA_ON_CPU_GLOBAL_RACES"] = "ignored"
        result = subprocess.run([self.program], input=message, capture_output=True, env=environment, timeout=120)
        if result.returncode != 0:
            raise RuntimeError(f"the kernels failed ({result.returncode}):\n{result.stderr.decode()[:3000]}")
        results: list[bytes | None] = []
        at = 0
        while at < len(result.stdout):
            (size,) = struct.unpack_from("=q", result.stdout, at)
            results.append(None if size < 0 else result.stdout[at + 8 : at + 8 + size])
            at += 8 + max(size, 0)
        regime, blocks, threads, shared, rows, aligned, *others = struct.unpack("=10q", results[0] or b"")
        return Plan(REGIMES[regime], blocks, threads, shared, rows, bool(aligned), *others), *results[1:]


def _bytes(tensor: Tensor | None) -> bytes | None:
    return None if tensor is None else tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _storage(features: Tensor) -> bytes:
    """From the first element to the last, gaps between rows included."""
    if features.numel() == 0:
        return b""
    length = 1 + sum((n - 1) * stride for n, stride in zip(features.shape, features.stride(), strict=True))
    return _bytes(features.detach().as_strided((length,), (1,))) or b""


def _tensor(data: bytes | None, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
