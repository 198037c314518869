"""A bucket's vault by itself: neither the bucket nor a database is asked, so it works when they are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pluggy
from attrs import evolve, frozen
from ulid import ULID

from s3gc import _threads, lease
from s3gc._log import get_logger
from s3gc.abc import Vault
from s3gc.choosing import Selection
from s3gc.clock import Clock, SystemClock
from s3gc.config import Config
from s3gc.elsewhere import Origin
from s3gc.errors import ConfigError, NoSuchBucket, VaultError
from s3gc.events import emit
from s3gc.hooks import plugin_manager
from s3gc.model import (
    AuditResult,
    BackupRecord,
    ExtractReport,
    RebuildReport,
    RemovalReport,
    RestoreReport,
    ScrubReport,
    TranscodeReport,
    VaultStats,
)
from s3gc.opening import folder_of, store_of, vault_of
from s3gc.vault.browse import Stored, Wanted, latest, versions
from s3gc.vault.checkpoints import (
    Checkpoint,
    against,
    make_checkpoint,
    private_key_from,
    public_key_from,
)
from s3gc.vault.export import Filters, export
from s3gc.vault.extract import extract
from s3gc.vault.local import LocalVault
from s3gc.vault.prune import forget, prune
from s3gc.vault.retention import Retention
from s3gc.vault.scrub import next_share, scrub
from s3gc.vault.transcode import transcode


@frozen
class _Closed:
    """A vault that isn't open yet, and the bucket that it is of."""

    vault: Vault
    store_url: str
    folder: Path
    clock: Clock
    new_id: Callable[[], str]
    hook: pluggy.HookRelay


