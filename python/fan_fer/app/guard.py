"""Who may ask: looked at before anything else is done for a request."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fan_fer.app.answers import refusal
from fan_fer.app.metrics import Metrics

# Other names in the Host header are those of web pages that have their name point at this computer.
HOSTS = ("127.0.0.1", "localhost", "::1")
METHODS = ("GET", "HEAD", "POST", "DELETE")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """Refuses who may not ask, sets the headers that keep answers to themselves, and counts the answers.

    token: what others than the ``open_paths`` are asked with; None: nothing.
    local: only requests to this computer's own name are answered.
    """

    def __init__(self, app: ASGIApp, token: str | None, local: bool, open_paths: frozenset[str]) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._local, self._open = local, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        metrics: Metrics = request.app.state.desk.metrics

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                route = getattr(scope.get("endpoint"), "path", "other")
                method = request.method if request.method in METHODS else "other"
                metrics.requests.labels(method, route, message["status"]).inc()
            await send(message)

        await (self._refuse(request) or self._app)(scope, receive, send_guarded)

    def _refuse(self, request: Request) -> ASGIApp | None:
        host = request.headers.get("host", "")
        if self._local and _name(host) not in HOSTS:
            return refusal(400, "another computer's name; 127.0.0.1 or localhost is wanted")
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != host:
            return refusal(403, "another page's request")
        path = request.url.path
        if self._token is None or path in self._open or path.startswith("/static/"):
            return None
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        return refusal(401, "no token, or a wrong one; the header Authorization: Bearer TOKEN is wanted", "Bearer")


def _name(host: str) -> str | None:
    """Of a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
