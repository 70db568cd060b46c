"""What ``fan-fer app`` and ``fan-fer serve`` share: limits, the address, and answering until they are ended."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
from typing import TYPE_CHECKING

from fan_fer.base.errors import FanFerError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from fan_fer.app.uploads import Limits

LOCAL = "127.0.0.1"


def add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-minutes", type=float, default=5, metavar="N", help="longest clip taken (default: 5)")
    parser.add_argument(
        "--max-mb", type=float, default=500, metavar="N", help="largest file taken, in MB (default: 500)"
    )


def limits(arguments: argparse.Namespace, clips: int) -> Limits:
    """Raises FanFerError for numbers that cannot be. clips: how many may wait."""
    from fan_fer.app.uploads import Limits

    for option, value in (("--max-minutes", arguments.max_minutes), ("--max-mb", arguments.max_mb)):
        if not 0 < value < 1e6:
            raise FanFerError(f"{option} {value:g}: a number above 0 is wanted")
    return Limits(arguments.max_minutes, arguments.max_mb, clips)


def listen(host: str, port: int) -> socket.socket:
    """Raises FanFerError where the address cannot be used."""
    if not 0 <= port <= 65535:
        raise FanFerError(f"--port {port}: no such port; 0 to 65535 is wanted")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise FanFerError(f"--host {host}: {getattr(error, 'strerror', error)}; an address is wanted") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # who comes before the server is ready waits
    except OSError as error:
        listener.close()
        where = f"--port {port}" if host == LOCAL else f"--host {host} --port {port}"
        raise FanFerError(f"{where}: cannot be used ({error.strerror}); another port is wanted") from None
    return listener


def address(listener: socket.socket) -> str:
    """As a browser is told it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def answer(app: Starlette, listener: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM; then takes nothing more, and answers what is being asked."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2, server_header=False, ws="none"
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # uvicorn raises the signal once more, after it has closed everything.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
