"""What an evaluation found: scores of all clips and of groups of them, attention, and the files that hold it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fan_fer.base.csv_files import write_table
from fan_fer.base.errors import DataError, one_line
from fan_fer.base.extras import load_pandas
from fan_fer.base.names import Spellings, name_key
from fan_fer.base.texts import write_json
from fan_fer.evaluation.clips import EvaluatedClip, column_key, find_column

if TYPE_CHECKING:
    import pandas

    from fan_fer.evaluation.informative import Attention, FrameTruth
    from fan_fer.evaluation.metrics import Answered, Scores

FORMAT_VERSION = 1
PREDICTIONS_FILE, METRICS_FILE, CONFUSION_FILE = "predictions.csv", "metrics.json", "confusion.png"
FILES = (PREDICTIONS_FILE, METRICS_FILE, CONFUSION_FILE)


@dataclass(frozen=True)
class Summary:
    """Scores over the clips that have a true class and a prediction; None where there is no such clip.

    notes: which spellings of labels, and of the values of column ``by``, were taken for one.
    abstain: the probability below which nothing is predicted; the scores are of all clips, ``answered`` of the others.
    """

    about: dict[str, Any]  # the model, the data, the settings
    classes: tuple[str, ...]
    clips: tuple[EvaluatedClip, ...]
    scores: Scores | None
    by: str | None
    groups: dict[str, Scores]
    attention: Attention | None
    notes: tuple[str, ...] = ()
    answered: Answered | None = None
    abstain: float | None = None

    def counts(self) -> dict[str, int]:
        """How many clips there are, and where they went; the last four add up to the first."""
        predicted = [clip for clip in self.clips if not clip.error]
        return {
            "clips": len(self.clips),
            "scored": sum(clip.scored for clip in self.clips),
            "failed": len(self.clips) - len(predicted),
            "without_label": sum(not clip.label for clip in predicted),
            "left_out": sum(bool(clip.label) and clip.truth is None for clip in predicted),
        }

    def to_pandas(self) -> pandas.DataFrame:
        """A row per clip, with the columns of predictions.csv. Raises ImportError without pandas."""
        return load_pandas().DataFrame(prediction_rows(self.clips, self.classes, self.abstain))

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT_VERSION,
            **self.about,
            "notes": list(self.notes),
            "counts": self.counts(),
            "scores": None if self.scores is None else self.scores.to_dict(),
            "abstain": None if self.answered is None else self.answered.to_dict(),
            "by": self.by,
            "groups": {name: scores.to_dict() for name, scores in self.groups.items()},
            "attention": None if self.attention is None else self.attention.to_dict(),
        }


def summarise(
    about: dict[str, Any],
    classes: Sequence[str],
    clips: Iterable[EvaluatedClip],
    by: str | None = None,
    truth: FrameTruth | None = None,
    abstain: float | None = None,
) -> Summary:
    """Scores the clips, and those of every value of column ``by``. Raises DataError where ``truth`` lacks a frame.

    abstain: the scores are of all clips; beside them, how it is without those below this probability.
    """
    clips = tuple(clips)
    scored = [clip for clip in clips if clip.scored]
    groups: dict[str, list[EvaluatedClip]] = {}
    labels, values = Spellings("labels"), Spellings(f"values of {by}", column_key(by or ""))
    for clip in clips:
        if clip.label:
            labels.keep(clip.label)
    for clip in scored if by else []:
        groups.setdefault(values.keep(clip.about[by or ""]), []).append(clip)
    return Summary(
        about=about,
        classes=tuple(classes),
        clips=clips,
        scores=_score(classes, scored) if scored else None,
        by=by,
        groups={name: _score(classes, groups[name]) for name in sorted(groups)},
        attention=_attention(classes, scored, truth) if truth else None,
        notes=(*labels.notes(), *values.notes()),
        answered=None if abstain is None or not scored else _answered(scored, abstain),
        abstain=abstain,
    )


def check_column(clips: Sequence[EvaluatedClip], by: str) -> str:
    """The column of that name as the clips spell it. Raises DataError where they have none."""
    column = find_column(clips, by)
    if column is None:
        raise DataError(f"--by {by}: there is no such column; there are {', '.join(clips[0].about)}")
    return column


def write_summary(folder: Path, summary: Summary) -> None:
    """metrics.json and, where there are scores, confusion.png. Raises OutputError."""
    from fan_fer.evaluation.pictures import write_confusion

    write_json(folder / METRICS_FILE, summary.to_dict(), indent=2, errors="backslashreplace")
    if summary.scores:
        title = one_line(f"{Path(summary.about['model']['file']).name} on {Path(summary.about['data']).name}")
        write_confusion(folder / CONFUSION_FILE, summary.scores, title)


def write_predictions(
    folder: Path, clips: Sequence[EvaluatedClip], classes: Sequence[str], abstain: float | None = None
) -> None:
    """predictions.csv: a row per clip, its own columns first but for those of the same names. Raises OutputError.

    abstain: nothing is predicted where no class is as probable.
    """
    rows = prediction_rows(clips, classes, abstain)
    write_table(folder / PREDICTIONS_FILE, list(rows[0]), rows)


def prediction_rows(
    clips: Sequence[EvaluatedClip], classes: Sequence[str], abstain: float | None = None
) -> list[dict[str, Any]]:
    """The rows of :func:`write_predictions`, by the names of their columns."""
    ours = ("class", "predicted", "right", *(f"p_{name}" for name in classes), "frames", "faces", "error")
    kept = [name for name in clips[0].about if name_key(name) not in set(map(name_key, ours))]
    rows = []
    for clip in clips:
        row: dict[str, Any] = {name: clip.about[name] for name in kept} | dict.fromkeys(ours)
        row |= {
            "class": None if clip.truth is None else classes[clip.truth],
            "frames": clip.frames,
            "error": clip.error,
        }
        if clip.probabilities is not None:
            predicted = clip.predicted(abstain)
            row |= {"faces": len(clip.numbers) or clip.faces}
            if predicted is not None:
                row |= {"predicted": classes[predicted]}
                row |= {"right": None if clip.truth is None else int(predicted == clip.truth)}
            row |= {f"p_{name}": round(p, 7) for name, p in zip(classes, clip.probabilities.tolist(), strict=True)}
        rows.append(row)
    return rows


def _answered(clips: Sequence[EvaluatedClip], abstain: float) -> Answered:
    from fan_fer.evaluation.metrics import score_answered

    probabilities = np.stack([clip.probabilities for clip in clips if clip.probabilities is not None])
    return score_answered(np.array([clip.truth for clip in clips], np.int64), probabilities, abstain)


def _score(classes: Sequence[str], clips: Sequence[EvaluatedClip]) -> Scores:
    from fan_fer.evaluation.metrics import score

    probabilities = np.stack([clip.probabilities for clip in clips if clip.probabilities is not None])
    return score(classes, np.array([clip.truth for clip in clips], np.int64), probabilities[None])


def _attention(classes: Sequence[str], clips: Sequence[EvaluatedClip], truth: FrameTruth) -> Attention:
    from fan_fer.evaluation.informative import Attention, clip_areas, neutral_class

    scores = [clip.scores for clip in clips if clip.scores is not None]
    areas = clip_areas(
        [clip.weights for clip in scores],
        [clip.own for clip in scores],
        [truth.informative(clip.name, clip.numbers) for clip in clips if clip.scores is not None],
        neutral_class(classes),
    )
    return Attention.of(areas[:, None])
