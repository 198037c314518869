"""Guards, each with a way to take it out. The simulator must notice: else the guard bears no load.

A mutant patches one function of the core, in this process, for the time of a ``with``. It says which guard it
takes out and which worlds are likely to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from attrs import evolve, frozen

from s3gc import (
    backup,
    breakers,
    capabilities,
    collector,
    confirm,
    cycle,
    deletion,
    gates,
    lease,
    planning,
    protection,
    putback,
    reading,
    recovery,
    restore,
    sweep,
)
from s3gc.abc import ObjectStore
from s3gc.errors import SourceError
from s3gc.lease import NoLease
from s3gc.model import JournalDraft, Position, SourceIdentity
from s3gc.registry._claims import Claims
from s3gc.registry._references import _Change
from s3gc.vault import _fs, _session

FOUND_LISTED = 1_000_000
"""What a listing that was not made says it has listed: enough for every limit."""

Patch = Callable[[], AbstractContextManager[Any]]


@frozen
class Mutant:
    """One guard, taken out."""

    name: str
    guard: str  # what the guard does, for the safety case
    where: str  # where it lives
    promise: str  # which promise leans on it
    without: Patch
    worlds: Sequence[str] = ()  # where to look first; none: in all default worlds


async def _nothing(*_: Any, **__: Any) -> None:
    return None


def _replaced(target: Any, name: str, value: Any) -> Patch:
    return lambda: patch.object(target, name, value)


def _breaker(name: str) -> Patch:
    """A breaker that never trips."""
    return _replaced(breakers, name, lambda *_: [])


def _gate(gate: Any) -> Patch:
    """A gate that has no objection."""
    return _replaced(gate, "keeps", lambda self, candidate, moment: None)


# --------------------------------------------------------------------------- the cycle's order


@contextmanager
def references_before_the_listing() -> Iterator[None]:
    list_bucket, sync = planning.list_bucket, planning.sync

    async def not_yet(parts: Any, operation_id: str) -> int:
        await parts.registry.listing.begin()
        return FOUND_LISTED

    async def both(parts: Any, operation_id: str) -> Any:
        counted = await sync(parts, operation_id)
        await list_bucket(parts, operation_id)
        return counted

    with patch.object(planning, "list_bucket", not_yet), patch.object(planning, "sync", both):
        yield


_no_wait: ContextVar[bool] = ContextVar("no_wait", default=False)


@contextmanager
def no_fence_before_the_scan() -> Iterator[None]:
    sync_one, fence = reading._sync_one, reading._fence

    async def in_sync(parts: Any, source: Any) -> Any:
        token = _no_wait.set(True)
        try:
            return await sync_one(parts, source)
        finally:
            _no_wait.reset(token)

    async def hasty(parts: Any, source: Any) -> Position:
        if _no_wait.get() and not source.follows_changes:
            return Position(reading.source_name(source), "at once")
        return await fence(parts, source)

    with patch.object(reading, "_sync_one", in_sync), patch.object(reading, "_fence", hasty):
        yield


async def _no_positions(*_: Any, **__: Any) -> list[Position]:
    return []


@contextmanager
def _without_read(number: int) -> Iterator[None]:
    """One of the two direct reads of a batch is left out."""
    steps = sweep._verify, sweep._fenced
    drop = sweep._drop_referenced
    now = [0]

    def counting(step: int) -> Any:
        async def counted(*args: Any) -> Any:
            now[0] = step  # batches are read for one after the other
            return await steps[step - 1](*args)

        return counted

    async def dropped(*args: Any) -> None:
        if now[0] != number:
            await drop(*args)

    with (
        patch.object(sweep, "_verify", counting(1)),
        patch.object(sweep, "_fenced", counting(2)),
        patch.object(sweep, "_drop_referenced", dropped),
    ):
        yield


@contextmanager
def deletes_before_the_backup() -> Iterator[None]:
    """The batch is deleted, and only then backed up (of what is gone)."""
    back_up = sweep.back_up

    async def too_late(parts: Any, session: Any, objects: Any, operation_id: str) -> Any:
        records, kept = await back_up(parts, session, list(objects), operation_id)
        for record in records.values():
            await parts.store.delete(record.key, if_match=record.etag)
        return records, kept

    with patch.object(sweep, "back_up", too_late):
        yield


# --------------------------------------------------------------------------- the store


class _Careless:
    """A store whose deletes have no condition."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def delete(self, key: str, *, if_match: str) -> Any:
        found = await self._store.stat(key)
        return await self._store.delete(key, if_match=found.etag if found else if_match)

    async def delete_many(self, wanted: Any) -> Any:
        return await ObjectStore.delete_many(self, wanted)  # type: ignore[arg-type]


