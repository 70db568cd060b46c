"""The residual network of dlib's face recognition (Davis King, CC0): 29 convolutions, half a ResNet18, 256 features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fan_fer.features.resnet import draw_convolutions

# Channels in, channels out and stride of every block.
BLOCKS = (
    (32, 32, 1), (32, 32, 1), (32, 32, 1),
    (32, 64, 2), (64, 64, 1), (64, 64, 1), (64, 64, 1),
    (64, 128, 2), (128, 128, 1), (128, 128, 1),
    (128, 256, 2), (256, 256, 1), (256, 256, 1), (256, 256, 2),
)  # fmt: skip


class PooledBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters: average pooling, and channels of zeros.

    (B, inputs, H, W) to (B, outputs, H // stride, W // stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.added = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1 if stride == 1 else 0, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            shortcut = padded = x
        else:
            # A row and a column more where their number is even: as many come out of the convolution as of the pooling.
            padded = F.pad(x, (0, 1 - x.shape[3] % 2, 0, 1 - x.shape[2] % 2))
            shortcut = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, self.added))
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(padded)))))
        result: Tensor = self.relu(y + shortcut)
        return result


class Face29(nn.Module):
    """(B, 3, H, W), at least 71 x 71, to (B, num_classes); replace ``fc`` by ``nn.Identity()`` for the 256 features.

    Batch norms stand where the original has constants, as it had while it was trained, and what the original adds
    of zeros behind its halving convolutions is added before them, so that smaller faces than its 150 x 150 pass.
    """

    feature_size = 256
    smallest = 71  # side of a face in pixels: the last block still halves something

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2)
        self.blocks = nn.Sequential(*(PooledBlock(*block) for block in BLOCKS))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(self.feature_size, num_classes)
        draw_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.maxpool(self.bn1(self.conv1(x))))
        result: Tensor = self.fc(self.avgpool(self.blocks(x)).flatten(1))
        return result
