"""`fan-fer serve` as programs use it: what it says of itself, the token, clips that outlive it, a disk that is full."""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections import namedtuple
from contextlib import closing
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from fan_fer import recognizer
from fan_fer.app import desk, operations, reading
from fan_fer.app.server import make_app
from fan_fer.app.uploads import DiskFull, Limits, check_room
from fan_fer.base.errors import DataError
from fan_fer.cli import serve as command
from fan_fer.cli.main import main

from ..fakes import SquareDetector, assert_one_error, names, write_video
from .servers import ADDRESS, Hold, make_recognizer, open_server, testclient, until, upload

spec_validator = pytest.importorskip("openapi_spec_validator", reason="pip install 'fan_ext[test]'")
TOKEN = "a-token-of-the-tests"


# What it says of itself


def test_the_description_is_valid_and_answers_are_as_described(serve, clip: Path) -> None:
    client = serve()
    described = client.get("/openapi.json").json()
    spec_validator.validate(described)
    seen = set()

    def ask(method: str, path: str, route: str, wanted: int, **options):
        answer = client.request(method, path, **options)
        assert answer.status_code == wanted, answer.text
        response = described["paths"][route][method.lower()]["responses"][str(wanted)]
        seen.add((method, route))
        for kind, content in response.get("content", {}).items():
            if "schema" in content:
                assert answer.headers["content-type"] == kind
                schema = {"$defs": described["components"]["schemas"], "$ref": content["schema"]["$ref"]}
                text = json.dumps(schema).replace("#/components/schemas/", "#/$defs/")
                jsonschema.validate(answer.json(), json.loads(text))
        return answer

    body = clip.read_bytes()
    taken = ask("POST", "/v1/clips?name=a.mp4&pictures=true", "/v1/clips", 201, content=body)
    base = taken.headers["location"]
    assert base == f"/v1/clips/{taken.json()['id']}"
    one = "/v1/clips/{id}"
    assert ask("GET", f"{base}?wait=60", one, 200).json()["state"] == "done"
    ask("GET", f"{base}/result", f"{one}/result", 200)
    ask("GET", f"{base}/files/0/csv", f"{one}/files/{{network}}/{{kind}}", 200)
    ask("GET", f"{base}/view", f"{one}/view", 200)
    ask("GET", f"{base}/video", f"{one}/video", 200)
    ask("GET", f"{base}/playable", f"{one}/playable", 200)
    ask("GET", f"{base}/faces/5", f"{one}/faces/{{frame}}", 200)
    ask("GET", f"{base}/faces/6", f"{one}/faces/{{frame}}", 404)
    ask("POST", "/v1/example", "/v1/example", 404)
    ask("GET", "/v1/about", "/v1/about", 200)
    ask("GET", "/v1/health", "/v1/health", 200)
    ask("GET", "/v1/health/live", "/v1/health/live", 200)
    ask("GET", "/metrics", "/metrics", 200)
    ask("GET", "/openapi.json", "/openapi.json", 200)
    page = ask("GET", "/docs", "/docs", 200).text
    assert all(path in page for path in described["paths"])
    ask("POST", "/v1/clips", "/v1/clips", 422, content=b"no video")
    ask("DELETE", base, one, 204)
    ask("GET", base, one, 404)
    ask("POST", f"{base}/discard", f"{one}/discard", 404)
    assert seen == {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}


def test_a_result_is_what_predict_writes(serve, recognizers, clip: Path) -> None:
    client = serve()
    id = upload(client, clip, "mine.mp4", pictures=False).json()["id"]
    until(client, id, "done")
    found = client.get(f"/v1/clips/{id}/result")
    schema = json.loads(resources.files("fan_fer").joinpath("prediction.schema.json").read_text())
    jsonschema.validate(found.json(), schema)
    assert found.json() == {**recognizers[0].predict(clip).to_dict(), "video": "mine.mp4"}
    # Without pictures the video is deleted once it is read.
    assert names(client.folder / id) == ["job.json", "made"]
    for path in ("view", "video", "playable", "faces/0", "files/0/png"):
        assert client.get(f"/v1/clips/{id}/{path}").status_code == 404, path


