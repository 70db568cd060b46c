"""Ten thousand damaged inputs in ten minutes: ``make fuzz``. Says what was found; exit code 1 where anything was."""

from __future__ import annotations

import argparse
import sys

from fuzz.checks import TARGETS
from fuzz.run import INPUTS, LIMIT, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="the longest it may take (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="others are tried with another one")
    parser.add_argument("--target", action="append", choices=TARGETS, help="of this kind alone; may be repeated")
    arguments = parser.parse_args()
    targets = {name: TARGETS[name] for name in arguments.target or TARGETS}
    summary = fuzz(targets, arguments.inputs, arguments.seconds, arguments.seed)
    for finding in summary.findings:
        print(f"FOUND {finding}")
    print("\n".join(summary.lines()))
    return bool(summary.findings)


if __name__ == "__main__":
    sys.exit(main())
