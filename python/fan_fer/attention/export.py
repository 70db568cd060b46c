"""Networks for use outside this package: an ONNX file for any runtime, a compiled package for torch.

Both take ``frames``, by default uint8 RGB faces (B, N, S, S, 3) aligned as :func:`fan_fer.faces.align.align_face` does,
and ``mask`` (B, N) bool, True where a frame is present. Both give ``logits`` (B, C), their softmax are probabilities,
and ``weights`` (B, N), the share of every frame. B and N may be any numbers from 1 on.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import Dim, ExportedProgram

import fan_ext.functional  # noqa: F401 (loads the operators, also for networks that use none)
from fan_ext import reference
from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard
from fan_fer.base.errors import ExportError, LibraryError, first_line
from fan_fer.base.extras import need
from fan_fer.base.files import atomic_write
from fan_fer.base.finite import not_finite
from fan_fer.features.backbones import BACKBONES
from fan_fer.features.inference import folded
from fan_fer.features.preprocessing import Preprocessing

INPUTS = ("uint8", "float32")
OPSET = 18  # the oldest that torch's exporter writes: read by every onnxruntime from 1.14 on
_CHECKED = ((1, 1), (2, 5), (3, 2))  # clips, frames

_Run = Callable[[Tensor, Tensor], "tuple[NDArray[np.float32], ...]"]


def export_onnx(path: Path, network: FrameAttentionNetwork, card: ModelCard, frames: str = "uint8") -> float | None:
    """Writes the network as one ONNX file of standard operators, its card as JSON in the metadata entry ``card``.

    frames: "uint8", aligned faces, which the file itself makes grey and normalises; or "float32", what
        :class:`fan_fer.features.preprocessing.Preprocessing` makes of them, (B, N, 3, S, S).

    Where onnxruntime is installed, its results for random frames are compared with torch's, and the largest difference
    of a logit is returned; else None. Raises ExportError where they differ or the card is another network's,
    LibraryError without the extra ``export``, OutputError; the file is then not written.
    """
    need("export", "writing ONNX")
    _check_network(path, network, card)
    module = _ClipModule(network, card.preprocessing, frames)
    # The mask's axes are named with those of the frames, being the same.
    axes = ({0: "batch", 1: "frames"}, {0: None, 1: None})
    with atomic_write(path) as temporary:
        exported = torch.onnx.export(
            _with_plain_attention(_program(module)),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=axes,
            input_names=["frames", "mask"],
            output_names=["logits", "weights"],
            verbose=False,
        )
        assert exported is not None
        exported.model.metadata_props["card"] = json.dumps(asdict(card))
        exported.save(temporary, external_data=False)
        return None if find_spec("onnxruntime") is None else _compare(path, module, _onnxruntime(temporary))


def export_int8(
    path: Path, network: FrameAttentionNetwork, card: ModelCard, faces: Sequence[NDArray[np.uint8]]
) -> tuple[float, float]:
    """Writes the network as :func:`export_onnx` does, with its backbone in int8; what goes in and out is the same.

    faces: aligned RGB crops (S, S, 3), at least one, to which the steps of int8 are fitted: some hundred, of several
        people in all their expressions.

    Returns how many of the faces, as a fraction, get the label that they get in float32, and the mean over the faces of
    the largest difference of a probability. Raises ExportError for another backbone than resnet18 and face29, and as
    :func:`export_onnx` does; LibraryError without onnxruntime, too.
    """
    need("export", "writing ONNX")
    if find_spec("onnxruntime") is None:
        raise LibraryError("int8 needs onnxruntime: pip install 'fan_ext[export]'")
    if card.backbone not in BACKBONES:
        raise ExportError(f"{path}: int8 is for {' and '.join(BACKBONES)}; the network's backbone is {card.backbone}")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = [np.stack(faces[start : start + 8]) for start in range(0, len(faces), 8)]
    with atomic_write(path) as temporary, tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantized = (str(Path(folder) / name) for name in ("plain", "prepared", "quantized"))
        export_onnx(Path(plain), network, card)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        places = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
        # Behind the last convolution come the sum with the shortcut and its ReLU; then attention, which stays as it is.
        others = [node.name for node in [*nodes[: places[0]], *nodes[places[-1] + 3 :]]]
        with _quiet():
            quantize_static(
                prepared, quantized, _Batches(batches),
                op_types_to_quantize=["Conv", "Relu", "Add", "MaxPool"], nodes_to_exclude=others,
                per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        model = onnx.load(quantized)
        del model.metadata_props[:], model.opset_import[:]  # of the tools; no node needs another domain
        model.metadata_props.add(key="card", value=json.dumps(asdict(card)))
        model.opset_import.add(domain="", version=OPSET)
        temporary.write_bytes(model.SerializeToString())
        both = []
        for file in (Path(plain), temporary):
            run = _onnxruntime(file)
            logits = [run(*map(torch.from_numpy, _alone(batch)))[0] for batch in batches]
            both.append(torch.from_numpy(np.concatenate(logits)).softmax(-1))
        wanted, got = both
        same = (wanted.argmax(-1) == got.argmax(-1)).float().mean()
        return float(same), float((wanted - got).abs().amax(-1).mean())


def export_aot(path: Path, network: FrameAttentionNetwork, card: ModelCard, frames: str = "uint8") -> float:
    """Compiles the network for this kind of processor, with AOTInductor, into a package (.pt2).

    The package calls the operator of ``fan_ext``: ``import fan_ext.functional`` has to come before
    ``torch._inductor.aoti_load_package``. Its ``get_metadata()["card"]`` is the card as JSON.

    frames: as for :func:`export_onnx`. Returns the largest difference of a logit between the package and torch, for
    random frames. Raises ExportError where they differ, there is no C++ compiler or the card is another network's,
    OutputError; the file is then not written.
    """
    from torch._inductor import aoti_compile_and_package, aoti_load_package
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    _check_network(path, network, card)
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ExportError(f"{path}: no C++ compiler found; g++ or clang++ is wanted, or its name in CXX") from None
    module = _ClipModule(network, card.preprocessing, frames)
    with atomic_write(path) as temporary, tempfile.TemporaryDirectory() as folder:
        package = aoti_compile_and_package(
            _program(module),
            package_path=str(Path(folder) / "network.pt2"),
            inductor_configs={
                "aot_inductor.metadata": {"card": json.dumps(asdict(card))},
                "aot_inductor.check_lowerbound": False,  # where inputs are checked, one clip or frame is right too
            },
        )
        compiled = aoti_load_package(package)
        difference = _compare(path, module, lambda *inputs: tuple(out.numpy() for out in compiled(*inputs)))
        shutil.copyfile(package, temporary)
        return difference


class _Batches:
    """Faces as onnxruntime's calibration reads them, each a clip of its own."""

    def __init__(self, batches: Sequence[NDArray[np.uint8]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._left, None)
        return None if batch is None else dict(zip(("frames", "mask"), _alone(batch), strict=True))


def _alone(batch: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Faces (n, S, S, 3) as n clips of one frame."""
    return batch[:, None], np.ones((len(batch), 1), bool)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the quantisation logs about its progress."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


class _ClipModule(nn.Module):
    """Frames and mask to logits and final weights: what an exported file computes."""

    def __init__(self, network: FrameAttentionNetwork, preprocessing: Preprocessing, frames: str) -> None:
        super().__init__()
        if frames not in INPUTS:
            raise ValueError(f"frames: got {frames!r}; wanted one of {', '.join(INPUTS)}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.preprocessing = preprocessing if frames == "uint8" else None
        self.size = preprocessing.size

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.preprocessing is not None:
            frames = self.preprocessing.of_tensor(frames.flatten(0, 1)).unflatten(0, mask.shape)
        logits, weights = self.network(frames, mask)
        return logits, weights.final

    def example(self, batch: int, frames: int) -> tuple[Tensor, Tensor]:
        """Random inputs, always the same. Of several clips the last is without a frame."""
        generator = torch.Generator().manual_seed(batch)
        if self.preprocessing is not None:
            shape = (batch, frames, self.size, self.size, 3)
            images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        else:
            images = torch.randn(batch, frames, 3, self.size, self.size, generator=generator)
        mask = torch.rand(batch, frames, generator=generator) < 0.7
        mask[:, 0] = True
        mask[1:][-1:] = False
        return images, mask


def _program(module: _ClipModule) -> ExportedProgram:
    """The module for any number of clips and frames, batch norm folded into the convolutions."""
    module = copy.deepcopy(module)
    module.network.backbone = folded(module.network.backbone)
    axes = {0: Dim("batch"), 1: Dim("frames")}
    try:
        with torch.no_grad():
            return torch.export.export(module, module.example(2, 3), dynamic_shapes=(axes, axes))
    except UserError as error:
        raise ExportError(
            f'variant "{module.network.variant}" cannot be exported: torch cannot trace it for any number of frames '
            f"({first_line(error)})"
        ) from None


def _with_plain_attention(program: ExportedProgram) -> ExportedProgram:
    """Without the fused operator, and with a log-sigmoid that does not underflow, which ONNX's exporter lacks."""
    decomposed: ExportedProgram = program.run_decompositions(
        {
            torch.ops.fan_ext.frame_attention_forward.default: _plain_attention,
            torch.ops.aten.log_sigmoid.default: lambda x: x.clamp_max(0) - x.abs().neg().exp().log1p(),
        }
    )
    return decomposed


def _plain_attention(
    features: Tensor,
    self_weight: Tensor,
    relation_weight: Tensor | None,
    self_bias: Tensor | None,
    relation_bias: Tensor | None,
    mask: Tensor,
    *_: Any,
) -> tuple[Tensor, ...]:
    """What ``fan_ext::frame_attention_forward`` gives but for the logits, which only its gradient needs."""
    out, weights = reference.frame_attention(
        features, self_weight, relation_weight, self_bias, relation_bias, mask=mask, return_weights=True
    )
    nothing = features.new_empty(0)
    return out, nothing, weights.alpha, nothing if weights.beta is None else weights.beta, weights.final


def _onnxruntime(path: Path) -> _Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda frames, mask: tuple(session.run(None, {"frames": frames.numpy(), "mask": mask.numpy()}))


@torch.inference_mode()
def _compare(path: Path, module: _ClipModule, run: _Run) -> float:
    """The largest difference of a logit for random frames. Raises ExportError where results differ noticeably."""
    largest = 0.0
    for batch, frames in _CHECKED:
        inputs = module.example(batch, frames)
        for name, got, tensor in zip(("logits", "weights"), run(*inputs), module(*inputs), strict=True):
            wanted = tensor.numpy()
            if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=1e-3, atol=1e-4):
                raise ExportError(
                    f"{path}: not written, as its {name} for {batch} clips of {frames} random frames are not torch's "
                    f"(shape {got.shape} and {wanted.shape}, mean {got.mean():.4g} and {wanted.mean():.4g})"
                )
            if name == "logits":
                largest = max(largest, float(abs(got - wanted).max()))
    return largest


def _check_network(path: Path, network: FrameAttentionNetwork, card: ModelCard) -> None:
    try:
        card.check_network(network)
    except ValueError as error:
        raise ExportError(f"{path}: not written: {error}") from None
    broken = not_finite(network.state_dict())
    if broken is not None:
        raise ExportError(f"{path}: not written, as {broken} is not finite")
