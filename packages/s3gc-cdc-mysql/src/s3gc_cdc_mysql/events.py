"""What a binary log tells, as values. Nothing here reads bytes: :mod:`s3gc_cdc_mysql.binlog` does.

One model serves MariaDB and MySQL; what only one of the two writes says so. Positions in a file are the four
bytes that the log has of them, so beyond 4 GiB (one huge transaction) they begin anew: prefer GTIDs.
"""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from attrs import frozen

from s3gc.errors import SourceError


class BinlogError(SourceError):
    """The log is damaged or has what isn't understood: changes could be missed, so nothing may be deleted."""


class Absent(enum.Enum):
    """Type of :data:`ABSENT`."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT
"""A column that an image doesn't have (MINIMAL, NOBLOB): nothing is known of its value. NULL is ``None``."""

Value: TypeAlias = (
    str | bytes | int | float | Decimal | date | datetime | timedelta | Literal[Absent.ABSENT] | None
)
"""A column's value, of the type that aiomysql reads it as:

=====================================  =================================================================
column                                 value
=====================================  =================================================================
CHAR, VARCHAR, TEXT, ENUM, JSON        ``str``; an ENUM's ``''`` is the value of a failed insert
SET                                    ``str``, its members joined by commas
BINARY, VARBINARY, BLOB, BIT,          ``bytes``; a BINARY has its padding back
GEOMETRY, VECTOR
integers, YEAR                         ``int``
DECIMAL                                ``Decimal``, with all digits of its scale
FLOAT, DOUBLE                          ``float``; FLOAT with all its bits, where the server prints 6 digits
DATE                                   ``date``; ``str`` where Python has none ('0000-00-00')
DATETIME, TIMESTAMP                    ``datetime`` without zone, TIMESTAMP in UTC; ``str`` as for DATE
TIME                                   ``timedelta``
=====================================  =================================================================

MariaDB's UUID, INET4 and INET6 are BINARY in the log, see :mod:`s3gc_cdc_mysql.values`.
"""

Image: TypeAlias = tuple[Value, ...]
"""The asked columns of a row, in the order of :attr:`Rows.columns`."""


class ColumnType(enum.IntEnum):
    """Types of columns in a table map (MySQL: ``enum_field_types``)."""

    DECIMAL = 0  # before 5.0
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    NULL = 6
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    TIME = 11
    DATETIME = 12
    YEAR = 13
    NEWDATE = 14
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    TYPED_ARRAY = 20  # only of MySQL's functional indexes
    BLOB_COMPRESSED = 140  # MariaDB
    VARCHAR_COMPRESSED = 141  # MariaDB
    VECTOR = 242  # MySQL 9
    JSON = 245  # MySQL; MariaDB's JSON is a text
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


class Header(NamedTuple):
    """What stands before every event."""

    timestamp: int
    """When its statement began, seconds since 1970; 0 in what a server makes up for its reader."""
    type: int
    """The number of its type in the log."""
    server_id: int
    """The server that wrote it first."""
    size: int
    """Bytes, with header and checksum."""
    next_position: int
    """Where it ends in its file and the next begins; 0 in what a server makes up for its reader. Events of a
    compressed transaction of MySQL have the end of that transaction."""
    flags: int
    """``LOG_EVENT_*_F``."""

    @property
    def artificial(self) -> bool:
        """Made up by the server for its reader; it isn't in the file."""
        return bool(self.flags & 0x20)


@frozen
class Event:
    """One event."""

    header: Header


# ----------------------------------------------------------------------------------------- the stream


@frozen
class Format(Event):
    """A file begins (or, artificial, the stream in its middle). A server's crash ends a transaction here."""

    server_version: str
    binlog_version: int
    created: int
    """Seconds since 1970 when the server wrote it at its start; 0 in later files and in artificial ones."""
    checksum: bool
    """The events that follow end with a CRC32."""


@frozen
class Rotate(Event):
    """The next event comes from another file; artificial at the stream's beginning."""

    file: str
    position: int


@frozen
class Heartbeat(Event):
    """Nothing happens: the server has sent all up to here. Positions aren't filled in by other events."""

    file: str
    position: int


@frozen
class Stop(Event):
    """The server was shut down in order."""


@frozen
class Incident(Event):
    """The server knows that its log misses something. What follows can't be trusted: read everything anew."""

    code: int
    message: str


@frozen
class Other(Event):
    """An event that is known to change no row and to matter to no reader of rows; ``kind`` is its name."""

    kind: str


# ----------------------------------------------------------------------------------------- transactions


class MariadbGtidId(NamedTuple):
    """``domain-server-sequence``."""

    domain: int
    server_id: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server_id}-{self.sequence}"


