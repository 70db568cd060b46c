"""A comparison as the files of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fan_fer.base.csv_files import write_table
from fan_fer.base.files import write_text
from fan_fer.base.names import name_key
from fan_fer.base.texts import write_json
from fan_fer.evaluation.comparison import Comparison
from fan_fer.evaluation.comparison_picture import write_comparison_plot
from fan_fer.evaluation.comparison_text import JSON_FILE, PICTURE_FILE, comparison_markdown

REPORT_FILE, PAIRS_FILE = "report.md", "pairs.csv"
FILES = (REPORT_FILE, JSON_FILE, PAIRS_FILE, PICTURE_FILE)


def write_comparison(folder: Path, found: Comparison) -> None:
    """report.md, report.json, pairs.csv and report.png. Raises OutputError."""
    _write_pairs(folder / PAIRS_FILE, found)
    write_json(folder / JSON_FILE, found.to_dict(), indent=2, errors="backslashreplace")
    write_text(folder / REPORT_FILE, comparison_markdown(found, picture=True), errors="backslashreplace")
    write_comparison_plot(folder / PICTURE_FILE, found)


def _write_pairs(path: Path, found: Comparison) -> None:
    """A row per pair: the columns of the clips, then ours."""
    ours = (
        *(
            "real",
            "generated",
            "generator",
            "class",
            "real_class",
            "predicted",
            "real_predicted",
            "right",
            "real_right",
        ),
        *("agrees", *(f"p_{name}" for name in found.classes), *(f"real_p_{name}" for name in found.classes)),
        *("frames", "real_frames", "faces", "real_faces", "seconds", "real_seconds", "points", "compared"),
        *("without_face", "real_without_face", "features", "probabilities", "farthest", "error", "real_error"),
    )
    taken = {name_key(name) for name in (*ours, "video")}
    kept = [
        name
        for name in dict.fromkeys(name for row in found.rows for name in row.pair.about)
        if name_key(name) not in taken
    ]
    rows = []
    for row in found.rows:
        pair, beside = row.pair, row.apart
        cells: dict[str, Any] = {name: pair.about.get(name, "") for name in kept}
        cells |= {"real": pair.real.name, "generated": pair.generated.name, "generator": pair.generator}
        cells |= {"error": row.generated.error, "real_error": row.real.error}
        if pair.truths:
            cells |= {"class": found.classes[pair.truths[0]], "real_class": found.classes[pair.truths[1]]}
            cells |= {"right": int(row.right), "real_right": int(row.real_right)}
        if not row.real.error:
            cells["agrees"] = int(row.agrees)
        for prefix, reading in (("", row.generated), ("real_", row.real)):
            if reading.predicted is not None:
                cells[f"{prefix}predicted"] = found.classes[reading.predicted]
                cells |= {f"{prefix}frames": len(reading.times), f"{prefix}faces": int(reading.has_face.sum())}
                shares = zip(found.classes, reading.probabilities.tolist(), strict=True)
                cells |= {f"{prefix}p_{name}": round(share, 7) for name, share in shares}
        if beside is not None:
            cells |= {"seconds": round(beside.generated_duration, 6), "real_seconds": round(beside.duration, 6)}
            cells |= {"points": beside.points, "compared": beside.compared}
            cells |= {"without_face": beside.without_generated, "real_without_face": beside.without_real}
            cells |= {"features": _rounded(beside.features), "probabilities": _rounded(beside.probabilities)}
            cells["farthest"] = _rounded(beside.farthest)
        rows.append(cells)
    write_table(path, [*kept, *ours], rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 7)
