"""Scores, differences and intervals in words, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fan_fer.evaluation.informative import Ranking
    from fan_fer.evaluation.metrics import Difference, Interval


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """ "44.7 to 58.1", in percent."""
    return "-" if interval is None else " to ".join(f"{100 * end:.{digits}f}" for end in interval)


def ranking_text(ranking: Ranking | None) -> str:
    """ "0.71 (0.68 to 0.74)"."""
    if ranking is None:
        return "-"
    ends = "" if ranking.interval is None else f" ({ranking.interval.low:.3f} to {ranking.interval.high:.3f})"
    return f"{ranking.mean:.3f}{ends}"


def share_text(value: float, interval: Interval | None) -> str:
    """ "50.0 (43.3 to 56.7)", in percent."""
    return f"{100 * value:.1f} ({interval_text(interval)})"


def difference_texts(value: Difference) -> list[str]:
    """Accuracy and mean recall: "+2.9 (+0.2 to +5.7)", in points."""
    pairs = ((value.accuracy, value.accuracy_interval), (value.mean_recall, value.mean_recall_interval))
    return [f"{100 * gain:+.1f} ({_signed(interval)})" for gain, interval in pairs]


def _signed(interval: Interval | None) -> str:
    return "-" if interval is None else " to ".join(f"{100 * end:+.1f}" for end in interval)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first hold numbers."""
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
