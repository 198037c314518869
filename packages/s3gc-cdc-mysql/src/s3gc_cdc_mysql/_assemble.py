"""From events of the log to changes of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import Factory, define, evolve, frozen

from s3gc.errors import PositionLost
from s3gc.model import Reference, RowChange
from s3gc.resolver import Resolver
from s3gc.sources import capture
from s3gc.sources.capture import FolderReader, row_id
from s3gc_cdc_mysql._statements import Kind, Meaning, Statements
from s3gc_cdc_mysql.catalogue import TableInfo, Watched
from s3gc_cdc_mysql.events import (
    ABSENT,
    BinlogError,
    Commit,
    Delete,
    Event,
    Format,
    Heartbeat,
    Image,
    Incident,
    Insert,
    MariadbGtid,
    MysqlGtid,
    Query,
    Rotate,
    Rows,
    Stop,
    Table,
    Update,
    Value,
    XaPrepare,
)
from s3gc_cdc_mysql.position import Gtids, LogPlace, MariadbGtids, MysqlGtids, Place

BATCH = 10_000
"""Changes of one batch; a larger transaction is told in several."""

MOST_HELD = 200_000
"""Changes of XA transactions that are kept until these are committed."""


@frozen
class Again:
    """A row whose new id is known and whose other columns aren't: it must be read again."""

    change: int  # its number in the batch
    table: int
    key: Sequence[Value]
    log: LogPlace  # where the event that spoke of it ends: the reader must see it


Gathered = capture.Gathered[Place, Again]
"""A batch on its way."""


@frozen
class _Plan:
    """How the images of a table map become references."""

    table: Table  # keeps its id from being given to another one
    number: int
    spec: str
    key: Sequence[int]  # numbers in an image
    columns: Sequence[tuple[int, str, bool]]  # (number in an image, as written, folders)


@define
class _Group:
    """A transaction that is being told."""

    began: int  # changes of the batch before it
    xa: bool = False
    prepared: bytes | None = None
    completed: bytes | None = None
    single: bool = False  # one statement, no commit
    open: bool = False
    told: bool = False  # some of its rows were told already
    stale: set[str] = Factory(set)  # tables of which rows went without a word
    gtid: MariadbGtid | MysqlGtid | None = None


