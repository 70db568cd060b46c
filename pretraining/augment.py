"""Random changes to batches of grey faces, so that a network trained on FER2013 also reads faces cut from video.

Faces are float tensors (B, 1, H, W) in [0, 1]. Every random number comes from the generator passed in.
"""

from __future__ import annotations

import math

import cv2
import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def augment(images: Tensor, size: int, rng: Generator) -> Tensor:
    """uint8 faces (B, H, W) to augmented float faces (B, 1, size, size) in [0, 1]."""
    faces = images.unsqueeze(1).float() / 255
    faces = random_affine(faces, size, rng)
    faces = random_resolution(faces, rng)
    faces = random_sharpness(faces, rng)
    faces = random_light(faces, rng)
    faces = random_darkness(faces, rng)
    faces = random_cutout(faces, rng)
    return random_jpeg(faces, rng)


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: Generator) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low


def _chance(count: int, probability: float, rng: Generator) -> Tensor:
    """True with ``probability`` for each of ``count`` faces, shaped (count, 1, 1, 1)."""
    return torch.rand((count, 1, 1, 1), generator=rng) < probability


def random_affine(faces: Tensor, size: int, rng: Generator) -> Tensor:
    """Mirror, rotate (15 degrees), scale (0.85 to 1.18), stretch and shift (8 % each), resampled to ``size``."""
    batch = len(faces)
    angle = _uniform((batch,), -15, 15, rng) * (math.pi / 180)
    scale = torch.exp(_uniform((batch,), math.log(0.85), math.log(1.18), rng))
    stretch = _uniform((batch,), 0.92, 1.08, rng)
    mirror = torch.where(torch.rand(batch, generator=rng) < 0.5, -1.0, 1.0)
    shift = _uniform((batch, 2), -0.16, 0.16, rng)  # the square spans -1 to 1
    cos, sin = angle.cos() / scale, angle.sin() / scale
    matrix = torch.stack([
        torch.stack([mirror * stretch * cos, -sin, shift[:, 0]], dim=-1),
        torch.stack([mirror * stretch * sin, cos, shift[:, 1]], dim=-1),
    ], dim=1)  # fmt: skip
    grid = F.affine_grid(matrix, [batch, 1, size, size], align_corners=False)
    return F.grid_sample(faces, grid, padding_mode="border", align_corners=False)


def random_resolution(faces: Tensor, rng: Generator) -> Tensor:
    """Three eighths of the batch pass through a smaller size, as small faces in a video do; half of them as JPEG."""
    size, count = faces.shape[-1], len(faces) // 8
    if count == 0:
        return faces
    faces = faces.clone()
    for chosen in torch.randperm(len(faces), generator=rng)[: 3 * count].split(count):
        small = round(size * math.exp(float(_uniform((), math.log(0.22), math.log(0.67), rng))))
        shrunk = F.interpolate(faces[chosen], size=(small, small), mode="bilinear", antialias=True)
        for number in range(count // 2):
            shrunk[number, 0] = _as_jpeg(shrunk[number, 0], rng)
        faces[chosen] = F.interpolate(shrunk, size=(size, size), mode="bilinear")
    return faces


def random_sharpness(faces: Tensor, rng: Generator) -> Tensor:
    """Half of the batch is blurred or sharpened: moved towards, or away from, its own blurred copy."""
    batch = len(faces)
    offsets = torch.arange(-3, 4, dtype=torch.float32)
    sigma = _uniform((batch, 1), 0.6, 1.6, rng)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    planes = F.pad(faces, (3, 3, 3, 3), mode="replicate").transpose(0, 1)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=batch)
    blurred = F.conv2d(planes, kernel[:, None, :, None], groups=batch).transpose(0, 1)
    amount = _uniform((batch, 1, 1, 1), -1, 1.2, rng) * _chance(batch, 0.5, rng)
    return (faces + amount * (faces - blurred)).clamp(0, 1)


