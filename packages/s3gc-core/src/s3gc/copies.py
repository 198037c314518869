"""Further copies of backups: enough of them before anything is deleted, and all of them soon after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from s3gc import _threads, journal_events
from s3gc.abc import Vault
from s3gc.clock import Clock
from s3gc.config import Config, scrub
from s3gc.errors import ConfigError, CycleHeld, TooFewCopies, VaultError
from s3gc.model import BackupRecord, JournalDraft, TrippedBreaker
from s3gc.parts import Parts
from s3gc.vault.local import LocalVault
from s3gc.vault.replica import Replicator, load_keys, open_replicator


@asynccontextmanager
async def open_replicas(config: Config, vault: Vault, clock: Clock) -> AsyncIterator[Replicator | None]:
    """The replicator of an open vault; None when there are no replicas. No remote is asked anything.

    Raises:
        ConfigError: the vault isn't a local one, a URL is malformed, or the keys can't be had.
        VaultError: the local notes on the replicas can't be used.
    """
    if not config.replicas:
        yield None
        return
    if not isinstance(vault, LocalVault):
        raise ConfigError("only a vault in a local folder has replicas: leave `replicas` out")
    at = config.replica_keys
    keys = None if at is None else await _threads.run(lambda: load_keys(at))
    async with open_replicator(vault, config.replicas, clock=clock, keys=keys) as replicator:
        yield replicator


async def ensure_copies(parts: Parts, records: Collection[BackupRecord], operation_id: str) -> None:
    """Return when these backups, which are in the journal already, are in ``backup_copies`` places.

    Raises:
        CycleHeld: they can't be brought there. None of their objects may be deleted.
        VaultError: the vault itself isn't as it was written.
    """
    copies = parts.config.backup_copies
    if copies == 1 or not records:
        return
    if parts.replicator is None:
        raise ConfigError(f"backup_copies = {copies}, and there are no replicas")
    try:
        await parts.replicator.ensure(records, copies)
    except TooFewCopies as error:
        raise CycleHeld([TrippedBreaker("too_few_copies", "", str(error))]) from error
    data = {
        "copies": copies,
        "backups": len(records),
        "replicas": parts.replicator.holders(records),
    }
    await parts.vault.journal.append([JournalDraft(journal_events.COPIES_CONFIRMED, operation_id, data=data)])


async def catch_up(parts: Parts, operation_id: str) -> tuple[str, ...]:
    """Bring the replicas up to date at an operation's end. It has ended well, whatever comes of this.

    A replica that stays behind is told (``replica_behind``); the next operation, or `s3gc vault replicate`,
    brings it further.

    Returns:
        what is an error and no mere delay: fewer than ``backup_copies`` places have the whole journal, or
        the vault itself isn't as it was written.
    """
    if parts.replicator is None:
        return ()
    try:
        found = await parts.replicator.sync()
    except VaultError as error:
        told = scrub(f"the replicas were not brought up to date: {error}", parts.config)
        parts.log.error("replicas_not_brought_up_to_date", operation_id=operation_id, problem=told)
        return (told,)
    behind = [status for status in found if not status.whole]
    for status in behind:
        parts.emit(
            "replica_behind",
            operation_id=operation_id,
            replica=status.url,
            entries=status.entries_behind,
            bytes=status.bytes_behind,
            lag=None if status.lag is None else status.lag.total_seconds(),
            problem=status.error or next(iter(status.problems), None),
        )
    whole = 1 + len(found) - len(behind)
    if whole >= parts.config.backup_copies:
        return ()
    told = "; ".join(f"{status.url}: {status.error or 'behind'}" for status in behind)
    return (f"only {whole} of {parts.config.backup_copies} places have all of the journal: {told}",)
