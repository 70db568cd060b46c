"""Trained networks as safetensors files, with a card that says what the network is and how to feed it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import OutputError, WeightsError, first_line
from fan_fer.base.files import atomic_write, is_file, open_file, read_file, text_path
from fan_fer.base.finite import is_number
from fan_fer.base.texts import parse_json
from fan_fer.features.backbones import BACKBONES, check_size
from fan_fer.features.preprocessing import Preprocessing

FORMAT_VERSION = 1
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
PACKAGE_DATA = Path(__file__).parents[1] / "data"
DEFAULT_WEIGHTS = PACKAGE_DATA / "fan_resnet18.safetensors"


@dataclass(frozen=True)
class ModelCard:
    """What a weights file says about itself. Raises ValueError for classes and numbers that cannot be."""

    variant: str
    preprocessing: Preprocessing
    backbone: str = "resnet18"
    classes: tuple[str, ...] = EMOTIONS
    trained_on: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    license: str = ""
    temperature: float = 1.0  # that the trained logits were divided by; the stored classifier includes it

    def __post_init__(self) -> None:
        if not self.classes or not all(isinstance(name, str) and name for name in self.classes):
            raise ValueError(f"classes: got {self.classes!r}; names are wanted")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: got {', '.join(self.classes)}; every name once is wanted")
        check_size(self.backbone, self.preprocessing.size)
        for name, value in {**self.scores, "temperature": self.temperature}.items():
            if not is_number(value):
                raise ValueError(f"{name}: got {value!r}; a finite number is wanted")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelCard:
        """The inverse of ``dataclasses.asdict``, also after a trip through JSON, which knows no tuples."""
        settings = dict(values["preprocessing"])
        settings |= {name: tuple(settings[name]) for name in ("mean", "std")}
        settings["template"] = tuple((float(x), float(y)) for x, y in settings["template"])
        lists = {"classes": tuple(values["classes"]), "preprocessing": Preprocessing(**settings)}
        return cls(**(values | lists))

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Raises KeyError, TypeError or ValueError for what is no card."""
        return cls.from_dict(parse_json(text.encode()))

    def check_network(self, network: FrameAttentionNetwork) -> None:
        """Raises ValueError for a network of which this is no card."""
        for name, said, found in (
            ("variant", self.variant, network.variant),
            ("backbone", self.backbone, network.backbone_name),
        ):
            if said != found:
                raise ValueError(f'the card says {name} "{said}", the network is "{found}"')


def packaged_weights() -> dict[str, Path]:
    """The files of the networks that ship, by the name of the backbone."""
    paths = {name: PACKAGE_DATA / f"fan_{name}.safetensors" for name in BACKBONES}
    return {name: path for name, path in paths.items() if is_file(path)}


def packaged_file(name: str) -> Path:
    """The file of a network that ships. Raises WeightsError where this package has none of that name."""
    packaged = packaged_weights()
    if name not in packaged:
        raise WeightsError(f"{name}: no such file, nor one of the networks that ship: {', '.join(packaged)}")
    return packaged[name]


def find_weights(weights: str | os.PathLike[str] | None = None) -> Path:
    """The file of a network.

    weights: a path; where there is no such file, also the name of a network that ships, "resnet18"; None for
        the first of these. Raises WeightsError for a name of which this package has no file.
    """
    if weights is None:
        return DEFAULT_WEIGHTS
    name = os.fspath(weights)
    return packaged_file(name) if name in BACKBONES and not is_file(name) else Path(weights)


def save_weights(
    path: str | os.PathLike[str], network: FrameAttentionNetwork, card: ModelCard, half: bool = False
) -> None:
    """Writes the network and its card to ``path``: the whole file or, where anything fails, nothing.

    half: store fp16, half the size.
    Raises WeightsError for a network that is not the card's, values that are not finite, a path that cannot be
    written.
    """
    path = Path(path)
    try:
        card.check_network(network)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
    tensors = {}
    for name, tensor in network.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        tensors[name] = stored.half() if half and stored.is_floating_point() else stored
    _check_finite(path, tensors)
    metadata = {"fan_fer": str(FORMAT_VERSION), "card": json.dumps(asdict(card))}
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(tensors, metadata))
    except OutputError as error:
        raise WeightsError(str(error)) from error


