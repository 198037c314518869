"""Positions in a PostgreSQL server's history, as the registry keeps them between two processes.

A position is where a transaction's commit record begins, and a *proof*: what the stream must show there
again, or this is another history (a storage snapshot put back shows neither by its identifier nor by its
timeline). With it goes the *fingerprint* of all that a stream can't show: which publication and which tables
these changes came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from s3gc.errors import PositionLost
from s3gc.model import Position

ANY_STORAGE = "?"
"""Stands for the storage of a table that was truncated since: any will do."""


@frozen
class LeafPrint:
    """A partition. ``told``: if it is new, no row of it has escaped the stream, by all that can be seen."""

    shape: str
    storage: str
    told: bool = field(default=False, eq=False)  # of the moment of the look only


@frozen
class TablePrint:
    """One tracked table: what its rows mean (``shape``), its files (``storage``), its partitions."""

    shape: str
    storage: str
    leaves: Mapping[int, LeafPrint] = field(factory=dict)

    def __str__(self) -> str:
        leaves = ";".join(
            f"{oid:x}-{leaf.shape}-{leaf.storage}-{leaf.told:d}" for oid, leaf in sorted(self.leaves.items())
        )
        return f"{self.shape}:{self.storage}:{leaves}"

    @classmethod
    def read(cls, text: str) -> TablePrint:
        shape, storage, leaves = text.split(":")
        found = {}
        for leaf in leaves.split(";") if leaves else ():
            oid, leaf_shape, leaf_storage, told = leaf.split("-")
            found[int(oid, 16)] = LeafPrint(leaf_shape, leaf_storage, told == "1")
        return cls(shape, storage, found)


@frozen
class Fingerprint:
    """What must not change behind the stream's back, as digests."""

    server: str  # timeline and database
    configuration: str  # tables, columns, folders, resolver
    publication: str
    tables: Sequence[TablePrint]

    def __str__(self) -> str:
        tables = ",".join(map(str, self.tables))
        return f"{self.server}.{self.configuration}.{self.publication}.{tables}"

    @classmethod
    def read(cls, text: str) -> Fingerprint:
        server, configuration, publication, tables = text.split(".")
        return cls(server, configuration, publication, tuple(map(TablePrint.read, tables.split(","))))

    def after_truncate(self, number: int) -> Fingerprint:
        """The same, with any storage allowed for one table."""
        tables = list(self.tables)
        tables[number] = evolve(tables[number], storage=ANY_STORAGE)
        return evolve(self, tables=tuple(tables))

    def differences(self, now: Fingerprint, names: Sequence[str], *, storage: bool) -> list[str]:
        """What is another now, in words; what only a stream read to its end can tell if ``storage``."""
        found = []
        if self.server != now.server:
            found.append("this is another server, timeline or database (a failover, or a restore)")
        if self.configuration != now.configuration or len(self.tables) != len(now.tables):
            return [*found, "the configuration of the tracked tables changed"]
        if self.publication != now.publication:
            found.append("the publication was changed")
        for name, before, after in zip(names, self.tables, now.tables, strict=True):
            if before.shape != after.shape:
                found.append(f"table {name} was altered, recreated, or left the publication")
            elif _partitions_differ(before, after):
                found.append(f"table {name} got a partition with rows that nobody told, or one was changed")
            elif storage and _stored_elsewhere(before, after):
                found.append(f"table {name} was rewritten, or one of its partitions truncated")
        return found

    def fewer(self, now: Fingerprint, names: Sequence[str]) -> list[str]:
        """Tables that have lost partitions: their rows went untold, so too many are known. In words."""
        return [
            f"a partition of table {name} is gone"
            for name, before, after in zip(names, self.tables, now.tables, strict=True)
            if before.leaves.keys() - after.leaves.keys()
        ]


def _partitions_differ(before: TablePrint, after: TablePrint) -> bool:
    """One that is gone took rows with it and brought none; a new one that is told brought none unseen."""
    return any(
        leaf.shape != before.leaves[oid].shape if oid in before.leaves else not leaf.told
        for oid, leaf in after.leaves.items()
    )


def _stored_elsewhere(before: TablePrint, after: TablePrint) -> bool:
    if before.storage == ANY_STORAGE:
        return False
    return before.storage != after.storage or any(
        leaf.storage != after.leaves[oid].storage
        for oid, leaf in before.leaves.items()
        if oid in after.leaves
    )


@frozen
class Committed:
    """Proof of a transaction: its number and the time of its commit, in µs since 2000."""

    xid: int
    at: int

    def __str__(self) -> str:
        return f"t:{self.xid}:{self.at}"


@frozen
class Told:
    """Proof of a fence: the id of the message that it wrote, and a position past its commit.

    ``looked``: the catalogue was looked at after it. Else its place has the fingerprint of the place before,
    and what the stream can't show is left to the next fence.
    """

    id: str
    bound: int
    looked: bool = True

    def __str__(self) -> str:
        return f"{'m' if self.looked else 'n'}:{self.id}:{self.bound:X}"


@frozen
class Place:
    """A position, read."""

    lsn: int
    proof: Committed | Told
    prints: Fingerprint

    def position(self, source: str) -> Position:
        return Position(source, f"{format_lsn(self.lsn)} {self.proof} {self.prints}", self.lsn)

    @classmethod
    def read(cls, position: Position) -> Place:
        """
        Raises:
            PositionLost: it isn't one of ours.
        """
        try:
            lsn, proof, prints = position.value.split(" ")
            kind, _, rest = proof.partition(":")
            if kind in ("m", "n"):
                name, _, bound = rest.partition(":")
                told: Committed | Told = Told(name, int(bound, 16), looked=kind == "m")
            elif kind == "t":
                xid, _, at = rest.partition(":")
                told = Committed(int(xid), int(at))
            else:
                raise ValueError(proof)
            return cls(parse_lsn(lsn), told, Fingerprint.read(prints))
        except ValueError:
            raise PositionLost(
                f"{position.source}: {position.value!r} is no position of change capture"
            ) from None


def format_lsn(lsn: int) -> str:
    """As PostgreSQL writes it: ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The number of an LSN.

    Raises:
        ValueError: it isn't one.
    """
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is no LSN")
    return (int(high, 16) << 32) | int(low, 16)
