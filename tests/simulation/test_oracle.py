"""The oracle bites: for each promise a collector that breaks it is caught, by name and soon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from s3gc import collector, confirm, cycle, gates, latch, planning, reading, recovery, sweep
from s3gc.registry import _claims, _listing
from s3gc.testing.simulator import simulate
from s3gc.vault import _fs, _session, journal, packs

Patch = Callable[[pytest.MonkeyPatch], None]


async def _nothing(*_: Any, **__: Any) -> Any:
    return ()


def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fences(*_: Any, **__: Any) -> Sequence[Any]:
        return ()

    monkeypatch.setattr(sweep, "fences", fences)


def _no_resurrection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def written(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(confirm, "put_back_if_missing", written)


def _no_gate(gate: type[gates.Gate]) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(gate, "keeps", lambda *_: None)


def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs.PackWriter, "sync", lambda self: None)


def _no_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_session.LocalBackupSession, "_read_back_all", _nothing)


def _lazy_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = journal.SqliteJournal._open

    def lazily(self: journal.SqliteJournal, read_only: bool) -> None:
        before(self, read_only)
        if self._writer is not None:
            self._writer.execute("PRAGMA synchronous=OFF")

    monkeypatch.setattr(journal.SqliteJournal, "_open", lazily)


def _no_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "recover", _nothing)


def _no_latch(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: Any, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr(latch, "_unanswered", none)


def _unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def hold(_: Path, *__: object) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(collector.lease, "hold", hold)


def _no_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_claims, "_active", lambda *_: {})


def _listed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """References are read before the listing: what commits in between is missed."""
    list_bucket, sync, begin = planning.list_bucket, planning.sync, _listing.Listing.begin
    waiting: list[str] = []

    async def later(parts: Any, operation_id: str) -> int:
        waiting.append(operation_id)
        await begin(parts.registry.listing)
        return 1_000  # as if: it counts for limits only

    async def both(parts: Any, operation_id: str) -> Any:
        read = await sync(parts, operation_id)
        if waiting:
            await list_bucket(parts, waiting.pop())
        return read

    async def kept(_: Any) -> None:
        return None

    monkeypatch.setattr(planning, "list_bucket", later)
    monkeypatch.setattr(planning, "sync", both)
    monkeypatch.setattr(_listing.Listing, "begin", kept)


def _blind_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The direct read sees nothing, ever."""
    monkeypatch.setattr(reading.Sought, "protected_by", lambda *_: iter(()))


BROKEN: list[tuple[str, Patch, str | None, set[str]]] = [
    ("no fence before the deletes", _no_fence, "scanning", {"fence", "P1"}),
    ("the direct read is blind", _blind_read, "scanning", {"P1", "P3", "direct read", "gates"}),
    ("references are read before the listing", _listed_last, "scanning", {"plan"}),
    ("late references stay lost", _no_resurrection, "scanning", {"P3"}),
    ("packs aren't synced", _no_sync, "scanning", {"P2"}),
    ("backups aren't read back", _no_read_back, "faulty vault", {"P2"}),
    ("the journal isn't synced", _lazy_journal, "scanning", {"P2"}),
    ("nothing is recovered", _no_recovery, "crashes", {"P5", "P3"}),
    ("breakers don't stay", _no_latch, "faulty source", {"P6"}),
    ("no lock", _unlocked, "two processes", {"lease", "P4", "P5"}),
    ("claims aren't looked at", _no_claims, "claims", {"claims"}),
    ("no retention", _no_gate(gates.Retention), "patient", {"gates"}),
    ("no grace", _no_gate(gates.Grace), "patient", {"gates"}),
    ("one observation is enough", _no_gate(gates.Observations), "patient", {"gates"}),
    ("excluded folders are forgotten", _no_gate(gates.ExcludedPrefix), "scanning", {"gates"}),
]


@pytest.mark.parametrize(
    ("patch", "world", "invariants"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_a_broken_collector_is_caught(
    patch: Patch, world: str | None, invariants: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(0)  # the template of a vault is made by a collector that works
    patch(monkeypatch)
    for seed in range(300):
        violation = simulate(seed, world=world).violation
        if violation is not None:
            assert violation.invariant in invariants, str(violation)
            assert violation.seed == seed
            assert violation.story[-1]
            return
    pytest.fail("nobody noticed")


def test_unused_modules_are_there() -> None:
    """The patches above reach the functions that the core calls."""
    assert sweep.fences is reading.fences
    assert collector.recover is recovery.recover
    assert cycle.still_latched is planning.still_latched
    assert _fs.sync_data
