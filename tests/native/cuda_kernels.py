"""The CUDA kernels, compiled for the CPU and run by tests/native/cuda_runner: tensors in, tensors out."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
RUNNER = REPOSITORY / "tests" / "native" / "cuda_runner"
CUDA = REPOSITORY / "csrc" / "cuda"

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
REGIMES = ("warp per clip", "resident", "cluster", "split")
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
    read = [*(source / "csrc" / "cuda").glob("*.*"), *RUNNER.glob("*.*"), *(source / "csrc" / "cpu").glob("*.h")]
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

    def forward(
        self,
        features: Tensor,
        self_weight: Tensor,
        relation_weight: Tensor | None,
        self_bias: Tensor | None,
        relation_bias: Tensor | None,
        mask: Tensor | None,
        offsets: Tensor | None,
        max_frames: int | None,
        return_weights: bool,
    ) -> tuple[Plan, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """(plan, out, logits, alpha, beta, final)."""
        a = _accumulator(features)
        parameters = (self_weight, relation_weight, self_bias, relation_bias)
        common, shape = self._layout(features, parameters, offsets, max_frames, return_weights, False, backward=False)
        arrays = [mask, offsets, *parameters]
        plan, out, logits, *weights = self._run(common, [_storage(features), *map(_bytes, arrays)], _overlap(offsets))
        clips, dim, total = shape
        return (
            plan,
            _tensor(out, features.dtype).reshape(clips, dim if relation_weight is None else 2 * dim),
            _tensor(logits, a).reshape(1 if relation_weight is None else 3, total),
            *(None if w is None else _tensor(w, a).reshape(features.shape[:-1]) for w in weights),
        )

    def backward(
        self,
        grad_out: Tensor,
        grad_alpha: Tensor | None,
        grad_beta: Tensor | None,
        features: Tensor,
        self_weight: Tensor,
        relation_weight: Tensor | None,
        self_bias: Tensor | None,
        relation_bias: Tensor | None,
        mask: Tensor | None,
        offsets: Tensor | None,
        max_frames: int | None,
        out: Tensor,
        logits: Tensor,
        features_need_grad: bool,
    ) -> tuple[Plan, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """(plan, gradients of features, self_weight, relation_weight, self_bias, relation_bias)."""
        a = _accumulator(features)
        parameters = (self_weight, relation_weight, self_bias, relation_bias)
        common, _ = self._layout(features, parameters, offsets, max_frames, False, features_need_grad, backward=True)
        arrays = [mask, offsets, *parameters]
        arrays += [grad_out, _to(grad_alpha, a), _to(grad_beta, a), out, logits]
        plan, grad_features, *gradients = self._run(
            common, [_storage(features), *map(_bytes, arrays)], _overlap(offsets)
        )
        return (
            plan,
            None if grad_features is None else _tensor(grad_features, features.dtype).reshape(features.shape),
            *(None if p is None else _tensor(g, p.dtype) for g, p in zip(gradients, parameters, strict=True)),
        )

    def _layout(
        self,
        features: Tensor,
        parameters: tuple[Tensor | None, ...],
        offsets: Tensor | None,
        max_frames: int | None,
        return_weights: bool,
        features_need_grad: bool,
        backward: bool,
    ) -> tuple[list[int], tuple[int, int, int]]:
        dim = features.shape[-1]
        packed = offsets is not None
        clips = features.shape[0] if offsets is None else len(offsets) - 1
        frames = 0 if packed else features.shape[1]
        total = features.shape[0] if packed else clips * frames
        common = [backward, DTYPES.index(features.dtype), ORDERS.index(self.order), self.seed, self.compute_capability]
        common += [-1 if max_frames is None else max_frames, clips, frames, total, dim]
        common += [0 if packed else features.stride(0), features.stride(-2), parameters[1] is not None]
        common += [return_weights, features_need_grad, self.displacement, self.first_block, self.max_blocks]
        common += [self.shared_per_block, packed and offsets.dtype == torch.int32]
        common += [sum((p is not None and p.dtype != _accumulator(features)) << k for k, p in enumerate(parameters))]
        return [int(x) for x in common], (clips, dim, total)

    def _run(self, header: list[int], arrays: list[bytes | None], overlap: bool) -> tuple[Any, ...]:
        message = struct.pack(f"={len(header)}q", *header)
        for array in arrays:
            message += struct.pack("=q", -1 if array is None else len(array)) + (array or b"")
        environment = {**os.environ, **ENVIRONMENT}
        if overlap:
            environment["CUDA_ON_CPU_GLOBAL_RACES"] = "ignored"
        result = subprocess.run([self.program], input=message, capture_output=True, env=environment, timeout=120)
        if result.returncode != 0:
            raise RuntimeError(f"the kernels failed ({result.returncode}):\n{result.stderr.decode()[:3000]}")
        results: list[bytes | None] = []
        at = 0
        while at < len(result.stdout):
            (size,) = struct.unpack_from("=q", result.stdout, at)
            at += 8
            results.append(None if size < 0 else result.stdout[at : at + size])
            at += max(size, 0)
        regime, blocks, threads, shared, rows, aligned, *others = struct.unpack("=10q", results[0] or b"")
        return Plan(REGIMES[regime], blocks, threads, shared, rows, bool(aligned), *others), *results[1:]


def _accumulator(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _overlap(offsets: Tensor | None) -> bool:
    """Whether clips share frames, as only offsets that lie make them: then they write the same places, in any order."""
    return offsets is not None and bool((offsets[1:] < offsets[:-1]).any())


def _to(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.to(dtype)


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
