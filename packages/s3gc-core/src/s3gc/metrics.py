"""The numbers of a bucket's whole history, from the journal alone: they survive restarts."""

from __future__ import annotations

from typing import Any

from s3gc import journal_events
from s3gc.abc import ReferenceSource
from s3gc.capture import ChangeCapture
from s3gc.config import scrub
from s3gc.errors import SourceError
from s3gc.parts import Parts, source_name
from s3gc.vault.scrub import Verified

RUN_KINDS = frozenset({"collect"})


async def metrics(parts: Parts) -> dict[str, Any]:
    """Totals over all operations; sizes in bytes; ``last_error`` is cleared by the next good run."""
    totals = dict.fromkeys(("total_deleted", "total_backed_up", "total_restored", "total_resurrected"), 0)
    runs = 0
    last_run_at: str | None = None
    last_error: str | None = None
    ends = {
        journal_events.OPERATION_COMPLETED,
        journal_events.OPERATION_FAILED,
        journal_events.OPERATION_RECOVERED,
    }
    async for entry in parts.vault.journal.read(events=ends):
        data = entry.data
        for name in totals:
            totals[name] += int(data.get(name.removeprefix("total_"), 0))
        if data.get("kind") in RUN_KINDS:
            runs += 1
            last_run_at = entry.at.isoformat()
        if entry.event == journal_events.OPERATION_FAILED:
            last_error = str(data["error"])
        elif data.get("kind") in RUN_KINDS:
            last_error = None
    checked = await _last_checks(parts)
    capture = await _capture(parts)
    stats = await parts.vault.stats()
    return {
        **totals,
        "total_runs": runs,
        "last_run_at": last_run_at,
        "last_error": last_error,
        "vault_size_bytes": stats.stored_bytes,
        "avg_compression_ratio": stats.original_bytes / stats.stored_bytes if stats.stored_bytes else None,
        "journal_entries": stats.journal_entries,
        "capture": capture,
        **checked,
    }


async def _capture(parts: Parts) -> dict[str, dict[str, Any]]:
    """By source that follows changes, how far it is behind and what its database keeps for it, now."""
    found: dict[str, dict[str, Any]] = {}
    for source in parts.sources:
        if not source.follows_changes:
            continue
        one = found[source_name(source)] = await _behind(parts, source)
        if isinstance(source, ChangeCapture):
            try:
                state = await source.capture_state()
            except SourceError as error:  # told as a number that isn't there: metrics come all the same
                one["error"] = scrub(str(error), parts.config)
            else:
                one |= {"ready": state.ready, "lag_bytes": state.lag_bytes, "held_bytes": state.held_bytes}
    return found


async def _behind(parts: Parts, source: ReferenceSource) -> dict[str, Any]:
    """Since when the registry may lack changes of a source."""
    state = await parts.registry.references.state(source_name(source))
    if state is None or state.synced is None or not state.followed:
        return {"applied_at": None, "lag_seconds": None}
    lag = (parts.clock.now() - state.synced).total_seconds()
    return {"applied_at": state.synced.isoformat(), "lag_seconds": max(0.0, lag)}


async def _last_checks(parts: Parts) -> dict[str, Any]:
    """When backups were last read again and restored by way of trial, and how many problems that found."""
    verified = Verified()
    drill: dict[str, Any] = {"last_drill_at": None, "last_drill_problems": None}
    async for entry in parts.vault.journal.read(
        events={journal_events.VAULT_VERIFIED, journal_events.DRILLED}
    ):
        if entry.event == journal_events.DRILLED:
            problems = len(entry.data["problems"])
            drill = {"last_drill_at": entry.at.isoformat(), "last_drill_problems": problems}
        else:
            verified.take(entry)
    return {
        "last_verify_at": verified.at and verified.at.isoformat(),
        "last_verify_problems": verified.problems,
        "verified_whole_at": verified.whole_at and verified.whole_at.isoformat(),
        **drill,
    }
