"""Generated clips beside the real ones that they stand for: scores, differences, distances (docs/compare.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fan_fer.attention.scoring import Floats
from fan_fer.base.errors import DataError
from fan_fer.base.names import Spellings, name_key
from fan_fer.evaluation.clips import column_key
from fan_fer.evaluation.frechet import SEED, EmoFid, emo_fid
from fan_fer.evaluation.metrics import Interval, subject_interval
from fan_fer.evaluation.over_time import Apart, apart
from fan_fer.evaluation.pairs import GENERATOR, INTENSITY, Pair, Pairing
from fan_fer.evaluation.readings import Reading

SCHEMA_VERSION = 1
EVERYTHING = "all pairs"
EMOTION = "emotion"  # groups by the class that a clip is to show


class Estimate(NamedTuple):
    """A mean, and its 95 % interval: bootstrap over the real clips, None where there is one alone."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Row:
    """A pair with what was read of it.

    apart: the two clips over time; None where one could not be read. unrelated: the real clip and another real one.
    """

    pair: Pair
    real: Reading
    generated: Reading
    apart: Apart | None
    unrelated: Apart | None

    @property
    def read(self) -> bool:
        return not (self.real.error or self.generated.error)

    @property
    def right(self) -> bool:
        """Whether the generated clip is taken for what it is to show; a clip that could not be read is not."""
        return self.pair.truths is not None and self.generated.predicted == self.pair.truths[0]

    @property
    def real_right(self) -> bool:
        return self.pair.truths is not None and self.real.predicted == self.pair.truths[1]

    @property
    def agrees(self) -> bool:
        return self.real.predicted is not None and self.generated.predicted == self.real.predicted