class Assembler:
    """Takes the log from one place to a fence. Pure: what is read again is left to the caller.

    Args:
        name: of the source, for messages.
        tables: the tracked tables as they are now.
        watched: tables whose changes take rows of tracked ones along without a word (foreign keys).
        place: where the registry is.
        resolver: turns values into keys.
        durable: a crash of the server leaves tables and log the same.
    """

    def __init__(
        self,
        name: str,
        tables: Sequence[TableInfo],
        watched: Sequence[Watched],
        place: Place,
        resolver: Resolver,
        *,
        durable: bool,
        batch: int = BATCH,
    ) -> None:
        self._name = name
        self._tables = {(table.database, table.name): (n, table) for n, table in enumerate(tables)}
        self._watched = {(one.database, one.name): one for one in watched}
        self._names = [table.tracked.spec for table in tables]
        self._statements = Statements(
            {(table.database, table.name): [c.name for c in (*table.key, *table.columns)] for table in tables}
        )
        self._resolve = resolver.keys
        self._folders = FolderReader(resolver).folders
        self._durable = durable and place.prints.durable
        self._batch = batch
        self._plans: dict[tuple[int, tuple[int, ...]], _Plan | None] = {}
        self._gathering = Gathered()
        self.ready: deque[Gathered] = deque()
        """Batches that are whole."""
        self.reached = True
        """Whether the fence was told."""
        self._until: Place | None = None
        self._place = place
        self._log = place.log
        self._gtids = place.gtids
        self._group: _Group | None = None
        self._happened = 0  # when the newest transaction was committed, seconds since 1970
        self._prepared: dict[bytes, tuple[list[RowChange], list[Again]]] = {}
        # The file that is read, and how the one before it ended.
        self._file = place.log.file
        self._born = {place.log.file: place.born}
        self._formats = 0
        self._ended = False

    @property
    def place(self) -> Place:
        """The end of the last transaction that was told whole."""
        if self._place.log != self._log:
            born = self._born.get(self._log.file, 0)
            self._place = evolve(self._place, log=self._log, born=born, gtids=self._gtids, looked=True)
        return self._place

    def towards(self, until: Place) -> None:
        """Go on to this fence.

        Raises:
            PositionLost: what the log can't show was changed since the place.
        """
        self._until = until
        self.reached = False
        self._differ(self.place.prints.differences(until.prints, self._names, storage=False))
        self._look()

    def _differ(self, differences: Sequence[str]) -> None:
        if differences:
            raise PositionLost(f"{self._name}: {'; '.join(differences)}")

    # ------------------------------------------------------------------ the stream

    def feed(self, event: Event) -> None:
        """Take one event.

        Raises:
            BinlogError: it isn't understood.
            PositionLost: it can't follow what the registry knows, or tells less than has happened.
        """
        if isinstance(event, Rows):
            self._rows(event)
        elif isinstance(event, MariadbGtid | MysqlGtid):
            self._begin(event)
        elif isinstance(event, Query):
            self._query(event)
        elif isinstance(event, Commit):
            self._end(event)
        elif isinstance(event, XaPrepare):
            self._prepare(event)
        elif isinstance(event, Format):
            self._format(event)
        elif isinstance(event, Rotate):
            self._file = event.file
            self._ended = self._ended or not event.header.artificial
        elif isinstance(event, Stop):
            self._ended = True
        elif isinstance(event, Heartbeat):
            self._heartbeat(event)
        elif isinstance(event, Incident):
            raise PositionLost(
                f"{self._name}: the server says that its log misses something: {event.message}"
            )
        else:
            self._passed(event)

    def _passed(self, event: Event) -> None:
        """Something that changes no row; between two transactions it moves the place on."""
        if self._group is None and event.header.next_position and not event.header.artificial:
            self._move(event.header.next_position)
            self._look()

    def _move(self, next_position: int) -> None:
        before = self._log if self._log.file == self._file else LogPlace(self._file, 0)
        self._log = before.moved(next_position)

    def _format(self, event: Format) -> None:
        self._formats += 1
        if self._formats == 1:
            if self._file == self._place.log.file and event.header.timestamp != self._place.born:
                raise PositionLost(
                    f"{self._name}: {self._file} isn't the file that was followed: was the server restored "
                    "to its past, or its log begun anew?"
                )
        elif event.created:
            ended, self._ended = self._ended, False
            if not ended:
                self._crashed()
        else:
            self._ended = False
        self._born[self._file] = event.header.timestamp
        if self._group is None and self._file != self._log.file:
            self._move(event.header.next_position)
            self._look()

    def _crashed(self) -> None:
        """The server ended without a word."""
        if self._group is not None:
            self._undo(self._group)
            self._group = None
        if not self._durable:
            raise PositionLost(
                f"{self._name}: the server crashed, and without innodb_flush_log_at_trx_commit = 1 and "
                "sync_binlog = 1 its tables may have lost, or kept, other rows than its log tells"
            )

    def _heartbeat(self, event: Heartbeat) -> None:
        if self._group is None and event.file == self._file:
            there = LogPlace(event.file, event.position)
            if there.number > self._log.number or event.position > (self._log.offset & 0xFFFFFFFF):
                self._move(event.position)
            self._look()

    def _look(self) -> None:
        """Whether the fence was reached."""
        if self.reached or self._until is None or not self._log.at_least(self._until.log):
            return
        if self._until.looked:
            prints = self._until.prints
            self._differ(self._place.prints.differences(prints, self._names, storage=True))
            self._place = evolve(self.place, prints=prints)
        self.reached = True
        self._flush()

    def _flush(self) -> None:
        whole, self._gathering = self._gathering, Gathered()
        if self._group is not None:
            self._group.told = self._group.told or len(whole.changes) > self._group.began
            self._group.began = 0
        whole.place = self.place
        whole.at = datetime.fromtimestamp(self._happened, UTC) if self._happened else None
        self.ready.append(whole)

    # ------------------------------------------------------------------ transactions

    def _begin(self, event: MariadbGtid | MysqlGtid) -> None:
        if self._group is not None:
            raise BinlogError(f"{self._name}: a transaction begins inside another at {self._log}")
        group = self._new_group()
        group.gtid = event
        if isinstance(event, MariadbGtid):
            group.single = event.standalone
            group.open = not event.standalone
            group.prepared, group.completed = event.prepared_xa, event.completed_xa
            group.xa = event.prepared_xa is not None
        self._happened = max(self._happened, event.header.timestamp)

    def _new_group(self) -> _Group:
        self._group = _Group(len(self._gathering.changes))
        return self._group

    def _query(self, event: Query) -> None:
        meaning = self._statements.read(event.text, event.database, event.sql_mode)
        group = self._group or self._new_group()
        kind = meaning.kind
        if kind is Kind.BEGIN or meaning.begins:
            group.open = True
            group.xa = group.xa or event.text[:2].upper() == "XA"
            group.single = False
            return
        if kind is Kind.GAP:
            raise PositionLost(f"{self._name}: {meaning.why}")
        if kind is Kind.COMMIT:
            self._end(event)
        elif kind is Kind.ROLLBACK:
            self._undo(group)
            self._end(event)
        elif kind in (Kind.XA_COMMIT, Kind.XA_ROLLBACK):
            self._completed(group, committed=kind is Kind.XA_COMMIT)
            self._end(event)
        else:
            if kind is Kind.TRUNCATE:
                self._truncate(meaning)
            if not group.open:
                self._end(event)

    def _end(self, event: Event) -> None:
        """The transaction is whole."""
        group = self._group
        if group is None:
            raise BinlogError(f"{self._name}: a commit without its transaction at {self._log}")
        self._happened = max(self._happened, event.header.timestamp)
        self._group = None
        self._move(event.header.next_position)
        self._gtids = _with(self._gtids, group.gtid)
        if group.stale:
            self._gathering.stale = (
                f"{self._name}: rows of {', '.join(sorted(group.stale))} went, or lost values, with rows "
                "that their foreign keys refer to"
            )
        self._look()
        if not self.reached and len(self._gathering.changes) >= self._batch:
            self._flush()

    def _undo(self, group: _Group) -> None:
        """It didn't come to pass."""
        if group.told:
            raise PositionLost(
                f"{self._name}: a large transaction, of which a part was told already, was never committed "
                f"(after {self._log})"
            )
        self._take_back(group)

    def _take_back(self, group: _Group) -> tuple[list[RowChange], list[Again]]:
        """Its changes, which are gathered no more."""
        gathered, began = self._gathering, group.began
        changes = gathered.changes[began:]
        again = [evolve(one, change=one.change - began) for one in gathered.again if one.change >= began]
        del gathered.changes[began:]
        gathered.again = [one for one in gathered.again if one.change < began]
        return changes, again

    def _prepare(self, event: XaPrepare) -> None:
        """An XA transaction rests until it is committed: its rows aren't there yet."""
        group = self._group
        if group is None:
            raise BinlogError(f"{self._name}: a transaction is prepared that never began at {self._log}")
        if not event.one_phase:
            if group.stale or sum(len(changes) for changes, _ in self._prepared.values()) > MOST_HELD:
                raise PositionLost(
                    f"{self._name}: a prepared transaction (XA) is too large to be kept until it is "
                    "committed, or takes rows along by foreign keys"
                )
            self._prepared[group.prepared or event.xid] = self._take_back(group)
        self._end(event)

    def _completed(self, group: _Group, *, committed: bool) -> None:
        # MySQL's statement spells the id; only MariaDB's event has it as it was prepared.
        kept = None if group.completed is None else self._prepared.pop(group.completed, None)
        if not committed:
            return
        if kept is None:
            raise PositionLost(
                f"{self._name}: a prepared transaction (XA) was committed whose rows were told before "
                "following began"
            )
        changes, again = kept
        at = len(self._gathering.changes)
        self._gathering.changes.extend(changes)
        self._gathering.again.extend(evolve(one, change=one.change + at) for one in again)

    def _truncate(self, meaning: Meaning) -> None:
        for name in meaning.tables:
            number, table = self._tables[name]
            if self._gathering.changes or self._gathering.emptied:
                self._flush()
            self._gathering.emptied.append(table.tracked.spec)
            self._place = evolve(self.place, prints=self._place.prints.after_truncate(number))

    # ------------------------------------------------------------------ rows

    def _rows(self, event: Rows) -> None:
        group = self._group
        if group is None or not group.open:
            raise BinlogError(f"{self._name}: rows outside of a transaction at {self._log}")
        name = (event.table.database, event.table.name)
        watched = self._watched.get(name)
        if watched is not None and isinstance(event, Delete):
            group.stale |= {self._names[number] for number in watched.tables}
        if name not in self._tables:
            return
        key = (id(event.table), event.columns)
        try:
            plan = self._plans[key]
        except KeyError:
            plan = self._plans[key] = self._plan(event)
        assert plan is not None
        changes = self._gathering.changes
        if isinstance(event, Insert):
            for image in event.rows:
                identity = self._identity(plan, image)
                references, unknown = self._references(plan, image, None, identity)
                columns = None
                if unknown:  # MINIMAL: a column that wasn't named has its default, which may be a reference
                    self._read(plan, image, event)
                    columns = _told(plan, unknown)
                changes.append(RowChange(plan.spec, identity, references, columns))
        elif isinstance(event, Delete):
            changes.extend(RowChange(plan.spec, self._identity(plan, image)) for image in event.rows)
        else:
            assert isinstance(event, Update)
            for before, after in event.rows:
                self._update(plan, before, after, event)
        if group.xa:  # nobody may see its rows yet
            if len(changes) - group.began > MOST_HELD:
                raise PositionLost(f"{self._name}: a transaction by XA is too large to be kept")
        elif len(changes) >= self._batch:
            self._flush()

    def _plan(self, event: Rows) -> _Plan:
        number, table = self._tables[event.table.database, event.table.name]
        spec = table.tracked.spec
        if not event.table.named:
            raise PositionLost(
                f"{self._name}: the changes of {spec} came without the names of its columns: "
                "binlog_row_metadata wasn't FULL"
            )
        at = {event.table.columns[index].name: n for n, index in enumerate(event.columns)}
        for column in (*table.key, *table.columns):
            if column.name not in at:
                raise PositionLost(
                    f"{self._name}: the changes of {spec} come without its column {column.name!r}"
                )
        return _Plan(
            event.table,
            number,
            spec,
            [at[column.name] for column in table.key],
            [
                (at[column.name], written, place in table.tracked.folders)
                for place, ((written, _), column) in enumerate(
                    zip(table.tracked.columns, table.columns, strict=True)
                )
            ],
        )

    def _update(self, plan: _Plan, before: Image, after: Image, event: Rows) -> None:
        changes = self._gathering.changes
        identity = previous = self._identity(plan, before)
        whole = before
        if any(after[at] is not ABSENT and after[at] != before[at] for at in plan.key):
            whole = tuple(old if new is ABSENT else new for old, new in zip(before, after, strict=True))
            identity = self._identity(plan, whole)
        references, unknown = self._references(plan, after, before, identity)
        columns = None
        if unknown:
            columns = _told(plan, unknown)
            if any(after[at] is not ABSENT for at in plan.key):
                # Another id: the registry may know the row under neither yet, and has nothing to move then.
                # Or the same: a REPLACE is logged so, and leaves out columns that got their defaults by it.
                self._read(plan, whole, event)
        changes.append(
            RowChange(plan.spec, identity, references, columns, None if previous == identity else previous)
        )

    def _read(self, plan: _Plan, image: Image, event: Rows) -> None:
        """The change that is added next tells less than all values: its row has to be read."""
        log = self._log if self._log.file == self._file else LogPlace(self._file, 0)
        self._gathering.again.append(
            Again(
                len(self._gathering.changes),
                plan.number,
                [image[at] for at in plan.key],
                log.moved(event.header.next_position),
            )
        )

    def _identity(self, plan: _Plan, image: Image) -> str:
        key = plan.key
        if len(key) == 1:
            value = image[key[0]]
            if type(value) is int:
                return str(value)
        values = [image[at] for at in key]
        if any(value is ABSENT or value is None for value in values):
            raise BinlogError(f"{self._name}: a change of {plan.spec} came without its key")
        return row_id(values, len(values))

    def _references(
        self, plan: _Plan, image: Image, before: Image | None, identity: str
    ) -> tuple[list[Reference], Sequence[str]]:
        """What the row names, and the columns that the change doesn't tell."""
        found: list[Reference] = []
        unknown: Sequence[str] = ()
        spec = plan.spec
        for at, name, is_folder in plan.columns:
            value = image[at]
            if value is ABSENT:
                value = ABSENT if before is None else before[at]
                if value is ABSENT:
                    unknown = (*unknown, name)
                    continue
            if value is None or value == "" or value == b"":
                continue
            keys = self._resolve(value)
            for key in keys:
                found.append(Reference(key, spec, identity, name))
            if is_folder:
                for key in self._folders(keys):
                    found.append(Reference(key, spec, identity, name, prefix=True))
        return found, unknown


def _told(plan: _Plan, unknown: Sequence[str]) -> frozenset[str]:
    return frozenset(name for _, name, _ in plan.columns if name not in unknown)


def _with(gtids: Gtids, event: MariadbGtid | MysqlGtid | None) -> Gtids:
    if isinstance(event, MariadbGtid) and isinstance(gtids, MariadbGtids):
        return gtids.having(*event.gtid)
    if isinstance(event, MysqlGtid) and event.source is not None and isinstance(gtids, MysqlGtids):
        return gtids.having(event.source, event.tag, event.sequence)
    return gtids
