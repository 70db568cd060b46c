"""Recipes: the hyper-parameters of a training run, as TOML files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from fan_fer.attention.checkpoints import AUTO
from fan_fer.attention.poolings.registry import variant_names
from fan_fer.base.errors import TrainingError, first_line
from fan_fer.base.files import is_file, read_file
from fan_fer.base.finite import is_number
from fan_fer.base.texts import decode_text
from fan_fer.datasets.layouts import LAYOUTS
from fan_fer.features.backbones import BACKBONES, is_backbone

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

_FOLDER = Path(__file__).parent / "recipes"
RECIPES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@dataclass(frozen=True)
class TrainingSettings:
    """What one run is trained with; the names of the fields are the keys of a recipe."""

    epochs: int
    lr: float  # highest
    batch_size: int = 48  # clips in a step, of all processes together; single frames for score fusion
    frames: int = 3  # per clip in training, one at random from each of as many equal parts; 0: all of them
    mirror: bool = False  # half of the clips are mirrored in training
    optimizer: str = "sgd"  # or "adamw"
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "step", "cosine"
    step: int = 30  # epochs until the learning rate falls, for "step"
    gamma: float = 0.2  # to which part of itself, for "step"
    warmup: int = 0  # epochs in which the learning rate rises to its highest
    attention_lr: float = 1.0  # the attention learns at this multiple of the learning rate
    backbone_lr: float = 1.0  # the backbone, likewise
    score_dropout: float = 0.0  # on what the attention layers see
    dropout: float = 0.0  # before the classifier
    label_smoothing: float = 0.0
    class_weights: str = "none"  # or "balanced": the loss of a clip counts the more the rarer its class is
    soft_labels: str = ""  # a CSV clip,CLASS,... beside the recipe: shares of the classes, in place of labels
    sampling: str = "all"  # what an epoch goes through: all clips once, or "balanced": each class equally often
    clip_gradient: float = 0.0  # largest norm of the gradient; 0: any
    precision: str = "32-true"  # of the backbone: or "bf16-mixed", "16-mixed" (GPU)
    backbone: str = AUTO  # its name; "auto": that of the weights that the run starts with, resnet18 without any
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False  # batch norm keeps its running statistics, for small batches
    size: int = 224  # of the input, for a network that does not bring its own, as are the next three
    grayscale: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "step", "cosine"),
    "class_weights": ("none", "balanced"),
    "sampling": ("all", "balanced"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "backbone": (AUTO, *BACKBONES, "timm:NAME"),
}
_AT_LEAST_ONE = ("epochs", "batch_size", "step", "size")
_BELOW_ONE = ("score_dropout", "dropout", "label_smoothing")
_POSITIVE = ("lr", "gamma")
MOST = 1_000_000  # of whole numbers


@dataclass(frozen=True)
class Recipe:
    """A recipe as it stands in its file; ``settings`` picks what holds for a layout and a variant.

    Raises TrainingError for a table or key that is unknown, and for a value that cannot be, whichever run they are for.
    """

    name: str
    source: str  # the file, for messages
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._check_table(self.values, {"layout": tuple(LAYOUTS), "variant": variant_names()})

    def settings(self, layout: str, variant: str) -> TrainingSettings:
        """The more specific table wins: layout over general, variant over layout, both together over all.

        Raises TrainingError for a key that is missing.
        """
        by_layout = _table(self.values, "layout", layout)
        merged: dict[str, Any] = {}
        for table in (
            self.values,
            by_layout,
            _table(self.values, "variant", variant),
            _table(by_layout, "variant", variant),
        ):
            merged |= {key: value for key, value in table.items() if key not in ("layout", "variant")}
        checked = {key: self._check(key, value) for key, value in merged.items()}
        missing = [name for name in ("epochs", "lr") if name not in checked]
        if missing:
            raise TrainingError(f"{self.source}: without {' and '.join(missing)}; every recipe needs them")
        if checked.get("soft_labels"):
            checked["soft_labels"] = str(Path(self.source).parent / checked["soft_labels"])
        return TrainingSettings(**checked)

    def _check_table(self, table: Mapping[str, Any], below: Mapping[str, tuple[str, ...]]) -> None:
        """below: the kinds of tables that may be in this one, each with the names that there are."""
        for key, value in table.items():
            if key not in below:
                self._check(key, value)
                continue
            named = value if isinstance(value, dict) else {"": value}
            for name, inner in named.items():
                if name not in below[key] or not isinstance(inner, dict):
                    found = f"[{key}.{name}]" if name and isinstance(inner, dict) else f"{key} {name}".strip()
                    raise TrainingError(
                        f"{self.source}: {found} is no table that is known; "
                        f"{', '.join(f'[{key}.{name}]' for name in below[key])} are"
                    )
                self._check_table(inner, {"variant": below["variant"]} if key == "layout" else {})

    def _check(self, key: str, value: Any) -> Any:
        known = {field.name: field for field in fields(TrainingSettings)}
        if key not in known:
            raise TrainingError(f"{self.source}: key {key!r} is unknown; known are {', '.join(known)}")
        kind = known[key].type

        def refuse(wanted: str) -> TrainingError:
            return TrainingError(f"{self.source}: {key} is {value!r}; {wanted} is wanted")

        if kind.startswith("tuple"):
            if not (isinstance(value, (list, tuple)) and len(value) == 3 and all(map(is_number, value))):
                raise refuse("a list of three numbers")
            if key == "std" and min(value) <= 0:
                raise refuse("a list of three numbers above 0")
            return tuple(float(v) for v in value)
        if key == "soft_labels":
            if not isinstance(value, str):
                raise refuse("the name of a file")
            return value
        if kind == "str":
            named = key == "backbone" and isinstance(value, str) and is_backbone(value)
            if not named and value not in _CHOICES[key]:
                raise refuse(" or ".join(f'"{choice}"' for choice in _CHOICES[key]))
            return value
        if kind == "bool":
            if not isinstance(value, bool):
                raise refuse("true or false")
            return value
        if not is_number(value) or (kind == "int" and not isinstance(value, int)):
            raise refuse("a whole number" if kind == "int" else "a number")
        if kind == "int" and value > MOST:
            raise refuse(f"at most {MOST}")
        if key == "gamma" and value > 1:
            raise refuse("at most 1")
        if key in _AT_LEAST_ONE and value < 1:
            raise refuse("1 or more")
        if key in _POSITIVE and value <= 0:
            raise refuse("a number above 0")
        if value < 0 or (key in _BELOW_ONE and value >= 1):
            raise refuse("a number from 0 up to, not including, 1" if key in _BELOW_ONE else "0 or more")
        return float(value) if kind == "float" else value


def load_recipe(name: str) -> Recipe:
    """The recipe of that name in the package ("paper", "fast"), or in the file of that name.

    Raises TrainingError for another name, and for a file that is no TOML, in UTF-8 or UTF-16.
    """
    path = _FOLDER / f"{name}.toml" if name in RECIPES else Path(name)
    if not is_file(path):
        raise TrainingError(f"recipe {name!r}: no such file, and none of the recipes {', '.join(RECIPES)}")
    try:
        values = tomllib.loads(decode_text(read_file(path)))
    except OSError as error:
        raise TrainingError(f"recipe {name}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"recipe {name}: not a TOML file ({first_line(error)})") from None
    return Recipe(path.stem, str(name), values)


def _table(values: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", values.get(kind, {}).get(name, {}))
