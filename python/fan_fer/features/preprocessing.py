"""How aligned faces become a network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How aligned faces become the network's input."""

    size: int  # side of the square input, pixels
    grayscale: bool
    mean: tuple[float, float, float]  # of values in [0, 1], per channel
    std: tuple[float, float, float]
    template: tuple[tuple[float, float], ...]  # where alignment puts the five landmarks

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
