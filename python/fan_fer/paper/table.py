"""The paper's table: the three variants on one set, over all its partitions and several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fan_fer.attention.poolings.registry import find_pooling
from fan_fer.attention.scoring import ClipScores
from fan_fer.base.errors import TrainingError, one_line
from fan_fer.base.files import real_path
from fan_fer.base.texts import to_json
from fan_fer.datasets.cross import CrossSet
from fan_fer.datasets.files import CLIP_COLUMNS, CLIPS_FILE, OK, read_rows
from fan_fer.datasets.prepared import PreparedSet
from fan_fer.evaluation.informative import Attention, FrameTruth, Ranking, clip_areas, neutral_class, rank
from fan_fer.evaluation.metrics import Difference, Scores, difference, score
from fan_fer.training.result import CHOSEN, RunResult

FORMAT_VERSION = 1
TITLES = {"score-fusion": "score fusion", "self": "self-attention only", "fan": "FAN"}

RunKey = tuple[str, str, int]  # variant, partition, seed


@dataclass(frozen=True)
class Published:
    """What the paper reports: accuracy in percent, of the best epoch on the test clips."""

    name: str
    accuracy: Mapping[str, float]


PUBLISHED = {
    "ckplus": Published("CK+", {"score-fusion": 94.80, "self": 99.08, "fan": 99.69}),
    "afew": Published("AFEW 8.0", {"score-fusion": 48.82, "self": 50.92, "fan": 51.18}),
}


@dataclass(frozen=True)
class Anchor:
    """A published figure to set beside ours, in percent, where the clips of ``layout`` have ``classes``.

    cross: of networks that were trained on other sets; else of whoever judged the set's own clips.
    """

    layout: str
    classes: int
    cross: bool
    what: str
    percent: float
    source: str


_LEFT_OUT = "unweighted average recall by EMO-AffectNet's networks, trained on five other sets"
_EMO_AFFECTNET = "https://github.com/ElenaRyumina/EMO-AffectNetModel"
ANCHORS = (
    Anchor(
        *("crema-d", 6, False, "accuracy of people who saw the pictures without the sound", 58.2),
        "https://doi.org/10.1109/TAFFC.2014.2336244",
    ),
    Anchor("crema-d", 6, True, _LEFT_OUT, 60.6, _EMO_AFFECTNET),
    Anchor("ravdess", 7, True, _LEFT_OUT, 65.8, _EMO_AFFECTNET),
)


@dataclass(frozen=True)
class VariantResult:
    """One variant's runs, the test clips of all partitions back to back."""

    variant: str
    classes: tuple[str, ...]
    clips: tuple[str, ...]
    labels: NDArray[np.int64]  # (n,)
    subjects: tuple[str, ...] | None  # who is seen in each clip, where the set says it of all
    probabilities: Mapping[str, NDArray[np.float64]]  # of each epoch that is kept: (seeds, n, C)
    numbers: Mapping[str, tuple[int, ...]]  # of each epoch that is kept: which it is, in every run
    epochs: NDArray[np.int64]  # (E,)
    curves: NDArray[np.float64]  # (seeds, E): share of the test clips that is right after each epoch
    areas: NDArray[np.float64] | None  # (2, seeds, n): AUC of the final weights, and of the rule; of the main epoch

    @property
    def title(self) -> str:
        return variant_title(self.variant)

    @property
    def main(self) -> str:
        """The epoch that is not chosen on the test clips: "chosen" where there is a validation part, else "last"."""
        return CHOSEN if CHOSEN in self.probabilities else "last"

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Of each epoch that is kept."""
        return {
            which: score(self.classes, self.labels, values, self.subjects)
            for which, values in self.probabilities.items()
        }

    @cached_property
    def attention(self) -> Attention | None:
        return None if self.areas is None else Attention.of(self.areas)

    def to_dict(self) -> dict[str, Any]:
        return {
            **{which: scores.to_dict() for which, scores in self.scores.items()},
            **{f"{which}_epochs": list(numbers) for which, numbers in self.numbers.items() if which != "last"},
            "curve": {"epochs": self.epochs.tolist(), "accuracy_of_seeds": self.curves.tolist()},
            "attention": None if self.attention is None else self.attention.to_dict(),
        }


@dataclass(frozen=True)
class Table:
    """What :func:`make_table` finds; variants in the paper's order, then other poolings as they were named."""

    name: str  # of the set
    layout: str
    recipe: str
    seeds: int
    partitions: int
    clips: int
    no_face: int  # labelled clips of the set without a face: not in any score
    variants: tuple[VariantResult, ...]
    reference: str  # the variant that the others are compared with: FAN, or where it is not among them the first named
    trained_on: str = ""  # another set, if not on the other clips of this one
    split: str = "val"  # where there is one partition, its name
    backbone: str = ""  # its name, where the runs tell it
    shared_people: int = 0  # who are both trained on and tested on

    @property
    def published(self) -> Published | None:
        """The paper's figures on the set whose layout this one has, which need not be that set."""
        return None if self.trained_on else PUBLISHED.get(self.layout)

    @property
    def anchors(self) -> list[Anchor]:
        """Other published figures, of the same protocol: of as many classes, each with clips."""
        asked = (self.layout, len(np.unique(self.variants[0].labels)), bool(self.trained_on))
        return [anchor for anchor in ANCHORS if (anchor.layout, anchor.classes, anchor.cross) == asked]

    @property
    def main(self) -> str:
        """Which epoch stands first, see :attr:`VariantResult.main`."""
        return self.variants[0].main

    @property
    def shown(self) -> tuple[str, str]:
        """The epochs in the table: the main one, and the one that is best on the test clips."""
        return self.main, "best"

    @property
    def title(self) -> str:
        return f"{self.name}: {', '.join(result.title for result in self.variants)}"

    @property
    def subtitle(self) -> str:
        one = "validation clips" if self.split == "val" else "the set's own test part"
        over = f"{self.partitions} folds" if self.partitions > 1 else one
        over = f"trained on {self.trained_on}" if self.trained_on else over
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        backbone = f", backbone {self.backbone}" if self.backbone else ""
        return f"recipe {self.recipe}{backbone}, {over}, {seeds}, {self.clips} test clips"

    @property
    def _ours(self) -> VariantResult:
        return next(result for result in self.variants if result.variant == self.reference)

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """What the reference scores above each other variant: variant -> "last", "best" -> difference."""
        ours = self._ours
        return {
            other.variant: {
                which: difference(ours.labels, values, other.probabilities[which], ours.subjects)
                for which, values in ours.probabilities.items()
            }
            for other in self.variants
            if other is not ours
        }

    @cached_property
    def attention_differences(self) -> dict[str, Ranking | None]:
        """By how much the AUC of the reference's weights is above each other variant's, and above its own rule's."""
        ours = self._ours
        if ours.areas is None:
            return {}
        others = {r.variant: r.areas[0] for r in self.variants if r is not ours and r.areas is not None}
        others["rule"] = ours.areas[1]
        return {name: rank(ours.areas[0] - areas) for name, areas in others.items()}

    def to_dict(self) -> dict[str, Any]:
        published = self.published
        return {
            "format": FORMAT_VERSION,
            "set": self.name,
            "layout": self.layout,
            "recipe": self.recipe,
            "backbone": self.backbone or None,
            "seeds": self.seeds,
            "partitions": self.partitions,
            "clips": self.clips,
            "clips_without_a_face": self.no_face,
            "variants": {result.variant: result.to_dict() for result in self.variants},
            "reference": self.reference,
            "reference_minus": {
                name: {which: value.to_dict() for which, value in both.items()}
                for name, both in self.differences.items()
            },
            "attention_reference_minus": {
                name: None if value is None else value.to_dict() for name, value in self.attention_differences.items()
            },
            "trained_on": self.trained_on or None,
            "subjects_trained_on_too": self.shared_people,
            "anchors": [vars(anchor) for anchor in self.anchors],
            "published": None if published is None else {"on": published.name, "accuracy": dict(published.accuracy)},
        }

    def to_json(self) -> str:
        return to_json(self.to_dict(), indent=2) + "\n"


