"""The values that travel through s3gc. All are frozen; none knows where it came from or goes to."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import Factory, field, fields, frozen


class Mode(enum.StrEnum):
    """What a cycle may do."""

    DRY_RUN = "dry_run"  # look, plan, touch nothing
    AUDIT_ONLY = "audit_only"  # look, plan, write the plan into the journal
    EXECUTE = "execute"  # look, plan, back up, delete, confirm


# --------------------------------------------------------------------------- objects


@frozen
class ObjectInfo:
    """One object as a listing shows it. ``key`` is opaque: never normalised, never re-encoded."""

    key: str
    size: int  # bytes
    etag: str  # without quotes
    last_modified: datetime  # aware, UTC, by the store's clock
    version_id: str | None = None
    storage_class: str | None = None
    ambiguous: bool = False  # the store can't address this key exactly: keep
    locked: str | None = (
        None  # why it must not be deleted (object lock, legal hold), where a look tells: keep
    )


@frozen
class ObjectAttributes:
    """All that an object carries besides its bytes. ``None`` means that the store sent none."""

    content_type: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    expires: str | None = None  # the header's text as it was
    website_redirect: str | None = None
    storage_class: str | None = None
    metadata: Mapping[str, str] = Factory(dict)  # user metadata, names without the x-amz-meta- prefix
    tags: Mapping[str, str] = Factory(dict)
    encryption: str | None = None  # by the server: AES256, aws:kms, aws:kms:dsse
    kms_key_id: str | None = None  # of SSE-KMS
    kms_bucket_key: str | None = None  # of SSE-KMS: "true" or "false"
    acl: str | None = None  # grants that go beyond the owner's own, where the store was asked for them

    def otherwise_in(self, found: ObjectAttributes) -> tuple[str, ...]:
        """Names of those attributes that ``found`` has otherwise than they are here.

        An encryption or ACL that is ``None`` here isn't compared: a record of an older version doesn't tell.
        Without a content type stores fill in one of their own, and no storage class means ``STANDARD``.
        """
        names = []
        for name in (each.name for each in fields(ObjectAttributes)):
            wanted, there = getattr(self, name), getattr(found, name)
            if wanted == there or (wanted is None and there in _WHERE_NONE.get(name, (there,))):
                continue
            same = _SAME_AS_NONE.get(name)
            if same is None or (wanted or same) != (there or same):
                names.append(name)
        return tuple(names)


_SAME_AS_NONE = {"storage_class": "STANDARD", "kms_bucket_key": "false"}

_WHERE_NONE: Mapping[str, tuple[str, ...]] = {
    "content_type": ("binary/octet-stream", "application/octet-stream"),
    **dict.fromkeys(
        (
            "content_encoding",
            "content_language",
            "content_disposition",
            "cache_control",
            "expires",
            "website_redirect",
            "storage_class",
        ),
        (),
    ),
}
"""What a store may say of an attribute that it was told nothing of; anything, for those that aren't here."""


@frozen
class ObjectHead:
    """An object's listing entry together with its attributes."""

    info: ObjectInfo
    attributes: ObjectAttributes


class DeleteOutcome(enum.StrEnum):
    """How a conditional delete ended."""

    DELETED = "deleted"
    MISSING = "missing"  # it was gone already
    CHANGED = "changed"  # the ETag or version is another one now: not deleted


class Versioning(enum.StrEnum):
    """What becomes of an object's older versions."""

    ENABLED = "enabled"  # an overwrite or a delete keeps what was there
    SUSPENDED = "suspended"  # it keeps the versions of before, and no new ones: no way back
    NEVER = "never enabled"
    UNKNOWN = "unknown"


@frozen
class StoreCapabilities:
    """What a probe found out about a store. Unknown counts as not able."""

    conditional_delete: bool  # a DELETE with a wrong If-Match is refused
    conditional_put: bool  # a PUT with If-None-Match: * is refused when the key exists
    conditional_bulk_delete: bool = False  # DeleteObjects refuses a key whose <ETag> is wrong, and only it
    read_after_write: bool = False  # what was just written is read and listed; what was just deleted is gone
    list_order: bool = False  # odd keys, too, were listed by code point
    versioning: Versioning = Versioning.UNKNOWN
    object_lock: bool | None = None  # whether the bucket can lock objects; None: unknown
    clock_difference: timedelta | None = None  # the store's minus ours, to a second; None: unknown
    details: Mapping[str, str] = Factory(dict)  # for people
    notes: Mapping[str, str] = Factory(dict)  # the store's own, for its ``adopt``; nobody else reads them

    @property
    def keeps_versions(self) -> bool:
        """Whether an overwritten or deleted object can be had back from the bucket itself."""
        return self.versioning is Versioning.ENABLED


