"""How aligned faces become a network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.base.finite import LARGEST


@dataclass(frozen=True)
class Preprocessing:
    """How aligned faces become the network's input. Raises ValueError for values with which they cannot."""

    size: int  # side of the square input, pixels
    grayscale: bool
    mean: tuple[float, float, float]  # of values in [0, 1], per channel
    std: tuple[float, float, float]
    template: tuple[tuple[float, float], ...]  # where alignment puts the five landmarks

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"size: got {self.size!r}; pixels, a whole number from 1 on, are wanted")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if np.shape(values) != (3,) or not (np.abs(values) <= LARGEST).all():
                raise ValueError(f"{name}: got {values!r}; three finite numbers are wanted")
        if min(self.std) <= 0:
            raise ValueError(f"std: got {self.std!r}; numbers above 0 are wanted")
        if np.shape(self.template) != (5, 2) or not np.isfinite(self.template).all():
            raise ValueError(f"template: got {self.template!r}; five points of finite numbers are wanted")

    def __call__(self, faces: NDArray[np.uint8]) -> Tensor:
        """RGB uint8 faces (N, H, W, 3) to a float tensor (N, 3, size, size)."""
        return self.of_tensor(torch.from_numpy(np.ascontiguousarray(faces)))

    def of_tensor(self, faces: Tensor) -> Tensor:
        """The same for a uint8 tensor (N, H, W, 3); can be exported."""
        images = faces.permute(0, 3, 1, 2).float() / 255
        if self.grayscale:
            luma = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
            images = (images * luma).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std
