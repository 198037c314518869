"""Removing backups for good: those whose time is over, and those that must be forgotten by law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from attrs import evolve

from s3gc.errors import VaultError
from s3gc.model import RemovalReport
from s3gc.vault._places import PackPlan, Places
from s3gc.vault._repack import Why, one_pack
from s3gc.vault.local import LocalVault

WORTH_REPACKING = 0.2
"""A pack is written anew for retention's sake only if this share of its bytes would go."""

ROUNDS = 5
"""How often `forget` looks again: a backup that had to take over bytes from another one has a new place."""

RETENTION = "older than the vault's retention"
ERASED = "erased on request"


async def prune(
    vault: LocalVault,
    operation_id: str,
    *,
    before: Callable[[str], datetime | None],
    reason: str,
    dry_run: bool,
) -> RemovalReport:
    """Remove backups that were made before a time and whose object s3gc had deleted before it.

    Args:
        before: the time by key; None: that key's backups stay.
        reason: the rule, for the journal.

    A backup whose object was never deleted stays: nobody can say that it isn't needed. So does one of an
    operation that hasn't ended. Packs of which little would go stay as they are.

    Raises:
        VaultError: the vault can't be read or written, or is full. What went before stands in the journal.
    """
    with Places() as places:
        await places.load(vault.journal)
        places.doom_older(before)
        plans = places.packs()
        worth = [
            plan
            for plan in plans
            if plan.doomed_bytes >= WORTH_REPACKING * (plan.doomed_bytes + plan.kept_bytes)
        ]
        why = Why(operation_id, RETENTION, reason)
        return await _remove(vault, places, worth, why, dry_run=dry_run, left=len(plans) - len(worth))


async def forget(
    vault: LocalVault, operation_id: str, key: str, *, reason: str, dry_run: bool
) -> RemovalReport:
    """Remove every backup of one key. The journal keeps that it was there, and that it was erased, and why.

    Raises:
        VaultError: the vault holds none, an operation that may need it hasn't ended, or the reason is empty.
    """
    if not reason.strip():
        raise VaultError("say why it is to be forgotten: the reason is all that is left of it")
    why = Why(operation_id, ERASED, reason)
    report: RemovalReport | None = None
    for _ in range(ROUNDS):
        with Places() as places:
            await places.load(vault.journal)
            if not places.doom_key(key):
                break
            if operation := places.open_operation_of(key):
                raise VaultError(
                    f"operation {operation} hasn't ended and may need {key!r}: let it be settled first"
                )
            found = await _remove(vault, places, places.packs(), why, dry_run=dry_run, left=0)
        report = found if report is None else _together(report, found)
        if dry_run or found.problems:
            break
    if report is None:
        raise VaultError(f"the vault holds no backup of {key!r}")
    return report


def _together(first: RemovalReport, second: RemovalReport) -> RemovalReport:
    return evolve(
        second,
        removed=first.removed + second.removed,
        moved=first.moved + second.moved,
        packs=first.packs + second.packs,
        freed=first.freed + second.freed,
        shared=max(first.shared, second.shared),
    )


async def _remove(
    vault: LocalVault, places: Places, plans: Sequence[PackPlan], why: Why, *, dry_run: bool, left: int
) -> RemovalReport:
    removed = moved = freed = packs = 0
    problems: list[str] = []
    shared, bytes_that_stay = places.needed_elsewhere(plans)
    # The newest first: a backup that shares bytes goes before the one whose they are.
    for plan in reversed(plans):
        if not dry_run:
            done = await one_pack(vault, plan.pack, places, why)
            if isinstance(done, str):
                problems.append(f"{plan.pack}: {done}")
                continue
        packs += 1
        removed += plan.doomed
        moved += plan.kept
        freed += plan.doomed_bytes
    freed = max(0, freed - bytes_that_stay)
    return RemovalReport(
        why.operation_id, dry_run, removed, moved, packs, freed, left, tuple(problems), shared
    )