@dataclass(frozen=True)
class Group:
    """The scores of some pairs; None where there is nothing to score.

    A clip that could not be read counts as wrong, and as no agreement.
    ``accuracy``, ``mean_recall``, ``real_accuracy``, ``real_mean_recall`` and the differences, generated minus real,
    are of the pairs with a class; ``agreement``, with the real clip's own reading, of those whose real clip was read;
    ``read_accuracy``, ``read_real_accuracy`` and ``read_agreement`` of those whose clips were both read. Distances are
    means over the latter, those that are ``unrelated`` of the real clips from other real ones. ``longer``: the
    generated clips' length, as a share of the real ones'.
    """

    pairs: int
    real_clips: int
    scored: int
    read: int
    failed_real: int
    failed_generated: int
    accuracy: Estimate | None
    mean_recall: Estimate | None
    real_accuracy: Estimate | None
    real_mean_recall: Estimate | None
    accuracy_difference: Estimate | None
    mean_recall_difference: Estimate | None
    agreement: Estimate | None
    read_accuracy: Estimate | None
    read_real_accuracy: Estimate | None
    read_agreement: Estimate | None
    features: Estimate | None
    probabilities: Estimate | None
    unrelated_features: Estimate | None
    unrelated_probabilities: Estimate | None
    points: int
    compared: int
    longer: Estimate | None
    emo_fid: EmoFid | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Between:
    """What generator ``first`` scores above ``second`` on the real clips that both have."""

    first: str
    second: str
    real_clips: int
    accuracy: Estimate | None
    agreement: Estimate | None
    features: Estimate | None
    probabilities: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Comparison:
    """What ``fan-fer compare`` found; ``groups`` by what they are groups of, then by name."""

    about: Mapping[str, Any]
    classes: tuple[str, ...]
    pairing: Pairing
    rows: tuple[Row, ...]
    overall: Group
    groups: Mapping[str, Mapping[str, Group]]
    between: tuple[Between, ...]
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Mapping[str, Group]]:
        """All pairs under "", then what each column divides them into."""
        return {"": {EVERYTHING: self.overall}, **self.groups}

    @property
    def warnings(self) -> dict[str, list[str]]:
        """What was wrong with clips that were read, by side."""
        return {
            "real": list(dict.fromkeys(line for row in self.rows for line in row.real.warnings)),
            "generated": [line for row in self.rows for line in row.generated.warnings],
        }

    @property
    def failures(self) -> dict[str, dict[str, str]]:
        """By side, then by the name of the clip."""
        real = {row.pair.real.name: row.real.error for row in self.rows if row.real.error}
        made = {row.pair.generated.name: row.generated.error for row in self.rows if row.generated.error}
        return {"real": real, "generated": made}

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, for JSON."""
        failed = [
            {"side": side, "video": name, "error": error}
            for side, errors in self.failures.items()
            for name, error in errors.items()
        ]
        unpaired = [
            {"side": side, "video": name, "reason": reason}
            for side, alone in (("real", self.pairing.real_alone), ("generated", self.pairing.generated_alone))
            for name, reason in alone.items()
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            **self.about,
            "notes": list(self.notes),
            "unpaired": unpaired,
            "failed": failed,
            "warnings": [{"side": side, "warning": line} for side, lines in self.warnings.items() for line in lines],
            "overall": self.overall.to_dict(),
            "groups": {by: {name: group.to_dict() for name, group in own.items()} for by, own in self.groups.items()},
            "between": [one.to_dict() for one in self.between],
        }


def compare(
    about: Mapping[str, Any],
    classes: Sequence[str],
    pairing: Pairing,
    readings: Sequence[tuple[Reading, Reading]],
    by: Sequence[str] = (),
) -> Comparison:
    """Scores the pairs, of which ``readings`` has what was read of the real and of the generated clip.

    by: columns whose values are groups, beside generator, emotion and intensity. Raises DataError where nothing could
        be read.
    """
    pairs = pairing.pairs
    if not any(not made.error for _, made in readings):
        name = pairs[0].generated.name
        raise DataError(
            f"none of the {len(pairs)} generated clips could be read; the first, {name}: {readings[0][1].error}"
        )
    others = _unrelated(pairs, readings)
    rows = tuple(
        Row(
            pair,
            real,
            made,
            None if real.error or made.error else apart(real, made),
            others.get(pair.real.name),
        )
        for pair, (real, made) in zip(pairs, readings, strict=True)
    )
    groups, spellings = _groups(rows, classes, by)
    owned: dict[str, list[Row]] = {}
    for row in rows:
        owned.setdefault(row.pair.generator, []).append(row)
    between = tuple(filter(None, (_between(owned, *names) for names in combinations(owned, 2))))
    notes = (*pairing.notes, *spellings)
    return Comparison(about, tuple(classes), pairing, rows, _group(rows, True), groups, between, notes)


def check_columns(pairing: Pairing, by: Sequence[str]) -> None:
    """Raises DataError for a column that no clip has."""
    for name in by:
        if all(_cell(pair, name) is None for pair in pairing.pairs):
            there = ", ".join(dict.fromkeys(column for pair in pairing.pairs for column in pair.about))
            raise DataError(f"--by {name}: there is no such column; there are {there}")


def _unrelated(pairs: Sequence[Pair], readings: Sequence[tuple[Reading, Reading]]) -> dict[str, Apart]:
    """By the name of a real clip, how far it is from another real one: each from the next in a drawn order."""
    own = {pair.real.name: real for pair, (real, _) in zip(pairs, readings, strict=True) if not real.error}
    names = [list(own)[place] for place in np.random.default_rng(SEED).permutation(len(own))]
    if len(names) < 2:
        return {}
    return {name: apart(own[name], own[other]) for name, other in zip(names, names[1:] + names[:1], strict=True)}


def _groups(
    rows: Sequence[Row], classes: Sequence[str], by: Sequence[str]
) -> tuple[dict[str, dict[str, Group]], list[str]]:
    """Of every generator, emotion, intensity and value of the columns ``by``; and spellings that were taken for one."""
    columns: dict[str, list[str]] = {}
    if len({row.pair.generator for row in rows}) > 1:
        columns[GENERATOR] = [row.pair.generator for row in rows]
    if any(row.pair.truths for row in rows):
        columns[EMOTION] = [classes[row.pair.truths[0]] if row.pair.truths else "" for row in rows]
    notes: list[str] = []
    for name in dict.fromkeys([INTENSITY, *by]):
        own = [_cell(row.pair, name) for row in rows]
        if any(own) and name_key(name) not in map(name_key, columns):
            values = Spellings(f"values of {name}", column_key(name))
            columns[name] = [values.keep(cell) if cell else "" for cell in own]
            notes += values.notes()
    found: dict[str, dict[str, Group]] = {}
    for name, cells in columns.items():
        chosen = {cell: [row for row, value in zip(rows, cells, strict=True) if value == cell] for cell in cells}
        ordered = list(chosen) if name == GENERATOR else sorted(chosen)
        found[name] = {cell: _group(chosen[cell], name == GENERATOR) for cell in ordered if cell or name == GENERATOR}
    return found, notes


def _cell(pair: Pair, column: str) -> str | None:
    return next((cell for name, cell in pair.about.items() if name_key(name) == name_key(column)), None)


def _group(rows: Sequence[Row], with_fid: bool = False) -> Group:
    scored = [row for row in rows if row.pair.truths]
    known = [row for row in rows if not row.real.error]
    read = [row for row in rows if row.read]
    both = [row for row in scored if row.read]
    right, real_right = np.array([(row.right, row.real_right) for row in scored], float).reshape(-1, 2).T
    shown, real_shown = np.array([row.pair.truths for row in scored], int).reshape(-1, 2).T
    seen = {row.pair.real.name: row for row in known}
    beside = [row for row in seen.values() if row.unrelated]
    return Group(
        pairs=len(rows),
        real_clips=len({row.pair.real.name for row in rows}),
        scored=len(scored),
        read=len(read),
        failed_real=len({row.pair.real.name for row in rows if row.real.error}),
        failed_generated=sum(bool(row.generated.error) for row in rows),
        accuracy=_mean(scored, right),
        mean_recall=_recall(scored, right, shown),
        real_accuracy=_mean(scored, real_right),
        real_mean_recall=_recall(scored, real_right, real_shown),
        accuracy_difference=_mean(scored, right - real_right),
        mean_recall_difference=None if (shown != real_shown).any() else _recall(scored, right - real_right, shown),
        agreement=_mean(known, [row.agrees for row in known]),
        read_accuracy=_mean(both, [row.right for row in both]),
        read_real_accuracy=_mean(both, [row.real_right for row in both]),
        read_agreement=_mean(read, [row.agrees for row in read]),
        features=_apart(read, "features"),
        probabilities=_apart(read, "probabilities"),
        unrelated_features=_apart(beside, "features", "unrelated"),
        unrelated_probabilities=_apart(beside, "probabilities", "unrelated"),
        points=sum(row.apart.points for row in read if row.apart),
        compared=sum(row.apart.compared for row in read if row.apart),
        longer=_longer(read),
        emo_fid=_fid(read) if with_fid else None,
    )


def _apart(rows: Sequence[Row], what: str, which: str = "apart") -> Estimate | None:
    values = [getattr(getattr(row, which), what) for row in rows]
    kept = [place for place, value in enumerate(values) if value is not None]
    return _mean([rows[place] for place in kept], [values[place] for place in kept])


def _longer(rows: Sequence[Row]) -> Estimate | None:
    """How long the generated clips are, as a share of the real ones; of the clips that move."""
    kept = [row for row in rows if row.apart and row.apart.duration]
    return _mean(kept, [row.apart.generated_duration / row.apart.duration for row in kept if row.apart])


def _fid(rows: Sequence[Row]) -> EmoFid | None:
    real: dict[str, NDArray[np.float32]] = {}
    kinds: dict[str, int] = {}
    made: dict[str, list[NDArray[np.float32]]] = {}
    for row in rows:
        real[row.pair.real.name] = row.real.features[row.real.has_face]
        kinds[row.pair.real.name] = row.real.predicted or 0
        made.setdefault(row.pair.real.name, []).append(row.generated.features[row.generated.has_face])
    return emo_fid(list(real.values()), list(made.values()), list(kinds.values()))


def _mean(rows: Sequence[Row], values: Sequence[float] | Floats) -> Estimate | None:
    if not len(rows):
        return None
    numbers = np.asarray(values, np.float64)
    return _estimate(
        float(numbers.mean()), np.zeros(len(rows), np.int64), numbers, [row.pair.real.name for row in rows]
    )


def _recall(rows: Sequence[Row], values: Floats, truths: NDArray[np.int64]) -> Estimate | None:
    """The mean over the classes of the mean over a class's pairs."""
    if not len(rows):
        return None
    value = float(np.mean([values[truths == k].mean() for k in np.unique(truths)]))
    return _estimate(value, truths, values, [row.pair.real.name for row in rows])


