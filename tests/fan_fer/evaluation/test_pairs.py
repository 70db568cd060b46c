"""Which generated clip is put beside which real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fan_fer.base.errors import FanFerError
from fan_fer.evaluation.pairs import Pairing, make_pairs, read_side


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def pair(real: Path, generated: Path, column: str | None = None) -> Pairing:
    return make_pairs(read_side(real), read_side(generated), column)


def found(pairing: Pairing) -> list[tuple[str, str, str]]:
    return [(one.real.name, one.generated.name, one.generator) for one in pairing.pairs]


def test_folders_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", "a.mp4", "b.v2.avi", "alone.mp4")
    generated = folder(tmp_path / "made", "a.avi", "b.v2.mp4", "c.mp4")
    pairing = pair(real, generated)
    assert found(pairing) == [("a.mp4", "a.avi", ""), ("b.v2.avi", "b.v2.mp4", "")]
    assert pairing.real_alone == {"alone.mp4": "no generated clip of that name"}
    assert pairing.generated_alone == {"c.mp4": "no real clip of that name"}


def test_a_real_clip_may_have_several_generated_ones_and_folders_name_the_generators(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", "a.mp4", "b.mp4")
    generated = folder(tmp_path / "made", "one/a.mp4", "one/b.mp4", "two/v3/a.mp4")
    assert found(pair(real, generated)) == [
        ("a.mp4", "one/a.mp4", "one"),
        ("b.mp4", "one/b.mp4", "one"),
        ("a.mp4", "two/v3/a.mp4", "two/v3"),
    ]


def test_where_names_repeat_the_folders_tell(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", "M003/angry/001.mp4", "M003/sad/001.mp4", "M005/sad/001.mp4")
    made = folder(tmp_path / "made", "x/M003/sad/001.mp4", "x/M005/sad/001.mp4", "x/M007/sad/001.mp4")
    pairing = pair(real, made)
    assert found(pairing) == [
        ("M003/sad/001.mp4", "x/M003/sad/001.mp4", "x"),
        ("M005/sad/001.mp4", "x/M005/sad/001.mp4", "x"),
    ]
    assert "3 real clips have that name" in pairing.generated_alone["x/M007/sad/001.mp4"]
    assert list(pairing.real_alone) == ["M003/angry/001.mp4"]


def test_folders_of_pictures_are_clips(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", "a/0001.png", "a/0002.png", "b.1/0001.png")
    made = folder(tmp_path / "made", "a.mp4", "x/b.1/0001.jpg")
    assert found(pair(real, folder(tmp_path / "one", "a/01.png"))) == [("a", "a", "")]
    with pytest.raises(FanFerError, match="none of its 1 clips has its real clip"):
        pair(real, folder(tmp_path / "two", "c/01.png"))
    # Beside a video pictures are no clip.
    assert [clip.name for clip in read_side(made).clips] == ["a.mp4"]
    assert read_side(made).warnings[0].endswith("1 file was not taken: x/b.1/0001.jpg")


def test_a_folder_that_is_one_clip(tmp_path: Path) -> None:
    real, made = folder(tmp_path / "1" / "clip", "1.png", "2.png"), folder(tmp_path / "2" / "clip", "1.png")
    assert found(pair(real, made)) == [("clip", "clip", "")]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_lists_by_name_below_the_folders_that_their_clips_share(tmp_path: Path) -> None:
    real = write(tmp_path / "real.csv", "video,label\nr/v/sad/1.mp4,Sad\nr/v/happy/1.mp4,Happy\n")
    made = write(tmp_path / "x" / "made.csv", "video,Generator\n../g/happy/1.avi,one\n../g/sad/1.avi,two\n")
    assert found(pair(real, made)) == [
        ("r/v/happy/1.mp4", "../g/happy/1.avi", "one"),
        ("r/v/sad/1.mp4", "../g/sad/1.avi", "two"),
    ]


def test_a_column_pairs(tmp_path: Path) -> None:
    real = write(tmp_path / "real.csv", "video,Take,label\nr1.mp4,A,Sad\nr2.mp4,B,\nr3.mp4,,Sad\n")
    made = write(tmp_path / "made.csv", "video,take,level\ng1.mp4,b,1\ng2.mp4,a,2\ng3.mp4,c,3\ng4.mp4,,3\n")
    pairing = pair(real, made, "take")
    assert found(pairing) == [("r2.mp4", "g1.mp4", ""), ("r1.mp4", "g2.mp4", "")]
    assert pairing.generated_alone == {"g3.mp4": "no real clip of that take", "g4.mp4": "its take is empty"}
    assert list(pairing.real_alone) == ["r3.mp4"]
    assert dict(pairing.pairs[1].about) == {"video": "g2.mp4", "take": "a", "level": "2", "label": "Sad"}


@pytest.mark.parametrize(
    ("real", "made", "column", "message"),
    [
        ("video\na.mp4\n", "video\nb.mp4\n", None, r"none of its 1 clips .*b\.mp4: no real clip of that name.*--pair"),
        ("video\na.mp4\na.mp4\n", "video\na.mp4\n", None, r'names "a\.mp4" twice'),
        (
            "video\na.mp4\n",
            "video,take\na.mp4,1\n",
            "take",
            r"--pair take: .*real\.csv has no such column; it has video",
        ),
        ("video,take\na.mp4,1\n", "video\na.mp4\n", "take", r"--pair take: .*made\.csv has no such column"),
        (
            "video,take\na.mp4,x\nb.mp4,X\n",
            "video,take\nc.mp4,x\n",
            "take",
            r'clips "a\.mp4" and "b\.mp4" have one take',
        ),
        ("video\n", "video\na.mp4\n", None, "names no video"),
        (
            "file,emotion\na.mp4,sad\n",
            "video\na.mp4\n",
            None,
            r"no column video \(.*file, emotion\); a CSV",
        ),
    ],
)
def test_refusals(tmp_path: Path, real: str, made: str, column: str | None, message: str) -> None:
    with pytest.raises(FanFerError, match=message):
        pair(write(tmp_path / "real.csv", real), write(tmp_path / "made.csv", made), column)


@pytest.mark.parametrize("content", [None, b"\x00\x00\x00\x18ftypisom\xff\xfe", b"hello\n"])
def test_what_is_neither_list_nor_folder_is_told_what_is_wanted(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FanFerError, match=r"; a CSV with .* or a folder of clips, is wanted$"):
        read_side(path)


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(FanFerError, match="no image in this folder"):
        read_side(tmp_path / "void")
