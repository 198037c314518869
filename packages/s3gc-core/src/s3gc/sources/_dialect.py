"""What a database must be able to do for us: the small part of SQL that isn't the same everywhere."""

from __future__ import annotations

import abc
import enum
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from attrs import Factory, field, frozen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from s3gc.errors import SourceError
from s3gc.resolver import Odd
from s3gc.sources._names import nearest


@frozen
class Target:
    """Where a database is. ``secrets`` are taken out of messages."""

    display: str
    secrets: Sequence[str] = field(repr=False)


@frozen
class TrackedTable:
    """A table to read: names as the user wrote them and as the database has them."""

    spec: str
    parts: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]  # (as written, name in the database)
    folders: frozenset[int] = frozenset()  # numbers of the columns whose values name folders


@frozen
class TableQuery:
    """The statement that reads one table: first its primary key, then its tracked columns."""

    table: TrackedTable
    sql: str
    key_columns: int
    uuids: frozenset[int] = frozenset()  # numbers of the tracked columns whose texts are UUIDs
    texts: Sequence[str] | None = None  # SQL for the tracked columns, if each of them is a plain text


@frozen
class Running:
    """The transactions of one moment, by an id that no later one has, with their age where visible.

    ``ordinal`` is where the database's history stands, as a number that grows; None if nothing tells it.
    """

    position: str
    open: Mapping[str, timedelta | None] = Factory(dict)
    prepared: Mapping[str, timedelta | None] = Factory(dict)
    ordinal: int | None = None


LONGEST_TEXT = 16_384
"""Characters of a text that a sample looks at."""

LONGEST_BINARY = 4_096
"""Bytes of a binary that a sample looks at."""

LONGEST_UUIDS = 256
"""Elements of an array of UUIDs that a sample looks at."""

BLANK = frozenset({"", "{}", "[]", "null", '""'})
"""Texts that hold nothing: a sample counts them as empty."""


@frozen
class LooseColumn:
    """A column that could hold references and isn't tracked."""

    name: str  # as the user would write it
    type: str
    value: str  # SQL for the value, cut
    filled: str  # SQL for whether there is one
    is_uuid: bool = False  # a text that is a UUID


@frozen
class LooseTable:
    """A table with loose columns."""

    spec: str  # as the user would write it
    source: str  # SQL for what stands after FROM, named t
    key: Sequence[str]  # SQL that tells rows apart; none if there is nothing
    newest: str  # SQL that sorts the newest rows first, by an index; '' if there is none
    columns: Sequence[LooseColumn]


@frozen
class Survey:
    """What a catalogue says of columns that aren't tracked."""

    tables: Sequence[LooseTable]
    hidden: Sequence[str]  # columns that could hold references and that this user may not read


class Trouble(enum.Enum):
    """Why a sample failed, where that is no reason to give up."""

    DENIED = "this user may not read it"
    GONE = "it isn't there any more"
    SLOW = "it took too long"


class Rows(abc.ABC):
    """The rows of one statement, from a cursor on the server."""

    @abc.abstractmethod
    async def fetch(self, count: int) -> Sequence[Sequence[Any]]:
        """The next rows; none at the end."""

    async def close(self) -> None:  # noqa: B027 - most cursors end with their transaction
        """Give the cursor back."""


class Dialect(abc.ABC):
    """One kind of database."""

    kind: str
    quote: str = '"'

    def __init__(self, target: Target) -> None:
        self.target = target

    @abc.abstractmethod
    def engine(self) -> AsyncEngine:
        """A new engine without a pool, its connections in autocommit."""

    def before_connect(self) -> None:  # noqa: B027 - most have nothing to look at
        """Refuse what connecting would hide.

        Raises:
            SourceError: there is nothing to connect to.
        """

    @abc.abstractmethod
    async def begin(self, connection: AsyncConnection) -> None:
        """Begin a transaction that reads and sees one state of all tables."""

    @abc.abstractmethod
    async def query(self, connection: AsyncConnection, table: TrackedTable) -> TableQuery:
        """Look the table up in the catalogue and build its statement.

        Raises:
            SourceError: the table or a column is missing, or can't be read safely.
        """

    @abc.abstractmethod
    async def rows(self, connection: AsyncConnection, sql: str, *parameters: object) -> Rows:
        """Open a cursor on the server."""

    def narrowed(self, query: TableQuery, values: Collection[str], odd: Odd) -> tuple[str, Sequence[object]]:
        """The statement for those rows that may name what is looked for, and its parameters.

        It may give rows that don't, up to all of them, but never leave one out that does.

        Args:
            values: of the texts that aren't odd, those that do. Of odd ones nobody can say.
        """
        return query.sql, ()

    @abc.abstractmethod
    async def identity(self, connection: AsyncConnection) -> dict[str, str]:
        """What tells this database from any other, after proof that it is a primary.

        Raises:
            SourceError: it is a replica, or lacks a privilege that a fence needs.
        """

    @abc.abstractmethod
    async def running(self, connection: AsyncConnection) -> Running:
        """The transactions of others that may have written or may yet write."""

    @abc.abstractmethod
    async def survey(self, connection: AsyncConnection, tables: Sequence[TrackedTable]) -> Survey:
        """Every column that could hold references and isn't one of ``tables``'.

        Raises:
            SourceError: a tracked table is missing.
        """

    @abc.abstractmethod
    async def begin_look(self, connection: AsyncConnection, seconds: float) -> None:
        """Begin a transaction that only reads, whose statements end after ``seconds``."""

    @abc.abstractmethod
    def trouble(self, error: BaseException) -> Trouble | None:
        """What an error of a sample means; None if it is no known trouble."""

    def quoted(self, *parts: str) -> str:
        """Names as SQL."""
        q = self.quote
        return ".".join(q + part.replace(q, q + q) + q for part in parts)

    def columns_in(self, table: TrackedTable, existing: Sequence[str]) -> tuple[str, ...]:
        """The tracked columns by their names in the database.

        Raises:
            SourceError: one is missing.
        """
        for spec, name in table.columns:
            if name not in existing:
                raise SourceError(f"table {table.spec!r} has no column {spec!r}{nearest(name, existing)}")
        return tuple(name for _, name in table.columns)


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error, without SQLAlchemy's wrapping."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def no_table(table: TrackedTable, existing: Sequence[str]) -> SourceError:
    """The error for a table that isn't there."""
    hint = nearest(table.parts[-1], existing)
    return SourceError(f"there is no table {table.spec!r}, or this user may not see it{hint}")


async def fetch(connection: AsyncConnection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """All rows of a small query."""
    result = await connection.exec_driver_sql(sql, tuple(parameters) or None)
    return [tuple(row) for row in result]
