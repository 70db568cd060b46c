"""The paper's table as Markdown, which the terminal shows too."""

from __future__ import annotations

from fan_fer.evaluation.informative import Ranking
from fan_fer.evaluation.metrics import Scores
from fan_fer.evaluation.text import difference_texts, markdown_table, ranking_text, share_text
from fan_fer.paper.table import Table, variant_title
from fan_fer.training.result import CHOSEN, EPOCHS
from fan_fer.training.validation import PART


def table_markdown(table: Table) -> str:
    """All of the table, ending with a line break."""
    parts = [f"# {table.title}", f"{table.subtitle[0].upper()}{table.subtitle[1:]}.", _scores(table), _notes(table)]
    if table.differences:
        parts += [f"## What {variant_title(table.reference)} gains", _gains(table)]
    if any(result.attention for result in table.variants):
        parts += ["## Do the weights follow the informative frames?", _attention(table)]
    return "\n\n".join(parts) + "\n"


def _scores(table: Table) -> str:
    published = table.published
    headings = ["%", *(f"{what}, {EPOCHS[which]}" for which in table.shown for what in ("accuracy", "mean recall"))]
    rows = []
    for result in table.variants:
        row = [result.title]
        for scores in (result.scores[which] for which in table.shown):
            row += [share_text(scores.accuracy, scores.accuracy_interval)]
            row += [share_text(scores.mean_recall, scores.mean_recall_interval)]
        if published is not None:
            row.append(f"{published.accuracy[result.variant]:.2f}" if result.variant in published.accuracy else "")
        rows.append(row)
    if published is not None:
        headings.append(f"published, on {published.name}")
    return markdown_table(headings, rows)


def _notes(table: Table) -> str:
    parts = "each fold" if table.partitions > 1 else "each run"
    people = table.variants[0].subjects
    notes = [
        "Accuracy: 95 % Wilson intervals. Mean recall: 95 % bootstrap intervals over the clips."
        if people is None or len(set(people)) < 2
        else f"Accuracy and mean recall: 95 % bootstrap intervals over the {len(set(people))} subjects.",
        f"The best-on-test epoch is chosen on the test clips of {parts}, as in the paper: it is optimistic. Here it "
        f"is: {_numbers(table, 'best')}.{' The last epoch is not chosen.' if table.main == 'last' else ''}",
    ]
    if table.main == CHOSEN:
        notes.append(
            f"The chosen epoch has the highest accuracy on clips kept back from training: those of one person in "
            f"{PART} or, where the set names no persons, one clip in {PART}. Here it is: {_numbers(table, CHOSEN)}."
        )
    if table.seeds > 1:
        spread = "; ".join(f"{result.title} {_seeds(result.scores[table.main])}" for result in table.variants)
        notes.append(
            f"Over the {table.seeds} seeds each clip counts once, with how often it is recognised. "
            f"Accuracy of the seeds, {EPOCHS[table.main]}: {spread}."
        )
    if table.published is not None:
        name = table.published.name
        notes.append(
            f"Published: accuracy of the best epoch, measured by the paper on {name} itself. A set that is laid out "
            f"like {name} but is not {name} cannot be compared with it."
        )
    if table.shared_people:
        shared = f"{table.shared_people} of the subjects are both trained on and tested on"
        notes.append(f"{shared}: the scores are optimistic.")
    notes += [f"Published: {anchor.percent} %, {anchor.what} ({anchor.source})." for anchor in table.anchors]
    if table.no_face:
        notes.append(f"{table.no_face} labelled clips of the set, without a face or unreadable, are in no score.")
    return "\n".join(f"- {note}" for note in notes)


def _numbers(table: Table, which: str) -> str:
    """Which epochs these are, from the earliest to the latest of all runs."""
    ends = [sorted({min(result.numbers[which]), max(result.numbers[which])}) for result in table.variants]
    return "; ".join(
        f"{result.title} {' to '.join(map(str, found))} of {result.epochs[-1]}"
        for result, found in zip(table.variants, ends, strict=True)
    )


def _gains(table: Table) -> str:
    headings = ["points, with paired 95 % intervals"]
    headings += [f"{what}, {EPOCHS[which]}" for which in table.shown for what in ("accuracy", "mean recall")]
    ours, rows = variant_title(table.reference), []
    for name, both in table.differences.items():
        row = [f"{ours} - {variant_title(name)}"]
        for which in table.shown:
            row += difference_texts(both[which])
        rows.append(row)
    return markdown_table(headings, rows)


def _attention(table: Table) -> str:
    headings = [f"area under the ROC curve, {EPOCHS[table.main]}", "final weights", "1 - p(neutral) of each frame"]
    rows = []
    clips = 0
    for result in table.variants:
        assert result.attention is not None
        rows.append([result.title, ranking_text(result.attention.weights), ranking_text(result.attention.rule)])
        clips = result.attention.weights.clips if result.attention.weights else 0
    rows.append(["equal weights", "0.500", ""])
    ours = variant_title(table.reference)
    gains = [
        [f"{ours}'s weights - its own rule" if name == "rule" else f"{ours} - {variant_title(name)}", _gain(value)]
        for name, value in table.attention_differences.items()
        if value is not None
    ]
    note = (
        "How often an informative frame (the labelled emotion is visible and nothing covers the face) outweighs "
        f"another of its clip; averaged over the {clips} test clips that have both kinds among their frames with a "
        "face. 95 % bootstrap intervals over the clips."
    )
    parts = [markdown_table(headings, rows), note]
    if gains:
        parts.append(markdown_table(["difference", "paired"], gains))
    return "\n\n".join(parts)


def _seeds(scores: Scores) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in scores.accuracy_of_seeds)


def _gain(ranking: Ranking) -> str:
    ends = "" if ranking.interval is None else f" ({ranking.interval.low:+.3f} to {ranking.interval.high:+.3f})"
    return f"{ranking.mean:+.3f}{ends}"