class Archive:
    """The vault of one bucket: ``async with Archive.open(config) as archive``."""

    def __init__(self, closed: _Closed, config: Config) -> None:
        self._config = config
        self._folder = closed.folder
        self._clock = closed.clock
        self._new_id = closed.new_id
        self._hook = closed.hook
        self._store_url = closed.store_url
        self.vault = closed.vault

    # ------------------------------------------------------------------ looking into it

    def versions(self, wanted: Wanted) -> AsyncIterator[Stored]:
        """All backups that match, in the journal's order."""
        return versions(self.vault, wanted)

    def latest(self, wanted: Wanted) -> AsyncIterator[Stored]:
        """Of each key that matches the latest version; with ``at``, of those uploaded by then."""
        return latest(self.vault, wanted)

    def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        """The object's bytes; VaultCorrupt, at the latest at the end, when they aren't the very bytes."""
        return self.vault.read(record)

    async def extract(self, wanted: Wanted, folder: Path) -> ExtractReport:
        """Write the latest version of each key that matches into a new folder.

        Raises:
            VaultError: the folder isn't empty, or can't be written to.
        """
        return await extract(self.vault, latest(self.vault, wanted), folder)

    async def stats(self) -> VaultStats:
        """Sizes and counts."""
        return await self.vault.stats()

    # ------------------------------------------------------------------ bringing it elsewhere

    async def restore(
        self,
        into: str,
        *,
        key: str | None = None,
        operation_id: str | None = None,
        prefix: str | None = None,
        at: datetime | None = None,
        dry_run: bool = True,
        overwrite: bool = False,
    ) -> RestoreReport:
        """Bring what s3gc removed into another bucket or folder, with attributes where that keeps them.

        As :meth:`Collector.restore`, which brings it back into the bucket itself. Begun anew it goes on where
        it was stopped.

        Args:
            into: ``s3://BUCKET/PREFIX``, ``file:///FOLDER``, or what a plugin opens; see
                :func:`s3gc.elsewhere.open_place`.
            overwrite: replace other objects that are there. Nobody backs these up.

        Raises:
            ValueError: nothing was chosen, or ``at`` has no time zone.
            ConfigError: ``into`` is no such place, or lies in the bucket or in the vault.
            LeaseHeld: a collector works with this vault (not with ``dry_run``).
            VaultError: the journal can't be read or written.
        """
        selection = Selection.of(key, prefix, operation_id, at)
        own_id = self._new_id()
        here = Origin(
            self._config, self._hook, self._clock, self.vault, self._store_url, self._folder, self._emit
        )
        return await here.restore(into, own_id, selection, dry_run=dry_run, overwrite=overwrite)

    def _emit(self, event: str, **data: Any) -> None:
        emit(self._hook, get_logger(), event, **data)

    # ------------------------------------------------------------------ checking it

    async def verify(self, *, share_of: int | None = None) -> ScrubReport:
        """Read and decode all backups, or with ``share_of`` the next share; the journal notes the result.

        With ``share_of=30`` everything has been read after 30 runs to the end, whenever they are.

        Raises:
            ValueError: ``share_of`` is less than 1.
        """
        share = None if share_of is None else await next_share(self.vault, share_of)
        return await scrub(self.vault, self._clock, self._new_id(), share)

    # ------------------------------------------------------------------ the journal

    async def audit(
        self, checkpoints: Sequence[Checkpoint] = (), public_key: bytes | None = None
    ) -> AuditResult:
        """Check every link of the journal's chain, and hold it against checkpoints.

        Args:
            checkpoints: kept elsewhere; without ``public_key`` they prove nothing and are refused.
            public_key: the operator's, in PEM. The checkpoints in the journal are checked, too.

        Raises:
            ConfigError: there are checkpoints and no key, or it is none.
        """
        if checkpoints and public_key is None:
            raise ConfigError("a checkpoint proves nothing without the operator's public key")
        key = None if public_key is None else public_key_from(public_key)
        found = await self.vault.journal.verify()
        if key is None or not found.ok:  # what the chain shows needs no signature
            return found
        problems = await against(self.vault, checkpoints, key)
        return evolve(found, ok=not problems, problems=tuple(problems))

    async def checkpoint(self, private_key: bytes) -> Checkpoint:
        """Sign the journal's end with the operator's key (PEM). Keep what is returned in another place.

        Raises:
            ConfigError: it isn't a key of Ed25519 without a password, or ``cryptography`` isn't installed.
            VaultError: the journal is empty, or nothing can be added to it.
        """
        key = private_key_from(private_key)
        return await make_checkpoint(self.vault, key, self._clock.now(), self._new_id())

    def export(self, filters: Filters, form: str = "jsonl") -> AsyncIterator[str]:
        """The journal's entries as text in pieces: ``jsonl`` or ``csv``."""
        return export(self.vault.journal, filters, form)

    # ------------------------------------------------------------------ removing from it

    async def prune(self, *, dry_run: bool = True) -> RemovalReport:
        """Remove backups that are older than their retention, as are the deletions of their objects.

        That is ``vault_retention_days``, or what ``vault_retention_by_prefix`` has for the key.

        Raises:
            ConfigError: no retention is set, or not how far back the database can be put.
            LeaseHeld: a collector works with this vault.
            VaultError: the vault can't be read or written, or is of a kind that removes nothing.
        """
        config = self._config
        retention = Retention(config.vault_retention_days, config.vault_retention_by_prefix)
        if not retention.removes or config.recovery_window_days is None:
            raise ConfigError(
                "give vault_retention_days (or vault_retention_by_prefix), and recovery_window_days: how far "
                "back your database can be put"
            )
        ends = retention.ends(self._clock.now())
        async with self._removing() as vault:
            return await prune(vault, self._new_id(), before=ends, reason=str(retention), dry_run=dry_run)

    async def forget(self, key: str, reason: str, *, dry_run: bool = True) -> RemovalReport:
        """Remove every backup of a key, for ever. The journal keeps that there was one, and the reason.

        Raises:
            LeaseHeld: a collector works with this vault.
            VaultError: there is none, an open operation may need it, or the reason is empty.
        """
        async with self._removing() as vault:
            return await forget(vault, self._new_id(), key, reason=reason, dry_run=dry_run)

    async def transcode(self, *, dry_run: bool = True) -> TranscodeReport:
        """Re-encode all backups to plain zstd, so that no other codec is needed to read the vault.

        Raises:
            LeaseHeld: a collector works with this vault.
            VaultError: the vault can't be read or written, or is of a kind that removes nothing.
        """
        async with self._removing() as vault:
            return await transcode(vault, self._new_id(), dry_run=dry_run)

    @asynccontextmanager
    async def _removing(self) -> AsyncIterator[LocalVault]:
        if not isinstance(self.vault, LocalVault):
            raise VaultError(f"{type(self.vault).__name__} is not a vault in a folder: it removes nothing")
        async with lease.hold(self._folder / "collector.lock"):
            yield self.vault

    # ------------------------------------------------------------------ opening

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: Config,
        *,
        vault: Vault | None = None,
        plugins: pluggy.PluginManager | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> AsyncIterator[Archive]:
        """Open a vault that is there. The arguments are those of :meth:`Collector.open`.

        Raises:
            ConfigError: no plugin opens what the configuration names.
            VaultMismatch: the vault belongs to another bucket.
            VaultError: there is none, or it can't be used.
        """
        async with _closed(config, vault, plugins, clock, new_id) as closed:
            await closed.vault.open(closed.store_url, create=False)
            yield cls(closed, config)

    @classmethod
    async def rebuild(
        cls,
        config: Config,
        *,
        set_aside: bool = False,
        vault: Vault | None = None,
        plugins: pluggy.PluginManager | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> RebuildReport:
        """Make a lost journal anew from the backups alone.

        Args:
            set_aside: do so though there is a journal; it is kept beside the new one.

        Raises:
            VaultMismatch: the backups are another bucket's.
            VaultError: there is a journal, or nothing to rebuild from.
            LeaseHeld: a collector works with this vault.
        """
        async with (
            _closed(config, vault, plugins, clock, new_id) as closed,
            lease.hold(closed.folder / "collector.lock"),
        ):
            return await closed.vault.rebuild(closed.store_url, closed.new_id(), set_aside=set_aside)


@asynccontextmanager
async def _closed(
    config: Config,
    vault: Vault | None,
    plugins: pluggy.PluginManager | None,
    clock: Clock | None,
    new_id: Callable[[], str] | None,
) -> AsyncIterator[_Closed]:
    clock = clock or SystemClock()
    hook = (plugins or plugin_manager()).hook
    async with AsyncExitStack() as stack:
        # Only the store knows its lasting URL, to which the vault is pinned. It isn't asked anything.
        try:
            store = store_of(hook, config, clock)
            stack.push_async_callback(store.aclose)
            store_url = store.url
        except NoSuchBucket:  # a folder that is gone; where another one is meant, the vault says so
            store_url = config.store_url
        vault = vault or vault_of(hook, config, clock)
        stack.push_async_callback(vault.aclose)
        folder = folder_of(config)
        await _threads.run(lambda: folder.mkdir(parents=True, exist_ok=True))
        made_id = new_id or (lambda: str(ULID.from_datetime(clock.now())))
        yield _Closed(vault, store_url, folder, clock, made_id, hook)
