"""``fan-fer serve``: readings over HTTP, for programs."""

from __future__ import annotations

import argparse
import ipaddress
import os
from pathlib import Path

from fan_fer.base.errors import FanFerError, one_line
from fan_fer.base.extras import need
from fan_fer.base.files import read_file, reason
from fan_fer.base.streams import note
from fan_fer.cli import options
from fan_fer.cli.options import (
    add_abstain,
    add_aligned,
    add_min_segment,
    add_recognizer,
    add_time_limit,
    add_weights,
    check_abstain,
    check_count,
    check_min_segment,
    recognizer_options,
)
from fan_fer.cli.outcome import DONE
from fan_fer.cli.serving import LOCAL, add_limits, address, answer, limits, listen

PORT, CLIPS, KEEP = 8351, 100, 3600
SHORTEST_TOKEN = 16

EXAMPLE = """\
example:
  fan-fer serve
  FAN_FER_TOKEN=... fan-fer serve --host 0.0.0.0 --workers 4 --data /var/lib/fan-fer
  curl --data-binary @clip.mp4 'http://127.0.0.1:8351/v1/clips?name=clip.mp4'

What can be asked is described at /docs and, as OpenAPI, at /openapi.json. Ctrl-C or SIGTERM ends it; clips that are not
read by then are read when it is started again.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="readings over HTTP, for programs",
        description="Answers over HTTP: upload a clip, ask how far it is, get the prediction.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.set_defaults(run=run)
    serve.add_argument("--host", default=LOCAL, metavar="ADDRESS", help=f"default: {LOCAL}, this computer alone")
    serve.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}; 0 for any that is free")
    serve.add_argument(
        "--token", metavar="TEXT", help="what clients must send; better in FAN_FER_TOKEN, as others see a command line"
    )
    serve.add_argument("--token-file", type=Path, metavar="FILE", help="a file that holds the token")
    serve.add_argument("--no-token", action="store_true", help="let everyone ask who reaches --host")
    add_limits(serve)
    serve.add_argument(
        "--max-clips", type=int, default=CLIPS, metavar="N", help=f"clips that may wait at a time (default: {CLIPS})"
    )
    serve.add_argument("--workers", type=int, metavar="N", help="processes that read (default: 1)")
    serve.add_argument(
        "--keep", type=float, default=KEEP, metavar="SECONDS", help=f"how long results stay (default: {KEEP})"
    )
    serve.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where clips and results lie (default: ~/.local/state/fan-fer)"
    )
    add_time_limit(serve)
    add_weights(serve)
    add_recognizer(serve)
    add_aligned(serve)
    add_abstain(serve)
    add_min_segment(serve)


def run(arguments: argparse.Namespace) -> int:
    need("serve", "serve")
    from contextlib import closing

    from fan_fer.app.desk import Desk
    from fan_fer.app.reading import find_networks
    from fan_fer.app.server import make_app
    from fan_fer.base.processes import cpus
    from fan_fer.base.terminal import show, working
    from fan_fer.base.workers import check_time_limit

    check_time_limit(arguments.time_limit)
    check_abstain(arguments.abstain)
    check_min_segment(arguments.min_segment)
    check_count("--workers", arguments.workers)
    check_count("--max-clips", arguments.max_clips)
    if not 0 < arguments.keep < 1e9:
        raise FanFerError(f"--keep {arguments.keep:g}: seconds above 0 are wanted")
    taken = limits(arguments, arguments.max_clips)
    token = _token(arguments)
    workers = options.WORKERS if arguments.workers is None else arguments.workers
    data = arguments.data or _state_folder()
    with listen(arguments.host, arguments.port) as listener:
        with working("loading the network"):
            threads = max(1, cpus() // max(1, workers))
            networks = find_networks(
                [arguments.weights],
                threads,
                arguments.abstain,
                arguments.min_segment,
                **recognizer_options(arguments),
            )
        with closing(Desk(networks, taken, workers, arguments.keep, data, arguments.time_limit)) as desk:
            line = f"fan-fer serve: {address(listener)}  (clips in {one_line(data)}; Ctrl-C ends it)"
            show(line, highlight=False, soft_wrap=True)
            answer(make_app(desk, token=token, local=token is None and _is_local(arguments.host)), listener)
    note("fan-fer serve: ended")
    return DONE


def _token(arguments: argparse.Namespace) -> str | None:
    """What clients must send, if anything. Raises FanFerError where there should be one, or it is none."""
    given = arguments.token if arguments.token is not None else os.environ.get("FAN_FER_TOKEN")
    if arguments.token_file is not None:
        if arguments.token is not None:
            raise FanFerError("--token and --token-file: one of them is wanted")
        try:
            given = read_file(arguments.token_file).decode("utf-8", "replace").strip()
        except OSError as error:
            raise FanFerError(f"--token-file {arguments.token_file}: cannot be read ({reason(error)})") from None
    if arguments.no_token:
        if given is not None:
            raise FanFerError("--no-token: there is a token; one of both is wanted")
        return None
    if given is None:
        if not _is_local(arguments.host):
            raise FanFerError(
                f"--host {arguments.host}: others could read clips; a token (FAN_FER_TOKEN or --token-file) is wanted, "
                "or --no-token"
            )
        return None
    if len(given) < SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in given):
        raise FanFerError(
            f"the token: {SHORTEST_TOKEN} or more letters, digits and signs of ASCII without blanks are wanted"
        )
    return given


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _state_folder() -> Path:
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fan-fer"
    except RuntimeError:
        raise FanFerError("--data: there is no home folder; a folder is wanted") from None