def variant_title(variant: str) -> str:
    """A variant's name in tables and pictures."""
    return TITLES[variant] if variant in TITLES else find_pooling(variant).title


def plan_runs(variants: Sequence[str], partitions: Sequence[str], seeds: int) -> list[RunKey]:
    """All runs of a table; whole tables of one seed after the other, so that an early look at it is of use."""
    return [(v, p, seed) for seed in range(seeds) for v in variants for p in partitions]


def make_table(
    prepared: PreparedSet, recipe: str, results: Mapping[RunKey, RunResult], truth: FrameTruth | None = None
) -> Table:
    """The table of finished runs. Raises TrainingError where they do not fit each other, DataError from ``truth``."""
    chosen = {variant for variant, _, _ in results}
    order = [*TITLES, *(variant for variant, _, _ in results)]
    variants = [name for name in dict.fromkeys(order) if name in chosen]
    seeds = sorted({seed for _, _, seed in results})
    partitions = list(dict.fromkeys(partition for _, partition, _ in results))
    made = tuple(
        _collect(variant, [[results[variant, name, seed] for name in partitions] for seed in seeds], prepared, truth)
        for variant in variants
    )
    for result in made:
        if result.clips != made[0].clips or not np.array_equal(result.labels, made[0].labels):
            raise TrainingError(f"{prepared.folder}: the runs of {result.variant} were tested on other clips")
    rows = read_rows(prepared.folder / CLIPS_FILE, CLIP_COLUMNS)
    layout, trained_on = prepared.layout, None
    if isinstance(prepared, CrossSet):
        layout, trained_on = prepared.parts[1].layout, prepared.parts[0].folder
    return Table(
        name=one_line(real_path(prepared.folder).name),
        layout=layout,
        recipe=one_line(recipe),
        seeds=len(seeds),
        partitions=len(partitions),
        clips=len(made[0].clips),
        no_face=sum(bool(row["label"]) and row["status"] != OK for row in rows),
        variants=made,
        reference="fan" if "fan" in chosen else next(iter(results))[0],
        split=partitions[0],
        backbone=one_line(next(iter(results.values())).values.get("backbone", "")),
        shared_people=prepared.shared_people,
        trained_on="" if trained_on is None else one_line(real_path(trained_on).name),
    )


