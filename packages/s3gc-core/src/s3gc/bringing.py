"""Bring many backups to a store: in parallel and bounded, hash-checked, never over another live object.

It can be stopped anywhere and begun anew: what is there already is seen, by its ETag, by the journal or by
its bytes, and is left alone.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import anyio
from attrs import Factory, define, field, frozen

from s3gc._log import get_logger
from s3gc._pool import REQUESTS_IN_FLIGHT, each
from s3gc.abc import ObjectStore, Vault
from s3gc.backup import same_object
from s3gc.choosing import Choice
from s3gc.clock import Clock
from s3gc.errors import PreconditionFailed, S3GCError, StoreError, VaultError
from s3gc.looking import look_again
from s3gc.model import BackupRecord, ObjectHead, RestoreReport
from s3gc.putback import digest_in, write

ALREADY_THERE = "already there, the same object"

GROUP_OBJECTS = 512
GROUP_BYTES = 16 * 1024 * 1024
"""A group is looked for at once, and its small objects are read at once: so much of it is in memory."""

GROUPS_AT_ONCE = 4
"""Groups on their way together. An object that is larger than GROUP_BYTES is a group of its own."""

WORKERS = REQUESTS_IN_FLIGHT // GROUPS_AT_ONCE
"""For each group."""

GROUPS_OF_A_ROUND = 16
"""Groups that are chosen from the journal before the first of them begins."""

NOTED_AT_ONCE = 1_000
NOTED_AFTER = 1.0
"""Restored objects are noted in the journal after so many, or so many seconds: each note is a sync."""


@frozen
class Done:
    """One object that is where it belongs now."""

    choice: Choice
    etag: str
    found: bool = False  # it was there already, and nobody had noted it


class Destination(abc.ABC):
    """Where backups are brought."""

    store: ObjectStore
    newer: str
    """What is said of a live object that stays."""

    @abc.abstractmethod
    def key_of(self, record: BackupRecord) -> str:
        """Under which key the object belongs there."""

    @abc.abstractmethod
    def differs(self, record: BackupRecord, live: ObjectHead) -> bool:
        """Whether a live object has other attributes than were backed up."""

    @abc.abstractmethod
    async def noted_etag(self, choice: Choice) -> str | None:
        """The ETag that this version had when it was brought here, by the journal."""

    @abc.abstractmethod
    async def keep(self, live: Sequence[ObjectHead]) -> Mapping[str, str]:
        """Called before live objects are overwritten. Those that must not be, by key there, with the reason.

        Raises:
            StoreError, VaultError: none of them may be.
        """

    @abc.abstractmethod
    async def note(self, done: Sequence[Done]) -> None:
        """Tell what was brought, the journal first."""


@frozen
class _Todo:
    """One object to be written, and what is there now."""

    choice: Choice
    live: ObjectHead | None


@define
class Bringing:
    """One restore on its way."""

    vault: Vault
    destination: Destination
    clock: Clock
    dry_run: bool
    overwrite: bool
    restored: list[str] = Factory(list)
    skipped: dict[str, str] = Factory(dict)
    errors: dict[str, str] = Factory(dict)
    _due: list[Done] = field(factory=list, init=False)
    _noted: float = field(default=0.0, init=False)  # when, monotonic seconds
    _noting: anyio.Lock = field(factory=anyio.Lock, init=False)

    async def run(self, choices: AsyncIterator[Choice]) -> None:
        """Bring them all. One that fails is in ``errors``, and the rest goes on.

        Raises:
            VaultError: the journal can't be read or written. What was brought before is noted if that can be.
        """
        self._noted = self.clock.monotonic()
        try:
            async for groups in _rounds(choices):
                await each(groups, self._group, workers=GROUPS_AT_ONCE)
        except BaseException:
            with anyio.CancelScope(shield=True):
                try:
                    await self._note()
                except VaultError as error:  # the first error is the one to tell
                    get_logger().error("journal_unwritable", error=str(error))
            raise
        with anyio.CancelScope(shield=True):
            await self._note()

    def report(self, operation_id: str, started: float) -> RestoreReport:
        """What was done; ``started`` by the clock's monotonic seconds."""
        return RestoreReport(
            operation_id=operation_id,
            dry_run=self.dry_run,
            restored=sorted(self.restored),
            skipped=dict(sorted(self.skipped.items())),
            errors=dict(sorted(self.errors.items())),
            duration=timedelta(seconds=self.clock.monotonic() - started),
        )

    # ------------------------------------------------------------------ one group

    async def _group(self, group: Sequence[Choice]) -> None:
        todo = await self._judge(group)
        if self.dry_run:
            self.restored.extend(one.choice.record.key for one in todo)
            return
        todo = await self._keep(todo)
        small: Mapping[str, bytes] = {}
        if len(todo) > 1:
            small = await self.vault.read_small([one.choice.record for one in todo])

        async def bring(one: _Todo) -> None:
            await self._bring(one, small.get(one.choice.record.key))

        await each(todo, bring, workers=WORKERS)

    async def _judge(self, group: Sequence[Choice]) -> list[_Todo]:
        """What of the group is to be written."""
        absent = await self._absent([self.destination.key_of(choice.record) for choice in group])
        todo: list[_Todo] = []

        async def judge(choice: Choice, live: ObjectHead | None) -> None:
            record = choice.record
            try:
                why = None if live is None else await self._why_not(choice, live)
                if live is not None and why == ALREADY_THERE:
                    await self._found(choice, live)
                if why is not None:
                    self.skipped[record.key] = why
                    return
                await self.vault.locate(record)  # it may have been removed on purpose
                todo.append(_Todo(choice, live))
            except PreconditionFailed:
                self.skipped[record.key] = self.destination.newer
            except S3GCError as error:
                self.errors[record.key] = str(error)

        async def look(choice: Choice) -> None:
            try:
                live = await self.destination.store.head(self.destination.key_of(choice.record))
            except S3GCError as error:
                self.errors[choice.record.key] = str(error)
                return
            await judge(choice, live)

        there: list[Choice] = []
        for choice in group:
            if self.destination.key_of(choice.record) in absent:
                await judge(choice, None)  # asks nobody
            else:
                there.append(choice)
        await each(there, look, workers=WORKERS)
        return todo

    async def _absent(self, keys: Sequence[str]) -> frozenset[str]:
        """Those that surely aren't there. Of the others each is looked at by itself."""
        store = self.destination.store
        addressed = sorted(key for key in keys if store.can_address(key))
        if len(addressed) < 2:
            return frozenset()
        try:
            found = await look_again(store, addressed)
        except StoreError:
            return frozenset()  # each look tells its own error
        return frozenset(key for key, info in found.items() if info is None)

    async def _why_not(self, choice: Choice, live: ObjectHead) -> str | None:
        """Why the live object stays; None when it is to be overwritten."""
        if not self.destination.differs(choice.record, live) and await self._same_bytes(choice, live):
            return ALREADY_THERE
        return None if self.overwrite else self.destination.newer

    async def _same_bytes(self, choice: Choice, live: ObjectHead) -> bool:
        """By ETag, or by reading: some stores give the same bytes a new ETag at every upload."""
        record = choice.record
        if live.info.size != record.size:
            return False
        if live.info.etag == record.etag:
            return True
        if choice.noted and await self.destination.noted_etag(choice) == live.info.etag:
            return True
        found = await digest_in(self.destination.store, live.info.key, live.info.etag)
        return found == record.sha256

    async def _found(self, choice: Choice, live: ObjectHead) -> None:
        """A restore that was cut off may have brought it and not come to note it."""
        if not choice.noted and not self.dry_run:
            await self._add(Done(choice, live.info.etag, found=True))

    async def _keep(self, todo: Sequence[_Todo]) -> list[_Todo]:
        """Have kept what is to be overwritten; what can't be stays."""
        live = [one.live for one in todo if one.live is not None]
        refused: Mapping[str, str] = {}
        if live:
            try:
                refused = await self.destination.keep(live)
            except S3GCError as error:
                refused = {head.info.key: str(error) for head in live}
        left: list[_Todo] = []
        for one in todo:
            if one.live is not None and one.live.info.key in refused:
                self.errors[one.choice.record.key] = refused[one.live.info.key]
            else:
                left.append(one)
        return left

    async def _bring(self, one: _Todo, data: bytes | None) -> None:
        record, store = one.choice.record, self.destination.store
        key = self.destination.key_of(record)
        try:
            there = None if one.live is None else await store.stat(key)
            if one.live is not None and there is not None and not same_object(one.live.info, there):
                self.skipped[record.key] = self.destination.newer  # uploaded since it was kept
                return
            try:
                written = await write(store, key, self.vault, record, data=data, overwrite=there is not None)
            except PreconditionFailed:
                await self._met(one.choice, key)
                return
            done = Done(one.choice, written.etag)
        except S3GCError as error:
            self.errors[record.key] = str(error)
            return
        self.restored.append(record.key)
        await self._add(done)

    async def _met(self, choice: Choice, key: str) -> None:
        """Something is there after all: somebody's, or our own whose answer was lost."""
        live = await self.destination.store.head(key)
        same = (
            live is not None
            and not self.destination.differs(choice.record, live)
            and await self._same_bytes(choice, live)
        )
        if live is not None and same:
            await self._found(choice, live)
        self.skipped[choice.record.key] = ALREADY_THERE if same else self.destination.newer

    # ------------------------------------------------------------------ the journal

    async def _add(self, done: Done) -> None:
        self._due.append(done)
        late = self.clock.monotonic() - self._noted >= NOTED_AFTER
        # While one note is on its way, what comes meanwhile is of the next one, unless that grows too long.
        most = 4 * NOTED_AT_ONCE if self._noting.locked() else NOTED_AT_ONCE
        if len(self._due) >= most or (late and not self._noting.locked()):
            await self._note()

    async def _note(self) -> None:
        async with self._noting:
            due, self._due = self._due, []
            if due:
                await self.destination.note(due)
            self._noted = self.clock.monotonic()


async def _rounds(choices: AsyncIterator[Choice]) -> AsyncIterator[list[list[Choice]]]:
    """Groups of what lies together, some at a time."""
    groups: list[list[Choice]] = []
    size = 0
    async for choice in choices:
        more = choice.record.size
        if not groups or len(groups[-1]) >= GROUP_OBJECTS or (size and size + more > GROUP_BYTES):
            if len(groups) == GROUPS_OF_A_ROUND:
                yield groups
                groups = []
            groups.append([])
            size = 0
        groups[-1].append(choice)
        size += more
    if groups:
        yield groups
