"""Convolutions of small feature maps as one matrix product: on CPUs with bf16 matrix units several times as fast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MatrixConv2d(nn.Conv2d):
    """``nn.Conv2d`` with a square kernel and neither groups, dilation nor bias: same parameters, same result.

    Gathers the patches of all places and multiplies them with the kernels. Worth it where maps are small and
    channels many, as in the last stage of a backbone: there the library's backward pass runs far below the
    processor's speed.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W'), channels last in memory."""
        size, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        rows, columns = ((length + 2 * padding - size) // stride + 1 for length in inputs.shape[2:])
        padded = F.pad(inputs.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        patches = torch.cat([
            padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
            for i in range(size) for j in range(size)
        ], dim=-1)  # fmt: skip
        kernels = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches, kernels).permute(0, 3, 1, 2)


def use_matrix_products(module: nn.Module) -> None:
    """Makes every 3 x 3 convolution inside ``module`` a ``MatrixConv2d`` with the same parameters."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d and child.kernel_size == (3, 3):
            matrix = MatrixConv2d(
                child.in_channels, child.out_channels, 3, child.stride[0], int(child.padding[0]), bias=False
            )
            matrix.weight = child.weight
            setattr(module, name, matrix)
        else:
            use_matrix_products(child)
