"""A remote that fails on order, and helpers for tests of replicas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.errors import StoreError
from s3gc.model import BackupRecord, JournalEntry
from s3gc.testing.vault_contract import STORE_URL
from s3gc.vault import LocalVault
from s3gc.vault.replica import FetchReport, Remote, ReplicaKeys, Replicator, fetch

REFUSED, LOST, CRASHED_BEFORE, CRASHED_AFTER, READ_FAILS, CALLED = (
    "refused",
    "answer lost",
    "crash before",
    "crash after",
    "read fails",
    "called",
)
FAULTS = (REFUSED, LOST, CRASHED_BEFORE, CRASHED_AFTER, READ_FAILS)


class Crash(Exception):
    """The process ends here; nothing may catch it."""


class FakeRemote:
    """Objects in memory. ``fail(kind, after)``: the request behind the next ``after`` ones goes wrong so."""

    def __init__(self, name: str = "fake") -> None:
        self.url = self.id = f"fake://{name}"
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.overwrites = False
        self.down = False
        self._lock = threading.Lock()
        self._fault: tuple[str, int, Callable[[], None] | None] | None = None

    def fail(self, kind: str | None, after: int = 0, call: Callable[[], None] | None = None) -> None:
        self._fault = None if kind is None else (kind, after, call)

    def _due(self, *kinds: str) -> str | None:
        with self._lock:
            if self.down:
                raise StoreError("it is down")
            if self._fault is None or self._fault[0] not in kinds:
                return None
            kind, after, call = self._fault
            if after:
                self._fault = (kind, after - 1, call)
                return None
            self._fault = None
        if call is not None:
            call()
        return kind

    def names(self) -> Iterator[tuple[str, int]]:
        self._due()
        self.requests.append(("list", ""))
        yield from [(name, len(data)) for name, data in self.objects.items()]

    def create(self, name: str, data: bytes) -> None:
        due = self._due(REFUSED, LOST, CRASHED_BEFORE, CRASHED_AFTER, CALLED)
        self.requests.append(("create", name))
        if due == REFUSED:
            raise StoreError("refused")
        if due == CRASHED_BEFORE:
            raise Crash
        with self._lock:
            if name in self.objects and not self.overwrites:
                raise FileExistsError(name)
            self.objects[name] = bytes(data)
        if due == LOST:
            raise StoreError("no answer", outcome_unknown=True)
        if due == CRASHED_AFTER:
            raise Crash

    def read(self, name: str) -> bytes:
        due = self._due(READ_FAILS)
        self.requests.append(("read", name))
        if due:
            raise StoreError("read failed")
        if name not in self.objects:
            raise FileNotFoundError(name)
        return self.objects[name]

    def remove(self, name: str) -> None:
        self._due()
        self.requests.append(("remove", name))
        self.objects.pop(name, None)

    def sent(self) -> list[str]:
        return [name for kind, name in self.requests if kind == "create" and name != "replica.json"]


def local_vault(folder: Path) -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=SystemClock())


async def replicator_of(
    vault: LocalVault,
    *remotes: Remote,
    keys: ReplicaKeys | None = None,
    piece_bytes: int = 700,
    segment_entries: int = 3,
) -> Replicator:
    made = Replicator(
        vault,
        remotes,
        clock=SystemClock(),
        keys=keys,
        piece_bytes=piece_bytes,
        segment_entries=segment_entries,
    )
    await made.open()
    return made


async def journal_of(vault: LocalVault) -> list[JournalEntry]:
    return [entry async for entry in vault.journal.read()]


class Fetched:
    """What a fetch of a remote gave, and what verifying that found."""

    report: FetchReport
    entries: list[JournalEntry]
    problems: list[str]
    folder: Path


async def fetched(remote: Remote, folder: Path, keys: ReplicaKeys | None = None) -> Fetched:
    made = Fetched()
    made.folder = folder
    made.report = await fetch(remote, folder, clock=SystemClock(), keys=keys)
    vault = local_vault(folder)
    await vault.open(STORE_URL, create=False)
    try:
        audit, check = await vault.journal.verify(), await vault.verify()
        made.problems = [*made.report.problems, *vault.problems, *audit.problems, *check.problems]
        made.entries = [] if not audit.ok else await journal_of(vault)
    finally:
        await vault.aclose()
    return made


def damaged_pack(vault: LocalVault, record: BackupRecord, at: int = 80) -> None:
    """Flip one bit of a backup in the vault, so many bytes from its frame's beginning, or from its end."""
    pack, offset, length = record.location.split(":")[:3]
    path = vault.folder / "packs" / f"{pack}.pack"
    data = bytearray(path.read_bytes())
    data[int(offset) + (at if at >= 0 else int(length) + at)] ^= 1
    path.write_bytes(bytes(data))
