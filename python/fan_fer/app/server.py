"""What the server answers: the page, and the clips that are uploaded to it. For this computer alone."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fan_fer.app.desk import DONE, FAILED, WAITING, Clip, Desk
from fan_fer.app.reading import FACES, FILES, VIDEO, face_file, network_names, write_playable
from fan_fer.app.uploads import Limits, TooLarge, check_size, check_upload, display_name, span
from fan_fer.base.errors import FanFerError, VideoError
from fan_fer.base.files import is_file
from fan_fer.output.colors import class_colors
from fan_fer.recognizer import Recognizer

STATIC = Path(__file__).parent / "static"
# Other names in the Host header are those of web pages that have their name point at this computer.
HOSTS = ("127.0.0.1", "localhost")
GONE = "this clip is no longer here"
TYPES = {"json": "application/json", "csv": "text/csv", "png": "image/png"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def make_app(recognizers: Sequence[Recognizer], limits: Limits, example: Path | None = None, **desk: Any) -> Starlette:
    """The application; the desk with all its files lives as long as it runs.

    recognizers: the networks; the first one finds the faces.
    example: a clip that the page offers.
    desk: further arguments of :class:`Desk`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.desk = Desk(recognizers, limits, **desk)
        try:
            yield
        finally:
            await run_in_threadpool(app.state.desk.close)

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def about(request: Request) -> Response:
        classes = dict.fromkeys(name for recognizer in recognizers for name in recognizer.card.classes)
        return Json(
            {
                "networks": network_names(recognizers),
                "colors": class_colors(classes),
                "max_minutes": limits.minutes,
                "longest": span(60 * limits.minutes),
                "max_megabytes": limits.megabytes,
                "example": example is not None,
            }
        )

    async def example_clip(request: Request) -> Response:
        if example is None:
            raise HTTPException(404)
        clip = _desk(request).open(display_name(example.name))
        return await _admit(request, clip, run_in_threadpool(shutil.copyfile, example, clip.folder / VIDEO))

    routes = [
        Route("/", index),
        Route("/api/about", about),
        Route("/api/example", example_clip, methods=["POST"]),
        Route("/api/clips", upload, methods=["POST"]),
        Route("/api/clips/{id}", status),
        Route("/api/clips/{id}", discard, methods=["DELETE"]),
        Route("/api/clips/{id}/discard", discard, methods=["POST"]),  # what a page that is closed can still send
        Route("/api/clips/{id}/result", result),
        Route("/api/clips/{id}/video", _Files(video), methods=["GET"]),
        Route("/api/clips/{id}/playable", _Files(playable), methods=["GET"]),
        Route("/api/clips/{id}/faces/{frame:int}", _Files(face), methods=["GET"]),
        Route("/api/clips/{id}/files/{network:int}/{kind}", _Files(download), methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
        Middleware(_Guard),
    ]
    handlers: Any = {FanFerError: _sorry}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)


class Json(JSONResponse):
    """A name of a file need not be text."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


class _Guard:
    """Sets the headers that keep the page to itself, and refuses changes that other web pages ask for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin not in (None, f"http://{request.headers.get('host')}"):
            await PlainTextResponse("another page's request", 403)(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_guarded)


async def upload(request: Request) -> Response:
    """Takes a video as the request's body, its name in the query. Answers with the clip's id, or what is wrong."""
    name = display_name(request.query_params.get("name", ""))
    desk = _desk(request)
    length = request.headers.get("content-length", "")
    if length.isdigit():
        check_size(name, int(length), desk.limits)
    clip = desk.open(name)

    async def receive() -> None:
        received = 0
        with (clip.folder / VIDEO).open("wb") as file:
            async for part in request.stream():
                received += len(part)
                check_size(name, received, desk.limits)
                await run_in_threadpool(file.write, part)
                desk.find(clip.id)

    return await _admit(request, clip, receive())


async def _admit(request: Request, clip: Clip, fetched: Awaitable[object]) -> Response:
    """Waits for the video, looks whether it can be read, and puts it in line; leaves nothing behind where not."""
    desk = _desk(request)
    try:
        await fetched
        await run_in_threadpool(check_upload, clip.folder / VIDEO, clip.name, desk.limits)
    except ClientDisconnect:
        desk.discard(clip)
        return Response(status_code=499)
    except OSError as error:
        desk.discard(clip)
        raise VideoError(f"{clip.name}: cannot be stored ({error.strerror})") from None
    except BaseException:
        desk.discard(clip)
        raise
    desk.submit(clip)
    return Json({"id": clip.id, "name": clip.name}, 201)


async def status(request: Request) -> Response:
    """How far a clip has come; also the page's sign of life."""
    clip = _clip(request)
    answer: dict[str, Any] = {"name": clip.name, "state": clip.state}
    if clip.state == WAITING:
        answer["ahead"] = _desk(request).ahead_of(clip)
    elif clip.state == FAILED:
        answer["error"] = clip.error
    else:
        answer |= {"stage": clip.stage, "done": clip.done, "total": clip.total}
    return Json(answer)


async def discard(request: Request) -> Response:
    await run_in_threadpool(_desk(request).discard, _clip(request))
    return Response(status_code=204)


async def result(request: Request) -> Response:
    return Json(_done(request).result)


class _Files:
    """Answers with a file of a clip. The page may throw the clip away meanwhile; its files stay until they are sent."""

    def __init__(self, answer: Callable[[Request, Clip], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        clip = _done(request)
        with _desk(request).use(clip) as kept:
            if not kept:
                raise HTTPException(404, GONE)
            response = await self._answer(request, clip)
            await response(scope, receive, send)


async def video(request: Request, clip: Clip) -> Response:
    return FileResponse(clip.folder / VIDEO, media_type=_media_type(clip.folder / VIDEO))


async def playable(request: Request, clip: Clip) -> Response:
    """A copy that every browser plays, made when it is first asked for."""

    def write() -> Path:
        with clip.playable:
            return write_playable(clip.folder)

    return FileResponse(await run_in_threadpool(write), media_type="video/mp4")


async def face(request: Request, clip: Clip) -> Response:
    path = face_file(clip.folder / FACES, request.path_params["frame"])
    if not is_file(path):
        raise HTTPException(404)
    return FileResponse(path, media_type="image/jpeg")


async def download(request: Request, clip: Clip) -> Response:
    kind = request.path_params["kind"]
    path = clip.folder / str(request.path_params["network"]) / FILES.get(kind, "-")
    if not is_file(path):
        raise HTTPException(404)
    return FileResponse(path, media_type=TYPES[kind], filename=f"{Path(clip.name).stem}.{kind}")


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _clip(request: Request) -> Clip:
    clip = _desk(request).find(request.path_params["id"])
    if clip is None:
        raise HTTPException(404, GONE)
    return clip


def _done(request: Request) -> Clip:
    clip = _clip(request)
    if clip.state != DONE:
        raise HTTPException(404, "this clip is not read")
    return clip


async def _sorry(request: Request, error: FanFerError) -> Response:
    """What was wrong with an upload, for the page to show."""
    # Whoever sends a large body is not listening: the connection is given up.
    code = 413 if isinstance(error, TooLarge) else 422
    return Json({"error": str(error)}, code, headers={"connection": "close"})


def _media_type(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] == b"\x1aE\xdf\xa3":
        return "video/webm"
    return "video/x-msvideo" if start[:4] == b"RIFF" else "video/mp4"
