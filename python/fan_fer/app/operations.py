"""What can be asked: one table, of which the server's routes and its OpenAPI description are made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from fan_fer.app.answers import Json
from fan_fer.app.desk import DONE, FAILED, FINISHED, WAITING, Clip, Desk
from fan_fer.app.openapi import describe, human_page
from fan_fer.app.playable import playable_copy
from fan_fer.app.reading import FACES, FILES, VIEW, face_file
from fan_fer.app.uploads import DiskFull, TooSlow, check_room, check_size, check_start, display_name, is_full, span
from fan_fer.base.errors import FanFerError, VideoError
from fan_fer.base.files import is_file
from fan_fer.output.colors import class_colors

GONE = "no such clip, or it is no longer here"
TYPES = {"json": "application/json", "csv": "text/csv", "png": "image/png"}
SILENCE = 30.0  # seconds without a byte of an upload, after which it is given up
SLOWEST = 20_000  # bytes a second of an upload, on the whole
LONGEST_POLL = 60.0  # seconds that a question waits for a clip to be finished
LOOK = 0.05  # seconds between two looks meanwhile

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """A method of a path: who answers, and what there is to know about it.

    says: status codes that are usual, and for each what it means or the name of its schema (app/openapi.py).
    query: names of the query's parameters, and what they are.
    body: whether a file is sent. open: whether it is answered without the token.
    """

    method: str
    path: str
    answer: Answer
    summary: str
    says: Mapping[int, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bool = False
    open: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        async with AsyncExitStack() as request.state.stack:
            response = await self.answer(request)
            await response(scope, receive, send)


async def upload(request: Request) -> Response:
    """Takes a video as the request's body. Answers with the clip's id, or what is wrong."""
    name = display_name(request.query_params.get("name", ""))
    desk = _desk(request)
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise VideoError(f"{name}: came in a form; the file itself is wanted as the body (curl --data-binary @FILE)")
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdigit() else 0
    check_size(name, announced, desk.limits)
    pictures = request.query_params.get("pictures", "").lower() in ("1", "true")
    return await _admit(request, name, pictures, lambda clip: _receive(request, clip, announced))


async def _receive(request: Request, clip: Clip, announced: int) -> None:
    """Writes the request's body into the clip's file. Raises TooLarge, TooSlow, DiskFull, OSError."""
    desk = _desk(request)
    check_room(clip.folder, clip.name, announced)
    received, begun = 0, time.monotonic()

    def store(part: bytes) -> None:
        check_room(clip.folder, clip.name, len(part))
        file.write(part)

    parts = aiter(request.stream())
    with clip.video.open("wb") as file:
        while True:
            try:
                with anyio.fail_after(SILENCE):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise TooSlow(f"{clip.name}: nothing came for {SILENCE:g} seconds") from None
            received += len(part)
            desk.metrics.received.inc(len(part))
            check_size(clip.name, received, desk.limits)
            if received < SLOWEST * (time.monotonic() - begun - SILENCE):
                raise TooSlow(f"{clip.name}: comes at less than {SLOWEST // 1000} kB a second")
            await run_in_threadpool(store, part)
            desk.find(clip.id)


async def _admit(request: Request, name: str, pictures: bool, fetch: Callable[[Clip], Awaitable[object]]) -> Response:
    """Fetches the video, looks whether it may be one, and puts it in line; leaves nothing behind where not."""
    desk = _desk(request)
    clip = None
    try:
        clip = desk.open(name, pictures)
        await fetch(clip)
        await run_in_threadpool(check_start, clip.video, name)
        await run_in_threadpool(desk.submit, clip)
    except BaseException as error:
        if clip is not None:
            desk.discard(clip)
        if isinstance(error, ClientDisconnect):
            return Response(status_code=499)
        if is_full(error):
            raise DiskFull(name) from None
        if isinstance(error, OSError):
            raise VideoError(f"{name}: cannot be stored ({error.strerror})") from None
        raise
    return Json(_status(desk, clip), 201, headers={"location": f"/v1/clips/{clip.id}"})


async def example(request: Request) -> Response:
    path: Path | None = request.app.state.example
    if path is None:
        raise HTTPException(404, "there is no example")
    name = display_name(path.name)
    return await _admit(request, name, True, lambda clip: run_in_threadpool(shutil.copyfile, path, clip.video))


async def status(request: Request) -> Response:
    """How far a clip has come; also the page's sign of life."""
    clip = _clip(request)
    try:
        seconds = float(request.query_params.get("wait", "0"))
    except ValueError:
        raise HTTPException(422, "wait: a number of seconds is wanted") from None
    end = time.monotonic() + min(seconds, LONGEST_POLL)
    while clip.state not in FINISHED and not clip.discarded and time.monotonic() < end:
        await anyio.sleep(LOOK)
    return Json(_status(_desk(request), _clip(request)))


