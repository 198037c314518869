"""Which entries a reader asks for, as SQL that stays fast in a journal of any length."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator

from attrs import frozen

from s3gc.vault._chain import COLUMNS, Row, require_progress

PAGE_ROWS = 1_000
"""Entries fetched at a time."""

NARROW_ROWS = 20_000
"""Entries below a prefix, or of several events, are read through an index when they are at most so many; more
of them by going through all.

Through the index their numbers must be sorted, and so be in memory; 20,000 of them are 1 MB.
"""

LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def after_prefix(prefix: str) -> str | None:
    """The smallest text that is greater than all texts beginning with ``prefix``; None if there is none.

    SQLite compares UTF-8 bytes, whose order is that of code points. Surrogates are no characters.
    """
    stem = prefix.rstrip(chr(LAST_CHARACTER))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return stem[:-1] + chr(following)


@frozen
class Query:
    """The filters of a read; all of them must hold."""

    key: str | None = None
    prefix: str | None = None
    operation_id: str | None = None
    events: frozenset[str] | None = None

    def conditions(self) -> tuple[list[str], list[str | int]]:
        """SQL and its values. A ``+`` keeps SQLite from choosing that column's index by itself."""
        terms: list[str] = []
        values: list[str | int] = []
        free = True  # no index was chosen yet

        def term(text: str, *given: str) -> None:
            terms.append(text)
            values.extend(given)

        if self.key is not None:
            term("key = ?", self.key)
            free = False
        if self.operation_id is not None:
            term("operation_id = ?" if free else "+operation_id = ?", self.operation_id)
            free = False
        if self.prefix is not None:
            term("+key >= ?", self.prefix)
            if (end := after_prefix(self.prefix)) is not None:
                term("+key < ?", end)
        if self.events is not None:
            marks = ", ".join("?" * len(self.events))
            alone = free and len(self.events) == 1
            term(f"event = {marks}" if alone else f"+event IN ({marks})", *sorted(self.events))
        return terms, values

    def pages(self, connection: sqlite3.Connection, after: int, last: int) -> Iterator[list[Row]]:
        """Entries with ``after < seq <= last``, oldest first, some at a time."""
        narrow = self._narrow(connection, after, last)
        if narrow is not None:
            yield from self._by_number(connection, narrow)
            return
        terms, values = self.conditions()
        where = " AND ".join(["seq > ?", "seq <= ?", *terms])
        sql = f"SELECT {COLUMNS} FROM entries WHERE {where} ORDER BY seq LIMIT {PAGE_ROWS}"
        while True:
            page = connection.execute(sql, (after, last, *values)).fetchall()
            if page:
                yield page
            if len(page) < PAGE_ROWS:
                return
            require_progress(page[-1][0], after)
            after = page[-1][0]

    def _narrow(self, connection: sqlite3.Connection, after: int, last: int) -> list[int] | None:
        """The numbers of all entries below a prefix, or of some events, if they are few; else None."""
        if self.key is not None or self.operation_id is not None:
            return None
        terms: list[str] = []
        values: list[str | int] = []
        if self.prefix:
            terms.append("key >= ?")
            values.append(self.prefix)
            if (end := after_prefix(self.prefix)) is not None:
                terms.append("key < ?")
                values.append(end)
        elif self.prefix is None and self.events is not None and len(self.events) > 1:
            terms.append(f"event IN ({', '.join('?' * len(self.events))})")
            values.extend(sorted(self.events))
            terms.append("seq > ?")  # part of the index: what was read before isn't gone through again
            values.append(after)
        else:
            return None
        found = connection.execute(
            f"SELECT seq FROM entries WHERE {' AND '.join(terms)} LIMIT {NARROW_ROWS + 1}", values
        ).fetchall()
        if len(found) > NARROW_ROWS:
            return None
        return sorted(seq for (seq,) in found if after < seq <= last)

    def _by_number(self, connection: sqlite3.Connection, numbers: list[int]) -> Iterator[list[Row]]:
        for begin in range(0, len(numbers), 500):  # SQLite of old takes 999 values
            some = numbers[begin : begin + 500]
            marks = ", ".join("?" * len(some))
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM entries WHERE seq IN ({marks}) ORDER BY seq", some
            ).fetchall()
            # The event is the fourth column.
            page = [row for row in rows if self.events is None or row[3] in self.events]
            if page:
                yield page


def query(
    key: str | None = None,
    prefix: str | None = None,
    operation_id: str | None = None,
    events: Collection[str] | None = None,
) -> Query:
    """As the journal's ``read`` takes them. Empty ``events`` match nothing, an empty prefix every key."""
    return Query(key, prefix, operation_id, None if events is None else frozenset(events))
