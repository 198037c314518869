"""The kinds of journal entries, each with what its data holds. These names are for ever."""

from __future__ import annotations

from collections.abc import Mapping

OPERATION_STARTED = "operation_started"
PLAN_MADE = "plan_made"
WOULD_DELETE = "would_delete"
BACKED_UP = "backed_up"
COPIES_CONFIRMED = "copies_confirmed"
FENCE_REACHED = "fence_reached"
DELETE_INTENDED = "delete_intended"
DELETED = "deleted"
DELETE_SKIPPED = "delete_skipped"
RESURRECTED = "resurrected"
BATCH_CONFIRMED = "batch_confirmed"
OVERWRITTEN = "overwritten"
RESTORED = "restored"
RESTORED_ELSEWHERE = "restored_elsewhere"
STORE_PROBED = "store_probed"
SOURCES_PINNED = "sources_pinned"
CLAIMED = "claimed"
CLAIM_ENDED = "claim_ended"
BREAKER_TRIPPED = "breaker_tripped"
BREAKER_ACKNOWLEDGED = "breaker_acknowledged"
JOURNAL_HEAD_ADOPTED = "journal_head_adopted"
BACKUP_FOUND = "backup_found"
DAMAGE_FOUND = "damage_found"
VAULT_REBUILT = "vault_rebuilt"
VAULT_VERIFIED = "vault_verified"
DRILLED = "drilled"
CHECKPOINTED = "checkpointed"
REPACKED = "repacked"
BACKUP_REMOVED = "backup_removed"
BYTES_MOVED = "bytes_moved"
PACK_RETIRED = "pack_retired"
OPERATION_COMPLETED = "operation_completed"
OPERATION_FAILED = "operation_failed"
OPERATION_RECOVERED = "operation_recovered"

BACKUPS = frozenset({BACKED_UP, BACKUP_FOUND})
"""Each tells of one more backup in the vault, under ``backup``."""

CATALOGUE: Mapping[str, str] = {
    OPERATION_STARTED: "kind, mode, config (digest), and of what it works on (plan, filters)",
    PLAN_MADE: "digests of the plan file and the configuration, positions, gates, counts, breakers",
    WOULD_DELETE: "audit_only: an object that execute would delete, with its listing and reason",
    BACKED_UP: "backup: the record of a durable, read-back and compared backup",
    COPIES_CONFIRMED: "copies: in so many places at least each of the backups just made is, the vault being "
    "one; backups: how many they are; replicas: how many of them each has",
    FENCE_REACHED: "positions that all sources were read at, after the back-up of this batch",
    DELETE_INTENDED: "etag, size, last_modified, since, observations, reason: the next step is the delete",
    DELETED: "backup: the record; recovered: true when a crash hid the answer",
    DELETE_SKIPPED: "reason code and why an intended delete did not happen",
    RESURRECTED: "why, and etag of the object put back",
    BATCH_CONFIRMED: "positions of the last fence; every delete before it in this operation is confirmed; "
    "window: seconds from the fence before the deletes to the end of the confirmation",
    OVERWRITTEN: "backup: the live object that a restore was told to overwrite",
    RESTORED: "etag, sha256, deleted_seq: the entry that it undoes; found: true when it was there already, "
    "and no entry said so",
    RESTORED_ELSEWHERE: "into: the place, as: the key there; etag, sha256, deleted_seq, found as of "
    "restored. The bucket itself is as it was",
    STORE_PROBED: "capabilities of the store, found at probed_at; before the first delete of a sweep",
    SOURCES_PINNED: "sources: what identifies each source that this bucket is bound to from now on",
    CLAIMED: "until: the application may refer to the key until then; id",
    CLAIM_ENDED: "id, until: the end that the claim had; reason: why a person ended it before",
    BREAKER_TRIPPED: "code, subject, reason, evidence; stays: it holds until it is acknowledged",
    BREAKER_ACKNOWLEDGED: "code, subject, reason",
    JOURNAL_HEAD_ADOPTED: "reason and problem: a person accepted a journal that its head contradicts",
    BACKUP_FOUND: "backup: the record of a frame that a rebuild found in a pack, by the operation that made "
    "it; whether the object was deleted then, a pack doesn't tell",
    DAMAGE_FOUND: "pack, offset, length, reason: a rebuild found no readable frame there; torn: up to the "
    "end",
    VAULT_REBUILT: "previous_vault: the id that it had, if that was known; packs, backups, damaged, "
    "set_aside: the folder with what was left of the old journal",
    VAULT_VERIFIED: "share: number and of, or null for all; backups that were read and decoded; problems: "
    "how many, and the first ones; seconds",
    DRILLED: "objects, restored, bytes, keys: backups restored beside the bucket's own objects, compared and "
    "removed again; problems; seconds",
    CHECKPOINTED: "seq and hash of an entry before, at, vault_id, and the operator's signature over them: "
    "format, public_key, signature",
    REPACKED: "from: a place, and backup: the record with the one where that backup is now",
    BACKUP_REMOVED: "from: the place of a backup that is gone for good, backup: its record; why: retention "
    "or erasure; reason: the retention, or a person's words",
    BYTES_MOVED: "from: a place whose bytes other backups share; to: key and place of the backup that has "
    "them now",
    PACK_RETIRED: "pack: all its backups were moved or removed in the entries before; nobody reads it any "
    "more",
    OPERATION_COMPLETED: "counts, and seconds that it took",
    OPERATION_FAILED: "error",
    OPERATION_RECOVERED: "what a crash had left open and how it ended",
}
