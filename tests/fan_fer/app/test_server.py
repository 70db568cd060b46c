"""The server of `fan-fer serve` and `fan-fer app`: uploads, limits, what is kept and for how long, and who may ask."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fan_fer import recognizer
from fan_fer.app import operations, reading, uploads
from fan_fer.app.comparison import compare
from fan_fer.app.uploads import Limits
from fan_fer.base.errors import one_line
from fan_fer.cli.main import main

from ..fakes import SquareDetector, assert_one_error, make_clip, names, write_video
from ..odd_paths import FOREIGN
from ..video.made import video, with_sound
from .servers import ADDRESS, Hold, kept, make_recognizer, until, upload

# Reading


def test_names_that_are_no_text(serve, clip: Path) -> None:
    client = serve([make_recognizer(name=FOREIGN)], example=clip.rename(clip.with_name(f"{FOREIGN}.mp4")))
    assert client.get("/v1/about").json()["networks"] == [one_line(FOREIGN)]
    shutil.rmtree(client.folder)  # as systems tidy up
    answer = client.post("/v1/example")
    assert (answer.status_code, answer.json()["name"]) == (201, "z .mp4")
    base = f"/v1/clips/{answer.json()['id']}"
    assert until(client, answer.json()["id"], "done", "failed")["state"] == "done"
    assert client.get(f"{base}/result").json()["weights_file"] == f"{FOREIGN}.safetensors"
    for kind in ("json", "csv", "png"):
        assert client.get(f"{base}/files/0/{kind}").status_code == 200


def test_clip_from_upload_to_deletion(serve, clip: Path) -> None:
    client = serve()
    answer = upload(client, clip, "../../etc/my clip.mp4")
    assert answer.status_code == 201
    assert answer.json()["name"] == "my clip.mp4"
    base = f"/v1/clips/{answer.json()['id']}"
    assert until(client, answer.json()["id"], "done", "failed")["state"] == "done"
    view = client.get(f"{base}/view").json()
    assert (view["width"], view["height"]) == (96, 64)
    assert [(network["name"], len(network["variants"])) for network in view["networks"]] == [("random", 3)]
    prediction = client.get(f"{base}/result").json()
    assert (prediction["video"], prediction["frames_total"], prediction["frames_with_face"]) == ("my clip.mp4", 7, 6)

    files = {kind: client.get(f"{base}/files/0/{kind}") for kind in ("json", "csv", "png")}
    assert files["json"].json() == prediction
    assert len(files["csv"].text.splitlines()) == 8
    assert files["png"].content.startswith(b"\x89PNG")
    assert "my%20clip.json" in files["json"].headers["content-disposition"]
    assert client.get(f"{base}/faces/5").content[:2] == b"\xff\xd8"
    assert client.get(f"{base}/faces/6").status_code == 404  # no face there
    assert client.get(f"{base}/video").content == clip.read_bytes()
    part = client.get(f"{base}/video", headers={"range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")

    assert client.delete(base).status_code == 204
    assert client.get(base).status_code == 404
    assert kept(client) == []


def test_networks_read_the_same_faces(serve, recognizers, clip: Path) -> None:
    client = serve(recognizers)
    base = upload(client, clip).json()["id"]
    assert until(client, base, "done", "failed")["state"] == "done"
    view = client.get(f"/v1/clips/{base}/view").json()
    assert [network["name"] for network in view["networks"]] == ["random", "other"]
    first, second = (client.get(f"/v1/clips/{base}/files/{number}/json").json() for number in range(2))
    for one, other in zip(first["frames"], second["frames"], strict=True):
        assert (one["index"], one["time"], one["box"]) == (other["index"], other["time"], other["box"])
    # Each is what it would have said alone.
    assert first["probabilities"] == recognizers[0].predict(clip).to_dict()["probabilities"]
    alone = recognizers[1].predict(clip)
    assert second["probabilities"] == pytest.approx(dict(alone.probabilities), abs=1e-5)
    assert [f["weight"] for f in second["frames"][:6]] == pytest.approx([f.weight for f in alone.frames[:6]], abs=1e-5)


def test_variants() -> None:
    clip = make_clip(5, missing=[2])
    network, alpha, mean = compare(clip)
    assert network.probabilities == clip.probabilities
    faces = [frame for frame in clip.frames if frame.has_face]
    for name in clip.probabilities:
        own = [frame.probabilities[name] for frame in faces]
        assert mean.probabilities[name] == pytest.approx(np.mean(own))
        assert alpha.probabilities[name] == pytest.approx(np.average(own, weights=[f.alpha for f in faces]))
    assert [variant.name for variant in compare(make_clip(3, variant="score-fusion"))] == ["This network"]


def test_second_clip_waits_and_cancelling_frees_the_line(serve, clip: Path) -> None:
    waiting = make_recognizer()
    waiting._detector = detector = Hold()
    client = serve([waiting])
    first, second = (upload(client, clip).json()["id"] for _ in range(2))
    assert detector.begun.wait(30)
    assert client.get(f"/v1/clips/{first}").json()["state"] == "reading"
    waits = {"id": second, "name": "clip.mp4", "state": "waiting", "ahead": 1}
    assert client.get(f"/v1/clips/{second}").json() == waits
    assert client.get(f"/v1/clips/{second}/result").status_code == 409
    assert client.post(f"/v1/clips/{first}/discard").status_code == 204
    detector.go.set()
    assert until(client, second, "done", "failed")["state"] == "done"
    assert names(client.folder) == [second]


# What is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.mp4: the file is empty; an mp4, mov, webm or avi file is wanted"),
        (b"#EXTM3U\n/etc/passwd\n", "x.mp4: not a video; an mp4, mov, webm or avi file is wanted"),
    ],
)
def test_what_does_not_begin_as_a_video_is_not_taken(serve, content: bytes, message: str) -> None:
    client = serve()
    answer = upload(client, content, "x.mp4")
    assert (answer.status_code, answer.json()["error"]) == (422, message)
    assert names(client.folder) == []


def test_a_form_is_told_what_is_wanted(serve, clip: Path) -> None:
    client = serve()
    answer = client.post("/v1/clips?name=x.mp4", files={"file": clip.read_bytes()})
    wanted = "x.mp4: came in a form; the file itself is wanted as the body (curl --data-binary @FILE)"
    assert (answer.status_code, answer.json()["error"]) == (422, wanted)
    assert names(client.folder) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x00\x18ftypisom" + bytes(100), "x.mp4: not a video, or a damaged one"),
        (
            video().replace(b"avc1", b"evc1"),
            "x.mp4: its pictures are in a format (EVC) that cannot be decoded here; as",
        ),
        (with_sound(video(images=1), "mp4", 1), "x.mp4: no video in it, only sound and a cover picture"),
    ],
)
def test_what_is_no_video_fails_where_it_is_read(serve, content: bytes, message: str) -> None:
    client = serve()
    id = upload(client, content, "x.mp4").json()["id"]
    status = until(client, id, "done", "failed")
    assert status["error"].startswith(message)
    answer = client.get(f"/v1/clips/{id}/result")
    assert (answer.status_code, answer.json()["error"]) == (422, status["error"])
    assert kept(client) == []


def test_no_face(serve, clip: Path, tmp_path: Path) -> None:
    client = serve()
    id = upload(client, write_video(tmp_path / "grey.mp4", [[]] * 3), "grey.mp4").json()["id"]
    status = until(client, id, "done", "failed")
    assert status["error"].startswith("grey.mp4: no face found in any of the 3 frames; ")
    assert kept(client) == []
    # The server goes on.
    assert until(client, upload(client, clip).json()["id"], "done", "failed")["state"] == "done"


def test_too_long_is_known_before_the_work(serve, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.avi", [[(10, 10, 30)]] * 32, fps=1)
    client = serve()
    status = until(client, upload(client, long, "long.avi").json()["id"], "done", "failed")
    assert "long.avi: lasts 32 seconds; at most 30 seconds are taken" in status["error"]
    assert status["state"] == "failed"
    assert kept(client) == []


def test_a_quick_clip_is_as_long_as_it_lasts(serve, tmp_path: Path) -> None:
    client = serve(limits=Limits(minutes=1 / 60))
    quick = write_video(tmp_path / "quick.mp4", [[(10, 10, 30)]] * 230, fps=240)
    id = upload(client, quick, "quick.mp4").json()["id"]
    assert until(client, id, "done", "failed")["state"] == "done"
    assert client.get("/v1/about").json()["longest"] == "1 seconds"


def test_too_large(serve) -> None:
    client = serve()
    answer = upload(client, bytes(1_000_001))
    assert (answer.status_code, answer.json()["error"].split(";")[0]) == (413, "clip.mp4: is larger than 1 MB")

    def unannounced() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(100_000)

    answer = client.post("/v1/clips", params={"name": "x"}, content=unannounced())
    assert answer.status_code == 413
    assert kept(client) == []


@pytest.mark.parametrize(("taken", "told"), [(1, "1 clip waits"), (2, "2 clips wait")])
def test_too_many(serve, clip: Path, taken: int, told: str) -> None:
    waiting = make_recognizer()
    waiting._detector = detector = Hold()
    client = serve([waiting], Limits(0.5, 1, clips=taken))
    ids = [upload(client, clip).json()["id"] for _ in range(taken)]
    answer = upload(client, clip)
    assert answer.status_code == 429
    assert re.match(rf"{told} already, and no more are taken; try again in \d+ seconds", answer.json()["error"])
    assert int(answer.headers["retry-after"]) >= 1
    detector.go.set()
    assert all(until(client, id, "done") for id in ids)
    assert upload(client, clip).status_code == 201  # those that are read do not count


def test_a_defect_fails_one_clip(serve, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_clip", lambda *arguments: 1 / 0)
        status = until(client, upload(client, clip).json()["id"], "done", "failed")
    assert status["error"] == "clip.mp4: could not be read (ZeroDivisionError: division by zero)"
    assert until(client, upload(client, clip).json()["id"], "done", "failed")["state"] == "done"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../a.mp4", "a.mp4"), ("C:\\x\\b.avi", "b.avi"), ("\n\x1b[2J", "[2J"), ("", "clip"), ("x" * 500, "x" * 120)],
)
def test_names_are_only_shown(name: str, shown: str) -> None:
    assert uploads.display_name(name) == shown


# Who may ask, and what is kept


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8350", "127.0.0.1.evil.example", ""])
def test_other_hosts_are_refused(serve, host: str) -> None:
    client = serve()
    for path in ("/", "/v1/about", "/static/app.js", "/docs"):
        assert client.get(path, headers={"host": host}).status_code == 400
        assert client.get(path, headers={"host": "localhost:8350"}).status_code == 200


def test_other_pages_cannot_upload(serve, clip: Path) -> None:
    client = serve()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9"):
        answer = client.post("/v1/clips", content=clip.read_bytes(), headers={"origin": origin})
        assert answer.status_code == 403
    assert client.post("/v1/clips", content=clip.read_bytes(), headers={"origin": ADDRESS}).status_code == 201


def test_no_way_out_of_the_folders(serve, clip: Path) -> None:
    client = serve()
    id = upload(client, clip).json()["id"]
    until(client, id, "done")
    for path in (
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        f"/v1/clips/{id}/files/0/..%2f..%2fclip",
        f"/v1/clips/{id}/files/0/clip",
        f"/v1/clips/{id}/faces/..%2f..%2fclip",
        "/v1/clips/..%2f..",
    ):
        assert client.get(path).status_code == 404, path


def test_page_asks_nothing_of_others(serve) -> None:
    client = serve()
    page = serve(page=True).get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    for name in ("app.js", "app.css", "player.js", "timeline.js", "camera.js", "drawing.js", "favicon.svg"):
        text = client.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        ("video", "_media_type"),
        ("playable", "playable_copy"),
        ("faces/5", "face_file"),
        ("files/0/json", "is_file"),
        ("files/0/csv", "is_file"),
        ("files/0/png", "is_file"),
    ],
)
def test_clip_that_is_thrown_away_while_its_files_are_sent(
    serve, clip: Path, monkeypatch: pytest.MonkeyPatch, asked: str, looks: str
) -> None:
    client = serve()
    id = upload(client, clip).json()["id"]
    assert until(client, id, "done", "failed")["state"] == "done"
    before = client.get(f"/v1/clips/{id}/{asked}")
    look = getattr(operations, looks)

    def look_and_leave(*arguments):
        client.desk.discard(client.desk.find(id))
        return look(*arguments)

    monkeypatch.setattr(operations, looks, look_and_leave)
    answer = client.get(f"/v1/clips/{id}/{asked}")
    assert (answer.status_code, answer.content) == (200, before.content)
    assert kept(client) == []
    assert client.get(f"/v1/clips/{id}/{asked}").status_code == 404


def test_clip_that_is_thrown_away_just_before_its_files_are_asked_for(
    serve, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    id = upload(client, clip).json()["id"]
    assert until(client, id, "done", "failed")["state"] == "done"
    gone = client.desk.find(id)
    client.desk.discard(gone)
    monkeypatch.setattr(client.desk, "find", lambda id: gone)
    assert client.get(f"/v1/clips/{id}/video").status_code == 404


def test_clip_of_a_page_that_is_gone_expires(serve, clip: Path) -> None:
    client = serve(keep=2)  # longer than a busy machine may hold up a request
    id = upload(client, clip).json()["id"]
    end = time.monotonic() + 3.5
    while time.monotonic() < end:  # signs of life keep it
        assert client.get(f"/v1/clips/{id}").status_code == 200
        time.sleep(0.05)
    end = time.monotonic() + 20
    while kept(client):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert client.get(f"/v1/clips/{id}").status_code == 404


def test_server_that_ends_while_it_reads_leaves_nothing(serve, clip: Path) -> None:
    waiting = make_recognizer()
    waiting._detector = detector = Hold()
    client = serve([waiting])
    upload(client, clip)
    assert detector.begun.wait(30)
    assert kept(client)
    threading.Timer(0.2, detector.go.set).start()  # the fixture ends the server, and looks


# The command


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def app(*arguments: object) -> tuple[int, str, str]:
        code = main(["app", "--no-browser", *map(str, arguments)])
        return code, *capsys.readouterr()

    return app


def test_port_in_use(app) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert_one_error(app("--port", port), rf"--port {port}: cannot be used \(.*in use\); another port is wanted")


def test_bad_options(app, tmp_path: Path) -> None:
    assert_one_error(app("--port", 70000), "--port 70000: no such port")
    assert_one_error(app("--port", 0, "--max-minutes", 0), "--max-minutes 0: a number above 0 is wanted")
    assert_one_error(app("--port", 0, "--max-mb", -1), "--max-mb -1: a number above 0 is wanted")
    assert_one_error(app("--port", 0, "--weights", tmp_path / "none"), "none: no such file")
    assert_one_error(app("--port", 0, "--example", tmp_path / "none.mp4"), "none.mp4: no such file")


def test_without_the_libraries() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from fan_fer.cli.main import main; sys.exit(main(['app']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert_one_error((done.returncode, done.stdout, done.stderr), r"app needs uvicorn: pip install 'fan_ext\[app\]'")
