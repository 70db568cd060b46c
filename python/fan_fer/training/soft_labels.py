"""Labels that are shares of the classes, such as the votes of several people."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fan_fer.base.csv_files import read_table
from fan_fer.base.errors import DataError
from fan_fer.base.names import name_key
from fan_fer.datasets.cross import CrossSet
from fan_fer.datasets.prepared import PreparedSet


def read_soft_labels(path: Path, prepared: PreparedSet) -> tuple[Tensor, int]:
    """(n, C) float32, the shares of the classes for each clip of the set, sum 1; and of how many the file tells them.

    path: a CSV with the column ``clip`` and one for each class, numbers from 0 on, such as votes: they are divided by
        their sum. Clips of the set that it does not name keep their label; those of others are passed over. Of two
        sets, one to train on and one to test on, it names clips of the first.
    Raises DataError for another file.
    """
    wanted = f"clip,{','.join(prepared.classes)} is wanted"
    keys = [name_key(name) for name in prepared.classes]
    table = read_table(path, ("clip", *keys), wanted)
    named = prepared.parts[0] if isinstance(prepared, CrossSet) else prepared  # of two sets, the first to come
    places = {clip.name: place for place, clip in enumerate(named.clips)}
    labels = torch.tensor([prepared.classes.index(clip.label) for clip in prepared.clips])
    shares = F.one_hot(labels, len(prepared.classes)).float()
    told: set[str] = set()
    for line, row in table.rows:
        try:
            votes = torch.tensor([float(row[key] or 0) for key in keys], dtype=torch.float64)
        except ValueError:
            raise DataError(f"{path}: line {line} has a cell that is no number; {wanted}") from None
        if not votes.isfinite().all() or votes.min() < 0 or votes.sum() <= 0:
            raise DataError(f"{path}: line {line}: numbers from 0 on, one of them above, are wanted")
        if row["clip"] in places:
            shares[places[row["clip"]]] = (votes / votes.sum()).float()
            told.add(row["clip"])
    if not told:
        raise DataError(f"{path}: names no clip of {named.folder}; clips as in its clips.csv are wanted")
    return shares, len(told)
