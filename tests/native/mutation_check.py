"""Do the tests of the CUDA kernels notice each barrier, wait and mask test that is taken away?

    python tests/native/mutation_check.py [--only TEXT]

Each one is removed in turn from a copy of csrc/, the runner is built with it and tests/native/test_cuda_kernels.py
run. Prints a table; ends with 1 if some removal goes unnoticed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
TESTS = "tests/native/test_cuda_kernels.py"

# (what it is, the code, what stands there instead)
_PATTERNS = (
    ("barrier", r"(?<![\w:])(?:team\.sync|__syncthreads|__syncwarp|sync_cluster)\(\);", "{}"),
    ("wait", r"wait_copies<(?:kStepsAhead|0)>\(\);", "{}"),
    ("mask", r"(?<=if \()!?[\w.]*present\(i\)(?=\))", None),
    ("mask", r"(?<=const bool present = )clip\.present\(i\)", "true"),
    ("mask", r"\bframes\.present\(i\)(?=, fG)", "true"),
    ("mask", r"&& !team\.clip\.mask\[[^\]]*\]", "&& false"),
    ("mask", r"&& !rows\.frames\.mask\[[^\]]*\]", "&& false"),
    ("mask", r"!\(factors\.at\[kP\] < 0\)", "true"),
    ("bound", r"number >= 0 && number < this->count", "true"),
    ("bound", r"slot < call\.layout\.slots && call\.clips\.clips > 0", "true"),
    ("bound", r"lane \* step < count && ", ""),
    ("bound", r"clamp\((offset), least, clips\.total_frames\)", r"\1"),
)

# Removals that this runner cannot see, and why.
_INVISIBLE: dict[tuple[str, str, int], str] = {}


class Mutation(NamedTuple):
    kind: str
    file: str
    line: int
    code: str
    number: int  # of this code in the file
    text: str  # of the file with it


def find_mutations() -> list[Mutation]:
    mutations = []
    for path in sorted((REPOSITORY / "csrc" / "cuda").glob("*.cuh")):
        if path.name in ("device.cuh", "launch.cuh"):
            continue
        source = path.read_text()
        seen: dict[str, int] = {}
        for kind, pattern, replacement in _PATTERNS:
            for match in re.finditer(pattern, source):
                code = match.group()
                replaced = ("false" if code.startswith("!") else "true") if replacement is None else replacement
                line = source.count("\n", 0, match.start()) + 1
                text = source[: match.start()] + match.expand(replaced) + source[match.end() :]
                mutations.append(Mutation(kind, path.name, line, code, seen.get(code, 0), text))
                seen[code] = seen.get(code, 0) + 1
    return mutations


def run_tests(mutation: Mutation) -> str | None:
    """The test that fails, or None."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(REPOSITORY / "csrc", Path(folder) / "csrc")
        (Path(folder) / "csrc" / "cuda" / mutation.file).write_text(mutation.text)
        # The runner is cached below the temporary folder, too, and goes with it.
        environment = {**os.environ, "FAN_EXT_CUDA_SOURCE": folder, "TMPDIR": folder}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider", TESTS]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if result.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (?:\S+::)?(.*?)(?: - .*)?$", result.stdout, re.MULTILINE)
    if failed is None or "do not compile" in result.stdout:
        raise RuntimeError(
            f"the tests did not run with {mutation.file}:{mutation.line} altered:\n{result.stdout[-3000:]}"
        )
    return failed.group(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only removals whose file or code has this text")
    only = parser.parse_args().only
    unnoticed = 0
    print("| where | removed | noticed by |\n|---|---|---|")
    for mutation in find_mutations():
        if only not in f"{mutation.file}:{mutation.line} {mutation.code}":
            continue
        reason = _INVISIBLE.get((mutation.file, mutation.code, mutation.number))
        failed = None if reason else run_tests(mutation)
        unnoticed += failed is None and reason is None
        by = f"not visible: {reason}" if reason else failed or "**nothing**"
        code = mutation.code.replace("|", r"\|")
        print(f"| {mutation.file}:{mutation.line} | {mutation.kind} `{code}` | {by} |", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
