"""``python -m fan_fer`` is ``fan-fer``."""

from __future__ import annotations

import sys

from fan_fer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
