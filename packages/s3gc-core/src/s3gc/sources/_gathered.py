"""Changes on their way into a batch, whatever tells them, and the rows of them that must be read again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from attrs import Factory, define, evolve

from s3gc.model import ChangeBatch, Position, Reference, RowChange


class _Place(Protocol):
    def position(self, source: str) -> Position: ...


class _Again(Protocol):
    """A row whose new id is known and whose other columns aren't."""

    @property
    def change(self) -> int:
        """Its number in the batch."""

    @property
    def table(self) -> int:
        """The number of its table."""


P = TypeVar("P", bound=_Place)
A = TypeVar("A", bound=_Again)
T = TypeVar("T")


@define
class Gathered(Generic[P, A]):
    """A batch on its way."""

    changes: list[RowChange] = Factory(list)
    emptied: list[str] = Factory(list)
    again: list[A] = Factory(list)
    stale: str | None = None
    place: P | None = None
    at: datetime | None = None

    def batch(self, source: str) -> ChangeBatch:
        """It for the registry, once its place is known and all its rows are read."""
        assert self.place is not None
        return ChangeBatch(self.changes, self.place.position(source), self.at, self.emptied, stale=self.stale)

    async def read_again(
        self,
        tables: Sequence[T],
        read: Callable[[T, list[A]], Awaitable[Mapping[str, Sequence[Reference]]]],
    ) -> None:
        """Let the rows be read, and add what they name that the changes didn't tell.

        Args:
            tables: by their numbers.
            read: what rows of one table name now, by row id.
        """
        for number, table in enumerate(tables):
            rows = [one for one in self.again if one.table == number]
            if not rows:
                continue
            found = await read(table, rows)
            for one in rows:
                change = self.changes[one.change]
                if change.row_id in found:
                    # Only what it doesn't tell: the row may have gone on since, and a key that it named
                    # for a moment has to be spoken of.
                    told = change.columns or frozenset()
                    more = [r for r in found[change.row_id] if r.column not in told]
                    self.changes[one.change] = evolve(
                        change, references=[*change.references, *more], columns=None
                    )