@frozen
class MariadbGtid(Event):
    """A transaction, or a single statement, begins."""

    gtid: MariadbGtidId
    standalone: bool
    """No commit follows: the group is the one statement after it (DDL)."""
    transactional: bool
    """It could be rolled back."""
    ddl: bool
    group_commit_id: int | None
    prepared_xa: bytes | None
    """XID (format, lengths and data) of an XA transaction that this group only prepares: its rows aren't
    committed until the group with the same one as ``completed_xa``."""
    completed_xa: bytes | None
    """XID of an XA transaction that this group commits or rolls back (the Query in it says which)."""


@frozen
class GtidList(Event):
    """MariaDB, at a file's beginning: the last GTID of each domain and server before it."""

    gtids: tuple[MariadbGtidId, ...]
    flags: int


@frozen
class MysqlGtid(Event):
    """A transaction begins."""

    source: UUID | None
    """``None`` when anonymous (``gtid_mode`` isn't ON)."""
    sequence: int
    tag: str
    last_committed: int
    sequence_number: int
    may_have_statements: bool
    """Its flags don't say that it has rows only."""


@frozen
class GtidRange:
    """MySQL: transactions ``first`` to ``last`` of a server, both included."""

    source: UUID
    tag: str
    first: int
    last: int


@frozen
class PreviousGtids(Event):
    """MySQL, at a file's beginning: the GTIDs before it."""

    ranges: tuple[GtidRange, ...]


@frozen
class Query(Event):
    """A statement as text: BEGIN, COMMIT, DDL, and changes that weren't logged by rows."""

    thread_id: int
    database: str
    """The default database of the session; empty when it had none."""
    text: str
    """As far as it isn't valid in its character set, with replacement characters."""
    error_code: int
    """Of the statement on the server that wrote it; not 0 means that it may have been done in part."""
    flags2: int | None
    sql_mode: int | None
    charset: tuple[int, int, int] | None
    """client, connection, server: numbers of collations."""
    variables: bytes
    """All status variables, as they are."""


@frozen
class Variable(Event):
    """What a statement after it needs (INTVAR, RAND, USER_VAR): a change that wasn't logged by rows."""

    kind: str


@frozen
class Annotation(Event):
    """The statement whose rows follow (MariaDB: ANNOTATE_ROWS, MySQL: ROWS_QUERY)."""

    text: str


@frozen
class Commit(Event):
    """The transaction is committed (XID). Others end with a :class:`Query` of COMMIT or ROLLBACK."""

    xid: int


@frozen
class XaPrepare(Event):
    """An XA transaction is prepared: a later :class:`Query` says whether it is committed."""

    xid: bytes
    one_phase: bool
    """It is committed at once."""


# ----------------------------------------------------------------------------------------- rows


@frozen
class Column:
    """A column of a table map. What wasn't sent is ``None`` (``binlog_row_metadata``)."""

    index: int
    type: ColumnType
    meta: int
    """By type: most bytes of a text; bytes of a blob's length, an ENUM, a SET, a FLOAT or a DOUBLE; bits
    of a BIT; digits of the fraction of a second; precision << 8 | scale of a DECIMAL; else 0."""
    nullable: bool
    name: str | None = None
    unsigned: bool = False
    collation: int | None = None
    """Number of the collation of a text, ENUM or SET; 63 is binary."""
    members: tuple[str, ...] | None = None
    """Of an ENUM or SET."""
    visible: bool | None = None


class KeyPart(NamedTuple):
    """A column of the primary key; ``prefix`` is how many characters of it, 0 for all."""

    column: int
    prefix: int


@frozen
class Table:
    """What a table was when its rows were written. Equal table maps of one decoder give the same object."""

    database: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[KeyPart, ...] | None
    """``()``: there is none; ``None``: it wasn't sent (``binlog_row_metadata`` isn't FULL)."""
    flags: int

    @property
    def named(self) -> bool:
        """Whether it tells its columns' names."""
        return all(column.name is not None for column in self.columns)


@frozen
class TableMap(Event):
    """Rows of this table may follow."""

    table_id: int
    table: Table


@frozen
class Rows(Event):
    """Changed rows of one table; only of tables and columns that were asked for."""

    table: Table
    columns: tuple[int, ...]
    """Indexes of the columns that each image has."""
    last_of_statement: bool


@frozen
class Insert(Rows):
    """New rows. In MINIMAL images a column that the statement didn't name is absent, and the row has its
    default there, which may be a reference: such a row must be read."""

    rows: list[Image]


@frozen
class Update(Rows):
    """Changed rows: before, after. In MINIMAL images before has the key, and after what was set."""

    rows: list[tuple[Image, Image]]


@frozen
class Delete(Rows):
    """Rows that are gone. In MINIMAL images they have the key."""

    rows: list[Image]