# --------------------------------------------------------------------------- references


@frozen
class Reference:
    """One row's mention of one key. Yield these from a source of your own.

    Only ``key`` is required; the rest tells people where the mention stands.
    """

    key: str
    table: str = ""
    row_id: str = ""
    column: str = ""
    prefix: bool = (
        False  # the key is a folder (``photos/7/``; ``''`` is the bucket): all below it is referenced
    )


@frozen
class Column:
    """A tracked column of a source."""

    table: str
    column: str


@frozen
class ColumnCount:
    """How much a scan saw of one column: all rows, and those with a value that isn't NULL or empty."""

    rows: int = 0
    values: int = 0


@frozen
class ScanBatch:
    """Some references of a scan, with the rows they came from counted by column."""

    references: Sequence[Reference]
    counts: Mapping[Column, ColumnCount] = Factory(dict)
    mark: str = ""  # where a scan can go on behind this batch, of a source that resumes_scans
    rows: int = 0  # read for this batch, where the source tells
    expected: int | None = None  # rows of the whole scan, about, where the source tells


@frozen
class Position:
    """A point in a source's history (LSN, GTID set, time of a scan)."""

    source: str
    value: str
    ordinal: int | None = (
        None  # grows with the history; one that fell back is a database restored to its past
    )


@frozen
class RowChange:
    """What one committed change did to one row of a tracked table.

    After it the row names ``references`` in ``columns``. Columns that aren't among ``columns`` keep what
    they named (unchanged TOAST, MINIMAL row images); their references follow the row from
    ``previous_row_id`` when its id changed. A deleted row has no references and all columns.
    """

    table: str
    row_id: str
    references: Sequence[Reference] = ()
    columns: frozenset[str] | None = None  # None: all of the row's columns
    previous_row_id: str | None = None  # the row's id before, if the change gave it another one
    named: Sequence[
        str
    ] = ()  # keys that the change speaks of besides: old values, as far as the source knows


@frozen
class ChangeBatch:
    """Committed changes in commit order; first ``emptied`` happened, then ``changes``."""

    changes: Sequence[RowChange]
    position: Position  # of the source once these are applied
    at: datetime | None = None  # when the newest was committed, by the source's clock
    emptied: Sequence[str] = ()  # tables that lost all rows (TRUNCATE), or that are told anew from here on
    again: bool = False  # at or before the position asked for: known already, and no news of any key
    stale: str | None = None  # why rows went untold: too many are known, until all are scanned again


@frozen
class UntrackedColumn:
    """A column that could hold references and isn't configured, with what a sample of it could mean."""

    table: str
    column: str
    type: str
    keys: Collection[str]  # every key that a sampled value could mean
    sampled: int  # values looked at that weren't NULL or empty
    readings: Sequence[Collection[str]] = ()  # the keys of some single values, where the source tells them


@frozen
class SourceIdentity:
    """What a source is: enough to notice that it is not the one it was."""

    name: str
    kind: str
    details: Mapping[str, str] = Factory(dict)  # system identifier, server UUID, database name …


# --------------------------------------------------------------------------- verdicts and plans


@frozen
class Candidate:
    """A listed object that no reference in the registry names."""

    object: ObjectInfo
    unreferenced_since: datetime  # as far as known
    observations: int  # cycles, this one included, that saw it unreferenced


@frozen
class Moment:
    """What a gate may look at besides the candidate: when it is, by the store's clock."""

    now: datetime


@frozen
class Verdict:
    """What one gate said of one object."""

    gate: str  # its reason code
    keep: bool
    detail: str


@frozen
class TrippedBreaker:
    """One reason to stop a whole cycle, with its evidence."""

    code: str
    subject: str  # what it is about: a source, a column, the store; '' for the cycle
    reason: str
    evidence: Mapping[str, Any] = Factory(dict)
    since: datetime | None = None  # tripped in an earlier cycle, and nobody has acknowledged it yet


@frozen
class KeptExample:
    """One of the objects that a reason kept."""

    key: str
    why: str


@frozen
class PlanEntry:
    """An object that a sweep may delete, and why."""

    object: ObjectInfo
    unreferenced_since: datetime
    observations: int
    reason: str


# --------------------------------------------------------------------------- journal and vault


@frozen
class SameAs:
    """The backup in the same vault whose bytes another one shares."""

    key: str
    location: str


@frozen
class BackupRecord:
    """Where the vault keeps one version of one object, and how to know it is the right one."""

    key: str
    etag: str
    size: int  # bytes of the object
    sha256: str  # of the object's bytes, hex
    last_modified: datetime
    version_id: str | None
    attributes: ObjectAttributes
    codec: str  # the compressor's name
    stored_size: int  # bytes of the frame in the pack
    location: str  # opaque to all but the vault
    same_as: SameAs | None = None  # it has no bytes of its own: they are those of that one


