"""The changes to faces: JPEG and small sizes are what libraries make of them, and all happens on the faces' device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pretraining import augment as module
from pretraining.augment import augment, degrade, jpeg, random_resolution

QUALITIES = (1, 5, 20, 49, 50, 75, 95)


def smooth(count: int, *size: int) -> Tensor:
    """Faces in [0, 1] with shapes, edges and some noise."""
    rng = torch.Generator().manual_seed(count)
    faces = F.interpolate(torch.rand((count, 1, 6, 6), generator=rng), size=size, mode="bicubic")
    faces[..., size[0] // 3 :, : size[1] // 2] += 0.2
    return (faces + 0.02 * torch.randn(faces.shape, generator=rng)).clamp(0, 1)


@pytest.mark.parametrize("size", [(48, 48), (104, 104), (57, 83), (9, 13)])
def test_jpeg_is_that_of_libjpeg(size: tuple[int, int]) -> None:
    """Within a grey level on average, and a fifth of what JPEG changes: what lies half way is rounded otherwise."""
    faces = smooth(len(QUALITIES), *size)
    decoded = []
    for face, quality in zip(faces, QUALITIES, strict=True):
        pixels = (255 * face[0]).round().byte().numpy()
        _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded.append(torch.from_numpy(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)))
    wanted = torch.stack(decoded).unsqueeze(1)
    found = 255 * jpeg(faces, torch.tensor(QUALITIES))
    torch.testing.assert_close(found, found.round(), atol=1e-3, rtol=0)
    error = (found - wanted).abs().mean(dim=(1, 2, 3))
    changed = (255 * faces - wanted).abs().mean(dim=(1, 2, 3))
    assert error.max() < 1
    assert (error < 0.2 * changed + 0.1).all()


@pytest.mark.parametrize("size", [64, 104])
def test_rows_shrink_and_grow_as_pictures_do(size: int) -> None:
    shrink, enlarge = module._resampling(size, torch.device("cpu"))
    faces = smooth(3, size, size)
    sides = range(round(0.22 * size), round(0.67 * size) + 1)
    assert len(shrink) == len(enlarge) == len(sides)
    assert shrink.shape[1] % 8 == 0
    for side, down, up in zip(sides, shrink, enlarge, strict=True):
        small = F.interpolate(faces, size=(side, side), mode="bilinear", antialias=True)
        found = down @ faces @ down.T
        torch.testing.assert_close(found[..., :side, :side], small)
        assert found[..., side:, :].equal(found[..., side - 1 : side, :].expand_as(found[..., side:, :]))
        torch.testing.assert_close(up @ found @ up.T, F.interpolate(small, size=(size, size), mode="bilinear"))


def test_small_faces_are_of_every_size() -> None:
    """How much of a fine pattern is left tells the size."""
    stripes = (torch.arange(96) // 2 % 2).float().expand(64, 1, 96, 96)
    rng = torch.Generator().manual_seed(0)
    left = torch.cat([random_resolution(stripes, rng).std(dim=(1, 2, 3)) for _ in range(4)])
    untouched = left > 0.499
    assert untouched.sum() == 4 * 40
    assert len(left[~untouched].mul(1000).round().unique()) > 20


@pytest.mark.parametrize("count", range(1, 9))
def test_few_faces_will_do(count: int) -> None:
    faces = augment(torch.full((count, 48, 48), 100, dtype=torch.uint8), 64, torch.Generator().manual_seed(0))
    assert faces.shape == (count, 1, 64, 64)
    assert faces.isfinite().all()


@pytest.fixture
def nothing_remembered() -> Iterator[None]:
    for function in (module._resampling, module._cosines):
        function.cache_clear()
    yield
    for function in (module._resampling, module._cosines):
        function.cache_clear()


@pytest.mark.usefixtures("nothing_remembered")
@pytest.mark.parametrize("change", [augment, degrade])
def test_everything_lies_where_the_faces_lie(change: type[augment]) -> None:
    """What names no device comes to lie on "meta" here, and does not go together with faces on a CPU."""
    images = torch.randint(0, 256, (16, 48, 48), dtype=torch.uint8)
    with torch.device("meta"):
        found = change(images, 64, torch.Generator("cpu").manual_seed(1))
    assert found.equal(change(images, 64, torch.Generator().manual_seed(1)))


class NoNumberRead(TorchDispatchMode):
    """On a GPU the processor would wait for it."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        assert function.name() not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"), function
        if function.name().startswith("aten::index"):
            assert all(index is None or index.dtype != torch.bool for index in arguments[1]), "a mask has to be counted"
        return function(*arguments, **(named or {}))


def test_no_number_is_read() -> None:
    images = torch.randint(0, 256, (16, 48, 48), dtype=torch.uint8)
    rng = torch.Generator().manual_seed(1)
    with NoNumberRead():
        augment(images, 64, rng)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            float(images[0, 0, 0])
        with pytest.raises(AssertionError, match="mask"):
            images[images > 0]