def test_what_is_not_sure_has_no_label(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "load_recognizer", lambda path, **options: make_recognizer())
    networks = reading.find_networks([None], abstain=1.0, min_segment=0.02)
    limits = Limits(minutes=0.5, megabytes=1)
    with closing(desk.Desk(networks, limits, 0, 300, tmp_path / "data")) as opened:
        client = testclient.TestClient(make_app(opened), base_url=ADDRESS)
        id = upload(client, clip, pictures=True).json()["id"]
        until(client, id, "done")
        found = client.get(f"/v1/clips/{id}/result").json()
        rows = client.get(f"/v1/clips/{id}/files/0/csv").text.splitlines()
    wanted = make_recognizer()
    wanted.min_segment = 0.02
    assert found == {**wanted.predict(clip, abstain=1.0).to_dict(), "video": "clip.mp4"}
    assert (found["label"], found["abstain"], rows[1].split(",")[:2]) == (None, 1.0, ["clip.mp4", ""])


def test_a_question_waits_for_the_end(serve, clip: Path) -> None:
    waiting = make_recognizer()
    waiting._detector = detector = Hold()
    client = serve([waiting])
    id = upload(client, clip).json()["id"]
    begun = time.monotonic()
    assert client.get(f"/v1/clips/{id}?wait=0.3").json()["state"] == "reading"
    assert 0.3 <= time.monotonic() - begun < 5
    detector.go.set()
    assert client.get(f"/v1/clips/{id}?wait=60").json()["state"] == "done"
    assert client.get(f"/v1/clips/{id}?wait=soon").status_code == 422


def test_metrics(serve, clip: Path) -> None:
    client = serve()
    until(client, upload(client, clip).json()["id"], "done")
    client.request("INVENTED", "/v1/nothing")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert lines['fan_fer_clips{state="done"}'] == lines["fan_fer_readers_ready"] == "1.0"
    assert lines["fan_fer_frames_read_total"] == "7.0"
    assert lines["fan_fer_received_bytes_total"] == f"{float(clip.stat().st_size)}"
    assert lines["fan_fer_reading_seconds_count"] == "1.0"
    assert lines['fan_fer_requests_total{code="201",method="POST",route="/v1/clips"}'] == "1.0"
    assert lines['fan_fer_requests_total{code="404",method="other",route="other"}'] == "1.0"
    assert "clip.mp4" not in "".join(lines)


def test_a_defect_is_told_and_printed(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = testclient.TestClient(serve().app, base_url=ADDRESS, raise_server_exceptions=False)
    monkeypatch.setattr(operations, "class_colors", lambda classes: 1 / 0)
    answer = client.get("/v1/about")
    assert (answer.status_code, list(answer.json())) == (500, ["error"])


# Who may ask


def test_without_the_token_nothing_is_told(serve, clip: Path) -> None:
    client = serve(token=TOKEN, local=False)
    right = {"authorization": f"Bearer {TOKEN}"}
    id = client.post("/v1/clips", content=clip.read_bytes(), headers=right).json()["id"]
    until_done = client.get(f"/v1/clips/{id}?wait=60", headers=right)
    assert until_done.json()["state"] == "done"
    wrong = [{}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}, {"authorization": f"Basic {TOKEN}"}]
    wrong.append({"authorization": b"Bearer " + b"\xff\xfe"})
    for headers in wrong:
        for path in (f"/v1/clips/{id}", f"/v1/clips/{id}/result", "/v1/about", "/metrics", "/v1/nothing"):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert client.post("/v1/clips", content=clip.read_bytes(), headers=headers).status_code == 401
        assert client.delete(f"/v1/clips/{id}", headers=headers).status_code == 401
        for path in ("/v1/health", "/v1/health/live", "/openapi.json", "/docs"):
            assert client.get(path, headers=headers).status_code == 200
    assert client.get(f"/v1/clips/{id}/result", headers={**right, "host": "emotions.example"}).status_code == 200
    described = client.get("/openapi.json").json()
    spec_validator.validate(described)
    assert described["paths"]["/v1/clips"]["post"]["security"] == [{"token": []}]
    assert "security" not in described["paths"]["/v1/health"]["get"]


def test_other_pages_are_refused_with_the_token_too(serve, clip: Path) -> None:
    client = serve(token=TOKEN, local=False)
    headers = {"authorization": f"Bearer {TOKEN}", "origin": "https://evil.example"}
    assert client.post("/v1/clips", content=clip.read_bytes(), headers=headers).status_code == 403
    assert "access-control-allow-origin" not in client.get("/v1/about", headers=headers).headers


