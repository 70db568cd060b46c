"""The backbone as it is fastest: the same numbers, in a precision that suits the processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fan_fer.base.errors import FanFerError
from fan_fer.features import inference
from fan_fer.features.backbones import BACKBONES, make_backbone
from fan_fer.features.inference import fastest, find_precision, folded

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> nn.Module:
    """With batch norms that do something."""
    torch.manual_seed(0)
    network, _ = make_backbone(request.param)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 80, 80))
    return network.eval()


def test_no_batch_norm_is_left(backbone: nn.Module) -> None:
    kinds = [type(module) for module in folded(backbone).modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.Conv2d) == [type(module) for module in backbone.modules()].count(nn.Conv2d)


@pytest.mark.parametrize("small", [0, 4, 64])
@pytest.mark.parametrize("size", [(128, 128), (104, 72)])
def test_the_same_numbers_however_the_convolutions_are_taken(
    small: int, size: tuple[int, int], backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "SMALL", small)
    faces = torch.randn(3, 3, *size)
    with torch.inference_mode():
        expected = backbone(faces)
        torch.testing.assert_close(fastest(backbone, "float32", CPU)(faces), expected, atol=1e-4, rtol=1e-4)
        for units in (True, False):
            monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda units=units: units)
            rounded = fastest(backbone, "bfloat16", CPU)(faces.bfloat16()).float()
            assert (rounded - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize(
    ("units", "instructions", "maker", "expected"),
    [
        (True, True, "GenuineIntel", "bfloat16"),
        (False, True, "AuthenticAMD", "bfloat16"),
        (False, True, "GenuineIntel", "float32"),
        (False, False, "AuthenticAMD", "float32"),
        (False, False, "", "float32"),
    ],
)
def test_the_precision_is_what_the_processor_is_faster_with(
    units: bool, instructions: bool, maker: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: f"vendor_id : {maker}\n")
    assert find_precision("auto", CPU) == expected
    assert [find_precision(name, CPU) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize("number", [7, 8, 9])
def test_a_gpu_takes_bfloat16_from_ampere_on(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (number, 5))
    assert find_precision("auto", GPU) == ("bfloat16" if number >= 8 else "float32")
    assert find_precision("float16", GPU) == "float16"
    if number >= 8:
        assert find_precision("bfloat16", GPU) == "bfloat16"
    else:
        with pytest.raises(
            FanFerError, match=r'^precision "bfloat16": this GPU does not have it; float32 or float16 is'
        ):
            find_precision("bfloat16", GPU)


def test_precisions_that_there_are_not() -> None:
    assert find_precision("auto", torch.device("mps")) == "float32"
    with pytest.raises(
        FanFerError, match=r'^precision "float16": is for GPUs; float32 or bfloat16 is wanted on the CPU$'
    ):
        find_precision("float16", CPU)
    with pytest.raises(
        FanFerError, match=r'^precision "": unknown; one of auto, float32, bfloat16, float16 is wanted$'
    ):
        find_precision("", CPU)


def test_the_maker_where_the_system_has_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(inference.platform, "processor", lambda: "Intel64 Family 6 Model 85, GenuineIntel")
    assert find_precision("auto", CPU) == "float32"
