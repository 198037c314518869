"""One collector at a time: on one machine by a lock, across machines by a lease in the bucket.

**The lock** (:func:`hold`) is a ``flock`` on the vault's folder. It ends with its process, however it ends.

**The lease** (:func:`bucket_lease`) is an object, ``.s3gc/lease/000000000042``. Its number is the fencing
token: whoever wants the lease creates the next number on the condition that there is none, and the highest
number that exists is the lease. Numbers only grow: a holder that ends marks its object as released and
leaves it there (so don't delete it by hand). A number that isn't released may be passed by when it was not
renewed for ``lease_ttl`` by the store's own clock, or when it is our own from before a crash: the lock proves
that its process is dead.

**What fencing means here.** A fencing token is meant to be checked by the storage at every write, and S3
checks none. So the holder checks, right before each delete, and three rules make that enough:

1. *The look.* A delete is sent only within ``lease_margin`` after a look at the bucket that found our number
   to be the highest and its content ours. A look counts from when it began. Its age is taken by the wall
   clock and by the monotonic clock, and the greater counts: the latter stands still while a virtual machine
   is suspended. A clock that went back makes the age unknown, and that calls for a new look.
2. *The wait.* Whoever takes a lease that was neither released nor our own waits ``lease_margin`` once its
   number exists. A look of the holder before that missed the new number began before that, so what it allows
   is over by then. Until the wait is over the number is marked as unsettled, and whoever takes over from
   there waits too. This needs nothing but clocks that run at about one speed: ``lease_ttl`` and the store's
   clock decide when to be impolite, never whether it is safe.
3. *The store's age limit.* AWS refuses requests signed more than 15 minutes ago (RequestTimeTooSkewed). A
   machine that is suspended with *all* its clocks standing still can't notice that. Its lease was renewed at
   most a third of ``lease_ttl`` before, so its requests are too old when the next holder begins, if two
   thirds of ``lease_ttl`` are more than these 15 minutes and ``max_clock_skew``.

What remains is a process that stops between the check and the moment when its request is signed, and a
request that the network delivers late. For those there are the delete's condition (If-Match: only the listed
version goes) and the journal: a process that learns that the lease is another's ends there
(:class:`~s3gc.errors.LeaseLost`), its operation stays open, and whoever opens its vault next settles it:
reads the references again, and puts back what a row names.

A store without conditional writes lets two create one number within the time of a request. Each looks again
before its first delete, and all but the last writer find another's content there.
"""

from __future__ import annotations

import abc
import fcntl
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from attrs import asdict, evolve, frozen

from s3gc._json import dumps
from s3gc._log import get_logger
from s3gc.abc import RESERVED_PREFIX, ObjectStore
from s3gc.clock import Clock
from s3gc.errors import LeaseHeld, LeaseLost, PreconditionFailed, StoreError, VaultError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.safety import Safety

LEASE_PREFIX = RESERVED_PREFIX + "lease/"

RELEASE_SECONDS = 60.0
"""How long the release at the end may take; a lease that could not be released ends by its age."""

_ATTEMPTS = 3
"""Looks in a row that may come too late or see the lease change hands."""

_MOST_BYTES = 64 * 1024
"""A token's content is a few hundred bytes; more than this isn't ours and isn't read."""

_DIGITS = 12


# --------------------------------------------------------------------------- on this machine


