"""Pages of the listing on their way into the scratch database and out of it, thousands of objects at a time.

A page is one row there: a row for each object would cost more than all the rest of a plan. The pages may come
in any order. That they make one listing, each key once, is proven here and in :func:`rank`.
"""

from __future__ import annotations

import marshal
import operator
from collections.abc import Collection, Iterator, Sequence
from itertools import compress
from sqlite3 import Connection
from typing import Any

from s3gc._columns import ObjectColumns, keys_of
from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.registry._keys import key_hashes
from s3gc.registry._times import micros_each

SCHEMA = """CREATE TABLE scratch.pages (
  id INTEGER PRIMARY KEY, apart INTEGER NOT NULL, objects INTEGER NOT NULL,
  first BLOB NOT NULL, last BLOB NOT NULL, hashes TEXT NOT NULL, keys BLOB NOT NULL, rest BLOB NOT NULL);
-- the pages' ids in key order
CREATE TABLE scratch.ranked (rank INTEGER PRIMARY KEY, page INTEGER NOT NULL);
"""

_AFTER_RESERVED = RESERVED_PREFIX[:-1] + chr(ord(RESERVED_PREFIX[-1]) + 1)
"""No key at or past this begins with the reserved prefix, and every greater key lies past those that do."""

COMPARED = 50_000
"""Objects compared in one transaction: others want the registry, too."""

_key = operator.attrgetter("key")


def put(connection: Connection, page: Sequence[ObjectInfo]) -> int:
    """Take a page. Our own objects (lease, owner) are no part of what the bucket holds.

    Entries that the store can't address exactly stand apart, in whatever order.

    Returns:
        How many objects of it count.

    Raises:
        StoreError: its keys don't strictly increase.
    """
    odd = [] if isinstance(page, ObjectColumns) else [found.ambiguous for found in page]
    if not any(odd):
        return _put(connection, page, apart=False)
    plain = [found for found in page if not found.ambiguous]
    return _put(connection, plain, apart=False) + _put(
        connection, sorted(compress(page, odd), key=_key), apart=True
    )


def _put(connection: Connection, page: Sequence[ObjectInfo], *, apart: bool) -> int:
    keys = keys_of(page)
    if not apart:
        _increasing(keys)
    if not keys:
        return 0
    first, last = _bound(keys[0]), _bound(keys[-1])
    if keys[0] < _AFTER_RESERVED and keys[-1] >= RESERVED_PREFIX:
        page = [found for found in page if not found.key.startswith(RESERVED_PREFIX)]
        keys = [found.key for found in page]
    connection.execute(
        "INSERT INTO scratch.pages (apart, objects, first, last, hashes, keys, rest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            apart,
            len(keys),
            first,
            last,
            str(key_hashes(keys)),
            marshal.dumps(keys),
            marshal.dumps(_rest(page)),
        ),
    )
    return len(keys)


def _rest(page: Sequence[ObjectInfo]) -> tuple[list[Any], ...]:
    """All but the keys, in columns."""
    if isinstance(page, ObjectColumns):
        return page.sizes, page.etags, micros_each(page.times), [None] * len(page), page.storages
    return (
        [found.size for found in page],
        [found.etag for found in page],
        micros_each([found.last_modified for found in page]),
        [found.version_id for found in page],
        [found.storage_class for found in page],
    )


def _increasing(keys: Sequence[str]) -> None:
    """Anything else is no listing."""
    following = iter(keys)
    next(following, None)
    if not all(map(operator.lt, keys, following)):
        at = next(at for at in range(1, len(keys)) if keys[at] <= keys[at - 1])
        raise StoreError(f"the listing is not strictly increasing: {keys[at]!r} came after {keys[at - 1]!r}")


def _bound(key: str) -> bytes:
    """Bytes in the order of the keys."""
    return key.encode("utf-8", "surrogatepass")


def rank(connection: Connection) -> None:
    """All pages are there: put them in key order. Those that stand apart come last.

    Raises:
        StoreError: two of them overlap, so one of them, or a key, came twice.
    """
    connection.execute("CREATE INDEX scratch.by_first ON pages (apart, first, last)")
    before: bytes | None = None
    for first, last in connection.execute(
        "SELECT first, last FROM scratch.pages WHERE apart = 0 ORDER BY first, last"
    ):
        if before is not None and first <= before:
            one, other = (key.decode("utf-8", "surrogatepass") for key in (before, first))
            raise StoreError(
                "the listing is not strictly increasing: of two pages one begins at "
                f"{other!r}, the other ends at {one!r}"
            )
        before = last
    connection.execute(
        "INSERT INTO scratch.ranked (page) SELECT id FROM scratch.pages ORDER BY apart, first, id"
    )


