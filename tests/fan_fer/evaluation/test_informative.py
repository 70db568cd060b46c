"""Which frames a set calls informative, how clips are found in it, and the area under the curve."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fan_fer.base.errors import DataError
from fan_fer.evaluation.informative import clip_areas, frame_ranking, load_truth, rank

HEADER = "clip,frame,intensity,occluded,yaw\n"


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "frames.csv"
    rows = ["Happy/1,0,0.9,0,3.5", "Happy/1,1,0.9,1,0", "Happy/1,2,0.2,0,0", "Happy/1,4,0.21,0,0", "Sad/2.b,0,0.5,0,0"]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_informative_is_visible_and_not_covered(truth: Path) -> None:
    assert load_truth(truth).informative("Happy/1", (0, 1, 2, 4)).tolist() == [True, False, False, True]


@pytest.mark.parametrize("name", ["Happy/1", "Val_AFEW/Happy/1", "Val_AFEW/Happy/1.avi", "/data/afew/Happy/1.avi"])
def test_clips_are_found_by_the_end_of_their_path(truth: Path, name: str) -> None:
    assert load_truth(truth).informative(name, [4]).tolist() == [True]


def test_a_clip_is_found_in_any_spelling(tmp_path: Path) -> None:
    path = tmp_path / "frames.csv"
    path.write_text(HEADER + "Fe\u0301roce/1,0,1,0,0\nA,0,1,0,0\na,0,0,0,0\n", "utf-8")
    found = load_truth(path)
    assert found.informative("x/F\u00e9roce/1.avi", [0]).tolist() == [True]
    assert [found.informative(name, [0]).tolist() for name in ("A", "a")] == [[True], [False]]  # a name of its own
    with pytest.raises(DataError, match="has no row for clip \uff21"):
        found.informative("\uff21", [0])


def test_a_dot_in_a_name_is_no_suffix(truth: Path) -> None:
    found = load_truth(truth)
    assert found.informative("Sad/2.b", [0]).tolist() == [True]
    found.check_clips(["Happy/1.mp4", "x/Sad/2.b"])


def test_what_the_truth_lacks_is_named(truth: Path) -> None:
    found = load_truth(truth)
    with pytest.raises(DataError, match=r"frames\.csv: has no row for clip 1$"):
        found.informative("1", [0])
    with pytest.raises(DataError, match=r"has no row for frame 3 of clip Happy/1$"):
        found.informative("Happy/1", [0, 3])
    with pytest.raises(DataError, match=r"has no row for clip Sad/1 and 1 more"):
        found.check_clips(["Happy/1", "Sad/1", "Sad/2"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("clip,frame\na,0\n", r"no column intensity, occluded \(its columns are clip, frame\); clip,frame,intensity,"),
        ("", r"no column clip, frame, intensity, occluded \(it is empty\)"),
        (HEADER + "a,0,0.5,0,0\na,x,0.5,0,0\n", r"line 3: frame 'x', intensity '0.5', occluded '0'"),
        (HEADER + "a,0\n", r"line 2: frame '0', intensity ''"),
        (
            HEADER + "a,0,nan,0,0\n",
            r"line 2: frame '0', intensity 'nan', occluded '0'; a whole number, a number, and 0",
        ),
        (HEADER + "a,0,inf,0,0\n", r"line 2: frame '0', intensity 'inf'"),
        (HEADER + "a,0,1,2,0\n", r"line 2: frame '0', intensity '1', occluded '2'"),
        (HEADER + "a,0,1,0,0\nb,0,1,0,0\na,0,0,0,0\n", r"line 4: frame 0 of clip 'a' has a row already; one is wanted"),
        (HEADER.replace("yaw", "Clip"), r'line 1 has the columns "clip" and "Clip", which are one'),
        ("clip,frame\xff", r"not a CSV file in UTF-8"),
    ],
)
def test_files_that_are_no_truth_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "frames.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        load_truth(path)
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file"):
        load_truth(tmp_path / "none.csv")


def test_ranking_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    weights, kinds = rng.integers(0, 6, 40) / 6, rng.random(40) < 0.4  # with ties
    pairs = weights[kinds][:, None] - weights[~kinds]
    expected = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert frame_ranking(weights, kinds) == pytest.approx(expected)
    assert frame_ranking(np.full(40, 1 / 40), kinds) == 0.5
    assert math.isnan(frame_ranking(weights, np.ones(40, bool)))
    own = np.stack([weights, 1 - weights], axis=1)
    areas = clip_areas([weights, weights], [own, own], [kinds, np.zeros(40, bool)], neutral=1)
    assert areas[:, 0] == pytest.approx(expected)  # one minus p(neutral) is the weight
    assert np.isnan(areas[:, 1]).all()
    assert np.isnan(clip_areas([weights], [own], [kinds], neutral=None)).tolist() == [[False], [True]]


def test_summary_averages_seeds_then_clips() -> None:
    areas = np.array([[0.8, np.nan, 0.4], [0.6, np.nan, 0.4]])  # the second clip has frames of one kind
    ranking = rank(areas)
    assert (ranking.clips, ranking.mean) == (2, pytest.approx((0.7 + 0.4) / 2))
    assert ranking.interval == pytest.approx((0.4, 0.7))
    assert rank(np.full((3, 2), np.nan)) is None
    assert rank(areas[:, :1]).interval is None
