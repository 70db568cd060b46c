"""Our ResNet18 is torchvision's: the same tensors under the same names, the same start, the same features."""

from __future__ import annotations

import torch
from torchvision.models import resnet18

from fan_fer.features.resnet import ResNet18


def test_is_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = resnet18(num_classes=7)
    torch.manual_seed(0)
    ours = ResNet18(num_classes=7)
    expected, found = theirs.state_dict(), ours.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for training in (True, False):
        for side in (64, 97):
            frames = torch.rand(2, 3, side, side + 16)
            assert torch.equal(ours.train(training)(frames), theirs.train(training)(frames))
