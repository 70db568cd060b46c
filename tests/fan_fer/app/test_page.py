"""The page of `fan-fer app` in a real browser: Debian's or Ubuntu's Chromium through Playwright, and a real clip."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import pytest

from fan_fer.base.opencv import quiet_opencv
from fan_fer.video.decoding import Video

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'fan_ext[test]'")

WAIT = 120_000  # milliseconds until a clip is read, on a slow machine
DRAWN = """(() => {
  const canvas = document.querySelector("#overlay");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
})()"""
PICTURES = os.environ.get("FAN_APP_PICTURES")  # a folder for screenshots, for whoever works on the page


@pytest.fixture(scope="module")
def clip(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at half the frames, from tears to laughter."""
    path = tmp_path_factory.mktemp("clip") / "tears to laughter.webm"
    video = Video(clips / "WolfgangLanger_Pexels.mp4")
    images = video.read(range(168, 216, 2))
    with quiet_opencv():
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), 12, (640, 360))
    for image in images.values():
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture(scope="module")
def address(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as users start it, which at its end leaves nothing behind."""
    temporary = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "fan_fer", "app", "--port", "0", "--no-browser", "--max-mb", "50"]
    command += ["--example", str(clips / "WolfgangLanger_Pexels.mp4")]  # which takes a while to read
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert server.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
    assert found, server.communicate()
    yield found[0]
    server.send_signal(signal.SIGINT)
    _, err = server.communicate(timeout=30)
    assert (server.returncode, err) == (0, "fan-fer app: ended\n")
    assert not list(temporary.glob("fan-fer-app-*"))


@pytest.fixture(scope="module")
def browser(chromium: str, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sync_api.Browser]:
    # What the camera sees: the clip, over and over.
    camera = tmp_path_factory.mktemp("camera") / "clip.mjpeg"
    images = [cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR) for frame in Video(clip)]
    camera.write_bytes(b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in images))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-video-capture={camera}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: sync_api.Browser, address: str):
    """Opens the page at a width; at the end no request has gone elsewhere, and no script has failed."""
    pages: list[sync_api.Page] = []
    outside: list[str] = []
    faults: list[str] = []

    def open_page(width: int = 1280, height: int = 900, scheme: str = "light") -> sync_api.Page:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("request", lambda request: outside.append(request.url) if _is_outside(request.url) else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: (
                faults.append(message.text)
                if message.type == "error" and "Content Security Policy" in message.text
                else None
            ),
        )
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert outside == []
    assert faults == []


def _is_outside(url: str) -> bool:
    return not url.startswith(("data:", "blob:")) and urlsplit(url).hostname != "127.0.0.1"


def until(page: sync_api.Page, expression: str, argument: object = None) -> None:
    """Waits until it is true. Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(50)


def picture(page: sync_api.Page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(400)
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)


def wide(page: sync_api.Page) -> int:
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture
def read(open_page, clip: Path):
    """Opens the page and has the clip read."""

    def read(**settings) -> sync_api.Page:
        page = open_page(**settings)
        page.set_input_files("#file", clip)
        page.wait_for_selector("#result:not([hidden])", timeout=WAIT)
        return page

    return read


def test_clip_is_read_and_its_frames_are_shown(read, tmp_path: Path) -> None:
    page = read()
    assert page.inner_text("#clip") == "tears to laughter.webm"
    label, share = re.fullmatch(r"(\w+) (\d+) %", page.inner_text("#label")).groups()
    names, values = (page.locator(f"#probabilities {part}").all_inner_texts() for part in ("dt", ".share"))
    shares = dict(zip(names, values, strict=True))
    assert len(shares) == 7
    assert shares[label] == f"{share} %"
    assert page.inner_text("#faces").startswith("24 of 24 frames show a face")
    assert page.locator("#strip img").count() > 8
    faces = "[...document.querySelectorAll('#strip img')].every((face) => face.complete && face.naturalWidth === 256)"
    until(page, faces)
    picture(page, "desktop-light")

    # What the three files say is what the page shows.
    files = {}
    for kind in ("json", "csv", "png"):
        with page.expect_download() as download:
            page.click(f"#{kind}")
        assert download.value.suggested_filename == f"tears to laughter.{kind}"
        files[kind] = tmp_path / kind
        download.value.save_as(files[kind])
    prediction = json.loads(files["json"].read_text())
    assert (prediction["video"], prediction["label"]) == ("tears to laughter.webm", label)
    assert len(files["csv"].read_text().splitlines()) == 25
    assert cv2.imread(str(files["png"])) is not None

    # A click on the strip: that frame, in large, with its own numbers, and the video stands at its time.
    page.locator("#strip").scroll_into_view_if_needed()
    box = page.locator("#strip").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 18.5 / 24, box["y"] + box["height"] / 2)
    frame = prediction["frames"][18]
    assert page.inner_text("#frame-title") == "Frame 18 of 24"
    assert page.inner_text("#emotion").startswith(frame["emotion"])
    numbers = page.inner_text("#numbers")
    assert f"{frame['time']:.3f} s" in numbers
    assert f"{frame['alpha']:.4f}" in numbers
    assert f"{frame['beta']:.4f}" in numbers
    assert f"{100 * frame['weight']:.2f} %" in numbers
    assert page.get_attribute("#face", "src").endswith("/faces/18")
    until(page, f"Math.abs(document.querySelector('#video').currentTime - {frame['time']}) < 0.09")
    # The box is drawn where the face is, and goes when it is not wanted.
    assert page.evaluate(DRAWN)
    page.uncheck("#boxed")
    assert not page.evaluate(DRAWN)
    page.check("#boxed")

    # While it plays, frame, box and timeline follow.
    page.evaluate("document.querySelector('#video').currentTime = 0")
    page.evaluate("document.querySelector('#video').play()")
    until(page, "+document.querySelector('#timeline').ariaValueNow >= 20")
    assert int(re.search(r"\d+", page.inner_text("#frame-title"))[0]) >= 20

    assert page.locator("#variants .variant").count() == 3
    # Leaving the clip deletes it.
    base = page.get_attribute("#json", "href").removesuffix("/files/0/json")
    assert page.evaluate("(url) => fetch(url).then((a) => a.status)", base) == 200
    page.click("#again")
    page.wait_for_selector("#start:not([hidden])")
    until(page, "(url) => fetch(url).then((a) => a.status === 404)", base)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_segments_stand_above_the_timeline(open_page, clip: Path, width: int, scheme: str) -> None:
    page = open_page(width=width, scheme=scheme)
    parts = [("Sad", 0, 9, 0.93), ("Happy", 10, 20, 0.99), ("Neutral", 21, 23, 0.5)]

    def answer(route: sync_api.Route) -> None:
        prediction = route.fetch().json()
        times = [frame["time"] for frame in prediction["frames"]]
        prediction["segments"] = [
            {
                "label": label,
                "first": first,
                "last": last,
                "confidence": share,
                "start": times[first],
                "end": times[last],
            }
            for label, first, last, share in parts
        ]
        route.fulfill(json=prediction)

    page.route("**/files/0/json", answer)
    page.set_input_files("#file", clip)
    page.wait_for_selector("#segments:not([hidden])", timeout=WAIT)
    picture(page, f"segments-{width}-{scheme}")
    assert wide(page) <= 0
    assert page.locator("#segments span").all_inner_texts() == ["Sad 93 %", "Happy 99 %", "Neutral 50 %"]
    assert page.locator("#parts button").all_inner_texts() == [
        "Sad 93 %, 0.0 to 0.8 s",
        "Happy 99 %, 0.8 to 1.7 s",
        "Neutral 50 %, 1.8 to 1.9 s",
    ]
    band, line = page.locator("#segments").bounding_box(), page.locator("#weights").bounding_box()
    assert band["y"] + band["height"] <= line["y"]
    boxes = [page.locator("#segments span").nth(place).bounding_box() for place in range(3)]
    for box, (_, first, last, _) in zip(boxes, parts, strict=True):
        assert box["x"] - line["x"] == pytest.approx(first / 24 * line["width"], abs=1.5)
        assert box["width"] == pytest.approx((last + 1 - first) / 24 * line["width"], abs=1.5)
    page.locator("#segments span").nth(1).click()
    assert page.inner_text("#frame-title") == "Frame 10 of 24"
    page.focus("#parts button:last-child")
    page.keyboard.press("Enter")
    assert page.inner_text("#frame-title") == "Frame 21 of 24"