@asynccontextmanager
async def hold(path: Path, operation_id: str | None = None) -> AsyncIterator[None]:
    """Hold the lock whose file is ``path``.

    Args:
        operation_id: what is to be done meanwhile, for others to know.

    Raises:
        LeaseHeld: another collector, in this or another process, holds it.
        VaultError: the lock file can't be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise VaultError(f"{path} can't be written ({error.strerror}): is the vault read-only?") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, _, running = os.pread(handle, 64, 0).decode("ascii", "replace").strip().partition(" ")
            raise LeaseHeld(
                f"another collector (process {holder or 'unknown'}) works with this vault: wait until it has "
                "ended",
                operation_id=running or None,
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} {operation_id or ''}".encode(), 0)
        yield
    finally:
        os.close(handle)


# --------------------------------------------------------------------------- across machines


class Lease(abc.ABC):
    """The right to delete in a bucket, as its holder sees it. May be used by several tasks at once."""

    token: int
    """The fencing token: greater than that of every holder before."""

    @abc.abstractmethod
    async def keep(self) -> None:
        """Renew when a third of ``lease_ttl`` is over; else return at once. Call it often in long work.

        Raises:
            LeaseLost: another one has the lease, or ours is gone.
            StoreError: the bucket doesn't answer.
        """

    @abc.abstractmethod
    async def confirm(self) -> None:
        """Look now whether the lease is still ours, and renew it if that is due.

        Raises:
            LeaseLost, StoreError: as :meth:`keep`.
        """

    @abc.abstractmethod
    async def before_delete(self) -> None:
        """Call right before every delete: confirms unless the last look is younger than ``lease_margin``.

        Raises:
            LeaseLost: as :meth:`keep`. Nothing may be deleted any more.
            StoreError: it is not known whose the lease is. Don't send this delete.
        """


class NoLease(Lease):
    """For what deletes nothing."""

    token = 0

    async def keep(self) -> None:
        pass

    async def confirm(self) -> None:
        pass

    async def before_delete(self) -> None:
        pass


@asynccontextmanager
async def bucket_lease(
    store: ObjectStore, clock: Clock, safety: Safety, *, holder: str, new_id: Callable[[], str]
) -> AsyncIterator[Lease]:
    """Hold the bucket's lease. It is released at the end, also of a cancelled task.

    After a holder that didn't release it, this waits ``lease_margin`` before it goes on.

    Args:
        holder: stays the same over restarts and is nobody else's at the same time: the caller holds a lock
            (:func:`hold`) that goes with it.
        new_id: gives ids that nobody else has.

    Raises:
        LeaseHeld: another collector has it; says who, where, since when, and what to do.
        StoreError: the bucket doesn't answer.
    """
    lease, seen = await _prepare(store, clock, safety, holder, new_id)
    try:
        await lease.take(seen)
        yield lease
    finally:
        await lease.release()


@frozen
class _Token:
    """What stands in a lease's object."""

    holder: str = "unknown"
    nonce: str = ""
    released: bool = False
    settled: bool = False  # nobody before can send deletes any more
    host: str = "unknown"
    pid: int = 0
    renewals: int = 0

    def dump(self) -> bytes:
        return dumps(asdict(self)).encode()

    @classmethod
    def load(cls, body: bytes) -> _Token:
        """What isn't ours to read is the lease of somebody unknown, neither released nor settled."""
        try:
            found: Any = json.loads(body)
            return cls(
                str(found["holder"]),
                str(found["nonce"]),
                found["released"] is True,
                found["settled"] is True,
                str(found["host"]),
                int(found["pid"]),
                int(found["renewals"]),
            )
        except (ValueError, KeyError, TypeError):
            return cls()


@frozen
class _Instant:
    """A moment by both clocks."""

    monotonic: float
    wall: datetime

    @classmethod
    def of(cls, clock: Clock) -> _Instant:
        return cls(clock.monotonic(), clock.now())

    def younger(self, clock: Clock, limit: timedelta) -> bool:
        """Whether less than ``limit`` has passed since, by both clocks; not if one of them went back."""
        ages = (clock.now() - self.wall, timedelta(seconds=clock.monotonic() - self.monotonic))
        return min(ages) >= timedelta(0) and max(ages) < limit


@frozen
class _Seen:
    """The lease as it was found before ours."""

    number: int  # 0: there was none
    token: _Token
    at_once: bool  # what its holder may have begun is over: no need to wait