def _estimate(value: float, labels: NDArray[np.int64], values: Floats, owners: Sequence[str]) -> Estimate:
    return Estimate(value, subject_interval(labels, values, owners))


def _between(made: Mapping[str, Sequence[Row]], first: str, second: str) -> Between | None:
    """None for generators without a real clip that both have."""
    owned: list[dict[str, list[Row]]] = [{}, {}]
    for own, name in zip(owned, (first, second), strict=True):
        for row in made[name]:
            own.setdefault(row.pair.real.name, []).append(row)
    shared = [name for name in owned[0] if name in owned[1]]

    def difference(value: Any, kept: Any) -> Estimate | None:
        """value: of a row; kept: whether a row has one. Several clips of one generator count as their mean."""
        names, gains = [], []
        for name in shared:
            means = [[value(row) for row in own[name] if kept(row)] for own in owned]
            if all(means):
                names.append(name)
                gains.append(float(np.mean(means[0]) - np.mean(means[1])))
        if not names:
            return None
        return _estimate(float(np.mean(gains)), np.zeros(len(names), np.int64), np.array(gains), names)

    if not shared:
        return None
    return Between(
        first,
        second,
        len(shared),
        accuracy=difference(lambda row: row.right, lambda row: row.pair.truths is not None),
        agreement=difference(lambda row: row.agrees, lambda row: not row.real.error),
        features=difference(lambda row: row.apart.features, lambda row: row.apart and row.apart.features is not None),
        probabilities=difference(
            lambda row: row.apart.probabilities, lambda row: row.apart and row.apart.probabilities is not None
        ),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return {"value": value.value, "interval": None if value.interval is None else list(value.interval)}
    return asdict(value) if isinstance(value, EmoFid) else value
