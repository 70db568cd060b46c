"""Face detectors by name: ours, and those that installed packages bring (docs/detectors.md)."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from fan_fer.base.errors import DetectorError, FanFerError, fault_line
from fan_fer.faces.face import Detector

if TYPE_CHECKING:
    import torch

GROUP = "fan_fer.detectors"  # of entry points: a name, and where the function is that makes the detector
OWN = {
    "mtcnn": "fan_fer.faces.mtcnn:make_mtcnn",
    "yunet": "fan_fer.faces.yunet:make_yunet",
    "scrfd": "fan_fer.faces.scrfd:make_scrfd",
    "aligned": "fan_fer.faces.aligned:make_aligned",
}
OF_FILES = ("yunet", "scrfd")


def load_detector(spec: str, device: str | torch.device = "cpu") -> Detector:
    """The detector named ``spec``: "mtcnn", "yunet:FILE" or "scrfd:FILE" with the network's ONNX file, "aligned" (each
    frame is a face), or NAME or NAME:ARGUMENT of one that an installed package brings.

    device: where a network may run. MTCNN runs there; YuNet and SCRFD run on the CPU.

    Raises DetectorError for another name, for a file that is missing or does not hold the network, and for a package
    whose detector cannot be made; LibraryError where SCRFD lacks onnxruntime; FanFerError for a device that is not
    there.
    """
    name, colon, argument = spec.partition(":")
    table = _table()
    misused = (colon and not argument) or (name in OWN and bool(argument) != (name in OF_FILES))
    if name not in table or misused:
        raise DetectorError(f"detector {spec!r} is unknown; wanted: {_wanted(table)}")
    try:
        detector: Detector = table[name].load()(argument, device=str(device))
        if isinstance(detector.name, str) and callable(detector.detect):
            return detector
    except FanFerError:
        raise
    except Exception as error:
        raise DetectorError(
            f"detector {spec}: {table[name].value} fails ({fault_line(error)}); wanted: {_wanted(table)}"
        ) from error
    raise DetectorError(
        f"detector {spec}: {table[name].value} gives no detector, with a name and detect; wanted: {_wanted(table)}"
    )


def _table() -> dict[str, EntryPoint]:
    """Where each detector is; ours keep their names."""
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    return others | {name: EntryPoint(name, value, GROUP) for name, value in OWN.items()}


def _wanted(table: dict[str, EntryPoint]) -> str:
    own = [f"{name}:FILE (an .onnx file)" if name in OF_FILES else name for name in OWN]
    return ", ".join([*own, *sorted(table.keys() - OWN.keys())])
