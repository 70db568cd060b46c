"""From the labels of a data set to the classes of a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fan_fer.base.errors import DataError
from fan_fer.base.files import read_file

NOTHING = ("", "-")  # a label mapped to one of these is left out

LabelMap = Mapping[str, "str | None"]  # None: left out


def parse_label_map(text: str) -> LabelMap:
    """A map from "joy=Happy,other=-", or from a JSON file {"joy": "Happy", "other": null}. Raises DataError."""
    if "=" in text and not text.endswith(".json"):
        pairs = [pair.split("=", 1) if "=" in pair else [pair] for pair in text.split(",")]
        wrong = [pair[0] for pair in pairs if len(pair) != 2 or not pair[0].strip()]
        if wrong:
            raise DataError(f"label map: {wrong[0]!r} is no pair; LABEL=CLASS,LABEL=CLASS is wanted")
        names = [name.strip() for name, _ in pairs]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DataError(f"label map: {twice[0]!r} is mapped twice")
        return {name: _target(value.strip()) for name, (_, value) in zip(names, pairs, strict=True)}
    wanted = 'LABEL=CLASS,LABEL=CLASS or a JSON file {"LABEL": "CLASS"} is wanted'
    path = Path(text)
    try:
        values = json.loads(read_file(path).decode())
    except OSError as error:
        raise DataError(f"label map {text!r}: cannot be read ({error.strerror}); {wanted}") from None
    except ValueError as error:
        raise DataError(f"label map {text}: not JSON ({error}); {wanted}") from None
    if not isinstance(values, dict) or not all(value is None or isinstance(value, str) for value in values.values()):
        raise DataError(f"label map {text}: not an object of texts; {wanted}")
    return {name: None if value is None else _target(value) for name, value in values.items()}


def match_labels(
    labels: Iterable[str], classes: Sequence[str], label_map: LabelMap | None = None
) -> dict[str, int | None]:
    """The class index of every label, None where it is mapped to nothing.

    A label is looked up in the map, then among the classes; case does not matter. Raises DataError that names the
    labels and the classes where some do not fit.
    """
    known = {name.casefold(): index for index, name in enumerate(classes)}
    mapped = {name.casefold(): target for name, target in (label_map or {}).items()}
    foreign = sorted({target for target in mapped.values() if target is not None and target.casefold() not in known})
    if foreign:
        raise DataError(f"label map: {_list(foreign)}: no class of the model; it has {', '.join(classes)}")
    found: dict[str, int | None] = {}
    unknown = []
    for label in dict.fromkeys(labels):
        target = mapped.get(label.casefold(), label)
        if target is None:
            found[label] = None
        elif target.casefold() in known:
            found[label] = known[target.casefold()]
        else:
            unknown.append(label)
    if unknown:
        raise DataError(
            f"the model has no class {_list(unknown)}; it has {', '.join(classes)}. --label-map says which class a "
            f'label is, or leaves it out: "{unknown[0]}={classes[0]}" or "{unknown[0]}=-"'
        )
    return found


def _target(value: str) -> str | None:
    return None if value in NOTHING else value


def _list(names: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f'"{name}"' for name in names[:shown]) + more
