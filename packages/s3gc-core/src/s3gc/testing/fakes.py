"""In-memory stand-ins for tests: a bucket, a place of references, a clock. They keep the contracts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

from attrs import evolve, field, frozen, mutable

from s3gc.abc import RESERVED_PREFIX, ObjectReader, ObjectStore, ReferenceSource
from s3gc.clock import Clock
from s3gc.errors import AmbiguousKey, PositionLost, PreconditionFailed, StoreError
from s3gc.model import (
    ChangeBatch,
    DeleteOutcome,
    ObjectAttributes,
    ObjectHead,
    ObjectInfo,
    Position,
    Reference,
    RowChange,
    ScanBatch,
    StoreCapabilities,
    Versioning,
)

_SURROGATE = re.compile("[\ud800-\udfff]")


@mutable
class FakeClock:
    """A clock that moves only when told to."""

    moment: datetime = field(factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def advance(self, span: timedelta) -> None:
        """Let time pass."""
        self.moment += span


@mutable
class _Reader:
    info: ObjectInfo
    attributes: ObjectAttributes
    body: bytes
    spent: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.spent:
            raise StoreError("a body can be read once")
        self.spent = True
        for start in range(0, len(self.body), 65536):
            yield self.body[start : start + 65536]


@frozen
class _Stored:
    info: ObjectInfo
    attributes: ObjectAttributes
    body: bytes


class FakeStore(ObjectStore):
    """A bucket in a dict. Exact keys, conditional delete and put, a clock of your choice."""

    def __init__(self, clock: Clock, bucket: str = "fake") -> None:
        self.bucket = bucket
        self.url = f"fake://{bucket}"
        self.page_size = 1000
        self._clock = clock
        self._objects: dict[str, _Stored] = {}

    def upload(self, key: str, body: bytes, attributes: ObjectAttributes | None = None) -> ObjectInfo:
        """What an application does: put an object, over whatever is there."""
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        info = ObjectInfo(key, len(body), etag, self._clock.now())
        self._objects[key] = _Stored(info, attributes or ObjectAttributes(), body)
        return info

    def remove(self, key: str) -> None:
        """What an application does: delete an object."""
        self._objects.pop(key, None)

    def contents(self) -> dict[str, bytes]:
        """All keys and their bytes, but for what s3gc keeps there itself."""
        return {
            key: stored.body for key, stored in self._objects.items() if not key.startswith(RESERVED_PREFIX)
        }

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        page: list[ObjectInfo] = []
        for key in sorted(self._objects):
            if key.startswith(prefix) and key > start_after and key in self._objects:
                page.append(self._objects[key].info)
                if len(page) == self.page_size:
                    yield page
                    page = []
        if page:
            yield page

    def can_address(self, key: str) -> bool:
        return 0 < len(key.encode("utf-8", "surrogatepass")) <= 1024 and not _SURROGATE.search(key)

    def _check(self, key: str) -> None:
        if not self.can_address(key):
            raise AmbiguousKey(f"{key!r} is no key")

    async def head(self, key: str) -> ObjectHead | None:
        self._check(key)
        stored = self._objects.get(key)
        return ObjectHead(stored.info, stored.attributes) if stored else None

    @asynccontextmanager
    async def get(self, key: str, *, if_match: str | None = None) -> AsyncIterator[ObjectReader]:
        self._check(key)
        stored = self._objects.get(key)
        if stored is None or if_match not in (None, stored.info.etag):
            raise PreconditionFailed(f"{key!r} is not the object that was asked for")
        yield _Reader(stored.info, stored.attributes, stored.body)

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        attributes: ObjectAttributes,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        self._check(key)
        if not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
        if len(body) != size:
            raise StoreError(f"{key!r}: {len(body)} bytes came, {size} were announced; nothing was written")
        if if_none_match and key in self._objects:
            raise PreconditionFailed(f"{key!r} exists")
        return self.upload(key, body, evolve(attributes))

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        self._check(key)
        stored = self._objects.get(key)
        if stored is None:
            return DeleteOutcome.MISSING
        if stored.info.etag != if_match:
            return DeleteOutcome.CHANGED
        del self._objects[key]
        return DeleteOutcome.DELETED

    async def probe(self) -> StoreCapabilities:
        return StoreCapabilities(
            conditional_delete=True,
            conditional_put=True,
            read_after_write=True,
            list_order=True,
            versioning=Versioning.NEVER,
            object_lock=False,
            clock_difference=timedelta(0),
        )

    async def now(self) -> datetime:
        return self._clock.now()


class FakeSource(ReferenceSource):
    """A place of references in a dict: row id → keys. The whole of a plugin is one method."""

    def __init__(self, name: str = "fake", rows: dict[str, list[str]] | None = None) -> None:
        self.name = name
        self.rows = rows if rows is not None else {}

    async def references(self) -> AsyncIterator[Reference]:
        for row_id, keys in list(self.rows.items()):
            for key in keys:
                yield Reference(key, table="rows", row_id=row_id, column="key")


@frozen
class _Committed:
    """One transaction in the log, and the rows as they were after it."""

    number: int
    batch: ChangeBatch
    rows: dict[str, tuple[Reference, ...]]


class FakeFollowingSource(ReferenceSource):
    """A place of references in a dict that keeps a log of its writes, so that they can be followed.

    Each call of a writing method is a transaction of its own, committed on return. A position is
    ``history:number`` and counts transactions; ``history`` is another one after :meth:`restore`.
    """

    follows_changes = True

    def __init__(self, clock: Clock, name: str = "following") -> None:
        self.name = name
        self.rows: dict[str, tuple[Reference, ...]] = {}
        self.log: list[_Committed] = []
        self.history = 1
        self.number = 0  # of the newest transaction
        self.repeats = 0  # so many known transactions are told again at each beginning
        self.per_batch = 1  # transactions in a batch
        self.rows_in_a_batch = 1  # of a scan that can go on
        self.released: Position | None = None
        """What :meth:`applied` was last called with."""
        self._clock = clock
        self._kept_from = 0  # transactions up to this one are in the log no more
        self._logged = True

    # ------------------------------------------------------------------ what an application does

    def write(self, row_id: str, *keys: str, folders: Iterable[str] = ()) -> None:
        """Insert a row, or give it other keys and folders."""
        references = [Reference(key, "rows", row_id, "key") for key in keys]
        references += [Reference(folder, "rows", row_id, "folder", prefix=True) for folder in folders]
        named = self._keys_of(row_id)
        self.rows[row_id] = tuple(references)
        self._commit([RowChange("rows", row_id, references, named=named)])

    def remove(self, row_id: str) -> None:
        """Delete a row. There must be one."""
        named = self._keys_of(row_id)
        del self.rows[row_id]
        self._commit([RowChange("rows", row_id, named=named)])

    def rename(self, row_id: str, new_id: str) -> None:
        """Give a row another id. The log doesn't tell its keys, as with a value that is stored apart."""
        self.rows[new_id] = tuple(evolve(one, row_id=new_id) for one in self.rows.pop(row_id))
        self._commit([RowChange("rows", new_id, columns=frozenset(), previous_row_id=row_id)])

    def truncate(self) -> None:
        """Empty the table."""
        self.rows.clear()
        self._commit([], emptied=["rows"])

    def drop_rows(self, *row_ids: str) -> None:
        """Rows go and the log doesn't tell them, only that some went: a dropped partition."""
        for row_id in row_ids:
            del self.rows[row_id]
        self.number += 1
        batch = ChangeBatch([], self._position(self.number), self._clock.now(), stale="a partition is gone")
        self.log.append(_Committed(self.number, batch, dict(self.rows)))

    def _keys_of(self, row_id: str) -> list[str]:
        return [one.key for one in self.rows.get(row_id, ()) if not one.prefix]

    def _commit(self, changes: Sequence[RowChange], emptied: Sequence[str] = ()) -> None:
        if not self._logged:
            return
        self.number += 1
        batch = ChangeBatch(changes, self._position(self.number), self._clock.now(), emptied)
        self.log.append(_Committed(self.number, batch, dict(self.rows)))

    # ------------------------------------------------------------------ what goes wrong

    @contextmanager
    def unlogged(self) -> Iterator[None]:
        """What is written meanwhile stands in no log: only a direct read tells."""
        self._logged = False
        try:
            yield
        finally:
            self._logged = True

    def lose_log(self) -> None:
        """Changes up to now can't be told any more: a dropped slot, a purged log."""
        self._kept_from = self.number + 1
        self.log.clear()

    def restore(self, number: int, *, noticed: bool = True) -> None:
        """Go back to the rows as they were after a transaction that the log has (0: before the first).

        Args:
            noticed: positions tell that this is another history; else only their numbers do.
        """
        self.log = [one for one in self.log if one.number <= number]
        self.rows = dict(self.log[-1].rows) if self.log else {}
        self.number = number
        self.history += noticed

    # ------------------------------------------------------------------ what a collector asks

    async def references(self) -> AsyncIterator[Reference]:
        for references in list(self.rows.values()):
            for one in references:
                yield one

    async def scan(self) -> AsyncIterator[ScanBatch]:
        async for batch in self._scan("") if self.resumes_scans else super().scan():
            yield batch

    async def scan_on(self, begun: Position, mark: str) -> AsyncIterator[ScanBatch]:
        """Behind a row, if ``resumes_scans`` was set."""
        if not self._tells_from(begun):
            raise PositionLost(f"{self.name}: the changes after {begun.value} are in the log no more")
        async for batch in self._scan(mark):
            yield batch

    async def _scan(self, after: str) -> AsyncIterator[ScanBatch]:
        """In the order of the row ids, each batch as the rows are when it is read."""
        while rows := sorted(row for row in self.rows if row > after)[: self.rows_in_a_batch]:
            references = [one for row in rows for one in self.rows[row]]
            after = rows[-1]
            yield ScanBatch(references, mark=after, rows=len(rows), expected=len(self.rows))

    def _tells_from(self, position: Position) -> bool:
        history, _, number = position.value.partition(":")
        return int(history) == self.history and self._kept_from <= int(number) <= self.number

    async def fence(self, timeout: timedelta) -> Position:
        return self._position(self.number)

    async def begin(self) -> Position:
        self._kept_from = min(self._kept_from, self.number)
        return self._position(self.number)

    async def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        history, _, number = after.value.partition(":")
        start = int(number)
        if int(history) != self.history or start > self.number:
            raise PositionLost(f"{self.name}: {after.value} is not in this history")
        if start < self._kept_from:
            raise PositionLost(f"{self.name}: the changes after {after.value} are in the log no more")
        end = int(until.value.partition(":")[2])
        known = [one.batch for one in self.log if start - self.repeats < one.number <= start]
        for batch in known:
            yield evolve(batch, again=True)
        due = [one.batch for one in self.log if start < one.number <= end]
        while due:
            some = 1
            while some < min(self.per_batch, len(due)) and not (due[some].emptied or due[some - 1].stale):
                some += 1
            changes = [change for batch in due[:some] for change in batch.changes]
            yield evolve(due[some - 1], changes=changes, emptied=due[0].emptied)
            due = due[some:]
        yield ChangeBatch([], until)

    async def applied(self, position: Position) -> None:
        self.released = position

    def _position(self, number: int) -> Position:
        return Position(self.name, f"{self.history}:{number}", number)
