"""What ``--json`` writes: values as JSON, times in ISO 8601, spans in seconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from s3gc.capabilities import StoreState
from s3gc.discovery import Lead
from s3gc.missing import Missing
from s3gc.model import (
    AuditResult,
    Explanation,
    PlanEntry,
    Report,
    RestoreReport,
    TrippedBreaker,
    VaultCheck,
)
from s3gc.plan import Plan
from s3gc_cli._output import Rows


def value(given: Any) -> Any:
    """A value of the model as JSON.

    Raises:
        TypeError: JSON has nothing for it.
    """
    if given is None or isinstance(given, bool | int | float):
        return given
    if isinstance(given, Enum):
        return given.value
    if isinstance(given, str):
        return given
    if isinstance(given, datetime):
        return given.isoformat()
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, Mapping):
        return {str(name): value(inner) for name, inner in given.items()}
    if isinstance(given, list | tuple):
        return [value(inner) for inner in given]
    if attrs.has(type(given)):
        return {field.name: value(getattr(given, field.name)) for field in attrs.fields(type(given))}
    raise TypeError(f"{type(given).__name__} has no form in JSON")


def breaker(tripped: TrippedBreaker) -> dict[str, Any]:
    """A breaker that tripped."""
    found: dict[str, Any] = value(tripped)
    return found


def entry(planned: PlanEntry) -> dict[str, Any]:
    """An object that a plan would delete."""
    rest = {name: inner for name, inner in value(planned).items() if name != "object"}
    return {**value(planned.object), **rest}


def plan(made: Plan, path: Path | None = None) -> dict[str, Any]:
    """A plan with every object in it."""
    header, footer = made.header, made.footer
    return {
        "operation_id": header.operation_id,
        "bucket": header.store_url,
        "mode": header.mode.value,
        "created_at": value(header.created_at),
        "path": str((path or made.path).absolute()),
        "sha256": made.digest,
        "positions": {position.source: position.value for position in header.positions},
        "gates": value(list(header.gates)),
        "scanned": footer.scanned,
        "candidates": footer.candidates,
        "planned": footer.objects,
        "bytes": footer.bytes,
        "kept": value(footer.kept),
        "kept_examples": value({code: list(some) for code, some in footer.kept_examples.items()}),
        "held_by": [breaker(tripped) for tripped in footer.held_by],
        "missing": value(footer.missing),
        "duration": value(footer.duration),
        "objects": Rows(entry(planned) for planned in made),
    }


def collect(done: Report, made: Plan) -> dict[str, Any]:
    """What a collect did, with the keys of the plan that it went by."""
    return {
        **_report(done),
        "deleted": Rows(done.deleted),
        "plan": {"operation_id": made.operation_id, "path": str(made.path.absolute()), "sha256": made.digest},
        "planned_keys": Rows(made.keys()),
    }


def report(done: Report) -> dict[str, Any]:
    """What a collect did, as a part of another document."""
    return {**_report(done), "deleted": list(done.deleted)}


def _report(done: Report) -> dict[str, Any]:
    return {
        "operation_id": done.operation_id,
        "mode": done.mode.value,
        "scanned": done.scanned,
        "candidates": done.candidates,
        "planned": done.planned,
        "backed_up": done.backed_up,
        "bytes_deleted": done.bytes_deleted,
        "kept": value(done.kept),
        "errors": list(done.errors),
        "resurrected": list(done.resurrected),
        "late_window": value(done.late_window),
        "held_by": [breaker(tripped) for tripped in done.held_by],
        "duration": value(done.duration),
    }


def restored(done: RestoreReport) -> dict[str, Any]:
    """What a restore did, or would do."""
    return {
        "operation_id": done.operation_id,
        "dry_run": done.dry_run,
        "skipped": value(done.skipped),
        "errors": value(done.errors),
        "duration": value(done.duration),
        "restored": list(done.restored),
    }


def explanation(found: Explanation, at: datetime | None = None) -> dict[str, Any]:
    """All that is known of a key; with ``at``, that was known of it then."""
    return {
        "key": found.key,
        "at": value(at),
        "exists": found.exists,
        "decision": found.decision,
        "object": value(found.object),
        "verdicts": [value(verdict) for verdict in found.verdicts],
        "references": [{"source": source, **value(reference)} for source, reference in found.references],
        "history": [value(entry) for entry in found.history],
        "problems": list(found.problems),
    }


def missing(one: Missing) -> dict[str, Any]:
    """A mention of which no reading names an object."""
    found: dict[str, Any] = value(one)
    return found


def breakers(waiting: Sequence[TrippedBreaker]) -> dict[str, Any]:
    """Breakers that wait for an acknowledgement."""
    return {"breakers": [breaker(one) for one in waiting]}


def store(state: StoreState | None) -> dict[str, Any]:
    """What is known of the store; every field is null when it was never probed."""
    if state is None:
        return {"probed_at": None, "held_by": [], "capabilities": None}
    capabilities = value(state.capabilities)
    del capabilities["notes"]  # the store's own business
    return {
        "probed_at": value(state.probed_at),
        "held_by": [breaker(tripped) for tripped in state.held_by],
        "capabilities": capabilities,
    }


def audit(journal: AuditResult, vault: VaultCheck) -> dict[str, Any]:
    """What verifying found."""
    return {"ok": journal.ok and vault.ok, "journal": value(journal), "vault": value(vault)}


def lead(found: Lead) -> dict[str, Any]:
    """A column that isn't tracked, and what the bucket says of its values."""
    document: dict[str, Any] = value(found)
    return {**document, "names_objects": found.names_objects}
