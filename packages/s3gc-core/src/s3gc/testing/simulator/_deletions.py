"""The oracle's judgement of back-ups, intents, deletions and puts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3gc.model import BackupRecord, ObjectAttributes
from s3gc.testing.simulator import _expected
from s3gc.testing.simulator._bucket import digest
from s3gc.testing.simulator._operation import Deletion, Operation

if TYPE_CHECKING:
    from s3gc.testing.simulator._bucket import Version
    from s3gc.testing.simulator._invariants import Oracle
    from s3gc.testing.simulator._process import Process


def backed_up(oracle: Oracle, process: Process, record: BackupRecord) -> None:
    """P2: what the journal calls backed up is durable, and one upload's own bytes and attributes."""
    assert process.vault is not None
    path, needed = process.vault.pack_of(record)
    if oracle.world.disk.durable(path) < needed:
        oracle.broken("P2", "the backup of {} is in the journal and not durable on the disk", record.key)
    for version in oracle.world.bucket.history.get(record.key, ()):
        info = version.info
        same = (info.etag, info.size, digest(version.body)) == (record.etag, record.size, record.sha256)
        seconds = (info.last_modified - record.last_modified).total_seconds()
        if same and version.attributes == record.attributes and abs(seconds) < 1:
            return
    oracle.broken("P2", "the backup of {} is of no version that ever was there", record.key)


# --------------------------------------------------------------------------- intents


def intended(oracle: Oracle, process: Process, operation: Operation, key: str) -> None:
    """The last moment at which the collector's own rules can be judged."""
    rules, eyes = oracle.rules, process.eyes
    operation.looked[key] = eyes.looks.get(key, 0)  # later ones ask whether it is gone
    why = rules.untouchable(key)
    if why is not None:
        oracle.broken("gates", "{} is to be deleted: {}", key, why)
    if key.startswith("veto/"):
        oracle.broken("gates", "{} is to be deleted: a plugin has vetoed it", key)
    if operation.kind != "collect" or rules.mode != "execute":
        oracle.broken("gates", "{} is to be deleted by a {} in mode {}", key, operation.kind, rules.mode)
    if key not in operation.backed:
        oracle.broken("P4", "{} is to be deleted and no backup stands in the journal", key)
        return
    record, _ = operation.backed[key]
    _planned(oracle, operation, key, record)
    if eyes.store_now is None or eyes.store_now - record.last_modified < rules.retention:
        oracle.broken("gates", "{} is to be deleted and is younger than the retention", key)
    _grace(oracle, process, key, record)
    _expected.skew(oracle, process, key)
    for source in process.sources:
        _evidence(oracle, process, operation, key, source)
    if key in oracle.protected(process):
        oracle.broken("gates", "{} is to be deleted and the registry has a row that names it", key)


def _planned(oracle: Oracle, operation: Operation, key: str, record: BackupRecord) -> None:
    plan = operation.plan
    if plan is None or key not in plan.objects:
        oracle.broken("plan", "{} is to be deleted and is not in the plan", key)
        return
    planned = plan.objects[key]
    if (planned.etag, planned.modified) != (record.etag, record.last_modified):
        oracle.broken("plan", "{} is to be deleted in another version than planned", key)
    if not operation.young:
        oracle.broken("P6", "{} is to be deleted by a plan that was too old", key)
    if plan.held_by:
        oracle.broken("P6", "{} is to be deleted and the plan is held by {}", key, plan.held_by)