@contextmanager
def unconditional_deletes() -> Iterator[None]:
    delete = sweep.delete

    async def careless(parts: Any, *args: Any) -> Any:
        return await delete(evolve(parts, store=_Careless(parts.store)), *args)

    with patch.object(sweep, "delete", careless):
        yield


@contextmanager
def any_version_is_backed_up() -> Iterator[None]:
    """GET without If-Match, and no look at what came."""

    class Careless(_Careless):
        def get(self, key: str, *, if_match: str | None = None) -> Any:
            return self._store.get(key)

    back_up = sweep.back_up

    async def careless(parts: Any, *args: Any) -> Any:
        return await back_up(evolve(parts, store=Careless(parts.store)), *args)

    with (
        patch.object(sweep, "back_up", careless),
        patch.object(backup, "same_object", lambda listed, found: True),
        patch.object(sweep, "same_object", lambda listed, found: True),
        patch.object(deletion, "same_object", lambda listed, found: True),
        patch.object(sweep, "delete", _delete_anything(sweep.delete)),
    ):
        yield


def _delete_anything(delete: Any) -> Any:
    async def careless(parts: Any, *args: Any) -> Any:
        return await delete(evolve(parts, store=_Careless(parts.store)), *args)

    return careless


# --------------------------------------------------------------------------- confirmation, recovery


async def _confirms_unseen(parts: Any, deleted: Any, operation_id: str, **_: Any) -> confirm.Confirmation:
    entry = JournalDraft("batch_confirmed", operation_id, data={"deleted": len(deleted)})
    await parts.vault.journal.append([entry])
    return confirm.Confirmation([], None)


@contextmanager
def silence_confirms() -> Iterator[None]:
    """Sources that can't be read at the confirmation count as sources that name nothing."""
    fences, referenced_among = confirm.fences, confirm.referenced_among

    async def fence(*args: Any, **options: Any) -> Any:
        try:
            return await fences(*args, **options)
        except SourceError:
            return []

    async def read(*args: Any) -> Any:
        try:
            return await referenced_among(*args)
        except SourceError:
            return {}

    with patch.object(confirm, "fences", fence), patch.object(confirm, "referenced_among", read):
        yield


def _only_the_fence(intents: Any) -> Any:
    return lambda *args: intents(*args)[:1]


@contextmanager
def nobody_recovers() -> Iterator[None]:
    async def none(parts: Any) -> list[str]:
        return []

    with patch.object(collector, "open_operations", none), patch.object(collector, "recover", _nothing):
        yield


class _Blind(_Careless):
    """A store in which everything is still there, as far as a look tells."""

    async def stat(self, key: str) -> Any:
        return (await self._store.stat(key)) or key


@contextmanager
def recovery_believes() -> Iterator[None]:
    """Recovery takes every open intent for one that never happened."""
    recover = collector.recover

    async def blind(parts: Any) -> None:
        await recover(evolve(parts, store=_Blind(parts.store)))

    with (
        patch.object(collector, "recover", blind),
        patch.object(recovery, "same_object", lambda listed, found: True),
    ):
        yield


async def _puts_over(parts: Any, record: Any) -> Any:
    return await putback.put_back(parts, record, overwrite=True)


