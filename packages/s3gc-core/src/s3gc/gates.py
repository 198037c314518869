"""The gates: each is one reason to keep an object, a pure function of a candidate and the moment.

A gate can only keep. What the registry says (``referenced``) is decided by the set difference that makes
the candidates; what needs a look at the world (``referenced_now``, ``changed``, ``unreadable``, ``vetoed``)
is decided in the sweep, under the reason codes below.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from attrs import field, frozen

from s3gc.abc import RESERVED_PREFIX, Gate
from s3gc.model import Candidate, Moment
from s3gc.protection import Protection
from s3gc.safety import Safety

REFERENCED = "referenced"
"""A row in the registry names the key."""
DERIVED = "derived"
"""A row names an object that this one is derived from."""
CLAIMED = "claimed"
"""An application has claimed the key."""
LOCKED = "locked"
"""An object lock or a legal hold is on the object."""
REFERENCED_NOW = "referenced_now"
"""The direct read found a row that names the key."""
CHANGED = "changed"
"""The object is gone, or not the one that was listed (ETag, size or last-modified differ)."""
UNREADABLE = "unreadable"
"""The object can't be read back, so it can't be backed up."""
VETOED = "vetoed"
"""A plugin's last word."""
BATCH_FAILED = "batch_failed"
"""An error ended the object's batch before its deletes."""
INTERRUPTED = "interrupted"
"""A crash came before the delete."""
NOT_DELETED = "delete_failed"
"""The store refused the deletion or failed."""

ARCHIVED_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""S3 storage classes whose objects can't be read without a restore request (S3's documentation)."""


@frozen
class AmbiguousKey(Gate):
    """The store can't address this key exactly."""

    code = "ambiguous_key"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        if candidate.object.ambiguous:
            return "the store can't address this key exactly"
        return None


@frozen
class ExcludedPrefix(Gate):
    """The key lies below a prefix that s3gc was told to leave alone, or below its own reserved one.

    ``images`` and ``images/`` both mean the folder: ``images/a.jpg`` and the key ``images`` itself, not
    ``images2/a.jpg``. ``images*`` means every key that begins so.
    """

    prefixes: Sequence[str] = ()
    _starts: tuple[str, ...] = field(init=False)  # prepared once: this runs for every candidate
    _folders: frozenset[str] = field(init=False)
    code = "excluded_prefix"

    @_starts.default
    def _prepare_starts(self) -> tuple[str, ...]:
        return tuple(prefix_start(prefix) for prefix in (RESERVED_PREFIX, *self.prefixes))

    @_folders.default
    def _prepare_folders(self) -> frozenset[str]:
        return frozenset(
            prefix.rstrip("/") for prefix in (RESERVED_PREFIX, *self.prefixes) if not prefix.endswith("*")
        )

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        key = candidate.object.key
        if key.startswith(self._starts) or key in self._folders:
            return f"below an excluded prefix ({', '.join(self.prefixes) or RESERVED_PREFIX})"
        return None


@frozen
class NotOwned(Gate):
    """The key lies outside the prefixes that are this application's. None given: all is its own.

    ``app`` and ``app/`` both mean the folder; ``app*`` means every key that begins so.
    """

    prefixes: Sequence[str] = ()
    _starts: tuple[str, ...] = field(init=False)
    code = "not_owned"

    @_starts.default
    def _prepare(self) -> tuple[str, ...]:
        return tuple(prefix_start(prefix) for prefix in self.prefixes)

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        if self._starts and not candidate.object.key.startswith(self._starts):
            return f"outside of the owned prefixes ({', '.join(self.prefixes)})"
        return None


@frozen
class UnclearParent(Gate):
    """The rules of derivation read the key in too many ways: nobody can say what it is derived from."""

    protection: Protection
    code = "unclear_parent"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        if self.protection.unclear(candidate.object.key):
            return "the rules of derived read this key in too many ways"
        return None


@frozen
class Retention(Gate):
    """The object is younger than the retention, by the store's own clock."""

    retention: timedelta
    code = "too_young"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        age = moment.now - candidate.object.last_modified
        if age < self.retention:
            return f"last modified {age} ago, retention is {self.retention}"
        return None


@frozen
class Archived(Gate):
    """The object lies in an archive class: it can't be read back, so it can't be backed up."""

    code = "archived"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        if candidate.object.storage_class in ARCHIVED_CLASSES:
            return f"storage class {candidate.object.storage_class} can't be read back"
        return None


@frozen
class Grace(Gate):
    """The key has not been unreferenced for long enough."""

    grace: timedelta
    code = "in_grace"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        free = moment.now - candidate.unreferenced_since
        if free < self.grace:
            return f"unreferenced for {free}, grace is {self.grace}"
        return None


@frozen
class Observations(Gate):
    """The key was not seen unreferenced in enough cycles."""

    minimum: int
    code = "too_few_observations"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        if candidate.observations < self.minimum:
            return f"seen unreferenced in {candidate.observations} cycles, {self.minimum} are needed"
        return None


def prefix_start(prefix: str) -> str:
    """How keys below a configured prefix begin: ``images`` is the folder, ``images*`` any beginning."""
    return prefix[:-1] if prefix.endswith("*") else prefix.rstrip("/") + "/"


def standard_gates(
    *,
    exclude_prefixes: Sequence[str],
    owned_prefixes: Sequence[str],
    protection: Protection,
    retention: timedelta,
    safety: Safety,
) -> tuple[Gate, ...]:
    """The core's own gates, in the order in which their reasons are reported."""
    return (
        AmbiguousKey(),
        ExcludedPrefix(tuple(exclude_prefixes)),
        NotOwned(tuple(owned_prefixes)),
        UnclearParent(protection),
        Archived(),
        Retention(retention),
        Grace(safety.grace),
        Observations(safety.min_observations),
    )


def first_objection(gates: Sequence[Gate], candidate: Candidate, moment: Moment) -> tuple[str, str] | None:
    """(code, reason) of the first gate that keeps the object; None when all let it pass."""
    for gate in gates:
        why = gate.keeps(candidate, moment)
        if why is not None:
            return gate.code, why
    return None
