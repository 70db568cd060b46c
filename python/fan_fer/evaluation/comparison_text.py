"""A comparison as Markdown, which the terminal shows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fan_fer.base.errors import one_line
from fan_fer.evaluation.comparison import EVERYTHING, Comparison, Estimate
from fan_fer.evaluation.pairs import GENERATOR
from fan_fer.evaluation.text import interval_text, markdown_table

JSON_FILE, PICTURE_FILE = "report.json", "report.png"  # that lie beside it
LISTED = 20  # clips named in the Markdown


def comparison_markdown(found: Comparison, picture: bool = False) -> str:
    """All of it, ending with a line break. picture: whether report.png lies beside."""
    about = found.about
    counts = [f"{len(found.rows)} pairs of {found.overall.real_clips} real clips, {found.pairing.how}"]
    for side, alone in (("real", found.pairing.real_alone), ("generated", found.pairing.generated_alone)):
        if alone:
            counts.append(f"{len(alone)} {side} without a pair")
    failures = found.failures
    counts += [f"{len(errors)} {side} failed" for side, errors in failures.items() if errors]
    parts = [
        "# Generated clips beside real ones",
        f"{_text(about['generated'])} beside {_text(about['real'])}: {', '.join(counts)}.",
        *([f"![Scores and distances]({PICTURE_FILE})"] if picture else []),
        "## Emotion",
        _accuracy(found),
        "## Distance from the real clip",
        _distances(found),
        "## emo-FID",
        _fids(found),
    ]
    if found.between:
        parts += ["## Between generators, on the real clips of both", _between(found)]
    parts += _left(found)
    return "\n\n".join([*parts, "## Made with", _pins(about)]) + "\n"


def _accuracy(found: Comparison) -> str:
    labelled = found.overall.accuracy is not None
    scores = ["right", "real clips", "difference", "mean recall", "real clips"] if labelled else []
    tables = []
    for by, groups in found.parts.items():
        rows = []
        for name, group in groups.items():
            cells = [_text(name) or "(empty)", str(group.pairs)]
            if labelled:
                cells += [_share(group.accuracy), _share(group.real_accuracy), _signed(group.accuracy_difference)]
                cells += [_share(group.mean_recall), _share(group.real_mean_recall)]
            rows.append([*cells, _share(group.agreement)])
        tables.append(markdown_table([_text(by) or "%", "pairs", *scores, "as the real clip"], rows))
    all_ = found.overall
    notes = [
        "Right: how often the generated clip is taken for its label. Real clips: how often the real ones are, this "
        "network's ceiling. As the real clip: how often both get one reading. In brackets 95 % intervals, bootstrap "
        "over the real clips.",
        f"{found.about['settings']['failed_clips'].capitalize()}.",
    ]
    if not labelled:
        notes.append("No pair has a label: what is right is not known, and only the reading of the real clip counts.")
    elif all_.scored < all_.pairs:
        notes.append(f"{all_.pairs - all_.scored} of {all_.pairs} pairs have no label, or one that the map leaves out.")
    if all_.read < all_.pairs:
        read = (("right", all_.read_accuracy), ("real clips", all_.read_real_accuracy))
        shares = [
            f"{what} {_share(value)}" for what, value in (*read, ("as the real clip", all_.read_agreement)) if value
        ]
        notes.append(f"Of the {all_.read} pairs whose clips were both read: {', '.join(shares)}.")
    return "\n\n".join([*tables, " ".join(notes), *(f"{one_line(note)}." for note in found.notes)])


def _distances(found: Comparison) -> str:
    headings = ["", "pairs", "features", "other real clips", "probabilities", "other real clips", "compared", "length"]
    rows = []
    for by, groups in found.parts.items():
        for name, group in groups.items():
            rows.append(
                [
                    " ".join(filter(None, (_text(by), _text(name) or "(empty)"))),
                    str(group.read),
                    *(_number(group.features), _plain(group.unrelated_features)),
                    *(_number(group.probabilities), _plain(group.unrelated_probabilities)),
                    f"{group.compared / group.points:.1%} of {group.points}" if group.points else "-",
                    f"{group.longer.value:.2f}" if group.longer else "-",
                ]
            )
    how = (
        "Features: cosine distance of the two clips' faces, 0 to 2. Probabilities: total variation, the share that is "
        "elsewhere, 0 to 1. Both 0 for the same clip, means over time and pairs. Other real clips: how far the real "
        "ones are from each other. Compared: points in time at which both show a face. Length: of the generated clip, "
        f"the real one is 1. Aligned {found.about['settings']['alignment']}."
    )
    return f"{markdown_table(headings, rows)}\n\n{how}"


def _fids(found: Comparison) -> str:
    rows = []
    for name, group in {EVERYTHING: found.overall, **found.groups.get(GENERATOR, {})}.items():
        fid = group.emo_fid
        if fid is None:
            rows.append([_text(name) or "(empty)", *["-"] * 6])
            continue
        mark = " *" if fid.rank_deficient else ""
        rows.append(
            [
                _text(name) or "(empty)",
                f"{fid.value:.3g}{mark}",
                f"{fid.halves:.3g}",
                f"{fid.floor:.3g}",
                f"{fid.half_frames:.0f}",
                f"{fid.generated_frames} / {fid.real_frames}",
                str(fid.real_clips),
            ]
        )
    headings = ["", "emo-FID", "half", "floor", "frames of a half", "frames, generated / real", "real clips"]
    settings = found.about["settings"]
    notes = [
        "Frechet distance of the frames' features. It is biased upwards, the more the fewer frames there are, and "
        "differently for each generator: compare none with a figure of other clips, frames or networks. Half: of the "
        "clips generated for half of the real clips, to the other half of these; floor: of the two halves of the real "
        f"clips; each half with as many of each reading, means of {settings['splits']} divisions. What half has above "
        "floor is the generator's."
    ]
    fids = [group.emo_fid for group in (found.overall, *found.groups.get(GENERATOR, {}).values())]
    if any(fid and fid.rank_deficient for fid in fids):
        size = next(fid.dimension for fid in fids if fid)
        notes.append(
            f"*: no more frames than the {size} features, whose covariance is then not known in all directions."
        )
    if any(fid is None for fid in fids):
        notes.append(
            f"-: fewer than {settings['fewest_real_clips']} real clips that were read with their generated ones."
        )
    return f"{markdown_table(headings, rows)}\n\n{' '.join(notes)}"


def _between(found: Comparison) -> str:
    rows = [
        [
            f"{_text(one.first) or '(empty)'} minus {_text(one.second) or '(empty)'}",
            str(one.real_clips),
            _signed(one.accuracy),
            _signed(one.agreement),
            _number(one.features, "+"),
            _number(one.probabilities, "+"),
        ]
        for one in found.between
    ]
    headings = ["", "real clips", "right, points", "as the real clip, points", "features", "probabilities"]
    return markdown_table(headings, rows)


def _left(found: Comparison) -> list[str]:
    """The clips that failed, and those without a pair."""
    lists = {
        "Real clips that failed": found.failures["real"],
        "Generated clips that failed": found.failures["generated"],
        "Real clips without a pair": found.pairing.real_alone,
        "Generated clips without a pair": found.pairing.generated_alone,
    }
    parts = []
    for title, clips in lists.items():
        if clips:
            lines = [f"- {_text(name)}: {_text(why)}" for name, why in list(clips.items())[:LISTED]]
            if len(clips) > LISTED:
                lines.append(f"- and {len(clips) - LISTED} more, in {JSON_FILE}")
            parts += [f"## {title}: {len(clips)}", "\n".join(lines)]
    return parts


def _pins(about: Mapping[str, Any]) -> str:
    model, settings = about["model"], about["settings"]
    lines = [
        f"network: {_text(model['file'])}, {model['variant']}, {model['backbone']}, sha256 {model['sha256']}",
        f"classes: {', '.join(map(_text, model['classes']))}",
        f"trained on: {_text(model['trained_on']) or 'not said'}; licence: {_text(model['license']) or 'not said'}",
        f"detector: {_text(about['detector'])}; device {about['device']}, {about['precision']}",
        f"frames: {settings['sampling']}",
        f"intervals: {settings['resamples']} resamples, seed {settings['seed']}",
        f"versions: {', '.join(f'{name} {number}' for name, number in about['versions'].items())}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _share(value: Estimate | None) -> str:
    """ "50.0 (43.3 to 56.7)", in percent."""
    return "-" if value is None else f"{100 * value.value:.1f}{_ends(interval_text(value.interval))}"


def _signed(value: Estimate | None) -> str:
    """ "+2.9 (+0.2 to +5.7)", in points."""
    return "-" if value is None else f"{100 * value.value:+.1f}{_ends(_range(value.interval, 100, '+.1f'))}"


def _number(value: Estimate | None, sign: str = "") -> str:
    return "-" if value is None else f"{value.value:{sign}.3f}{_ends(_range(value.interval, 1, f'{sign}.3f'))}"


def _plain(value: Estimate | None) -> str:
    """Without the interval."""
    return "-" if value is None else f"{value.value:.3f}"


def _range(interval: Sequence[float] | None, scale: float, form: str) -> str:
    return "-" if interval is None else " to ".join(f"{scale * end:{form}}" for end in interval)


def _ends(text: str) -> str:
    return "" if text == "-" else f" ({text})"


def _text(text: object) -> str:
    """In one line of Markdown, as it is."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
