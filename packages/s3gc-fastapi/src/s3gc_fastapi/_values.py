"""From the core's values to JSON, and to texts that people can read without being fooled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from s3gc import Explanation, Plan, RestoreReport
from s3gc.capture import CaptureState
from s3gc.health import Health
from s3gc.model import TrippedBreaker, VaultStats

LONGEST_LIST = 1000
"""Keys of a restore that an answer names."""


def clean(value: Any) -> Any:
    """JSON that any parser takes: text without lone surrogates, numbers without NaN."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode() if not value.isascii() else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {clean(str(name)): clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int) else clean(str(value))


def breaker(tripped: TrippedBreaker) -> dict[str, Any]:
    """A breaker."""
    return {
        "code": tripped.code,
        "subject": clean(tripped.subject),
        "reason": clean(tripped.reason),
        "since": clean(tripped.since),
        "evidence": clean(tripped.evidence),
    }


def health(found: Health) -> dict[str, Any]:
    """As the API's model."""
    return {
        "ok": found.ok,
        "checked_at": found.checked_at.isoformat(),
        "open": True,
        "problem": None,
        "vault": {"ok": found.vault.ok, "detail": clean(found.vault.detail)},
        "store": {"ok": found.store.ok, "detail": clean(found.store.detail)},
        "sources": [
            {
                "name": source.name,
                "ok": source.ok,
                "detail": clean(source.detail),
                "follows_changes": source.follows_changes,
                "position": source.position,
                "synced_at": clean(source.synced_at),
                "lag": None if source.lag is None else source.lag.total_seconds(),
                "lost": clean(source.lost),
                "capture": _capture(source.capture),
            }
            for source in found.sources
        ],
        "waiting": [breaker(each) for each in found.waiting],
    }


def _capture(found: CaptureState | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "ready": found.ready,
        "findings": [clean(str(one)) for one in found.findings],
        "lag_bytes": found.lag_bytes,
        "held_bytes": found.held_bytes,
    }


def plan(made: Plan, entries: Iterable[Mapping[str, Any]], after: int) -> dict[str, Any]:
    """A plan with a page of its objects that begins at number ``after``."""
    page = [clean(entry) for entry in entries]
    upto = after + len(page)
    footer = made.footer
    return {
        "operation_id": made.operation_id,
        "created_at": made.header.created_at.isoformat(),
        "mode": made.header.mode.value,
        "scanned": footer.scanned,
        "candidates": footer.candidates,
        "objects": footer.objects,
        "bytes": footer.bytes,
        "kept": dict(footer.kept),
        "kept_examples": {
            code: [{"key": clean(one.key), "why": clean(one.why)} for one in some]
            for code, some in footer.kept_examples.items()
        },
        "held_by": [breaker(each) for each in footer.held_by],
        "missing": clean(footer.missing),
        "sha256": made.digest,
        "entries": page,
        "next_after": upto if page and upto < footer.objects else None,
    }


def explanation(found: Explanation) -> dict[str, Any]:
    """As the API's model."""
    return {
        "s3_key": clean(found.key),
        "exists": found.exists,
        "decision": clean(found.decision),
        "verdicts": [
            {"gate": each.gate, "keep": each.keep, "detail": clean(each.detail)} for each in found.verdicts
        ],
        "references": [
            {
                "source": source,
                "key": clean(each.key),
                "table": each.table,
                "row_id": clean(each.row_id),
                "column": each.column,
                "prefix": each.prefix,
            }
            for source, each in found.references
        ],
        "history": [
            {
                "seq": entry.seq,
                "at": entry.at.isoformat(),
                "operation_id": entry.operation_id,
                "event": entry.event,
                "data": clean(entry.data),
            }
            for entry in found.history
        ],
        "problems": [clean(problem) for problem in found.problems],
    }


def restored(done: RestoreReport) -> dict[str, Any]:
    """As the API's model."""
    return {
        "operation_id": done.operation_id,
        "dry_run": done.dry_run,
        "state": "completed",
        "message": None,
        "restored": len(done.restored),
        "skipped": len(done.skipped),
        "errors": len(done.errors),
        "restored_keys": [clean(key) for key in done.restored[:LONGEST_LIST]],
        "skipped_keys": clean(dict(list(done.skipped.items())[:LONGEST_LIST])),
        "error_keys": clean(dict(list(done.errors.items())[:LONGEST_LIST])),
    }


def vault(stats: VaultStats) -> dict[str, Any]:
    """As the API's model."""
    ratio = stats.original_bytes / stats.stored_bytes if stats.stored_bytes else None
    return {
        "packs": stats.packs,
        "backups": stats.backups,
        "stored_bytes": stats.stored_bytes,
        "original_bytes": stats.original_bytes,
        "compression_ratio": ratio,
        "journal_entries": stats.journal_entries,
    }


def shown(key: str) -> str:
    """A key as people may read it: what can't be seen, or turns the text around, is escaped."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in key)