def _status(desk: Desk, clip: Clip) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": clip.id, "name": clip.name, "state": clip.state}
    if clip.state == WAITING:
        answer["ahead"] = desk.ahead_of(clip)
    elif clip.state == FAILED:
        answer["error"] = clip.error
    elif clip.state != DONE:
        answer |= {"stage": clip.stage, "done": clip.done, "total": clip.total}
    return answer


async def discard(request: Request) -> Response:
    await run_in_threadpool(_desk(request).discard, _clip(request))
    return Response(status_code=204)


async def result(request: Request) -> Response:
    clip = await _done(request)
    return FileResponse(clip.made / "0" / FILES["json"], media_type=TYPES["json"])


async def view(request: Request) -> Response:
    return _file((await _done(request)).made / VIEW, TYPES["json"])


async def video(request: Request) -> Response:
    clip = await _done(request)
    return _file(clip.video, _media_type(clip.video) if is_file(clip.video) else "")


async def playable(request: Request) -> Response:
    """A copy that every browser plays, made when it is first asked for."""
    clip = await _done(request)
    workers = min(_desk(request).workers, 1)

    def write() -> Path:
        with clip.playable:
            return playable_copy(clip.video, clip.made, workers)

    if not is_file(clip.video):
        raise HTTPException(404, "the video is no longer here")
    return _file(await run_in_threadpool(write), "video/mp4")


async def face(request: Request) -> Response:
    clip = await _done(request)
    return _file(face_file(clip.made / FACES, request.path_params["frame"]), "image/jpeg")


async def download(request: Request) -> Response:
    clip = await _done(request)
    kind = request.path_params["kind"]
    path = clip.made / str(request.path_params["network"]) / FILES.get(kind, "-")
    return _file(path, TYPES.get(kind, ""), f"{Path(clip.name).stem}.{kind}")


def _file(path: Path, kind: str, name: str | None = None) -> Response:
    if not is_file(path):
        raise HTTPException(404, "there is no such file of this clip")
    return FileResponse(path, media_type=kind, filename=name)


async def about(request: Request) -> Response:
    networks, limits = _desk(request).networks, _desk(request).limits
    return Json(
        {
            "version": version("fan_ext"),
            "networks": list(networks.names),
            "colors": class_colors(networks.classes),
            "max_minutes": limits.minutes,
            "longest": span(60 * limits.minutes),
            "max_megabytes": limits.megabytes,
            "max_clips": limits.clips,
            "example": request.app.state.example is not None,
        }
    )


async def health(request: Request) -> Response:
    """Whether clips are read: not while the network is loaded, where no process can be started or the disk is full."""
    desk = _desk(request)
    try:
        check_room(desk.folder, "", 0)
        room = True
    except (FanFerError, OSError):
        room = False
    counts = desk.counts()
    ready = desk.ready > 0 and room
    answer = {"ready": ready, "readers": desk.ready, "room": room, "waiting": counts[WAITING]}
    return Json(answer, 200 if ready else 503)


async def live(request: Request) -> Response:
    return Json({"live": True})


