"""From messages of the stream to changes of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import evolve, frozen

from s3gc.errors import PositionLost
from s3gc.model import Reference, RowChange
from s3gc.resolver import Resolver
from s3gc.sources import capture
from s3gc.sources.capture import FolderReader, row_id
from s3gc_cdc_postgres._values import Read, reader
from s3gc_cdc_postgres.catalogue import TableInfo
from s3gc_cdc_postgres.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    PgOutputError,
    Relation,
    Truncate,
    Type,
    Update,
    Values,
    decode,
)
from s3gc_cdc_postgres.position import Committed, Place, Told, format_lsn

PREFIX = "s3gc"
"""Of the messages that fences write."""

BATCH = 20_000
"""Changes of one batch; a larger transaction is told in several."""

_2000 = datetime(2000, 1, 1, tzinfo=UTC)


@frozen
class Again:
    """A row whose new id is known and whose unchanged columns aren't: it must be read again."""

    change: int  # its number in the batch
    table: int
    key: Sequence[str]
    xid: int  # of the transaction that must be visible to the reader


Gathered = capture.Gathered[Place, Again]
"""A batch on its way."""


@frozen
class _Plan:
    """How the values of a relation become references, from its last description in the stream."""

    number: int
    spec: str
    key: Sequence[int]
    columns: Sequence[tuple[int, str, Read, bool]]  # (number in the tuple, as written, reader, folders)


