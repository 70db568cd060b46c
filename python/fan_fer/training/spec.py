"""What a training run is asked for, and the part of a prepared set that it trains and tests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fan_fer.base.errors import TrainingError
from fan_fer.base.files import is_file
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.features.backbones import is_backbone, wanted_backbones
from fan_fer.features.cache import fingerprint
from fan_fer.training.recipe import Recipe, TrainingSettings
from fan_fer.training.validation import PART


@dataclass(frozen=True)
class RunSpec:
    """What a run trains.

    partition: the name of one of the set's partitions, "fold-3" or "val".
    init: where the backbone's weights come from; None: random, or pretrained.
    pretrained: start with the weights that timm publishes of the backbone.
    init_heads: take attention and classifier from there too, where they fit.
    freeze_backbone: compute features once and train attention and classifier on them; also if the recipe says so.
    backbone: its name, in place of the recipe's.
    validation: keep a part of the training clips back and choose an epoch on it.

    Raises TrainingError for a backbone that there is not.
    """

    variant: str
    partition: str
    seed: int
    recipe: Recipe
    init: Path | None = None
    init_heads: bool = False
    freeze_backbone: bool = False
    backbone: str | None = None
    pretrained: bool = False
    validation: bool = False

    def __post_init__(self) -> None:
        if self.backbone is not None and not is_backbone(self.backbone):
            raise TrainingError(f"backbone {self.backbone}: unknown; one of {wanted_backbones()} is wanted")

    def settings(self, prepared: PreparedSet) -> TrainingSettings:
        settings = self.recipe.settings(prepared.layout, self.variant)
        return settings if self.backbone is None else replace(settings, backbone=self.backbone)

    def frozen(self, prepared: PreparedSet) -> bool:
        return self.freeze_backbone or self.settings(prepared).freeze_backbone

    def identity(self, prepared: PreparedSet) -> dict[str, Any]:
        """Everything that the result depends on: two runs are the same if this is. Plain values, for JSON."""
        settings = asdict(self.settings(prepared)) | {"freeze_backbone": self.frozen(prepared)}
        if settings["soft_labels"]:
            settings["soft_labels"] = _digest(Path(settings["soft_labels"]), "soft labels are")
        init = None if self.init is None else _digest(self.init, "weights to start from are")
        return {
            **({"validation": PART} if self.validation else {}),
            "variant": self.variant,
            "partition": self.partition,
            "seed": self.seed,
            "set": prepared.key,
            "init": "pretrained" if self.pretrained else init,
            "init_heads": self.init_heads,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        }


def _digest(path: Path, wanted: str) -> str:
    if not is_file(path):
        raise TrainingError(f"{path}: no such file; {wanted} wanted")
    try:
        return fingerprint(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from None
