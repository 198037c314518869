"""Every error that s3gc raises on purpose. A message says what happened and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3gc.model import Report, TrippedBreaker


class S3GCError(Exception):
    """The base of all errors of s3gc."""


class ConfigError(S3GCError):
    """An option is unknown, malformed or contradicts another one."""


class StoreError(S3GCError):
    """The object store refused, failed or answered nonsense.

    ``outcome_unknown`` is true when a write or a delete may have happened all the same
    (a lost response): the caller has to look before it goes on.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class NoSuchBucket(StoreError):
    """The bucket does not exist at this endpoint."""


class AccessDenied(StoreError):
    """The credentials are missing, wrong, or lack a permission."""


class UnreadableObject(StoreError):
    """One object exists and can't be read (archived, customer-held key, locked): keep it."""


class AmbiguousKey(StoreError):
    """The store can't address this key exactly, so nothing may be done to it."""


class PreconditionFailed(StoreError):
    """The object is not, or no longer, the one that was asked for (ETag, version, existence)."""


class SourceError(S3GCError):
    """A place of references can't be read, or not completely: nothing may be deleted."""


class PositionLost(SourceError):
    """Changes after a position are not all to be had any more: the source must be read anew."""


class Reconfigured(PositionLost):
    """The source is read otherwise than up to a position (other tables, another resolver), and it is proven
    that nothing else happened to its history: its rows are read anew, and nobody has to find out why."""


class VaultError(S3GCError):
    """The vault can't be used: not writable, full, of another bucket, of an unknown version."""


class VaultMismatch(VaultError):
    """The vault belongs to another bucket."""


class VaultCorrupt(VaultError):
    """A pack or the journal is not what was written. Never answered with wrong bytes."""


class TooFewCopies(VaultError):
    """Backups could not be brought to as many places as they must be in."""


class CodecMissing(VaultError):
    """A backup needs a codec that isn't installed here. It says which, and what to install."""


class BackupGone(VaultError):
    """The backup was removed on purpose: its time was over, or it had to be forgotten. It says which."""


class PlanError(S3GCError):
    """A plan file is damaged, of another bucket or configuration, or too old to execute."""


class Unsettled(S3GCError):
    """Something was deleted and could not be confirmed yet: the next start goes on where this one ended."""


class LeaseHeld(S3GCError):
    """Another collector works on this bucket at this moment.

    ``operation_id`` is the operation that it runs, where that is known.
    """

    def __init__(self, message: str, *, operation_id: str | None = None) -> None:
        super().__init__(message)
        self.operation_id = operation_id


class AlreadyCollected(S3GCError):
    """A collect was asked for only if none had begun since a certain time, and ``operation_id`` has."""

    def __init__(self, message: str, *, operation_id: str) -> None:
        super().__init__(message)
        self.operation_id = operation_id


class LeaseLost(S3GCError):
    """Another host has taken the bucket's lease: this operation ends here and stays open in its journal;
    whoever opens its vault next settles it."""


class CycleHeld(S3GCError):
    """One or more breakers stopped the cycle. Nothing was deleted after they tripped."""

    def __init__(self, breakers: Sequence[TrippedBreaker], report: Report | None = None) -> None:
        super().__init__("held: " + "; ".join(f"{b.code}: {b.reason}" for b in breakers))
        self.breakers = tuple(breakers)
        self.report = report
