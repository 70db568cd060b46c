"""From the labels of a data set to the classes of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fan_fer.base.errors import DataError
from fan_fer.base.files import is_file, read_file
from fan_fer.base.names import name_key, quoted, tidy
from fan_fer.base.texts import parse_json

NOTHING = ("", "-")  # a label mapped to one of these is left out

LabelMap = Mapping[str, "str | None"]  # None: left out


def parse_label_map(text: str) -> LabelMap:
    """A map from "joy=Happy,other=-", or from a JSON file {"joy": "Happy", "other": null}. Raises DataError."""
    wanted = 'LABEL=CLASS,LABEL=CLASS or a JSON file {"LABEL": "CLASS"} is wanted'
    if "=" in text and not text.lower().endswith(".json") and not is_file(text):
        pairs = [(name, sign, value) for name, sign, value in (pair.partition("=") for pair in text.split(","))]
        wrong = [name for name, sign, _ in pairs if not sign]
        if wrong:
            raise DataError(f"label map: {wrong[0]!r} is no pair; {wanted}")
        return _checked("label map", [(name, value) for name, _, value in pairs])
    where = f"label map {text!r}"
    try:
        values = parse_json(read_file(text))
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror}); {wanted}") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON of this kind ({error}); {wanted}") from None
    if not isinstance(values, dict) or not values:
        raise DataError(f"{where}: not an object of texts; {wanted}")
    return _checked(where, list(values.items()))


def match_labels(
    labels: Iterable[str], classes: Sequence[str], label_map: LabelMap | None = None
) -> dict[str, int | None]:
    """The class index of every label, None where it is mapped to nothing.

    A label is looked up in the map, then among the classes, whatever its spelling. Raises DataError that names the
    labels and the classes where some do not fit.
    """
    known: dict[str, int] = {}
    for index, name in enumerate(classes):
        if known.setdefault(name_key(name), index) != index:
            same = quoted([classes[known[name_key(name)]], name], " and ")
            raise DataError(f"the model's classes {same} are spellings of one; no label can tell which it is")
    mapped = {name_key(name): target for name, target in _checked("label map", list((label_map or {}).items())).items()}
    foreign = sorted({target for target in mapped.values() if target is not None and name_key(target) not in known})
    if foreign:
        raise DataError(f"label map: {quoted(foreign)}: no class of the model; it has {', '.join(classes)}")
    found: dict[str, int | None] = {}
    unknown = []
    for label in dict.fromkeys(labels):
        target = mapped.get(name_key(label), label)
        if target is None:
            found[label] = None
        elif name_key(target) in known:
            found[label] = known[name_key(target)]
        else:
            unknown.append(label)
    if unknown:
        first = tidy(unknown[0])
        raise DataError(
            f"the model has no class {quoted(unknown)}; it has {', '.join(classes)}. --label-map says which class a "
            f'label is, or leaves it out: "{first}={classes[0]}" or "{first}=-"'
        )
    return found


def _checked(where: str, pairs: Sequence[tuple[Any, Any]]) -> LabelMap:
    """The map of these pairs. Raises DataError for what is no label or class, and for a label that is mapped twice."""
    label_map: dict[str, str | None] = {}
    spellings: dict[str, str] = {}
    for label, target in pairs:
        if not isinstance(label, str) or not name_key(label):
            raise DataError(f"{where}: {label!r} is no label")
        if target is not None and not isinstance(target, str):
            raise DataError(
                f"{where}: {quoted([label])} is mapped to {target!r}; the name of a class, or null, is wanted"
            )
        first = spellings.get(name_key(label))
        if first is not None:
            same = f"{quoted([label])} is" if first == label else f"{quoted([first, label], ' and ')} are one label,"
            raise DataError(f"{where}: {same} mapped twice")
        spellings[name_key(label)] = label
        target = None if target is None or tidy(target) in NOTHING else tidy(target)
        label_map[tidy(label)] = target
    return label_map
