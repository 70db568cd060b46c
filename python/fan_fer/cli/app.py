"""``fan-fer app``: a page in the browser that reads clips, for this computer alone."""

from __future__ import annotations

import argparse
import threading
import webbrowser
from pathlib import Path

from fan_fer.base.extras import need
from fan_fer.base.streams import note
from fan_fer.cli import options
from fan_fer.cli.options import add_recognizer, recognizer_options
from fan_fer.cli.outcome import DONE
from fan_fer.cli.serving import LOCAL, add_limits, address, answer, limits, listen

PORT = 8350
CLIPS = 16  # that wait at a time
EXPIRES_AFTER = 300.0  # seconds without a request of the clip's page; browsers slow hidden pages down to one a minute

EXAMPLE = """\
example:
  fan-fer app
  fan-fer app --weights fan.safetensors --weights self.safetensors --port 9000 --no-browser

The page is at hand on this computer only, and asks nothing of any other. Ctrl-C ends it. For programs: fan-fer serve.
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
    add_limits(app)
    add_recognizer(app)


def run(arguments: argparse.Namespace) -> int:
    need("app", "app")
    from contextlib import closing

    from fan_fer.app.desk import Desk
    from fan_fer.app.reading import find_networks
    from fan_fer.app.server import make_app
    from fan_fer.base.terminal import show, working
    from fan_fer.video.decoding import Video

    taken = limits(arguments, CLIPS)
    if arguments.example:
        Video(arguments.example)
    with listen(LOCAL, arguments.port) as listener:
        with working("loading the network"):
            networks = find_networks(arguments.weights or [None], **recognizer_options(arguments))
        with closing(Desk(networks, taken, options.WORKERS, EXPIRES_AFTER)) as desk:
            show(f"fan-fer app: {address(listener)}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)
            if not arguments.no_browser:
                threading.Thread(target=webbrowser.open, args=(address(listener),), daemon=True).start()
            answer(make_app(desk, page=True, example=arguments.example), listener)
    note("fan-fer app: ended")
    return DONE