def _evidence(oracle: Oracle, process: Process, operation: Operation, key: str, source: str) -> None:
    """What the process must have been told by a source before it may intend to delete."""
    eyes, (_, backed) = process.eyes, operation.backed[key]
    fences = [one for one in eyes.fences.get(source, ()) if one.ended and one.began > backed]
    reads = [one for one in eyes.finds.get(source, ()) if key in one.keys]
    if not fences:
        oracle.broken("fence", "{} is to be deleted without a fence at {} after its backup", key, source)
        return
    fenced = fences[0].ended or 0
    if not any(one.began > fenced for one in reads):
        oracle.broken("direct read", "{} is to be deleted and {} was not asked after the fence", key, source)
    if not any(operation.began < one.ended < backed for one in reads):
        oracle.broken("direct read", "{} was backed up before {} was asked", key, source)
    if any(key in one.named for one in reads if one.began > operation.began):
        oracle.broken("direct read", "{} is to be deleted and {} said that it is referenced", key, source)
    if eyes.looks.get(key, 0) < fenced:
        oracle.broken("look", "{} is to be deleted and was not looked at after the fence", key)
    if source in oracle.world.following and eyes.fenced_at[source] > oracle.registry(process).ordinals.get(
        source, 0
    ):
        oracle.broken(
            "fence", "{} is to be deleted and the registry has not reached the fence at {}", key, source
        )


def _grace(oracle: Oracle, process: Process, key: str, record: BackupRecord) -> None:
    rules, registry, now = oracle.rules, oracle.registry(process), process.eyes.store_now
    if registry.vague or now is None:
        return
    run = registry.runs.get(key)
    if run is None or (run.etag, run.modified) != (record.etag, record.last_modified):
        oracle.broken("gates", "{} is to be deleted and no cycle saw this version unreferenced", key)
        return
    if run.count < rules.observations:
        oracle.broken(
            "gates", "{} is to be deleted after {} observations of {}", key, run.count, rules.observations
        )
    if now - run.since < rules.grace:
        oracle.broken("gates", "{} is to be deleted after a grace of {}", key, now - run.since)
    _expected.change_grace(oracle, process, key)


# --------------------------------------------------------------------------- deletions


def deleting(oracle: Oracle, process: Process, key: str, version: Version, called: int) -> None:
    """The promises, at the moment when an object vanishes."""
    world, eyes = oracle.world, process.eyes
    tick = world.tick()
    operation = _operation(oracle, process, key, called)
    if operation is None:
        oracle.broken("P4", "{} is deleted outside of an operation that intends it", key)
        return
    record, backed = operation.backed[key]
    intent, fenced = operation.intended[key]
    if not backed < fenced <= intent:
        oracle.broken("P4", "{}: the journal has no backed_up < fence_reached < delete_intended", key)
    for where, began, _ in () if eyes.garbled else oracle.names(key):
        if began <= backed:
            oracle.broken("P1", "{} is deleted, and {} named it before the fence", key, where)
    _same_version(oracle, operation, key, version, record)
    _lease(oracle, process, operation, key, called)
    for why in _holds(oracle, process, operation):
        oracle.broken("P6", "{} is deleted, although {}", key, why)
    if world.claimed.get(key, 0.0) > world.loop.time():
        oracle.broken("claims", "{} is deleted and was promised until second {}", key, world.claimed[key])
    for where, began, _ in oracle.names(key):
        if (key, began) in world.claimed_rows:
            oracle.broken("claims", "{} is deleted, and {} named it under a claim", key, where)
    deletion = Deletion(key, version, process, tick, record)
    operation.deletions.append(deletion)
    oracle.deletions.append(deletion)
    _expected.too_many(oracle, process, operation)


def _operation(oracle: Oracle, process: Process, key: str, called: int) -> Operation | None:
    """The operation of this process that has the key among its intents, and had not ended when it asked."""
    for operation in reversed(list(oracle.vault(process).operations.values())):
        if operation.process is process and key in operation.intended:
            if operation.is_open or operation.ended_at > called:
                return operation
            return None
    return None


