"""Random changes to batches of grey faces, so that a network trained on FER2013 also reads faces cut from video.

Faces are float tensors (B, 1, H, W) in [0, 1]. Every random number comes from the generator passed in, which is of the
faces' device; what :func:`augment` does there, the processor does not wait for.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

# For JPEG's luminance at quality 50, row by row (ITU-T T.81, table K.1).
QUANTISATION = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
QUALITIES = 5, 50  # of JPEG
SMALL = 0.22, 0.67  # side of a small face, as a share of the large one's


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
    return torch.rand(shape, generator=rng, device=rng.device) * (high - low) + low


def _chance(count: int, probability: float, rng: Generator) -> Tensor:
    """True with ``probability`` for each of ``count`` faces, shaped (count, 1, 1, 1)."""
    return torch.rand((count, 1, 1, 1), generator=rng, device=rng.device) < probability


def random_affine(faces: Tensor, size: int, rng: Generator) -> Tensor:
    """Mirror, rotate (15 degrees), scale (0.85 to 1.18), stretch and shift (8 % each), resampled to ``size``."""
    batch = len(faces)
    angle = _uniform((batch,), -15, 15, rng) * (math.pi / 180)
    scale = torch.exp(_uniform((batch,), math.log(0.85), math.log(1.18), rng))
    stretch = _uniform((batch,), 0.92, 1.08, rng)
    mirror = 1 - 2 * (_uniform((batch,), 0, 1, rng) < 0.5).float()
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
    size, count = faces.shape[-1], 3 * (len(faces) // 8)
    if count == 0:
        return faces
    shrink, enlarge = _resampling(size, faces.device)
    low, high = SMALL
    side = size * torch.exp(_uniform((count,), math.log(low), math.log(high), rng))
    small = (side.round().long() - round(size * low)).clamp(0, len(shrink) - 1)
    down, up = shrink[small], enlarge[small]
    chosen = _some(len(faces), count, rng)
    shrunk = (down @ faces[chosen, 0] @ down.mT).unsqueeze(1)
    shrunk = torch.cat([_as_jpeg(shrunk[: count // 2], rng), shrunk[count // 2 :]])
    faces = faces.clone()
    faces[chosen, 0] = up @ shrunk[:, 0] @ up.mT
    return faces


@cache
def _resampling(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Matrices that shrink a row of ``size`` pixels to every smaller size, (K, S, size), and enlarge it, (K, size, S).

    S is the largest of the K sizes, or a little more so that JPEG's blocks fit: smaller rows repeat their last pixel.
    """
    low, high = (round(size * share) for share in SMALL)
    side = high + -high % 8
    shrink, enlarge = [], []
    for small in range(low, high + 1):
        down = torch.eye(size, device=device)[None, None]
        down = F.interpolate(down, size=(small, size), mode="bilinear", antialias=True)
        up = F.interpolate(torch.eye(small, device=device)[None, None], size=(size, small), mode="bilinear")
        shrink.append(F.pad(down, (0, 0, 0, side - small), mode="replicate")[0, 0])
        enlarge.append(F.pad(up, (0, side - small))[0, 0])
    return torch.stack(shrink), torch.stack(enlarge)


def random_sharpness(faces: Tensor, rng: Generator) -> Tensor:
    """Half of the batch is blurred or sharpened: moved towards, or away from, its own blurred copy."""
    batch = len(faces)
    offsets = torch.arange(-3, 4, dtype=torch.float32, device=faces.device)
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

    across = torch.linspace(-1, 1, width, device=faces.device)
    down = torch.linspace(-1, 1, height, device=faces.device)[:, None]
    slope = _uniform((batch, 2, 1, 1), -0.4, 0.4, rng) * _chance(batch, 0.4, rng)
    faces = faces * (1 + slope[:, :1] * across + slope[:, 1:] * down)

    noise = _uniform((batch, 1, 1, 1), 0, 0.05, rng) * _chance(batch, 0.3, rng)
    return (faces + noise * torch.randn(faces.shape, generator=rng, device=rng.device)).clamp(0, 1)


def random_darkness(faces: Tensor, rng: Generator) -> Tensor:
    """One face in eight is seen in little light: dark, of low contrast, noisy."""
    batch = len(faces)
    gamma = _uniform((batch, 1, 1, 1), 1, 2.2, rng)
    dark = faces**gamma * _uniform((batch, 1, 1, 1), 0.2, 0.6, rng)
    dark = (dark + 0.03 * torch.randn(faces.shape, generator=rng, device=rng.device)).clamp(0, 1)
    return torch.where(_chance(batch, 0.125, rng), dark, faces)


