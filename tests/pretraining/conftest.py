"""The scripts of ``pretraining/`` are run from the checkout and not installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # at the end: what is installed comes first
