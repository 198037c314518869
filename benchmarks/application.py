"""The benchmark's application: a database whose rows refer to every second object.

``python -m benchmarks.application DATABASE OBJECTS`` makes it.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from benchmarks.responder.content import key

TABLE = "files"
COLUMN = "object_key"


def referenced(index: int) -> bool:
    """Whether a row refers to this object."""
    return index % 2 == 0


def make_database(path: Path, objects: int) -> None:
    """Write the rows. The column has no index, as most such columns have none."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            f"create table {TABLE} (id integer primary key, owner text not null, {COLUMN} text)"
        )
        connection.executemany(
            f"insert into {TABLE} values (?, ?, ?)",
            ((index, f"user {index % 997}", key(index)) for index in range(objects) if referenced(index)),
        )
    connection.close()


if __name__ == "__main__":
    make_database(Path(sys.argv[1]), int(sys.argv[2]))
