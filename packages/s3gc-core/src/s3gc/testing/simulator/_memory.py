"""What a vault's journal and a folder's registry hold, as the oracle has seen it come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, define

from s3gc.model import BackupRecord, Reference, RowChange
from s3gc.testing.simulator._operation import Operation, PlanFacts, Run

Mention = tuple[str, str, str]
"""(table, row, column)."""

Tripped = tuple[str, str]
"""A breaker's code and subject."""


@define(eq=False)
class VaultMemory:
    """Of one vault, however many machines use it."""

    operations: dict[str, Operation] = Factory(dict)
    latched: set[Tripped] = Factory(set)  # tripped, stays, and not acknowledged since
    acknowledged: set[Tripped] = Factory(set)  # ever
    removed: dict[str, BackupRecord] = Factory(dict)  # key → the version that was removed last
    pinned: set[str] | None = None  # the databases that the bucket is bound to


@define(eq=False)
class Registry:
    """Of one folder: what the registry was told. It outlives processes."""

    plans: dict[str, PlanFacts] = Factory(dict)
    rows: dict[str, dict[Mention, Reference]] = Factory(dict)  # by source
    ordinals: dict[str, int] = Factory(dict)  # source → where the registry is
    runs: dict[str, Run] = Factory(dict)  # free keys
    good: dict[str, int] = Factory(dict)  # source → references at the last cycle that nothing held
    good_ordinals: dict[str, int] = Factory(dict)
    acknowledged: set[Tripped] = Factory(set)  # as long as the cause lasts
    changed_at: dict[str, float] = Factory(dict)  # key → when the newest change that names it was committed
    fresh: set[str] = Factory(set)  # those told since the last observation
    lost: set[str] = Factory(set)  # sources whose changes were lost; nobody has acknowledged it
    vague: bool = False  # it lost its newest entries: grace can't be judged

    def scanned(self, source: str, references: Sequence[Reference], ordinal: int) -> None:
        """All rows of a source, in the place of those before."""
        self.rows[source] = {(one.table, one.row_id, one.column): one for one in references}
        self.ordinals[source] = ordinal

    def changed(self, source: str, changes: Sequence[RowChange], ordinal: int) -> list[Reference]:
        """One commit's changes. Returns the references that came or went."""
        rows = self.rows.setdefault(source, {})
        spoken: list[Reference] = []
        for change in changes:
            gone = [place for place in rows if place[:2] == (change.table, change.row_id)]
            spoken += [rows.pop(place) for place in gone]
            spoken += [Reference(key) for key in change.named]
            for one in change.references:
                rows[one.table, one.row_id, one.column] = one
                spoken.append(one)
        self.ordinals[source] = ordinal
        return spoken

    def references(self) -> Mapping[str, Sequence[Reference]]:
        """All that the registry has, by source."""
        return {source: list(rows.values()) for source, rows in self.rows.items()}