def random_light(faces: Tensor, rng: Generator) -> Tensor:
    """Gamma, contrast, brightness, light from one side, and sensor noise."""
    batch, _, height, width = faces.shape
    gamma = torch.exp(_uniform((batch, 1, 1, 1), -0.35, 0.35, rng))
    faces = faces.clamp(1e-3, 1) ** gamma
    mean = faces.mean(dim=(1, 2, 3), keepdim=True)
    contrast = torch.exp(_uniform((batch, 1, 1, 1), -0.5, 0.3, rng))
    faces = (faces - mean) * contrast + mean + _uniform((batch, 1, 1, 1), -0.12, 0.12, rng)

    across = torch.linspace(-1, 1, width).view(1, 1, 1, width)
    down = torch.linspace(-1, 1, height).view(1, 1, height, 1)
    slope = _uniform((batch, 2, 1, 1), -0.4, 0.4, rng) * _chance(batch, 0.4, rng)
    faces = faces * (1 + slope[:, :1] * across + slope[:, 1:] * down)

    noise = _uniform((batch, 1, 1, 1), 0, 0.05, rng) * _chance(batch, 0.3, rng)
    return (faces + noise * torch.randn(faces.shape, generator=rng)).clamp(0, 1)


def random_darkness(faces: Tensor, rng: Generator) -> Tensor:
    """One face in eight is seen in little light: dark, of low contrast, noisy."""
    batch = len(faces)
    gamma = _uniform((batch, 1, 1, 1), 1, 2.2, rng)
    dark = faces**gamma * _uniform((batch, 1, 1, 1), 0.2, 0.6, rng)
    dark = (dark + 0.03 * torch.randn(faces.shape, generator=rng)).clamp(0, 1)
    return torch.where(_chance(batch, 0.125, rng), dark, faces)


def random_jpeg(faces: Tensor, rng: Generator) -> Tensor:
    """An eighth of the batch is stored as JPEG."""
    chosen = torch.randperm(len(faces), generator=rng)[: len(faces) // 8]
    faces = faces.clone()
    for number in chosen.tolist():
        faces[number, 0] = _as_jpeg(faces[number, 0], rng)
    return faces


def _as_jpeg(face: Tensor, rng: Generator) -> Tensor:
    """A face (H, W) as it looks after JPEG of quality 5 to 50."""
    pixels = (face * 255).round().to(torch.uint8).numpy()
    quality = int(torch.randint(5, 51, (), generator=rng))
    _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return torch.from_numpy(decoded).float() / 255


def random_cutout(faces: Tensor, rng: Generator) -> Tensor:
    """Half of the faces get a flat rectangle, a fifth to three fifths of the side, over part of them."""
    batch, _, height, width = faces.shape

    def band(length: int) -> Tensor:
        centre = _uniform((batch, 1), 0, length, rng)
        half = _uniform((batch, 1), 0.1, 0.3, rng) * length
        return (torch.arange(length) + 0.5 - centre).abs() < half

    rectangle = band(height)[:, None, :, None] & band(width)[:, None, None, :]
    shade = torch.rand((batch, 1, 1, 1), generator=rng)
    return torch.where(rectangle & _chance(batch, 0.5, rng), shade, faces)


def degrade(images: Tensor, size: int, rng: Generator) -> Tensor:
    """uint8 faces (B, H, W) to float ones (B, 1, size, size) that hardly show an emotion: blurred or covered."""
    faces = random_affine(images.unsqueeze(1).float() / 255, size, rng)
    batch = len(faces)
    small = int(torch.randint(6, 10, (1,), generator=rng))
    blurred = F.interpolate(faces, size=(small, small), mode="bilinear", antialias=True)
    blurred = F.interpolate(blurred, size=(size, size), mode="bicubic").clamp(0, 1)

    # A flat band over the lower or upper face, or over one side.
    position = (torch.arange(size) + 0.5) / size
    edge = _uniform((batch, 1), 0.35, 0.5, rng)
    near, far = position < edge, position > 1 - edge
    side = torch.randint(0, 4, (batch,), generator=rng)
    rows = torch.where((side == 0)[:, None], near, (side == 1)[:, None] & far)
    columns = torch.where((side == 2)[:, None], near, (side == 3)[:, None] & far)
    cover = rows[:, None, :, None] | columns[:, None, None, :]
    covered = torch.where(cover, torch.rand((batch, 1, 1, 1), generator=rng), faces)
    return random_light(torch.where(_chance(batch, 0.5, rng), blurred, covered), rng)
