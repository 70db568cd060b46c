"""What ``fan-fer evaluate`` and ``fan-fer predict-many`` show on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fan_fer.base.errors import one_line
from fan_fer.evaluation.summary import Summary
from fan_fer.evaluation.text import interval_text, ranking_text
from fan_fer.prediction import NOT_SURE

if TYPE_CHECKING:
    from fan_fer.evaluation.informative import Attention
    from fan_fer.evaluation.metrics import Answered, Scores

MISTAKES = 2  # classes listed that a class is taken for
LISTED = 10  # clips listed that failed


def summary_report(summary: Summary) -> RenderableType:
    """Scores, classes, groups, attention, and what became of the clips that are not scored."""
    about = summary.about
    title = Text.assemble((one_line(about["model"]["file"]), "bold"), "  on  ", (one_line(about["data"]), "bold"))
    parts: list[RenderableType] = [title, Text(f"{about['which']}; {_counts(summary)}", style="dim")]
    parts += [*(Text(note, style="dim") for note in summary.notes), ""]
    if summary.scores:
        parts += [_scores(summary.scores, summary.answered), "", _classes(summary.scores)]
    else:
        parts.append(Text(f"no clip has both a label and a prediction: nothing to score{_columns(summary)}"))
    if summary.groups:
        parts += ["", _groups(summary)]
    if summary.attention:
        parts += ["", _attention(summary.attention)]
    return Group(*parts, *_failures(summary))


def confusion_report(scores: Scores) -> RenderableType:
    """How many clips of each true class, a row each, were taken for which."""
    table = _table(("", *scores.classes))
    for name, counts in zip(scores.classes, scores.confusion, strict=True):
        table.add_row(Text(name), *(str(count) if count else "." for count in counts))
    return Group("clips of the class, and what they were taken for:", table)


def predictions_report(summary: Summary, abstain: float | None = None) -> RenderableType:
    """How often each class was predicted, for clips of which no more is known; below ``abstain`` none is."""
    predicted = Counter(clip.predicted(abstain) for clip in summary.clips if clip.probabilities is not None)
    table = _table(("predicted", "clips", "share"))
    rows: list[tuple[str, int | None]] = [(name, index) for index, name in enumerate(summary.classes)]
    for name, index in rows if abstain is None else [*rows, (NOT_SURE, None)]:
        table.add_row(Text(name), str(predicted[index]), f"{predicted[index] / max(1, predicted.total()):.1%}")
    return Group(table, *_failures(summary))


def _columns(summary: Summary) -> str:
    """What there is in place of labels."""
    return "" if any(clip.label for clip in summary.clips) else f"; the columns are {', '.join(summary.clips[0].about)}"


def _counts(summary: Summary) -> str:
    counts = summary.counts()
    words = {
        "failed": "without a prediction",
        "without_label": "without a label",
        "left_out": "left out by the label map",
    }
    others = [f"{counts[name]} {what}" for name, what in words.items() if counts[name]]
    return ", ".join([f"{counts['scored']} of {counts['clips']} clips scored", *others])


def _scores(scores: Scores, answered: Answered | None) -> RenderableType:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    table.add_row(
        "accuracy (WAR)", f"{scores.accuracy:.1%}", f"{interval_text(scores.accuracy_interval)}   Wilson, 95 %"
    )
    recall = f"{interval_text(scores.mean_recall_interval)}   bootstrap over the clips, 95 %"
    table.add_row("mean recall (UAR)", f"{scores.mean_recall:.1%}", recall)
    table.add_row("calibration error", f"{scores.calibration_error:.1%}", "confidence against accuracy, 0 is best")
    if answered is not None:
        share = "-" if answered.accuracy is None else f"{answered.accuracy:.1%}"
        of = f"{answered.answered} of {answered.clips} clips ({answered.answered / answered.clips:.1%})"
        interval = "" if answered.accuracy is None else f"{interval_text(answered.accuracy_interval)}   "
        table.add_row(f"accuracy from {answered.abstain:g} on", share, f"{interval}{of}")
    return table


def _classes(scores: Scores) -> RenderableType:
    table = _table(("class", "clips", "recall"), "most often taken for")
    for row, name in enumerate(scores.classes):
        counts = scores.confusion[row]
        recall = scores.recalls[name]
        others = sorted((k for k in range(len(counts)) if k != row and counts[k]), key=lambda k: -counts[k])
        taken = ", ".join(f"{scores.classes[k]} {counts[k]}" for k in others[:MISTAKES])
        table.add_row(Text(name), str(counts.sum()), "-" if recall is None else f"{recall:.1%}", Text(taken))
    return table


def _groups(summary: Summary) -> RenderableType:
    table = _table((summary.by or "", "clips", "accuracy", "95 %", "mean recall", "95 %"))
    for name, scores in summary.groups.items():
        table.add_row(
            Text(one_line(name) or "(empty)"),
            str(scores.clips),
            f"{scores.accuracy:.1%}",
            interval_text(scores.accuracy_interval),
            f"{scores.mean_recall:.1%}",
            interval_text(scores.mean_recall_interval),
        )
    return table


def _attention(attention: Attention) -> RenderableType:
    table = _table(("area under the ROC curve against the informative frames", "clips", "AUC (95 %)"))
    for name, ranking in (("final weights", attention.weights), ("1 - p(neutral) of each frame", attention.rule)):
        if ranking is not None:
            table.add_row(name, str(ranking.clips), ranking_text(ranking))
    if attention.weights is None:
        table.add_row("no clip has informative frames and others", "0", "-")
    table.add_row("equal weights", "", "0.500")
    return table


def _failures(summary: Summary) -> list[RenderableType]:
    failed = [clip for clip in summary.clips if clip.error]
    if not failed:
        return []
    lines = [
        clip.error if one_line(clip.name) in clip.error else f"{clip.name}: {clip.error}" for clip in failed[:LISTED]
    ]
    if len(failed) > LISTED:
        lines.append(f"and {len(failed) - LISTED} more, see the column error")
    return ["", "without a prediction:", *(Text(f"  {one_line(line)}", style="dim") for line in lines)]


def _table(headings: Sequence[str], last: str | None = None) -> Table:
    """The first column and ``last`` are text, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(Text(headings[0]), overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    if last is not None:
        table.add_column(last)
    return table