class _BucketLease(Lease):
    def __init__(self, store: ObjectStore, clock: Clock, safety: Safety, number: int, body: _Token) -> None:
        self.token = number
        self._store = store
        self._clock = clock
        self._ttl = safety.lease_ttl
        self._margin = safety.lease_margin
        self._body = body
        self._etag = ""  # of our content as last seen; anything else is read before it is believed
        self._looked: _Instant | None = None
        self._renewed: _Instant | None = None
        self._over: str | None = None
        self._lock = anyio.Lock()

    # ----------------------------------------------------------------- while it is held

    async def keep(self) -> None:
        self._alive()
        if self._due():
            async with self._lock:
                if self._due():
                    await self._confirm()

    async def confirm(self) -> None:
        async with self._lock:
            await self._confirm()

    async def before_delete(self) -> None:
        self._alive()
        if self._fresh():
            return
        async with self._lock:  # one looks, the others wait for it
            for _ in range(_ATTEMPTS):
                if not self._fresh():
                    await self._confirm()
                self._alive()
                if self._fresh():
                    return
        raise StoreError(
            f"a look at the lease takes longer than lease_margin ({self._margin}): the bucket is too slow, "
            "or lease_margin too short"
        )

    def _alive(self) -> None:
        if self._over is not None:
            raise LeaseLost(self._over)

    def _fresh(self) -> bool:
        return self._looked is not None and self._looked.younger(self._clock, self._margin)

    def _due(self) -> bool:
        return self._renewed is None or not self._renewed.younger(self._clock, self._ttl / 3)

    async def _confirm(self) -> None:
        await self._look()
        if self._due():
            await self._write()

    async def _look(self) -> None:
        self._alive()
        began = _Instant.of(self._clock)
        there = await _tokens(self._store)
        highest = max(there, default=0)
        if highest > self.token:
            self._lose(f"number {highest} exists: another collector has taken the lease")
        if self.token not in there:
            self._lose("it is gone: somebody has deleted it")
        if there[self.token].etag != self._etag:
            found = await _read(self._store, self.token)
            if found is None or found.nonce != self._body.nonce:
                self._lose(f"it is that of {found.holder if found else 'nobody'} now")
            self._etag = there[self.token].etag
        self._looked = began

    def _lose(self, why: str) -> None:
        self._over = f"lease {self.token} of the bucket is lost: {why}; nothing more may be deleted"
        self._looked = None
        raise LeaseLost(self._over)

    async def _write(self, **changes: Any) -> None:
        began = _Instant.of(self._clock)
        body = evolve(self._body, renewals=self._body.renewals + 1, **changes)
        written = await _put(self._store, self.token, body)
        self._body, self._etag, self._renewed = body, written.etag, began

    # ----------------------------------------------------------------- its beginning and its end

    async def take(self, before: _Seen) -> None:
        """Create our number, and make sure that it is the lease and that nobody before us goes on."""
        began = _Instant.of(self._clock)
        lost: StoreError | None = None
        try:
            await _put(self._store, self.token, self._body, if_none_match=True)
        except PreconditionFailed:
            pass  # ours all the same, if a lost attempt wrote it: the look tells
        except StoreError as error:
            if not error.outcome_unknown:
                self._over = "the lease was not taken"
                raise
            lost = error
        try:
            await self._look()
            lost = None
            if not before.at_once:
                get_logger().warning(
                    "lease_taken_over",
                    token=self.token,
                    holder=before.token.holder,
                    host=before.token.host,
                    pid=before.token.pid,
                    wait=self._margin.total_seconds(),
                )
                await anyio.sleep(self._margin.total_seconds())
                await self._look()
                await self._write(settled=True)
        except LeaseLost:
            if lost is not None:
                raise lost from None
            raise await _held(self._store) from None
        # On a store without conditional writes only a look before the first delete tells: forget this one.
        self._looked = None
        self._renewed = self._renewed or began
        await self._clean()

    async def _clean(self) -> None:
        """Numbers below ours mean nothing any more."""
        try:
            for number, info in (await _tokens(self._store)).items():
                if number < self.token:
                    await self._store.delete(info.key, if_match=info.etag)
        except StoreError as error:
            get_logger().warning("lease_clean_up_failed", token=self.token, error=str(error))

    async def release(self) -> None:
        """Mark our number as released, if it is still the lease. Errors are logged: it ends by its age."""
        if self._over is not None:
            return
        with anyio.move_on_after(RELEASE_SECONDS, shield=True) as scope:
            try:
                async with self._lock:
                    await self._look()
                    await self._write(released=True)
            except LeaseLost:
                pass
            except Exception as error:  # noqa: BLE001 - the body's own error must not be hidden by ours
                get_logger().warning("lease_not_released", token=self.token, error=str(error))
        if scope.cancelled_caught:
            get_logger().warning("lease_not_released", token=self.token, error="the bucket didn't answer")
        self._over = f"lease {self.token} of the bucket was released"