def _collect(
    variant: str, runs: Sequence[Sequence[RunResult]], prepared: PreparedSet, truth: FrameTruth | None
) -> VariantResult:
    """``runs[seed][partition]`` of one variant."""
    clips = [name for run in runs[0] for name in run.values["clips"]]
    if len(set(clips)) != len(clips):
        raise TrainingError(f"{prepared.folder}: a clip is in the test part of two partitions")
    for row in runs:
        if [name for run in row for name in run.values["clips"]] != clips:
            raise TrainingError(f"{row[0].folder}: was tested on other clips than {runs[0][0].folder}")
    kept = runs[0][0].kept
    for row in runs:
        for run in row:
            if run.kept != kept:
                raise TrainingError(f"{run.folder}: chose its epoch otherwise than {runs[0][0].folder}")
    scores = {which: [[run.scores(which) for run in row] for row in runs] for which in kept}
    probabilities = {
        which: np.stack([[clip.probabilities for one in row for clip in one] for row in rows])
        for which, rows in scores.items()
    }
    epochs = [entry["epoch"] for entry in runs[0][0].values["epochs"]]
    sizes = [len(run.labels) for run in runs[0]]
    curves = [
        np.average([[entry["accuracy"] for entry in run.values["epochs"]] for run in row], axis=0, weights=sizes)
        for row in runs
    ]
    people = {clip.name: clip.subject for clip in prepared.clips}
    subjects = tuple(person for name in clips if (person := people.get(name)) is not None)
    return VariantResult(
        variant=variant,
        classes=prepared.classes,
        clips=tuple(clips),
        labels=np.array([label for run in runs[0] for label in run.labels], np.int64),
        subjects=subjects if len(subjects) == len(clips) else None,
        probabilities=probabilities,
        numbers={which: tuple(int(run.values[which]["epoch"]) for row in runs for run in row) for which in kept},
        epochs=np.array(epochs, np.int64),
        curves=np.array(curves),
        areas=None if truth is None else _areas(truth, prepared, clips, scores[CHOSEN if CHOSEN in kept else "last"]),
    )


def _areas(
    truth: FrameTruth, prepared: PreparedSet, clips: Sequence[str], scores: Sequence[Sequence[Sequence[ClipScores]]]
) -> NDArray[np.float64]:
    """(2, seeds, n): AUC of the final weights, and of the plain rule; ``scores[seed][partition]``."""
    numbers = {clip.name: clip.numbers for clip in prepared.clips}
    informative = [truth.informative(name, numbers[name]) for name in clips]
    neutral = neutral_class(prepared.classes)
    rows = []
    for row in scores:
        weights = [clip.weights for one in row for clip in one]
        own = [clip.own for one in row for clip in one]
        rows.append(clip_areas(weights, own, informative, neutral))
    return np.stack(rows, axis=1)