@frozen
class JournalDraft:
    """An entry to be. The journal adds number, time and hashes."""

    event: str
    operation_id: str
    key: str | None = None
    data: Mapping[str, Any] = Factory(dict)  # JSON values only


@frozen
class JournalEntry:
    """An entry as it stands in the journal, for ever."""

    seq: int
    at: datetime
    bucket: str
    operation_id: str
    event: str
    key: str | None
    data: Mapping[str, Any]
    previous: str  # hash of the entry before, hex
    hash: str  # SHA-256 over previous and all of the above, hex


@frozen
class AuditResult:
    """What ``audit verify`` found."""

    ok: bool
    entries: int
    head: str
    problems: Sequence[str] = ()


@frozen
class VaultStats:
    """The vault in numbers; sizes in bytes."""

    packs: int
    backups: int
    stored_bytes: int  # what the packs take on disk
    original_bytes: int  # what the backed-up objects had
    journal_entries: int


@frozen
class VaultCheck:
    """What reading every backup found."""

    ok: bool
    backups: int
    problems: Sequence[str] = ()


@frozen
class RebuildReport:
    """What a rebuild read from the packs of a vault that had lost its journal."""

    operation_id: str
    vault_id: str  # a new one
    previous_vault: str | None  # the id that it had, if vault.json was there
    packs: int
    backups: int
    damaged: Sequence[str]  # stretches without a readable frame: pack, offset, why
    set_aside: str | None  # the folder with what was left of the old journal


@frozen
class ExtractReport:
    """What was written from the vault into a folder."""

    folder: str
    objects: int
    bytes: int
    errors: Mapping[str, str] = Factory(dict)  # key → why it could not be read


@frozen
class Share:
    """One of ``of`` parts of the backups; together they are all."""

    number: int  # from 0 on
    of: int


@frozen
class ScrubReport:
    """What reading backups found."""

    operation_id: str
    ok: bool
    share: Share | None  # None: all
    backups: int
    problems: Sequence[str]
    seconds: float


@frozen
class DrillReport:
    """What restoring some backups beside the bucket's own objects found."""

    operation_id: str
    ok: bool
    objects: int  # chosen
    restored: int  # that came back exactly
    bytes: int
    problems: Sequence[str]
    seconds: float


@frozen
class RemovalReport:
    """What a removal of backups did, or with ``dry_run`` would do."""

    operation_id: str
    dry_run: bool
    removed: int  # backups
    moved: int  # backups that stay, and went into another pack
    packs: int  # written anew or unlinked
    freed: int  # bytes
    left: int = 0  # packs of which so little would go that they stay as they are
    problems: Sequence[str] = ()  # packs that were left as they are, and why
    shared: int = 0  # of the removed ones: their bytes stay, because other backups share them


@frozen
class TranscodeReport:
    """What a re-encoding to plain zstd did, or with ``dry_run`` would do."""

    operation_id: str
    dry_run: bool
    encoded: int  # backups that were by another codec
    moved: int  # others in the same packs
    packs: int  # written anew
    bytes_before: int  # of all these backups
    bytes_after: int  # 0 with dry_run: nobody knows
    problems: Sequence[str] = ()  # packs that were left as they are, and why


# --------------------------------------------------------------------------- reports


@frozen
class Report:
    """What a cycle did."""

    operation_id: str
    mode: Mode
    scanned: int  # objects listed
    candidates: int  # listed objects without a reference in the registry
    deleted: Sequence[str]  # keys
    backed_up: int
    kept: Mapping[str, int]  # objects kept, by reason code
    errors: Sequence[str]
    duration: timedelta
    planned: int = 0  # objects that the plan would delete
    bytes_deleted: int = 0
    resurrected: Sequence[str] = ()  # keys restored because a row named them after all
    late_window: timedelta = timedelta()  # longest time from a batch's last fence to its confirmation (P3)
    held_by: Sequence[TrippedBreaker] = ()


@frozen
class RestoreReport:
    """What a restore did, or with ``dry_run`` would do."""

    operation_id: str
    dry_run: bool
    restored: Sequence[str]  # keys
    skipped: Mapping[str, str]  # key → why
    errors: Mapping[str, str]  # key → what went wrong
    duration: timedelta = timedelta()


@frozen
class Explanation:
    """All that is known of one key, now and in the past."""

    key: str
    exists: bool | None  # None: the store can't say
    decision: str  # one sentence
    verdicts: Sequence[Verdict]
    references: Sequence[tuple[str, Reference]]  # (source, reference) by a direct read, now
    history: Sequence[JournalEntry]
    object: ObjectInfo | None = None
    problems: Sequence[str] = field(default=())