class Assembler:
    """Takes the stream from one place to a fence. Pure: what is read again is left to the caller.

    Args:
        name: of the source, for messages.
        tables: the tracked tables as they are now.
        place: where the registry is.
        resolver: turns values into keys.
    """

    def __init__(
        self, name: str, tables: Sequence[TableInfo], place: Place, resolver: Resolver, *, batch: int = BATCH
    ) -> None:
        self._name = name
        self._tables = {table.oid: (number, table) for number, table in enumerate(tables)}
        self._names = [table.tracked.spec for table in tables]
        self._resolve = resolver.keys
        self._folders = FolderReader(resolver).folders
        self._batch = batch
        self._plans: dict[int, _Plan | None] = {}
        self.place = place
        """The last commit that was told whole."""
        self.end = 0
        """Where its record ends."""
        self._gathering = Gathered()
        self.ready: deque[Gathered] = deque()
        """Batches that are whole."""
        self._transaction: Begin | None = None
        self._until: Place | None = None
        self._id = ""
        self._bound = 0
        self._looked = True
        self._fenced = False
        self.reached = True
        """Whether the fence was told."""
        # A new stream must show again what was last seen of it.
        self._known = place.proof if isinstance(place.proof, Committed) else None
        self._awaited = place.proof.id if isinstance(place.proof, Told) else None
        self._skipping = False

    @property
    def proven(self) -> bool:
        """Whether the stream has shown what was last seen of it."""
        return self.reached or (self._known is None and self._awaited is None)

    def towards(self, until: Place) -> None:
        """Go on to this fence.

        Raises:
            PositionLost: what the stream can't show was changed since the place.
        """
        assert isinstance(until.proof, Told)
        self._until, self._id, self._bound = until, until.proof.id, until.proof.bound
        self._looked = until.proof.looked
        self.reached = self._fenced = False
        self._differ(self.place.prints.differences(until.prints, self._names, storage=False))

    def _differ(self, differences: Sequence[str]) -> None:
        if differences:
            raise PositionLost(f"{self._name}: {'; '.join(differences)}")

    # ------------------------------------------------------------------ the stream

    def sent_up_to(self, lsn: int) -> None:
        """The server has nothing more to send before this position.

        Raises:
            PositionLost: and yet the fence wasn't told.
        """
        if not self.reached and not self._fenced and lsn >= self._bound:
            raise PositionLost(
                f"{self._name}: the stream has passed {format_lsn(lsn)} and never told the fence before "
                f"{format_lsn(self._bound)}: this is another history"
            )

    def feed(self, data: bytes) -> None:
        """Take one message.

        Raises:
            PgOutputError: it isn't understood.
            PositionLost: it can't follow what the registry knows.
        """
        message = decode(data)
        kind = type(message)
        if kind is Insert or kind is Update or kind is Delete:
            if not self._skipping:
                self._row(message)  # type: ignore[arg-type]  # it is one of these
        elif isinstance(message, Relation):
            self._plans[message.oid] = self._plan(message)
        elif isinstance(message, Begin):
            self._begin(message)
        elif isinstance(message, Commit):
            self._commit(message)
        elif isinstance(message, Truncate):
            if not self._skipping:
                self._truncate(message)
        elif isinstance(message, Message):
            self._message(message)
        else:
            assert isinstance(message, Type | Origin)

    def _begin(self, begin: Begin) -> None:
        if self._transaction is not None:
            raise PgOutputError(f"{self._name}: a transaction begins inside another")
        self.sent_up_to(begin.lsn)
        if self._known is not None:
            if (begin.lsn, begin.xid, begin.at) != (self.place.lsn, self._known.xid, self._known.at):
                raise PositionLost(
                    f"{self._name}: at {format_lsn(self.place.lsn)} the server has another transaction now "
                    "than the one that was followed: was it restored to its past?"
                )
            self._skipping = True
            self._known = None
        elif begin.lsn < self.place.lsn or (
            begin.lsn == self.place.lsn and isinstance(self.place.proof, Committed)
        ):
            raise PgOutputError(f"{self._name}: commits don't come in order: {format_lsn(begin.lsn)}")
        self._transaction = begin
        if not self._skipping:
            at = _2000 + timedelta(microseconds=begin.at)
            self._gathering.at = max(self._gathering.at or at, at)

    def _commit(self, commit: Commit) -> None:
        begin, self._transaction = self._transaction, None
        if begin is None or begin.lsn != commit.lsn:
            raise PgOutputError(f"{self._name}: a commit without its transaction at {format_lsn(commit.lsn)}")
        if self._skipping:
            self._skipping = False
            return
        place = evolve(self.place, lsn=begin.lsn, proof=Committed(begin.xid, begin.at))
        if self._fenced:
            assert self._until is not None
            if self._looked:
                now = self._until.prints
                self._differ(self.place.prints.differences(now, self._names, storage=True))
                self._gathering.stale = "; ".join(self.place.prints.fewer(now, self._names)) or None
                place = evolve(place, prints=self._until.prints)
            self.reached = True
        self.place, self.end = place, commit.end
        if self.reached or len(self._gathering.changes) >= self._batch:
            self._flush()

    def _flush(self) -> None:
        whole, self._gathering = self._gathering, Gathered()
        if self._transaction is not None:
            self._gathering.at = whole.at
        whole.place = self.place
        self.ready.append(whole)

    def _message(self, message: Message) -> None:
        if message.prefix != PREFIX or not message.transactional:
            return
        told = message.content.decode("ascii", "replace")
        if told == self._awaited:
            self._awaited = None
        if told == self._id and not self.reached:
            if self._awaited is not None:
                raise PositionLost(
                    f"{self._name}: the stream didn't tell the beginning that the registry knows: this is "
                    "another history"
                )
            self._fenced = True

    def _truncate(self, message: Truncate) -> None:
        for oid in message.oids:
            if oid in self._tables:
                number, table = self._tables[oid]
                if self._gathering.changes:
                    self._flush()
                self._gathering.emptied.append(table.tracked.spec)
                self.place = evolve(self.place, prints=self.place.prints.after_truncate(number))

    # ------------------------------------------------------------------ rows

    def _plan(self, relation: Relation) -> _Plan | None:
        if relation.oid not in self._tables:
            return None
        number, table = self._tables[relation.oid]
        spec = table.tracked.spec
        at = {column.name: place for place, column in enumerate(relation.columns)}
        for column in (*table.key, *table.columns):
            if column.name not in at:
                raise PositionLost(
                    f"{self._name}: the changes of {spec} come without its column {column.name!r}"
                )
        key = {column.name for column in table.key}
        sent = {column.name for column in relation.columns if column.is_key}
        if relation.identity == "n" or not key <= sent or (relation.identity != "f" and key != sent):
            raise PositionLost(f"{self._name}: the replica identity of {spec} was changed")
        return _Plan(
            number,
            spec,
            [at[column.name] for column in table.key],
            [
                (
                    at[name],
                    written,
                    reader(relation.columns[at[name]].type_oid),
                    place in table.tracked.folders,
                )
                for place, (written, name) in enumerate(table.tracked.columns)
            ],
        )

    def _row(self, message: Insert | Update | Delete) -> None:
        try:
            plan = self._plans[message.oid]
        except KeyError:
            raise PgOutputError(
                f"{self._name}: a change of relation {message.oid}, of which nothing was told"
            ) from None
        if plan is None:
            return
        if self._transaction is None:
            raise PgOutputError(f"{self._name}: a change outside of a transaction")
        changes = self._gathering.changes
        if type(message) is Insert:
            identity = self._identity(plan, message.new, None)
            references, unknown = self._references(plan, message.new, None, identity)
            if unknown:
                raise PgOutputError(f"{self._name}: a new row of {plan.spec} came without all values")
            changes.append(RowChange(plan.spec, identity, references))
        elif type(message) is Delete:
            changes.append(RowChange(plan.spec, self._identity(plan, message.old, None)))
        else:
            assert isinstance(message, Update)
            self._update(plan, message)
        if len(changes) >= self._batch:
            self._flush()

    def _update(self, plan: _Plan, message: Update) -> None:
        identity = self._identity(plan, message.new, message.old)
        previous = None if message.old is None else self._identity(plan, message.old, None)
        if previous == identity:
            previous = None
        whole = message.old if message.whole else None
        references, unknown = self._references(plan, message.new, whole, identity)
        columns = None
        if unknown:
            columns = frozenset(name for _, name, _, _ in plan.columns if name not in unknown)
            if previous is not None:
                # The registry may know the row under neither id yet, so it has no old references to move.
                assert self._transaction is not None
                self._gathering.again.append(
                    Again(
                        len(self._gathering.changes),
                        plan.number,
                        self._key(plan, message.new, message.old),
                        self._transaction.xid,
                    )
                )
        self._gathering.changes.append(RowChange(plan.spec, identity, references, columns, previous))

    def _key(self, plan: _Plan, values: Values, old: Values | None) -> list[str]:
        parts = []
        for at in plan.key:
            value = values[at]
            if value is UNCHANGED and old is not None:
                value = old[at]
            if value is None or value is UNCHANGED:
                raise PgOutputError(f"{self._name}: a change of {plan.spec} came without its key")
            parts.append(value.decode())
        return parts

    def _identity(self, plan: _Plan, values: Values, old: Values | None) -> str:
        if len(plan.key) == 1:
            value = values[plan.key[0]]
            if isinstance(value, bytes):
                return value.decode()
        key = self._key(plan, values, old)
        return row_id(key, len(key))

    def _references(
        self, plan: _Plan, values: Values, old: Values | None, identity: str
    ) -> tuple[list[Reference], Sequence[str]]:
        """What the row names, and the columns that the change doesn't tell."""
        found: list[Reference] = []
        unknown: Sequence[str] = ()
        spec = plan.spec
        for at, name, read, is_folder in plan.columns:
            value = values[at]
            if value is UNCHANGED:
                value = None if old is None else old[at]
                if old is None or value is UNCHANGED:
                    unknown = (*unknown, name)
                    continue
            if not value:  # NULL, or an empty text
                continue
            keys = self._resolve(read(value))
            for key in keys:
                found.append(Reference(key, spec, identity, name))
            if is_folder:
                for key in self._folders(keys):
                    found.append(Reference(key, spec, identity, name, prefix=True))
        return found, unknown