def _holds(oracle: Oracle, process: Process, operation: Operation) -> list[str]:
    """Why nothing may be deleted at all."""
    world, eyes = oracle.world, process.eyes
    why = [eyes.taint] if eyes.taint else []
    if eyes.went_back:
        why.append(f"{eyes.went_back} stood before where it stood")
    latched = sorted(oracle.vault(process).latched)
    if latched:
        why.append(f"{latched} was not acknowledged")
    if not world.bucket.conditional and not oracle.rules.unconditional:
        why.append("the store ignores If-Match, and nobody allowed that")
    why += _disagreements(oracle, process, operation)
    assert process.vault is not None
    others = [vault for vault in world.owners() if vault != process.vault.id]
    if others and ("bucket_owner", "") not in oracle.vault(process).acknowledged:
        why.append("another vault owns the bucket")
    return why


def _disagreements(oracle: Oracle, process: Process, operation: Operation) -> list[str]:
    """Keys that a direct read before the deletes named by rows that no change will ever tell of."""
    gone = {deletion.key for deletion in operation.deletions}
    why = []
    for source in sorted(oracle.world.following):
        rows = oracle.registry(process).rows.get(source, {})
        for read in process.eyes.finds.get(source, ()):
            for key in sorted(read.named - gone):
                for where, began, row in oracle.world.links[source].database.stakes(key):
                    known = any(one.key == key for one in rows.values())
                    if operation.began < read.began and began < read.began and row.silent and not known:
                        why.append(f"{where} names {key} and the registry doesn't know it")
    return why


def _same_version(
    oracle: Oracle, operation: Operation, key: str, version: Version, record: BackupRecord
) -> None:
    info = version.info
    same_bytes = (info.etag, info.size, digest(version.body)) == (record.etag, record.size, record.sha256)
    same = same_bytes and info.last_modified == record.last_modified
    if same and version.attributes == record.attributes:
        return
    late = version.tick > operation.looked.get(key, 0) > operation.backed[key][1]
    same_second = info.last_modified.replace(microsecond=0) == record.last_modified.replace(microsecond=0)
    if same_bytes and (late or same_second):
        return  # docs, known limits: the same bytes again, after the last look or in one second
    if late and not oracle.world.bucket.conditional and oracle.rules.unconditional:
        return  # a store that ignores If-Match, and somebody allowed that
    oracle.broken("P2", "{} is deleted in a version (by {}) that the vault doesn't have", key, version.by)


def _lease(oracle: Oracle, process: Process, operation: Operation, key: str, called: int) -> None:
    """Nobody deletes any more once another operation has begun; a request on its way can't be called back."""
    for memory in oracle.vaults.values():
        for other in memory.operations.values():
            if other.process is not process and operation.began < other.began < called:
                oracle.broken(
                    "lease",
                    "{} is deleted by {} after {} began {}",
                    key,
                    process.name,
                    other.process.name,
                    other.name,
                )


# --------------------------------------------------------------------------- puts


def putting(
    oracle: Oracle,
    process: Process,
    key: str,
    body: bytes,
    attributes: ObjectAttributes,
    live: Version | None,
) -> None:
    """P2, for what is put back and for what is overwritten by that."""
    # Not only of what was deleted: a version that vanished in a crash's shadow may be put back, too.
    records = [one.backed[key][0] for one in oracle.vault(process).operations.values() if key in one.backed]
    backed = any((one.sha256, one.attributes) == (digest(body), attributes) for one in records)
    history = oracle.world.bucket.history.get(key, ())
    if not backed or not any((one.body, one.attributes) == (body, attributes) for one in history):
        oracle.broken("P2", "{} is put back with other bytes or attributes than were backed up", key)
    if live is not None:
        operation = oracle.vault(process).operations.get(process.eyes.operation)
        record = operation.backed[key][0] if operation and key in operation.backed else None
        if record is None or (record.sha256, record.attributes) != (digest(live.body), live.attributes):
            oracle.broken("P2", "{} is overwritten and the vault doesn't have the live version", key)
    oracle.world.story.count("put back")
    oracle.world.story.say("bucket", "{} is put back by {}", key, process.name)
