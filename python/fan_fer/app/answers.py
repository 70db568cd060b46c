"""The forms of answers: JSON, and errors of one line."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fan_fer.app.desk import DeskFull
from fan_fer.app.uploads import DiskFull, TooLarge, TooSlow
from fan_fer.base.errors import FanFerError

STATUS: dict[type[Exception], int] = {TooLarge: 413, TooSlow: 408, DeskFull: 429, DiskFull: 507}


class Json(JSONResponse):
    """A name of a file need not be text."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


def refusal(code: int, error: str, scheme: str | None = None) -> Response:
    """An error that the client is told of. scheme: of the authentication that is wanted."""
    headers = {"connection": "close"} | ({"www-authenticate": scheme} if scheme else {})
    return Json({"error": error}, code, headers)


async def sorry(request: Request, error: Exception) -> Response:
    """The answer for what was raised."""
    if isinstance(error, HTTPException):
        return Json({"error": error.detail}, error.status_code, error.headers)
    code = STATUS.get(type(error), 422)
    # Whoever sends a large body is not listening: the connection is given up.
    headers = {"connection": "close"}
    if isinstance(error, DeskFull):
        headers["retry-after"] = str(error.seconds)
    return Json({"error": str(error)}, code, headers)


async def fault(request: Request, error: Exception) -> Response:
    """The answer for a defect, which is printed too."""
    return Json({"error": "a fault of the server's; what it prints says more"}, 500, {"connection": "close"})


HANDLERS: Any = {FanFerError: sorry, HTTPException: sorry, Exception: fault}
