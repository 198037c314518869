"""Positions in the history of a MariaDB or MySQL server, as the registry keeps them between two processes.

A position is a place in the binary log, and what tells this log from any other: the server, the moment when
the log's file was begun (each start of a server begins a file, so a server that was put back to its past has
another one under the same name), and the GTIDs before it. With it goes the *fingerprint* of all that the log
can't show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from attrs import evolve, frozen

from s3gc.errors import PositionLost
from s3gc.model import Position
from s3gc.sources.mysql import binlog_ordinal

ANY_STORAGE = "?"
"""Stands for the storage of a table that was truncated since: any will do."""

MOST_OFFSET = 0xFFFFFFFF
"""The greatest place in a file that one can ask for."""


@frozen(order=False)
class LogPlace:
    """A place in the binary log: everything before ``offset`` of ``file``, and all files before."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"

    @property
    def number(self) -> int:
        """Of its file; they are counted up."""
        return int(self.file.rpartition(".")[2])

    @property
    def ordinal(self) -> int:
        """Grows with the log."""
        return binlog_ordinal(self.file, str(self.offset)) or 0

    def at_least(self, other: LogPlace) -> bool:
        """Whether all before ``other`` is before this, too."""
        return (self.number, self.offset) >= (other.number, other.offset)

    def moved(self, next_position: int) -> LogPlace:
        """Where an event ends: the log has four bytes of it, and a file may be larger."""
        offset = (self.offset & ~MOST_OFFSET) | next_position
        return evolve(self, offset=offset if offset >= self.offset else offset + MOST_OFFSET + 1)

    @classmethod
    def read(cls, text: str) -> LogPlace:
        """
        Raises:
            ValueError: it isn't one.
        """
        file, colon, offset = text.rpartition(":")
        if not colon or not file.rpartition(".")[2].isdecimal() or not offset.isdecimal():
            raise ValueError(f"{text!r} is no place in a binary log")
        return cls(file, int(offset))


# ----------------------------------------------------------------------------------------- GTIDs

_TAG = re.compile(r"[a-z_][a-z0-9_]*")
_SPAN = re.compile(r"(\d+)(?:-(\d+))?")


@frozen
class MariadbGtids:
    """Of each domain the last one: MariaDB's ``domain-server-sequence``."""

    domains: Mapping[int, tuple[int, int]]  # domain → (server, sequence)

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{seq}" for domain, (server, seq) in sorted(self.domains.items()))

    def having(self, domain: int, server: int, sequence: int) -> MariadbGtids:
        """With one more."""
        return MariadbGtids({**self.domains, domain: (server, sequence)})

    def missing(self, now: Gtids) -> str:
        """What a server that has ``now`` lacks of these; nothing if it has them all."""
        known = now.domains if isinstance(now, MariadbGtids) else {}
        return ",".join(
            f"{domain}-{server}-{sequence}"
            for domain, (server, sequence) in sorted(self.domains.items())
            if domain not in known or known[domain][1] < sequence
        )

    @classmethod
    def read(cls, text: str) -> MariadbGtids:
        """
        Raises:
            ValueError: it isn't such a list.
        """
        found: dict[int, tuple[int, int]] = {}
        for part in _parts(text):
            domain, server, sequence = (int(number) for number in part.split("-"))
            if domain not in found or found[domain][1] < sequence:
                found[domain] = (server, sequence)
        return cls(found)


@frozen
class MysqlGtids:
    """MySQL's sets: of each source (with its tag) the intervals of its sequence, both ends included."""

    sources: Mapping[str, Sequence[tuple[int, int]]]

    def __str__(self) -> str:
        return ",".join(
            ":".join([source, *(f"{a}-{b}" if a != b else str(a) for a, b in spans)])
            for source, spans in sorted(self.sources.items())
        )

    def having(self, source: UUID, tag: str, sequence: int) -> MysqlGtids:
        """With one more."""
        name = f"{source}:{tag}" if tag else str(source)
        spans = [*self.sources.get(name, ()), (sequence, sequence)]
        return MysqlGtids({**self.sources, name: _joined(spans)})

    def missing(self, now: Gtids) -> str:
        """What a server that has ``now`` lacks of these; nothing if it has them all."""
        known = now.sources if isinstance(now, MysqlGtids) else {}
        lacking = {}
        for source, spans in self.sources.items():
            rest = _without(spans, known.get(source, ()))
            if rest:
                lacking[source] = rest
        return str(MysqlGtids(lacking))

    @classmethod
    def read(cls, text: str) -> MysqlGtids:
        """
        Raises:
            ValueError: it isn't such a set.
        """
        found: dict[str, list[tuple[int, int]]] = {}
        for part in _parts(text):
            uuid, *rest = part.split(":")
            name = source = str(UUID(uuid))
            for word in rest:
                span = _SPAN.fullmatch(word)
                if span is None:
                    if not _TAG.fullmatch(word.strip().lower()):
                        raise ValueError(f"{word!r} is neither an interval nor a tag")
                    name = f"{source}:{word.strip().lower()}"
                    continue
                first = int(span[1])
                found.setdefault(name, []).append((first, int(span[2] or first)))
        return cls({name: _joined(spans) for name, spans in found.items()})