def compare(connection: Connection, after: int) -> tuple[int | None, dict[int, int]]:
    """Note in ``scratch.free`` which objects of the next pages no reference names.

    Returns:
        The rank to go on after (None: all pages were compared), and by column how many of its references
        name one of these objects.
    """
    pages: dict[int, int] = {}  # rank → id
    objects = 0
    for rank, page, count in connection.execute(
        "SELECT r.rank, r.page, p.objects FROM scratch.ranked r JOIN scratch.pages p ON p.id = r.page"
        " WHERE r.rank > ? ORDER BY r.rank",
        (after,),
    ):
        pages[rank] = page
        objects += count
        if objects >= COMPARED:
            break
    if not pages:
        return None, {}
    last = max(pages)
    hits: dict[int, int] = {}
    for column, count, places in connection.execute(_COMPARE, (after, last)).fetchall():
        if column is not None:
            hits[column] = count
            continue
        free: dict[int, list[int]] = {}
        for place in sorted(map(int, places.split(","))):
            free.setdefault(place >> 32, []).append(place & 0xFFFF_FFFF)
        for rank, within in free.items():
            _free(connection, pages[rank], within)
    return last, hits


# Hashes, not keys: json_each would end at a NUL. In order, so that the index is read from left to right: the
# farther the references outgrow the cache, the more it helps. (LIMIT -1 keeps the order from being dropped.)
_COMPARE = (
    "SELECT r.col, COUNT(*), CASE WHEN r.col IS NULL THEN group_concat(l.place) END FROM ("
    " SELECT k.rank << 32 | h.key AS place, h.value AS key_hash FROM scratch.ranked k"
    " CROSS JOIN scratch.pages p ON p.id = k.page CROSS JOIN json_each(p.hashes) h"
    " WHERE k.rank > ? AND k.rank <= ? ORDER BY h.value LIMIT -1) l"
    " LEFT JOIN refs r ON r.key_hash = l.key_hash GROUP BY r.col"
)


def _free(connection: Connection, page: int, places: Sequence[int]) -> None:
    apart, hashes, keys, rest = connection.execute(
        "SELECT apart, hashes, keys, rest FROM scratch.pages WHERE id = ?", (page,)
    ).fetchone()
    chosen = [
        [column[place] for place in places] for column in (_load(keys), hashes[1:-1].split(","), *_load(rest))
    ]
    connection.executemany(
        "INSERT INTO scratch.free (key, key_hash, size, etag, modified, version_id, storage_class, ambiguous)"
        f" VALUES (?, CAST(? AS INTEGER), ?, ?, ?, ?, ?, {apart:d})",
        zip(*chosen, strict=True),
    )


def _load(data: bytes) -> Any:
    # Written by this process, into a file that nothing else reads and that no other run believes.
    return marshal.loads(data)


def among(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of these keys that the listing has."""
    wanted, found = frozenset(keys), set[str]()
    for page in _pages_of(connection, keys):
        found |= page & wanted
    return found


def index(connection: Connection) -> None:
    """Make ``scratch.listed``, the hashes of all listed keys, unless it is there. Few plans need it."""
    if not connection.execute("SELECT 1 FROM scratch.sqlite_master WHERE name = 'listed'").fetchone():
        connection.execute("CREATE TABLE scratch.listed (key_hash INTEGER PRIMARY KEY)")
        connection.execute(
            "INSERT OR IGNORE INTO scratch.listed"
            " SELECT l.value FROM scratch.pages p, json_each(p.hashes) l ORDER BY l.value"
        )


def _pages_of(connection: Connection, keys: Collection[str]) -> Iterator[frozenset[str]]:
    last = -1
    for key in sorted(keys):
        row = connection.execute(
            "SELECT id FROM scratch.pages WHERE apart = 0 AND first <= ? ORDER BY first DESC LIMIT 1",
            (_bound(key),),
        ).fetchone()
        if row is not None and row[0] != last:
            last = row[0]
            (data,) = connection.execute("SELECT keys FROM scratch.pages WHERE id = ?", row).fetchone()
            yield frozenset(_load(data))
    for (data,) in connection.execute("SELECT keys FROM scratch.pages WHERE apart = 1"):
        yield frozenset(_load(data))
