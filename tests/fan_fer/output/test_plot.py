"""The figure: which faces it shows, what it draws for short, long and broken clips, and where it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_hex

from fan_fer.base.errors import OutputError
from fan_fer.output.colors import BLUE, ORANGE, class_colors
from fan_fer.output.figure import strip_frames
from fan_fer.output.plot import plot_prediction, video_faces, write_plot
from fan_fer.prediction import ClipPrediction

from ..fakes import make_clip, names, write_video


def faces_for(clip: ClipPrediction) -> dict[int, np.ndarray]:
    return {i: np.full((32, 32, 3), 90, np.uint8) for i in strip_frames(clip) if i is not None}


def test_strip_shows_all_frames_of_a_short_clip() -> None:
    assert strip_frames(make_clip(8, missing=(2,))) == [0, 1, None, 3, 4, 5, 6, 7]


def test_strip_shows_the_heaviest_of_every_twelfth() -> None:
    clip = make_clip(240, missing=range(40, 60))
    strip = strip_frames(clip)
    assert len(strip) == 12
    assert strip[2] is None
    for part, index in enumerate(strip):
        if index is not None:
            weights = {f.index: f.weight or 0 for f in clip.frames[20 * part : 20 * part + 20]}
            assert index == max(weights, key=lambda i: weights[i])
    assert clip.heaviest(1)[0].index in strip


def test_bars_are_the_weights() -> None:
    clip = make_clip(6, missing=(1,))
    axes = plot_prediction(clip, faces_for(clip)).axes[0]
    blue, orange = ([bar.get_height() for bar in container] for container in axes.containers)
    alpha = np.array([f.alpha or 0 for f in clip.frames])
    np.testing.assert_allclose(np.nan_to_num(blue), alpha / alpha.sum())
    np.testing.assert_allclose(np.nan_to_num(orange), [f.weight or 0 for f in clip.frames])
    assert to_hex(axes.containers[0][0].get_facecolor()) == BLUE
    assert to_hex(axes.containers[1][0].get_facecolor()) == ORANGE
    assert "sums to 100 %" in axes.get_ylabel()


def test_readings_are_piled_up_to_one() -> None:
    clip = make_clip(60, missing=(1, 2))
    readings = plot_prediction(clip, faces_for(clip)).axes[-1]
    lower = np.zeros(60)
    for step, name in zip(readings.patches, clip.probabilities, strict=False):
        values, _, baseline = step.get_data()
        np.testing.assert_array_equal(baseline, lower)
        np.testing.assert_allclose(
            values - baseline, [f.probabilities[name] if f.has_face else np.nan for f in clip.frames]
        )
        lower = values
    assert np.nanmin(lower) == pytest.approx(1, abs=1e-6)
    labels = [text.get_text() for text in readings.figure.legends[-1].get_texts()]
    assert labels == list(clip.probabilities)


def test_segments_are_a_band_whose_texts_stay_inside() -> None:
    clip = make_clip(100, borders=(40, 43, 60, 62), missing=(20,))
    figure = plot_prediction(clip, faces_for(clip))
    band = figure.axes[-1]
    *told, heading = band.texts
    assert heading.get_text() == "segments"
    colors = class_colors(clip.probabilities)
    assert [to_hex(part.get_facecolor()) for part in band.patches] == [colors[part.label] for part in clip.segments]
    for part, block in zip(clip.segments, band.patches, strict=True):
        assert block.get_x() == pytest.approx(part.start - 0.02)
        assert block.get_x() + block.get_width() == pytest.approx(part.end + 0.02)
    assert 1 <= len(told) < 5
    boxes = [text.get_window_extent() for text in told]
    blocks = [block.get_window_extent() for block in band.patches]
    for box in boxes:
        assert any(block.x0 < box.x0 and box.x1 < block.x1 for block in blocks)
    assert len(plot_prediction(make_clip(100), faces_for(make_clip(100))).axes) == len(figure.axes) - 1


def test_what_it_is_not_sure_of_has_no_label() -> None:
    clip = make_clip(60, borders=(30,)).abstaining(1)
    figure = plot_prediction(clip, faces_for(clip))
    texts = [text.get_text() for text in figure.texts]
    assert texts[-3] == "not sure"
    assert all(f"{value:.0%}" in texts[-2] for value in sorted(clip.probabilities.values())[-3:])
    assert {axes.get_xlabel() for axes in figure.axes[1:13]} == {"not sure"}
    assert [text.get_text()[:8] for text in figure.axes[-1].texts[:2]] == ["not sure"] * 2


def test_bars_stand_under_their_faces_in_a_short_clip() -> None:
    clip = make_clip(8)
    figure = plot_prediction(clip, faces_for(clip))
    bars, *faces, _ = figure.axes
    for frame, face in zip(clip.frames, faces, strict=True):
        below = bars.transData.transform((frame.time, 0))[0]
        above = face.transAxes.transform((0.5, 0))[0]
        assert below == pytest.approx(above, abs=1)


@pytest.mark.parametrize("variant", ["self", "score-fusion"])
def test_one_series_without_relation_attention(variant: str) -> None:
    clip = make_clip(6, variant=variant)
    axes = plot_prediction(clip, faces_for(clip)).axes[0]
    assert [c.get_label() for c in axes.containers] == ["final weights"]


def test_label_and_probability_stand_above() -> None:
    clip = make_clip(3)
    texts = [text.get_text() for text in plot_prediction(clip, faces_for(clip)).texts]
    assert f"{clip.label} {clip.probabilities[clip.label]:.0%}" in texts
    assert any("3 of 3 frames show a face" in text for text in texts)


@pytest.mark.parametrize("frames", [1, 2, 13, 48, 49, 500])
@pytest.mark.parametrize("video", ["a $dollar$ name_with_^odd_signs.mp4", None])
def test_every_length_makes_a_picture(tmp_path: Path, frames: int, video: str | None) -> None:
    clip = make_clip(frames, missing=range(1, frames // 3), video=video)
    write_plot(tmp_path / "plot.png", clip, faces_for(clip))
    image = cv2.imread(str(tmp_path / "plot.png"))
    assert image.shape[1] > 1500
    orange = np.abs(image.astype(int) - (20, 116, 220)).max(axis=-1) < 45
    assert orange.sum() > 500
    assert names(tmp_path) == ["plot.png"]


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".jpg", ".webp"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(2)
    write_plot(tmp_path / f"plot{suffix}", clip, faces_for(clip))
    assert (tmp_path / f"plot{suffix}").stat().st_size > 1000


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    clip = make_clip(1)
    with pytest.raises(OutputError, match=r"ends in one of .png .pdf"):
        write_plot(tmp_path / "plot.txt", clip, faces_for(clip))
    assert names(tmp_path) == []


def test_faces_are_read_from_the_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [[], [(20, 10, 40)], []])
    clip = make_clip(3, video=str(path))
    landmarks = tuple(
        (20 + 40 * x, 10 + 40 * y) for x, y in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.4, 0.8), (0.6, 0.8))
    )
    clip = replace(clip, frames=tuple(replace(frame, landmarks=landmarks) for frame in clip.frames))
    faces = video_faces(clip, [1, None])
    assert list(faces) == [1]
    assert np.median(faces[1][..., 0]) > 200 > 100 > np.median(faces[1][..., 1])


def test_faces_of_a_clip_without_video_must_be_given() -> None:
    with pytest.raises(ValueError, match="prediction: has no video"):
        video_faces(make_clip(1, video=None), [0])