@pytest.mark.parametrize("segments", [None, []])
def test_without_segments_there_is_no_band(open_page, clip: Path, segments: list | None) -> None:
    page = open_page()

    def answer(route: sync_api.Route) -> None:
        prediction = route.fetch().json()
        prediction.pop("segments", None)
        route.fulfill(json=prediction if segments is None else {**prediction, "segments": segments})

    page.route("**/files/0/json", answer)
    page.set_input_files("#file", clip)
    page.wait_for_selector("#result:not([hidden])", timeout=WAIT)
    assert page.is_hidden("#segments")
    assert page.is_hidden("#parts")
    assert page.inner_text("#label")


def test_keyboard_alone(read) -> None:
    page = read(width=390, height=844, scheme="dark")
    picture(page, "phone-dark")
    assert wide(page) <= 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    reached = None
    for _ in range(40):  # from the clip's name onwards
        page.keyboard.press("Tab")
        reached = page.evaluate("document.activeElement.id")
        if reached == "timeline":
            break
    assert reached == "timeline"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    def now() -> int:
        return int(page.get_attribute("#timeline", "aria-valuenow"))

    heaviest = now()  # where the page opens
    assert heaviest != 22
    for key, place in (("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1), ("PageUp", 3), ("End", 23), ("ArrowLeft", 22)):
        page.keyboard.press(key)
        assert now() == place, key
    assert page.inner_text("#frame-title") == "Frame 22 of 24"
    assert re.fullmatch(
        r"frame 22, 1\.83 seconds, \w+ \d+ %, weight \d+\.\d\d %", page.get_attribute("#timeline", "aria-valuetext")
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.parentElement.id") == "heaviest"
    page.keyboard.press("Enter")
    assert now() == heaviest
    assert page.get_attribute("#said", "aria-live") == "polite"
    assert page.inner_text("#said").startswith("Done. The clip shows ")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_start_fits_and_says_what_was_wrong(open_page, tmp_path: Path, width: int, scheme: str) -> None:
    page = open_page(width=width, scheme=scheme)
    assert wide(page) <= 0
    assert page.inner_text("#limits") == "mp4, mov, webm or avi \N{MIDDLE DOT} up to 5 minutes and 50 MB"
    bad = tmp_path / "notes.mp4"
    bad.write_text("#EXTM3U\n/etc/passwd\n")
    page.set_input_files("#file", bad)
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "notes.mp4: not a video; an mp4, mov, webm or avi file is wanted"
    assert page.get_attribute("#error", "role") == "alert"
    assert page.is_visible("#choose")
    picture(page, f"start-{width}-{scheme}")
    bad.write_bytes(b"")
    page.set_input_files("#file", bad)
    until(page, "document.querySelector('#error').textContent.includes('is empty')")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_what_can_be_asked_fits(open_page, address: str, width: int, scheme: str) -> None:
    page = open_page(width=width, scheme=scheme)
    page.goto(f"{address}docs")
    assert page.locator("h2", has_text="POST /v1/clips").count() == 2
    assert wide(page) <= 0
    picture(page, f"docs-{width}-{scheme}")


def test_clip_without_a_face(open_page, clips: Path) -> None:
    page = open_page()
    page.set_input_files("#file", clips / "no_face.mp4")
    page.wait_for_selector("#error:not([hidden])", timeout=WAIT)
    assert "no_face.mp4: no face found in any of the" in page.inner_text("#error")


def test_cancel_and_example(open_page) -> None:
    page = open_page()
    page.click("#example")
    page.wait_for_selector("#working:not([hidden])")
    until(page, "document.querySelector('#count').textContent.includes('frames')")
    picture(page, "working")
    # Between a look at the page and a click of Playwright's the clip might be done.
    still = (
        "document.querySelector('#working').hidden ? 'done' : (document.querySelector('#cancel').click(), 'at work')"
    )
    assert page.evaluate(still) == "at work"
    page.wait_for_selector("#start:not([hidden])")
    assert page.is_hidden("#error")


def test_what_browsers_cannot_play_is_shown_as_a_copy(open_page, clip: Path, tmp_path: Path) -> None:
    page = open_page()
    old = tmp_path / "old.avi"
    writer = cv2.VideoWriter(str(old), cv2.VideoWriter.fourcc(*"MJPG"), 12, (640, 360))
    for frame in Video(clip):
        writer.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    writer.release()
    page.set_input_files("#file", old)
    page.wait_for_selector("#result:not([hidden])", timeout=WAIT)
    until(page, "document.querySelector('#video').readyState >= 2")
    assert page.evaluate("document.querySelector('#video').src").endswith("/playable")
    until(page, "Math.abs(document.querySelector('#video').duration - 2) < 0.2")


def test_recording(open_page) -> None:
    page = open_page()
    page.click("#record")
    page.wait_for_selector("#shoot:focus")
    page.click("#leave")
    assert page.is_visible("#start")
    page.click("#record")
    page.wait_for_selector("#shoot:focus")
    page.click("#shoot")
    until(page, "document.querySelector('#clock').textContent.includes('1 s')")
    picture(page, "camera")
    page.click("#shoot")
    page.wait_for_selector("#result:not([hidden]), #error:not([hidden])", timeout=WAIT)
    assert page.inner_text("#error") == ""
    assert page.inner_text("#clip") == "camera"
    # Recordings have no length in their header, without which browsers cannot seek: the copy is shown.
    page.focus("#timeline")
    page.keyboard.press("End")
    last = "+document.querySelector('#numbers dd').textContent.split(' ')[0]"
    until(page, f"Math.abs(document.querySelector('#video').currentTime - {last}) < 0.2")


def test_dropped_file(open_page) -> None:
    page = open_page()
    page.evaluate("""() => {
      const data = new DataTransfer();
      data.items.add(new File(["no video"], "dropped.mov"));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }""")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error").startswith("dropped.mov: not a video")


def test_leaving_the_page_deletes_the_clip(read, address: str) -> None:
    page = read()
    base = page.get_attribute("#json", "href").removesuffix("/files/0/json")
    url = address.rstrip("/") + base
    assert page.request.get(url).status == 200
    page.goto("about:blank")
    end = time.monotonic() + 10
    while page.request.get(url).status != 404:
        assert time.monotonic() < end
        time.sleep(0.1)