def load_weights(path: str | os.PathLike[str] | None = None) -> tuple[FrameAttentionNetwork, ModelCard]:
    """A trained network, float32 and in evaluation mode, and its card.

    path: a file that :func:`save_weights` wrote, or the name of one that ships, "resnet18"; None for the first of
        these.
    Raises WeightsError, one line, for anything but a complete network. Pickles are never opened.
    """
    path = find_weights(path)
    _check_container(path)
    try:
        with text_path(path) as name, safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: _as_float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({first_line(error)})") from error

    card = _read_card(path, metadata, tensors)
    try:
        with torch.device("cpu"):  # whatever the caller's default
            network = FrameAttentionNetwork(card.variant, len(card.classes), card.backbone).float()
    except ValueError as error:
        raise WeightsError(f"{path}: made for a network this version does not have ({error})") from error
    expected = network.state_dict()
    _check_names(path, tensors, expected)
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, wanted {tuple(value.shape)}"
        for name, value in expected.items()
        if tensors[name].shape != value.shape
    ]
    if wrong:
        raise WeightsError(f"{path}: tensors of another shape: {_some(wrong)}")
    tensors = {name: as_floats(path, name, value) for name, value in tensors.items()}
    _check_finite(path, tensors)
    network.load_state_dict(tensors)
    return network.eval(), card


def weights_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a weights file, 64 hexadecimal digits. Raises WeightsError where it cannot be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None


def is_safetensors(path: Path) -> bool:
    """By what is in the file, whatever its name: its header's length in 8 bytes, then the header, which is JSON.

    Raises WeightsError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER


def as_floats(path: Path, name: str, tensor: Tensor) -> Tensor:
    """The values as a network has them. Raises WeightsError for what is not plain numbers, or rounded to integers."""
    plain = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_meta or tensor.is_nested)
    if not plain or not (tensor.is_floating_point() or name.endswith("num_batches_tracked")):
        kind = f"{tensor.dtype} {tensor.layout} on {tensor.device}".replace("torch.", "")
        raise WeightsError(f"{path}: {name} is {kind}; floating-point numbers, each of them stored, are wanted")
    return tensor.detach().float()


def _check_container(path: Path) -> None:
    """Refuses what is not a whole safetensors file: the header's length in 8 bytes, a JSON header, the tensors."""
    wanted = "a safetensors file written by fan_fer is wanted"
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            header = file.read(length) if length <= LONGEST_HEADER else b""
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WeightsError(f"{path}: no such file; {wanted}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {wanted}") from error

    zipped = start[:4] == b"PK\x03\x04"
    pickled = start[:1] == b"\x80" and length > LONGEST_HEADER  # a pickle's first byte, and no header's length
    if zipped or pickled:
        raise WeightsError(f"{path}: a PyTorch pickle, which can run any code when opened; {wanted}")
    if len(start) == 8 and length > LONGEST_HEADER:
        raise WeightsError(f"{path}: not a safetensors file; {wanted}")
    if size < 8 + length:
        raise WeightsError(f"{path}: truncated within its header ({size} bytes); {wanted}")
    try:
        entries = {name: entry for name, entry in parse_json(header).items() if name != "__metadata__"}
        complete = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise WeightsError(f"{path}: not a safetensors file; {wanted}") from error
    if size < complete:
        raise WeightsError(f"{path}: truncated, {size} of {complete} bytes; get the file again")


def _read_card(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> ModelCard:
    if "fan_fer" not in metadata:
        heads = ("attention.", "classifier.")
        missing = [f"{head}*" for head in heads if not any(name.startswith(head) for name in tensors)]
        hint = f", and no trained {' or '.join(missing)}" if missing else ""
        raise WeightsError(f"{path}: no model card of fan_fer{hint}; a complete network is wanted")
    if metadata["fan_fer"] != str(FORMAT_VERSION):
        raise WeightsError(f"{path}: format {metadata['fan_fer']}; this version of fan_fer reads {FORMAT_VERSION}")
    try:
        card = ModelCard.from_json(metadata["card"])
        json.dumps(asdict(card), ensure_ascii=False).encode()  # texts that are none: OpenCV dies of them
        return card
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its model card cannot be read ({first_line(error)})") from error


def _check_names(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing = [name for name in expected if name not in tensors]
    if missing:
        # The heads first: without them there is a backbone, and nothing to predict with.
        missing.sort(key=lambda name: name.startswith("backbone."))
        raise WeightsError(f"{path}: incomplete, without {_some(missing)}; a complete network is wanted")
    unknown = [name for name in tensors if name not in expected]
    if unknown:
        raise WeightsError(f"{path}: tensors that this network does not have: {_some(unknown)}")


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{path}: NaN or infinite values in {_some(broken)}")


def _some(names: list[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
