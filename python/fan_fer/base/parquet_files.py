"""How Parquet files are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fan_fer.base.extras import need
from fan_fer.base.files import atomic_write, readable

SUFFIX = ".parquet"


def is_parquet(path: Path) -> bool:
    """Whether the name says so. Raises LibraryError where it does and what writes it is missing."""
    if path.suffix.lower() != SUFFIX:
        return False
    need("parquet", f"{path}: writing Parquet")
    return True


def write_parquet(
    path: Path, columns: Mapping[str, type], rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Writes a table, whole or not at all, null for None and for what a row lacks. Raises OutputError, LibraryError.

    columns: str, int (64 bits) or float (64 bits) by their names. about: what the file's metadata say under
    ``fan_fer``, as JSON.
    """
    need("parquet", f"{path}: writing Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    cells: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        for name, values in cells.items():
            value = row.get(name)
            values.append(readable(value) if isinstance(value, str) else value)
    table = pa.table({name: pa.array(values, types[columns[name]]) for name, values in cells.items()})
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table.replace_schema_metadata({"fan_fer": json.dumps(about)}), file)
