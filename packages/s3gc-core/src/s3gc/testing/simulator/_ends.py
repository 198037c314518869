"""The oracle's judgement of how operations begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3gc.testing.simulator._operation import Deletion, Operation

if TYPE_CHECKING:
    from s3gc.testing.simulator._invariants import Oracle
    from s3gc.testing.simulator._process import Process


def started(oracle: Oracle, process: Process, operation: Operation) -> None:
    """One operation at a time, and none before what a crash left open is settled."""
    for memory in oracle.vaults.values():
        for other in memory.operations.values():
            at_work = other.process.is_working(other.name)
            if other is operation or not other.is_open:
                continue
            if not at_work and memory is oracle.vault(process):
                oracle.broken("P5", "{} begins and {} is still open", operation.name, other.name)
            if not at_work or other.process is process:
                continue
            if oracle.rules.lease is None or not other.process.is_stale(oracle.rules.lease):
                oracle.broken(
                    "lease",
                    "{} begins while {} works on {}",
                    operation.name,
                    other.process.name,
                    other.name,
                )
    if operation.plan is not None:
        operation.young = oracle.world.loop.now() - operation.plan.made <= oracle.rules.plan_age


def cancelled(oracle: Oracle, process: Process) -> None:
    """From the intent on a cancelled task waits for the end of its batch."""
    for operation in oracle.vault(process).operations.values():
        mine = operation.process is process
        if mine and operation.is_open and not process.eyes.troubled:
            oracle.broken("P5", "{} was cancelled and left half done", operation.name)


def ended(oracle: Oracle, process: Process, operation: Operation) -> None:
    """P3: whoever named a key before the last confirmation began has it."""
    oracle.world.story.count("operations")
    operation.ended_at = oracle.world.tick()
    bucket = oracle.world.bucket
    for deletion in operation.deletions:
        key = deletion.key
        if key in bucket.objects or bucket.removed_by_app.get(key, 0) > deletion.tick:
            continue
        if any(one.key == key and one.tick > deletion.tick for one in oracle.deletions):
            continue  # it came back, and a later operation has it on its account
        for source in process.sources:
            _confirmed(oracle, process, operation, deletion, source)


def _confirmed(
    oracle: Oracle, process: Process, operation: Operation, deletion: Deletion, source: str
) -> None:
    """The last fence that a direct read for this key followed is the key's last confirmation."""
    key, eyes = deletion.key, process.eyes
    confirmation = 0
    for read in eyes.finds.get(source, ()):
        if key in read.keys:
            fences = [one for one in eyes.fences.get(source, ()) if one.ended and one.ended < read.began]
            confirmation = max([confirmation, *(one.began for one in fences)])
    if confirmation < deletion.tick:
        oracle.broken("P3", "{} ended and {} was not confirmed at {}", operation.name, key, source)
        return
    later = [one for one, (_, backed) in operation.backed.items() if backed > confirmation]
    if later:
        oracle.broken(
            "P3",
            "{} ended and {} was not confirmed again after {} were backed up",
            operation.name,
            key,
            later,
        )
    for one in (key, *oracle.parents(key)):
        for where, began, _ in oracle.world.links[source].database.stakes(one):
            if began <= confirmation and not eyes.garbled:
                oracle.broken("P3", "{} ended, and {}, which {} names, is gone", operation.name, key, where)