def random_jpeg(faces: Tensor, rng: Generator) -> Tensor:
    """An eighth of the batch is stored as JPEG."""
    chosen = _some(len(faces), len(faces) // 8, rng)
    faces = faces.clone()
    faces[chosen] = _as_jpeg(faces[chosen], rng)
    return faces


def _some(count: int, wanted: int, rng: Generator) -> Tensor:
    """Which of ``count`` faces are chosen, (wanted,) numbers."""
    return torch.randperm(count, generator=rng, device=rng.device)[:wanted]


def _as_jpeg(faces: Tensor, rng: Generator) -> Tensor:
    low, high = QUALITIES
    return jpeg(faces, torch.randint(low, high + 1, (len(faces),), generator=rng, device=rng.device))


def jpeg(faces: Tensor, quality: Tensor) -> Tensor:
    """Grey faces as they look after JPEG of these qualities (B,), 1 to 100, in whole grey levels."""
    height, width = faces.shape[2:]
    waves, table = _cosines(faces.device)
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)  # as libjpeg does
    steps = ((scale.view(-1, 1, 1, 1) * table + 50) // 100).clamp(1, 255).float()
    pixels = F.pad(faces, (0, -width % 8, 0, -height % 8), mode="replicate")
    down, across = (length // 8 for length in pixels.shape[2:])
    blocks = (255 * pixels).round_().sub_(128).view(-1, down, 8, across, 8).transpose(2, 3).flatten(3)
    stored = (blocks @ waves.T).div_(steps).round_().mul_(steps)
    blocks = (stored @ waves).view(-1, down, across, 8, 8).transpose(2, 3)
    return blocks.reshape_as(pixels).add_(128).round_().clamp_(0, 255).div_(255)[..., :height, :width]


@cache
def _cosines(device: torch.device) -> tuple[Tensor, Tensor]:
    """The discrete cosine transform of a block's 64 pixels, a matrix, and its numbers' steps (64,) at quality 50."""
    place = torch.arange(8, dtype=torch.float64, device=device)
    rows = torch.cos(math.pi / 8 * place[:, None] * (place + 0.5)) / 2
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows).float(), torch.tensor(QUANTISATION, device=device)


def random_cutout(faces: Tensor, rng: Generator) -> Tensor:
    """Half of the faces get a flat rectangle, a fifth to three fifths of the side, over part of them."""
    batch, _, height, width = faces.shape

    def band(length: int) -> Tensor:
        centre = _uniform((batch, 1), 0, length, rng)
        half = _uniform((batch, 1), 0.1, 0.3, rng) * length
        return (torch.arange(length, device=faces.device) + 0.5 - centre).abs() < half

    rectangle = band(height)[:, None, :, None] & band(width)[:, None, None, :]
    shade = _uniform((batch, 1, 1, 1), 0, 1, rng)
    return torch.where(rectangle & _chance(batch, 0.5, rng), shade, faces)


def degrade(images: Tensor, size: int, rng: Generator) -> Tensor:
    """uint8 faces (B, H, W) to float ones (B, 1, size, size) that hardly show an emotion: blurred or covered."""
    faces = random_affine(images.unsqueeze(1).float() / 255, size, rng)
    batch = len(faces)
    small = int(torch.randint(6, 10, (1,), generator=rng, device=rng.device))
    blurred = F.interpolate(faces, size=(small, small), mode="bilinear", antialias=True)
    blurred = F.interpolate(blurred, size=(size, size), mode="bicubic").clamp(0, 1)

    # A flat band over the lower or upper face, or over one side.
    position = (torch.arange(size, device=faces.device) + 0.5) / size
    edge = _uniform((batch, 1), 0.35, 0.5, rng)
    near, far = position < edge, position > 1 - edge
    side = torch.randint(0, 4, (batch,), generator=rng, device=rng.device)
    rows = torch.where((side == 0)[:, None], near, (side == 1)[:, None] & far)
    columns = torch.where((side == 2)[:, None], near, (side == 3)[:, None] & far)
    cover = rows[:, None, :, None] | columns[:, None, None, :]
    covered = torch.where(cover, _uniform((batch, 1, 1, 1), 0, 1, rng), faces)
    return random_light(torch.where(_chance(batch, 0.5, rng), blurred, covered), rng)