async def _prepare(
    store: ObjectStore, clock: Clock, safety: Safety, holder: str, new_id: Callable[[], str]
) -> tuple[_BucketLease, _Seen]:
    """Look who has the lease; the next number, if it may be taken."""
    for _ in range(_ATTEMPTS):
        now = await store.now()  # before the listing: a pause in between makes the lease look younger
        there = await _tokens(store)
        number = max(there, default=0)
        host, pid = _whereabouts()
        if number == 0:
            seen = _Seen(0, _Token(), at_once=True)
        else:
            found = await _read(store, number)
            if found is None:
                continue
            # On another machine the lock isn't the same if the vault was copied: ours, but wait.
            ours, here = found.holder == holder, found.host == host
            seen = _Seen(number, found, found.settled and (found.released or (ours and here)))
            age = now - there[number].last_modified
            if not (found.released or ours or age > safety.lease_ttl):
                raise LeaseHeld(_who(number, found, age, safety.lease_ttl - age))
        body = _Token(holder, new_id(), released=False, settled=seen.at_once, host=host, pid=pid)
        return _BucketLease(store, clock, safety, number + 1, body), seen
    raise LeaseHeld("the bucket's lease is changing hands: another collector begins, try again later")


async def _held(store: ObjectStore) -> LeaseHeld:
    """Somebody was quicker: who."""
    now = await store.now()
    there = await _tokens(store)
    number = max(there, default=0)
    found = await _read(store, number) if number else None
    if found is None:
        return LeaseHeld("the bucket's lease is changing hands: another collector begins, try again later")
    return LeaseHeld(_who(number, found, now - there[number].last_modified, None))


def _who(number: int, found: _Token, age: timedelta, left: timedelta | None) -> str:
    if left is None:
        until = "it was quicker"
    else:
        until = f"if that machine is gone for good, the lease can be taken in {_seconds(left)} s"
    return (
        f"another collector holds the bucket's lease {number}: {found.holder}, process {found.pid} on host "
        f"{found.host}, renewed {_seconds(age)} s ago. Wait until it has ended; {until}"
    )


def _seconds(span: timedelta) -> int:
    return max(0, round(span.total_seconds()))


def _whereabouts() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


# --------------------------------------------------------------------------- the objects


def _name(number: int) -> str:
    return f"{LEASE_PREFIX}{number:0{_DIGITS}d}"


async def _tokens(store: ObjectStore) -> dict[int, ObjectInfo]:
    """The lease's objects by number; what has no such name is not ours and means nothing."""
    found: dict[int, ObjectInfo] = {}
    async with aclosing(store.list(LEASE_PREFIX)) as pages:  # type: ignore[type-var]
        async for page in pages:
            for info in page:
                name = info.key.removeprefix(LEASE_PREFIX)
                if re.fullmatch(f"[0-9]{{{_DIGITS}}}", name) and not info.ambiguous:
                    found[int(name)] = info
    return found


async def _read(store: ObjectStore, number: int) -> _Token | None:
    """A number's content; None when there is no such object (any more)."""
    try:
        async with store.get(_name(number)) as reader:
            if reader.info.size > _MOST_BYTES:
                return _Token()
            return _Token.load(b"".join([chunk async for chunk in reader.chunks()]))
    except PreconditionFailed:
        return None


async def _put(store: ObjectStore, number: int, token: _Token, *, if_none_match: bool = False) -> ObjectInfo:
    body = token.dump()
    return await store.put(
        _name(number), body, size=len(body), attributes=ObjectAttributes(), if_none_match=if_none_match
    )