async def metrics(request: Request) -> Response:
    text = await run_in_threadpool(_desk(request).metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def openapi(request: Request) -> Response:
    return Json(describe(OPERATIONS, request.app.state.guarded))


async def docs(request: Request) -> Response:
    return HTMLResponse(human_page(describe(OPERATIONS, request.app.state.guarded)))


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _clip(request: Request) -> Clip:
    clip = _desk(request).find(request.path_params["id"])
    if clip is None:
        raise HTTPException(404, GONE)
    return clip


async def _done(request: Request) -> Clip:
    """A clip that is read; its files stay until the answer is sent, even where it is thrown away meanwhile."""
    clip = _clip(request)
    if clip.state == FAILED:
        raise HTTPException(422, clip.error)
    if clip.state != DONE:
        raise HTTPException(409, f"{clip.name}: is not read yet")
    if not request.state.stack.enter_context(_desk(request).use(clip)):
        raise HTTPException(404, GONE)
    return clip


def _media_type(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] == b"\x1aE\xdf\xa3":
        return "video/webm"
    return "video/x-msvideo" if start[:4] == b"RIFF" else "video/mp4"


LEFT_OUT = {404: "Error", 409: "Error", 422: "Error"}  # of clips that are gone, not read yet, or failed
PICTURES = "true: keep what a page needs to show the clip: the video, its faces and the plot"
TAKEN = {201: "Clip", 408: "Error", 413: "Error", 422: "Error", 429: "Error", 507: "Error"}

OPERATIONS = (
    Operation(
        "POST", "/v1/clips", upload, "Upload a clip. The body is the file itself.", TAKEN,
        query={"name": "the file's name, as it is shown in the results", "pictures": PICTURES}, body=True,
    ),
    Operation(
        "GET", "/v1/clips/{id}", status, "How far the clip is.", {200: "Clip", 404: "Error"},
        query={"wait": "seconds, at most 60: answer when the clip is finished, or when they are over"},
    ),
    Operation(
        "GET", "/v1/clips/{id}/result", result, "The prediction.", {200: "Prediction", **LEFT_OUT}
    ),
    Operation("DELETE", "/v1/clips/{id}", discard, "End the work, delete everything.", {204: "", 404: "Error"}),
    Operation(
        "POST", "/v1/clips/{id}/discard", discard, "The same, for a page that is closed.", {204: "", 404: "Error"}
    ),
    Operation(
        "GET", "/v1/clips/{id}/files/{network:int}/{kind}", download,
        "A file of the n-th network, from 0. kind: json, csv or, with pictures, png.", {200: "File", **LEFT_OUT},
    ),
    Operation(
        "GET", "/v1/clips/{id}/view", view, "With pictures: the video's size; the answers put together in other ways.",
        {200: "View", **LEFT_OUT},
    ),
    Operation("GET", "/v1/clips/{id}/video", video, "With pictures: the video as it came.", {200: "File", **LEFT_OUT}),
    Operation(
        "GET", "/v1/clips/{id}/playable", playable, "With pictures: a copy that every browser plays.",
        {200: "File", **LEFT_OUT},
    ),
    Operation(
        "GET", "/v1/clips/{id}/faces/{frame:int}", face, "With pictures: the face of a frame, JPEG.",
        {200: "File", **LEFT_OUT},
    ),
    Operation("POST", "/v1/example", example, "Have the example read, where there is one.", {**TAKEN, 404: "Error"}),
    Operation("GET", "/v1/about", about, "Version, networks, classes and limits.", {200: "About"}),
    Operation(
        "GET", "/v1/health", health, "Whether clips are read.", {200: "Health", 503: "Health"}, open=True
    ),
    Operation("GET", "/v1/health/live", live, "Whether the server answers.", {200: "Live"}, open=True),
    Operation("GET", "/metrics", metrics, "Counts for Prometheus.", {200: "Text"}),
    Operation("GET", "/openapi.json", openapi, "This description.", {200: "Object"}, open=True),
    Operation("GET", "/docs", docs, "This description as a page.", {200: "Page"}, open=True),
)  # fmt: skip
