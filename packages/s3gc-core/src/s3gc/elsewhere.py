"""A restore into another bucket or folder: the vault is asked, and nothing of the collected bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import pluggy
from attrs import evolve, fields, frozen

from s3gc import lease
from s3gc.abc import RESERVED_PREFIX, ObjectStore, Vault
from s3gc.bringing import Bringing, Destination, Done
from s3gc.choosing import Choice, Choices, Selection
from s3gc.clock import Clock
from s3gc.config import Config, redact, scrub
from s3gc.errors import ConfigError
from s3gc.journal_events import RESTORED_ELSEWHERE
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes, ObjectHead, RestoreReport
from s3gc.opening import store_of
from s3gc.restore import counts, on_record
from s3gc.vault.replica.opening import one_place

NEWER = "another object is there now: give overwrite=True to replace it (nobody backs it up there)"

_S3_SETTINGS = ("endpoint", "profile", "region")
_OF_THE_BUCKET = ("request_payer", "expected_bucket_owner")
"""Settings of the S3 client that belong to the collected bucket, and to no other."""


@frozen
class Origin:
    """What a restore into another place starts from: a vault, and the bucket that it is of."""

    config: Config
    hook: pluggy.HookRelay
    clock: Clock
    vault: Vault
    store_url: str
    folder: Path  # of the lock
    emit: Callable[..., None]

    async def restore(
        self, into: str, operation_id: str, selection: Selection, *, dry_run: bool, overwrite: bool
    ) -> RestoreReport:
        """Open ``into``, and bring there what s3gc removed; on record and under the lock unless ``dry_run``.

        Raises:
            ConfigError: ``into`` is no such place, or lies in the bucket or in the vault.
            LeaseHeld: a collector works with this vault.
            VaultError: the journal can't be read or written.
        """
        taken = {self.store_url: "the bucket itself", self.vault.url: "the vault"}
        async with open_place(self.hook, self.config, self.clock, into, taken) as place:

            async def work() -> RestoreReport:
                return await restore_into(
                    self.vault,
                    place,
                    operation_id,
                    selection,
                    clock=self.clock,
                    emit=self.emit,
                    dry_run=dry_run,
                    overwrite=overwrite,
                )

            if dry_run:
                return await work()
            facts = {**selection.facts(), "into": place.url, "overwrite": overwrite}
            async with lease.hold(self.folder / "collector.lock", operation_id):
                report = await on_record(
                    self.vault.journal,
                    operation_id,
                    facts,
                    work,
                    lambda error: scrub(f"{type(error).__name__}: {error}", self.config),
                )
        self.emit("restore_completed", operation_id=operation_id, dry_run=False, **counts(report))
        return report


@frozen
class Place:
    """Where objects are brought to."""

    store: ObjectStore
    prefix: str  # before every key; ends with "/", or is empty
    url: str  # for people and for the journal: without secrets and settings


@asynccontextmanager
async def open_place(
    hook: pluggy.HookRelay, config: Config, clock: Clock, url: str, taken: Mapping[str, str]
) -> AsyncIterator[Place]:
    """Open ``scheme://NAME/PREFIX`` with the store that a plugin has for ``scheme://NAME``.

    A folder (``file:///PATH``) must be there, and has no prefix. ``s3://`` takes the S3 settings of the
    configuration, but for ``?region=…&endpoint=…&profile=…`` and those that belong to the bucket.

    Args:
        taken: URLs of places where nothing may be restored into, and what they are.

    Raises:
        ConfigError: the URL is malformed, no plugin opens it, or it lies in the bucket or the vault.
        NoSuchBucket: there is no such folder.
    """
    store_url, prefix, settings = _split(url)
    for other, what in taken.items():
        if one_place(store_url, other):
            raise ConfigError(f"{redact(url)} is, or lies in, {what}: restore into another place")
    store = store_of(hook, _config_for(config, store_url, settings), clock)
    try:
        yield Place(store, prefix, f"{store.url.rstrip('/')}/{prefix}" if prefix else store.url)
    finally:
        await store.aclose()


def _split(url: str) -> tuple[str, str, Mapping[str, str]]:
    """The store's URL, the prefix, and the settings."""
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url or parts.fragment:
        raise ConfigError(
            f"{redact(url)} is no place to restore into: write s3://BUCKET/PREFIX or file:///PATH"
        )
    if parts.scheme == "file":
        return url, "", {}
    if not parts.netloc:
        raise ConfigError(f"{redact(url)} names no bucket: write s3://BUCKET/PREFIX")
    prefix = unquote(parts.path).strip("/")
    if prefix:
        prefix += "/"
    if prefix.startswith(RESERVED_PREFIX):
        raise ConfigError(f"{redact(url)} lies below {RESERVED_PREFIX}, which s3gc keeps for itself")
    if parts.scheme != "s3":
        return urlunsplit((parts.scheme, parts.netloc, "", parts.query, "")), prefix, {}
    settings = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := ", ".join(sorted(settings.keys() - set(_S3_SETTINGS))):
        raise ConfigError(f"{redact(url)}: unknown setting {unknown} (known: {', '.join(_S3_SETTINGS)})")
    return f"s3://{parts.netloc}", prefix, settings


def _config_for(config: Config, store_url: str, settings: Mapping[str, str]) -> Config:
    scheme = store_url.partition(":")[0]
    if scheme in ("file", "memory"):
        return evolve(config, bucket=store_url, endpoint_url=None, s3={})
    if scheme != "s3":
        return evolve(config, bucket=store_url)
    s3 = {name: text for name, text in config.s3.items() if name not in _OF_THE_BUCKET}
    if "profile" in settings:
        s3["profile"] = settings["profile"]
    endpoint = settings.get("endpoint", config.endpoint_url)
    # Another server, or no word of a region: the store learns it.
    default = str(fields(Config).region.default)
    region = settings.get("region", default if "endpoint" in settings else config.region)
    return evolve(config, bucket=store_url, endpoint_url=endpoint, region=region, s3=s3)


async def restore_into(
    vault: Vault,
    place: Place,
    operation_id: str,
    selection: Selection,
    *,
    clock: Clock,
    emit: Callable[..., None],
    dry_run: bool,
    overwrite: bool,
) -> RestoreReport:
    """Bring what s3gc removed to another place; what is there stays unless ``overwrite``.

    An object that fails is reported in ``errors`` and the rest goes on.

    Raises:
        VaultError: the journal can't be read or written.
    """
    started = clock.monotonic()
    choices = Choices(vault.journal, selection, into=place.url)
    await choices.choose()
    emit("restore_started", operation_id=operation_id, objects=len(choices), dry_run=dry_run)
    bringing = Bringing(vault, _There(vault, place, operation_id, emit), clock, dry_run, overwrite)
    async with aclosing(choices.records()) as found:  # type: ignore[type-var]
        await bringing.run(found)
    if selection.key is not None and not len(choices):
        bringing.errors[selection.key] = "the journal knows no removal of this key that matches"
    return bringing.report(operation_id, started)


class _There(Destination):
    """Another bucket than the one that the backups are of."""

    newer = NEWER

    def __init__(self, vault: Vault, place: Place, operation_id: str, emit: Callable[..., None]) -> None:
        self.store = place.store
        self._vault = vault
        self._place = place
        self._operation_id = operation_id
        self._emit = emit

    def key_of(self, record: BackupRecord) -> str:
        return self._place.prefix + record.key

    def differs(self, record: BackupRecord, live: ObjectHead) -> bool:
        if live.attributes == ObjectAttributes():
            return False  # a folder keeps none, and whoever restores into one wants the bytes
        return bool(record.attributes.otherwise_in(live.attributes))

    async def noted_etag(self, choice: Choice) -> str | None:
        etag: str | None = None
        async for entry in self._vault.journal.read(
            key=choice.record.key, events={RESTORED_ELSEWHERE}, after_seq=choice.seq
        ):
            if entry.data["deleted_seq"] == choice.seq and entry.data["into"] == self._place.url:
                etag = str(entry.data["etag"])
        return etag

    async def keep(self, live: Sequence[ObjectHead]) -> Mapping[str, str]:
        return {}  # the vault is one bucket's, and this isn't it: see the docs

    async def note(self, done: Sequence[Done]) -> None:
        drafts: list[JournalDraft] = []
        for one in done:
            record = one.choice.record
            data: dict[str, Any] = {
                "into": self._place.url,
                "as": self.key_of(record),
                "etag": one.etag,
                "sha256": record.sha256,
                "deleted_seq": one.choice.seq,
            }
            if one.found:
                data["found"] = True
            drafts.append(JournalDraft(RESTORED_ELSEWHERE, self._operation_id, record.key, data))
        await self._vault.journal.append(drafts)
        for one in done:
            if not one.found:
                record = one.choice.record
                self._emit(
                    "object_restored", operation_id=self._operation_id, s3_key=record.key, size=record.size
                )