Gtids = MariadbGtids | MysqlGtids


def _parts(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if first < 1 or last < first:
            raise ValueError(f"{first}-{last} is no interval")
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _without(spans: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    left = list(spans)
    for first, last in others:
        cut = []
        for a, b in left:
            if last < a or b < first:
                cut.append((a, b))
                continue
            if a < first:
                cut.append((a, first - 1))
            if last < b:
                cut.append((last + 1, b))
        left = cut
    return left


# ----------------------------------------------------------------------------------------- fingerprint


@frozen
class TablePrint:
    """One tracked table: what its rows mean (``shape``), and which files they are in (``storage``)."""

    shape: str
    storage: str


@frozen
class Fingerprint:
    """What must not change behind the log's back, as digests."""

    server: str  # its identity, the database
    configuration: str  # tables, columns, folders, resolver
    durable: bool  # a crash of the server leaves tables and log the same
    tables: Sequence[TablePrint]

    def __str__(self) -> str:
        tables = ",".join(f"{table.shape}:{table.storage}" for table in self.tables)
        return f"{self.server}.{self.configuration}.{'d' if self.durable else 'v'}.{tables}"

    @classmethod
    def read(cls, text: str) -> Fingerprint:
        server, configuration, durable, tables = text.split(".")
        if durable not in ("d", "v"):
            raise ValueError(text)
        pairs = [pair.split(":") for pair in tables.split(",")]
        return cls(server, configuration, durable == "d", tuple(TablePrint(a, b) for a, b in pairs))

    def after_truncate(self, number: int) -> Fingerprint:
        """The same, with any storage allowed for one table."""
        tables = list(self.tables)
        tables[number] = evolve(tables[number], storage=ANY_STORAGE)
        return evolve(self, tables=tuple(tables))

    def differences(self, now: Fingerprint, names: Sequence[str], *, storage: bool) -> list[str]:
        """What is another now, in words; what only a log read to its end can tell if ``storage``."""
        found = []
        if self.server != now.server:
            found.append("this is another server or database (a failover, or a restore)")
        if self.configuration != now.configuration or len(self.tables) != len(now.tables):
            return [*found, "the configuration of the tracked tables changed"]
        for name, before, after in zip(names, self.tables, now.tables, strict=True):
            if before.shape != after.shape:
                found.append(f"table {name} was altered or recreated, or its foreign keys changed")
            elif storage and before.storage not in (ANY_STORAGE, after.storage):
                found.append(f"table {name} was rebuilt or recreated")
        return found


# ----------------------------------------------------------------------------------------- the whole


@frozen
class Place:
    """A position, read."""

    log: LogPlace
    born: int  # when the file was begun, seconds since 1970
    gtids: Gtids
    prints: Fingerprint
    looked: bool = True
    """Whether the fingerprint was read for this place; else it is the one of a place before."""

    def position(self, source: str) -> Position:
        kind = "m" if isinstance(self.gtids, MariadbGtids) else "s"
        looked = "" if self.looked else " -"
        return Position(
            source, f"{self.log} {self.born} {kind}={self.gtids} {self.prints}{looked}", self.log.ordinal
        )

    @classmethod
    def read(cls, position: Position) -> Place:
        """
        Raises:
            PositionLost: it isn't one of ours.
        """
        try:
            log, born, gtids, prints, *rest = position.value.split(" ")
            kind, _, known = gtids.partition("=")
            if kind not in ("m", "s"):
                raise ValueError(gtids)
            if rest not in ([], ["-"]):
                raise ValueError(rest)
            return cls(
                LogPlace.read(log),
                int(born),
                MariadbGtids.read(known) if kind == "m" else MysqlGtids.read(known),
                Fingerprint.read(prints),
                looked=not rest,
            )
        except ValueError:
            raise PositionLost(
                f"{position.source}: {position.value!r} is no position of change capture"
            ) from None
