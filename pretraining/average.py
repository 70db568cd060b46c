r"""The mean of the weights of two networks, one of which went on from the other (Wortsman et al., CVPR 2022).

    python -m pretraining.average runs/first/backbone.safetensors runs/second/backbone.safetensors \
        --share 0.7 --out runs/mean/backbone.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fan_fer.base.errors import FanFerError, first_line
from fan_fer.base.files import atomic_write
from fan_fer.base.terminal import run_main
from pretraining.backbone import read_backbone


def average(first: Path, second: Path, share: float) -> dict[str, Tensor]:
    """The tensors of ``first``, moved by ``share`` of the way to those of ``second``; both were written by
    :mod:`pretraining.backbone`. Counters are the second's."""
    if not 0 <= share <= 1:
        raise FanFerError(f"--share {share:g}: wanted a share of the second network, 0 to 1")
    (name, ours), (other, theirs) = read_backbone(first), read_backbone(second)
    if name != other:
        raise FanFerError(f"{first}: a {name}, and {second}: a {other}; two networks of one kind are wanted")
    return {
        key: torch.lerp(tensor, theirs[key], share) if tensor.is_floating_point() else theirs[key]
        for key, tensor in ours.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.average", description=first_line(__doc__))
    parser.add_argument("first", type=Path, help="backbone.safetensors")
    parser.add_argument("second", type=Path, help="another one, whose training began with the first")
    parser.add_argument("--share", type=float, default=0.5, help="of the second network; default 0.5")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    tensors = average(arguments.first, arguments.second, arguments.share)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.out) as temporary:
        save_file(tensors, temporary)


if __name__ == "__main__":
    run_main(main)