def test_ids_cannot_be_guessed(serve, clip: Path) -> None:
    client = serve()
    ids = {upload(client, clip).json()["id"] for _ in range(3)}
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in ids)
    assert len(ids) == 3
    assert client.get("/v1/clips").status_code == 405  # there is no list


# Clips that outlive the process


def test_what_was_accepted_is_read_after_a_restart(recognizers, clip: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    held = make_recognizer()
    held._detector = detector = Hold()
    first = open_server([held], data=data)
    ids = [upload(first, clip, f"{number}.mp4", pictures=False).json()["id"] for number in range(3)]
    assert detector.begun.wait(30)
    with pytest.raises(DataError, match="another fan-fer serve uses this folder; another --data is wanted"):
        open_server(recognizers, data=data)
    # As a process that is killed leaves it, with an upload that was half done and a file that is not ours.
    copy = tmp_path / "killed"
    shutil.copytree(data, copy)
    half = copy / "clips" / ("0" * 32)
    half.mkdir()
    (half / "clip").write_bytes(b"half")
    (copy / "clips" / "notes").mkdir()
    detector.go.set()
    first.desk.close()
    for folder in (copy, data):
        second = open_server(recognizers, data=folder)
        for number, id in enumerate(ids):
            assert until(second, id, "done", "failed")["state"] == "done"
            assert second.get(f"/v1/clips/{id}/result").json()["video"] == f"{number}.mp4"
        second.desk.close()
    assert names(copy / "clips") == sorted([*ids, "notes"])
    # Results too are there after a restart.
    third = open_server(recognizers, data=data)
    assert third.get(f"/v1/clips/{ids[0]}/result").status_code == 200
    third.desk.close()


def test_results_stay_for_as_long_as_they_are_kept(recognizers, clip: Path, tmp_path: Path) -> None:
    client = open_server(recognizers, keep=3, data=tmp_path)
    id = upload(client, clip).json()["id"]
    until(client, id, "done")
    end = time.monotonic() + 20
    while client.get(f"/v1/clips/{id}").status_code == 200 or names(client.folder):  # questions do not prolong it
        assert time.monotonic() < end
        time.sleep(0.05)
    failed = upload(client, write_video(tmp_path / "grey.mp4", [[]] * 3)).json()["id"]
    until(client, failed, "failed")
    client.desk.close()
    note = tmp_path / "clips" / failed / "job.json"
    note.write_text(re.sub(r'"finished": [\d.]+', '"finished": 1.0', note.read_text()))  # long ago
    client = open_server(recognizers, keep=3, data=tmp_path)
    end = time.monotonic() + 20
    while names(client.folder):
        assert time.monotonic() < end
        time.sleep(0.05)
    client.desk.close()


# A disk that is full

Disk = namedtuple("Disk", "total used free")


def test_a_file_that_does_not_fit_is_not_begun(serve, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Disk(10**9, 0, 50_000_000 + clip.stat().st_size - 1))
        answer = upload(client, clip)
        assert answer.status_code == 507
        assert answer.json()["error"].startswith("clip.mp4: cannot be stored, the server's disk is full; nothing was")
        assert names(client.folder) == []
        assert client.get("/v1/health").status_code == 200
        patch.setattr(shutil, "disk_usage", lambda path: Disk(10**9, 0, 49_999_999))
        assert (client.get("/v1/health").status_code, client.get("/v1/health").json()["room"]) == (503, False)
    assert until(client, upload(client, clip).json()["id"], "done", "failed")["state"] == "done"


def test_some_of_the_disk_stays_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**12, 0, 300_000_000))
    check_room(tmp_path, "clip", 44_000_000)
    with pytest.raises(DiskFull):
        check_room(tmp_path, "clip", 44_000_001)


