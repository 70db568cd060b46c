"""``fan-fer app``: a page in the browser that reads clips, for this computer alone."""

from __future__ import annotations

import argparse
import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from fan_fer.base.errors import FanFerError
from fan_fer.base.extras import need
from fan_fer.base.streams import note
from fan_fer.cli.options import add_recognizer, recognizer_options
from fan_fer.cli.outcome import DONE

if TYPE_CHECKING:
    from fan_fer.app.uploads import Limits
    from fan_fer.recognizer import Recognizer

HOST, PORT = "127.0.0.1", 8350

EXAMPLE = """\
example:
  fan-fer app
  fan-fer app --weights fan.safetensors --weights self.safetensors --port 9000 --no-browser

The page is at hand on this computer only, and asks nothing of any other. Ctrl-C ends it.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    app = commands.add_parser(
        "app",
        help="a page in the browser: drop a clip, watch it with its emotion and weights",
        description="Opens a page that reads clips: drop a video or record one, and see what each frame counted for.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    app.set_defaults(run=run)
    app.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}; 0 for any that is free")
    app.add_argument("--no-browser", action="store_true", help="only print the address")
    app.add_argument("--example", type=Path, metavar="CLIP", help="a clip that the page offers to whoever has none")
    app.add_argument(
        "--weights",
        type=Path,
        action="append",
        metavar="FILE",
        help="network to use: a file (default: the one that ships); several times: networks to compare",
    )
    app.add_argument("--max-minutes", type=float, default=5, metavar="N", help="longest clip taken (default: 5)")
    app.add_argument("--max-mb", type=float, default=500, metavar="N", help="largest file taken, in MB (default: 500)")
    add_recognizer(app)


def run(arguments: argparse.Namespace) -> int:
    need("app", "app")
    import uvicorn

    from fan_fer.app.server import make_app
    from fan_fer.base.terminal import show, working
    from fan_fer.video.decoding import Video

    limits = _limits(arguments)
    if arguments.example:
        Video(arguments.example)
    with _listen(arguments.port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        with working("loading the network"):
            app = make_app(_load(arguments), limits, arguments.example)
        show(f"fan-fer app: {address}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        if not arguments.no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2, server_header=False)
        )
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises it once more, after it has closed everything
            note("fan-fer app: ended")
    return DONE


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise FanFerError(f"--port {port}: no such port; 0 to 65535 is wanted")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)  # a browser that comes before the server is ready waits
    except OSError as error:
        listener.close()
        raise FanFerError(f"--port {port}: cannot be used ({error.strerror}); another port is wanted") from None
    return listener


def _limits(arguments: argparse.Namespace) -> Limits:
    from fan_fer.app.uploads import Limits

    for option, value in (("--max-minutes", arguments.max_minutes), ("--max-mb", arguments.max_mb)):
        if not 0 < value < 1e6:
            raise FanFerError(f"{option} {value:g}: a number above 0 is wanted")
    return Limits(arguments.max_minutes, arguments.max_mb)


def _load(arguments: argparse.Namespace) -> list[Recognizer]:
    from fan_fer.recognizer import load_recognizer

    paths = arguments.weights or [None]
    recognizers = [load_recognizer(path, **recognizer_options(arguments)) for path in paths]
    _ = recognizers[0].detector  # one that cannot be loaded is found out before the page opens
    return recognizers