class _Unshielded:
    """anyio, with cancel scopes that shield from nothing."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def CancelScope(self, **_: Any) -> Any:
        return self._real.CancelScope()


@contextmanager
def cancelled_half_way() -> Iterator[None]:
    """A cancel ends a batch between its deletes and its confirmation, and the operation with it."""
    fail = cycle._Collect._fail

    async def ends(self: Any, error: BaseException) -> None:
        self._tally.open = False
        await fail(self, error)

    with (
        patch.object(sweep, "anyio", _Unshielded(sweep.anyio)),
        patch.object(cycle._Collect, "_fail", ends),
    ):
        yield


# --------------------------------------------------------------------------- sources


async def _believed(parts: Any) -> list[SourceIdentity]:
    return [SourceIdentity(reading.source_name(one), "any", {"believed": "yes"}) for one in parts.sources]


@contextmanager
def _nobody_asks() -> Iterator[None]:
    with patch.object(planning, "identities", _believed):
        yield


@asynccontextmanager
async def _held_by_all(*_: Any, **__: Any) -> Any:
    yield NoLease()


@contextmanager
def no_lease() -> Iterator[None]:
    with patch.object(lease, "bucket_lease", _held_by_all), patch.object(lease, "hold", _held_by_all):
        yield


async def _no_claims(*_: Any, **__: Any) -> Any:
    return frozenset()


async def _none_active(*_: Any, **__: Any) -> Any:
    return {}


async def _nothing_spared(*_: Any, **__: Any) -> Any:
    return {}


async def _not_held(*_: Any, **__: Any) -> Any:
    return frozenset()


async def _no_breakers(*_: Any, **__: Any) -> Any:
    return []


@contextmanager
def _both(*patches: Patch) -> Iterator[None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one())
        yield


FOLLOWING = ("following", "restored")

MUTANTS: Sequence[Mutant] = (
    # ------------------------------------------------------------------ order
    Mutant(
        "list_first",
        "The listing comes before the references",
        "planning.make_plan",
        "P1",
        references_before_the_listing,
        ("scanning",),
    ),
    Mutant(
        "fence_before_scan",
        "A fence waits for open transactions before the scan",
        "reading._sync_one",
        "P1",
        no_fence_before_the_scan,
        ("scanning", "patient"),
    ),
    Mutant(
        "verify",
        "The database is read directly before the back-up",
        "sweep._verify",
        "P1",
        lambda: _without_read(1),
        ("scanning",),
    ),
    Mutant(
        "fence_before_delete",
        "A new fence after the back-up waits for open transactions",
        "sweep._fenced",
        "P1",
        _replaced(sweep, "fences", _no_positions),
        ("scanning",),
    ),
    Mutant(
        "read_after_fence",
        "The database is read directly again after that fence",
        "sweep._fenced",
        "P1",
        lambda: _without_read(2),
        ("scanning",),
    ),
    Mutant(
        "look_after_fence",
        "Each object is looked at again after the fence (ETag, last-modified)",
        "sweep._drop_changed",
        "P2",
        _replaced(sweep, "_drop_changed", _nothing),
        ("scanning",),
    ),
    Mutant(
        "gates_after_fence",
        "Every gate is asked again before the deletes",
        "sweep._drop_by_gates",
        "P1",
        _replaced(sweep, "_drop_by_gates", _nothing),
        ("patient", "scanning"),
    ),
    Mutant(
        "backup_first",
        "Nothing is deleted before its backup and the last fence",
        "sweep._Belt",
        "P2",
        deletes_before_the_backup,
        ("scanning",),
    ),
    Mutant(
        "intent_first",
        "The intent stands in the journal before the delete",
        "deletion.intents",
        "P4",
        lambda: patch.object(sweep, "intents", _only_the_fence(sweep.intents)),
        ("crashes", "scanning"),
    ),
    # ------------------------------------------------------------------ the store
    Mutant(
        "delete_if_match",
        "A delete is sent with If-Match: this very version, or nothing",
        "deletion.delete",
        "P2",
        unconditional_deletes,
        ("scanning",),
    ),
    Mutant(
        "backup_if_match",
        "The version that was listed is the one that is backed up and deleted",
        "backup.back_up",
        "P2",
        any_version_is_backed_up,
        ("scanning", "patient"),
    ),
    Mutant(
        "unconditional_delete",
        "A store that ignores If-Match holds the sweep",
        "breakers.unconditional_delete",
        "P2",
        _replaced(capabilities, "unconditional_delete", lambda *_: []),
        ("faulty store",),
    ),
    Mutant(
        "lost_answers",
        "After a delete whose answer was lost, the store is asked what happened",
        "deletion.is_gone",
        "P4",
        _replaced(deletion, "is_gone", _not_held),
        ("faulty store",),
    ),
    Mutant(
        "request_life",
        "Still there after a lost answer counts as kept only once the request can't arrive any more",
        "deletion.request_life",
        "P4",
        _replaced(deletion, "request_life", lambda parts: timedelta(0)),
        ("late deletes",),
    ),
    Mutant(
        "request_life_of_the_dead",
        "Recovery waits until the last request of the process that died can't arrive any more",
        "recovery._still_there",
        "P4",
        _replaced(recovery, "request_life", lambda parts: timedelta(0)),
        ("late deletes",),
    ),
    Mutant(
        "fsync",
        "A backup is synced to the disk before it counts",
        "vault._fs.sync_data",
        "P2",
        _replaced(_fs, "sync_data", lambda fd: None),
        ("faulty vault", "crashes"),
    ),
    Mutant(
        "read_back",
        "A backup is read back from the disk and compared",
        "vault._encode.read_back",
        "P2",
        _replaced(_session, "read_back", lambda placed, codecs: None),
        ("faulty vault",),
    ),
    # ------------------------------------------------------------------ after the deletes
    Mutant(
        "confirm",
        "A batch is confirmed: one more fence, one more read, late references heal",
        "confirm.confirm",
        "P3",
        _replaced(sweep, "confirm", _confirms_unseen),
        ("scanning",),
    ),
    Mutant(
        "confirm_fence",
        "The confirmation waits for the transactions that are open then",
        "confirm.confirm",
        "P3",
        _replaced(confirm, "fences", _no_positions),
        ("scanning",),
    ),
    Mutant(
        "confirm_all",
        "All batches are confirmed once more at the end",
        "sweep._confirm_all",
        "P3",
        _replaced(sweep, "_confirm_all", _nothing),
        ("scanning",),
    ),
    Mutant(
        "unknown_is_put_back",
        "What can't be confirmed is put back",
        "confirm.confirm",
        "P6",
        silence_confirms,
        ("faulty source",),
    ),
    Mutant(
        "never_over_a_live_object",
        "A late reference's object is put back only where there is none",
        "putback.put_back_if_missing",
        "P2",
        _replaced(confirm, "put_back_if_missing", _puts_over),
        ("scanning",),
    ),
    Mutant(
        "shield",
        "A cancelled collect confirms its batch, or leaves the operation open",
        "sweep._finish",
        "P3",
        cancelled_half_way,
        ("crashes",),
    ),
    Mutant(
        "recovery",
        "The next start settles what a crash left open",
        "recovery.recover",
        "P5",
        nobody_recovers,
        ("crashes",),
    ),
    Mutant(
        "recovery_looks",
        "Recovery looks whether an intended delete happened",
        "recovery.recover",
        "P5",
        recovery_believes,
        ("crashes", "scanning"),
    ),
    Mutant(
        "overwritten_is_backed_up",
        "A restore that overwrites a live object backs it up first",
        "restore._keep_overwritten",
        "P2",
        _replaced(restore, "_keep_overwritten", _nothing_spared),
        ("restores",),
    ),
    # ------------------------------------------------------------------ breakers
    Mutant(
        "source_check",
        "Each source is checked before a cycle: reachable, a primary, whole",
        "planning.preflight",
        "P6",
        _nobody_asks,
        ("faulty source",),
    ),
    Mutant(
        "identity_changed",
        "A database that isn't the pinned one holds",
        "breakers.identity_changed",
        "P6",
        _breaker("identity_changed"),
        ("staging", "restored"),
    ),
    Mutant(
        "no_references",
        "A source without any reference holds",
        "breakers.no_references",
        "P6",
        lambda: _both(_breaker("no_references"), _breaker("empty_columns"), _breaker("resolve_rate")),
        ("faulty source",),
    ),
    Mutant(
        "empty_column",
        "A tracked column without a value holds",
        "breakers.empty_columns",
        "P6",
        _breaker("empty_columns"),
        ("faulty source",),
    ),
    Mutant(
        "reference_drop",
        "References that fell by too much hold",
        "breakers.reference_drop",
        "P6",
        _breaker("reference_drop"),
        ("faulty source",),
    ),
    Mutant(
        "resolve_rate",
        "A column whose mentions name too few objects holds",
        "breakers.resolve_rate",
        "P6",
        _breaker("resolve_rate"),
        ("faulty source",),
    ),
    Mutant(
        "too_many_deletes",
        "More deletes than allowed hold; 0 means none",
        "breakers.too_many_deletes",
        "P6",
        _breaker("too_many_deletes"),
        ("patient",),
    ),
    Mutant(
        "clock_skew",
        "A store's clock that is off holds",
        "breakers.clock_skew",
        "P6",
        _breaker("clock_skew"),
        ("faulty store",),
    ),
    Mutant(
        "position_lost",
        "Changes that can't be followed any more hold",
        "breakers.position_lost",
        "P6",
        _breaker("position_lost"),
        FOLLOWING,
    ),
    Mutant(
        "position_went_back",
        "A database that stands before where it stood holds",
        "breakers.position_went_back",
        "P6",
        _breaker("position_went_back"),
        ("staging", "restored"),
    ),
    Mutant(
        "untracked_column",
        "An untracked column that names objects holds",
        "breakers.untracked_column",
        "P1",
        _breaker("untracked_column"),
        (),
    ),
    Mutant(
        "registry_disagrees",
        "A reference that the database has and the registry lacks holds",
        "sweep._agree",
        "P6",
        _replaced(sweep, "_agree", _nothing),
        FOLLOWING,
    ),
    Mutant(
        "bucket_owner",
        "A bucket that another vault collects holds",
        "owner.problem",
        "P6",
        _breaker("bucket_owner"),
        ("staging",),
    ),
    Mutant(
        "breakers_stay",
        "A breaker that tripped holds until it is acknowledged",
        "latch.latched",
        "P6",
        lambda: _both(
            _replaced(planning, "still_latched", _no_breakers),
            _replaced(cycle, "still_latched", _no_breakers),
        ),
        (),
    ),
    # ------------------------------------------------------------------ gates
    Mutant("retention", "Young objects stay", "gates.Retention", "P1", _gate(gates.Retention), ("patient",)),
    Mutant("grace", "Keys in their grace stay", "gates.Grace", "P1", _gate(gates.Grace), ("patient",)),
    Mutant(
        "observations",
        "A key must be seen free in several cycles",
        "gates.Observations",
        "P1",
        _gate(gates.Observations),
        ("patient",),
    ),
    Mutant(
        "excluded_prefix",
        "Excluded and reserved prefixes stay; a prefix ends at a slash",
        "gates.ExcludedPrefix",
        "P6",
        _gate(gates.ExcludedPrefix),
        ("patient", "scanning"),
    ),
    Mutant(
        "not_owned",
        "What lies outside of the owned prefixes stays",
        "gates.NotOwned",
        "P6",
        _gate(gates.NotOwned),
        (),
    ),
    Mutant("archived", "Archived objects stay", "gates.Archived", "P2", _gate(gates.Archived), ("scanning",)),
    Mutant(
        "derived",
        "What is derived lives with its parent",
        "protection.Protection.parents",
        "P1",
        _replaced(protection.Protection, "parents", lambda self, key: frozenset()),
        ("folders",),
    ),
    Mutant(
        "folders",
        "What lies in a folder that a row names stays",
        "registry.Listing.spare",
        "P1",
        _replaced(protection, "folders_of", lambda key: []),
        ("folders",),
    ),
    Mutant(
        "spoken_of",
        "A change that names a key begins its grace anew",
        "registry.References.change",
        "P1",
        _replaced(_Change, "touch", lambda self, hashes: None),
        FOLLOWING,
    ),
    Mutant(
        "registry_after_fence",
        "The registry catches up with the fence before the deletes",
        "reading.fences",
        "P1",
        _replaced(reading, "_reach", _nothing),
        FOLLOWING,
    ),
    # ------------------------------------------------------------------ plans, claims, lease
    Mutant(
        "plan_checks",
        "An old or foreign plan is refused",
        "cycle.check",
        "P6",
        _replaced(cycle, "check", lambda parts, plan: None),
        ("faulty store", "patient"),
    ),
    Mutant(
        "world_of_the_plan",
        "Sources and bucket are checked again before a plan is executed",
        "cycle._Collect._belongs",
        "P6",
        _replaced(cycle._Collect, "_belongs", _nothing),
        ("restores",),
    ),
    Mutant(
        "claimed",
        "A claimed key stays",
        "registry.Claims.doom",
        "P3",
        lambda: _both(_replaced(Claims, "doom", _no_claims), _replaced(Claims, "active", _none_active)),
        ("claims",),
    ),
    Mutant(
        "lock",
        "One collector at a time",
        "lease.hold, lease.bucket_lease",
        "P5",
        no_lease,
        ("two processes", "two machines"),
    ),
    Mutant(
        "fencing",
        "A process that was paused looks at the lease before it deletes",
        "lease.Lease.before_delete",
        "P1",
        lambda: _both(
            _replaced(lease._BucketLease, "before_delete", _nothing),
            _replaced(lease._BucketLease, "confirm", _nothing),
            _replaced(lease._BucketLease, "keep", _nothing),
        ),
        ("two machines",),
    ),
)