@pytest.mark.parametrize("where", ["the clip", "its note"])
def test_a_disk_that_gets_full_on_the_way(serve, clip: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    client = serve()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "the clip":
            patch.setattr(operations, "check_start", full)
        else:
            patch.setattr(desk, "write_json", full)
        answer = upload(client, clip)
        assert (answer.status_code, names(client.folder)) == (507, [])
        assert re.fullmatch("clip.mp4: cannot be stored, the server's disk is full; .*", answer.json()["error"])
    assert until(client, upload(client, clip).json()["id"], "done", "failed")["state"] == "done"


def test_a_clip_whose_results_do_not_fit_waits_for_room(
    serve, clip: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(desk, "PAUSE", 0.05)
    client, tries = serve(), []

    def full(*arguments: object) -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "_write_files", full)
        id = upload(client, clip).json()["id"]
        end = time.monotonic() + 30
        while len(tries) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert client.get(f"/v1/clips/{id}").json()["state"] in ("waiting", "reading")
    assert until(client, id, "done", "failed")["state"] == "done"
    assert "the disk is full" in capfd.readouterr().err


# The command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())
    monkeypatch.delenv("FAN_FER_TOKEN", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["serve", "--port", "0", "--data", str(tmp_path / "data"), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_bad_options(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_error(run("--host", "0.0.0.0"), r"--host 0\.0\.0\.0: others could read clips; a token \(FAN_FER_TOKEN")
    assert_one_error(run("--host", "::"), "--host ::: others could read clips")
    assert_one_error(run("--host", "no such host"), "--host no such host: others could")
    assert_one_error(run("--host", "no such host", "--no-token"), "--host no such host: .*; an address is wanted")
    assert_one_error(run("--token", "short"), "the token: 16 or more letters")
    assert_one_error(run("--token", "x" * 15 + "\n"), "the token: 16 or more letters")
    assert_one_error(run("--token", "x" * 16, "--no-token"), "--no-token: there is a token")
    assert_one_error(run("--token", "x" * 16, "--token-file", "x"), "--token and --token-file: one of them")
    assert_one_error(run("--token-file", tmp_path / "none"), "--token-file .*none: cannot be read")
    (tmp_path / "empty").touch()
    assert_one_error(run("--host", "0.0.0.0", "--token-file", tmp_path / "empty"), "the token: 16 or more")
    assert_one_error(run("--workers", 0), "--workers 0: at least 1 is wanted")
    assert_one_error(run("--max-clips", 0), "--max-clips 0: at least 1 is wanted")
    assert_one_error(run("--max-mb", 0), "--max-mb 0: a number above 0 is wanted")
    assert_one_error(run("--keep", 0), "--keep 0: seconds above 0 are wanted")
    assert_one_error(run("--time-limit", 0), "time limit 0: seconds above 0 are wanted")
    assert_one_error(run("--abstain", 2), "--abstain 2: a probability, 0 to 1, is wanted")
    assert_one_error(run("--abstain", "nan"), "--abstain nan: a probability")
    for seconds in (0, -1, "inf", "nan"):
        assert_one_error(run("--min-segment", seconds), f"--min-segment {seconds}: seconds, above 0, are wanted")
    assert_one_error(run("--batch-size", 0), "batch size 0: at least 1 is wanted")
    assert_one_error(run("--precision", "float16", "--device", "cpu"), 'precision "float16": is for GPUs')
    assert_one_error(run("--weights", tmp_path / "none"), "none: no such file")
    (tmp_path / "data").touch()
    assert_one_error(run(), "clips: cannot be made")
    monkeypatch.setenv("FAN_FER_TOKEN", "short")
    assert_one_error(run(), "the token: 16 or more letters")


@pytest.mark.parametrize(
    ("given", "token"),
    [
        ([], None),
        (["--host", "localhost"], None),
        (["--host", "127.0.0.2"], None),
        (["--host", "0.0.0.0", "--token", TOKEN], TOKEN),
        (["--host", "0.0.0.0", "--token-file", "FILE"], "the-token-of-a-file"),
        (["--host", "0.0.0.0", "--no-token"], None),
    ],
)
def test_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], token: str | None) -> None:
    from fan_fer.cli.main import _parser

    monkeypatch.delenv("FAN_FER_TOKEN", raising=False)
    (tmp_path / "FILE").write_text("the-token-of-a-file\n")
    monkeypatch.chdir(tmp_path)
    assert command._token(_parser().parse_args(["serve", *given])) == token
    if not given:
        monkeypatch.setenv("FAN_FER_TOKEN", TOKEN)
        assert command._token(_parser().parse_args(["serve"])) == TOKEN
