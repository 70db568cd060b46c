"""The server: what can be asked, who may ask, and the desk behind it; with or without the page."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fan_fer.app.answers import HANDLERS
from fan_fer.app.desk import Desk
from fan_fer.app.guard import Guard
from fan_fer.app.operations import OPERATIONS

STATIC = Path(__file__).parent / "static"


def make_app(
    desk: Desk, *, page: bool = False, example: Path | None = None, token: str | None = None, local: bool = True
) -> Starlette:
    """The application in front of a desk.

    page: whether it shows the page; otherwise what can be asked is shown.
    example: a clip that the page offers.
    token, local: as for :class:`Guard`.
    """

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html") if page else RedirectResponse("/docs")

    routes = [
        Route("/", index),
        *(Route(operation.path, operation, methods=[operation.method]) for operation in OPERATIONS),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    open_paths = frozenset({"/", *(operation.path for operation in OPERATIONS if operation.open)})
    guard = Middleware(Guard, token=token, local=local, open_paths=open_paths)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=HANDLERS)
    app.state.desk, app.state.example, app.state.guarded = desk, example, token is not None
    return app
