"""Vaults that break one clause of their contract each: the suite must fail for all but the sound one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from s3gc.abc import BackupSession, Journal, Vault, WholeObject
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import (
    AuditResult,
    BackupRecord,
    JournalDraft,
    JournalEntry,
    ObjectAttributes,
    ObjectInfo,
    Share,
    VaultCheck,
    VaultStats,
)
from s3gc.testing.vault_contract import VaultContract
from s3gc.vault import LocalVault
from s3gc.vault.packs import parse_location


class _Session(BackupSession):
    """The real session, and what a mutant changes of it."""

    def __init__(self, inner: BackupSession, vault: Sound) -> None:
        self.inner, self.vault = inner, vault

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        await self.inner.add(info, attributes, chunks)

    async def add_all(self, objects: Sequence[WholeObject]) -> None:
        await self.inner.add_all(objects)

    async def commit(self) -> Sequence[BackupRecord]:
        records = await self.inner.commit()
        self.vault.known.update({record.location: record for record in records})
        return records


class _Journal(Journal):
    """The real journal, and what a mutant changes of it."""

    def __init__(self, inner: Journal) -> None:
        self.inner = inner

    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        await self.inner.append(drafts)

    async def read(self, **filters: Any) -> AsyncIterator[JournalEntry]:  # type: ignore[override]
        async for entry in self.inner.read(**filters):
            yield entry

    async def verify(self) -> AuditResult:
        return await self.inner.verify()


class Sound(LocalVault):
    """A local vault; mutants change its sessions and its journal by these two classes."""

    session_of: type[_Session] = _Session
    journal_of: type[_Journal] = _Journal

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, compressors=[ZstdCompressor(), StoreCompressor()], clock=SystemClock(), codec="zstd"
        )
        self.known: dict[str, BackupRecord] = {}

    @asynccontextmanager
    async def session(self, operation_id: str) -> AsyncIterator[BackupSession]:
        async with super().session(operation_id) as inner:
            yield self.session_of(inner, self)


# ------------------------------------------------------------------ reading


class FlipsAByte(Sound):
    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        first = True
        async for piece in super().read(record):
            yield bytes([piece[0] ^ 1]) + piece[1:] if first and piece else piece
            first = False


class DamageIsTheEnd(Sound):
    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        try:
            async for piece in super().read(record):
                yield piece
        except VaultCorrupt:
            return


class GivesSomeFirst(Sound):
    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        yield b""
        try:
            async for piece in super().read(record):
                yield piece
        except VaultCorrupt:
            yield b"some"
            raise


class BelievesTheRecord(Sound):
    """Whatever a record says, the place decides."""

    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        async for piece in super().read(self.known.get(record.location, record)):
            yield piece


class AnyPlaceIsTheFirst(Sound):
    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        try:
            parse_location(record.location)
        except VaultError:
            record = next(iter(self.known.values()))
        async for piece in super().read(record):
            yield piece


class TogetherUnchecked(Sound):
    async def read_small(self, records: Sequence[BackupRecord]) -> Mapping[str, bytes]:
        found = {}
        for record in records:
            known = self.known.get(record.location)
            if known is not None:
                try:
                    found[record.key] = b"".join([piece async for piece in super().read(known)])
                except VaultError:
                    found[record.key] = b""
        return found


class TogetherCut(Sound):
    async def read_small(self, records: Sequence[BackupRecord]) -> Mapping[str, bytes]:
        return {key: data[:-1] for key, data in (await super().read_small(records)).items()}


class ReadsWhenClosed(Sound):
    async def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        try:
            async for piece in super().read(record):
                yield piece
        except VaultCorrupt:
            raise
        except VaultError:
            return


# ------------------------------------------------------------------ backing up


class _Attributes(_Session):
    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        await self.inner.add(info, evolve(attributes, tags={}), chunks)


class DropsTags(Sound):
    session_of = _Attributes


class _Bare(_Session):
    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        await self.inner.add(evolve(info, version_id=None), attributes, chunks)


class DropsTheVersion(Sound):
    session_of = _Bare


class _Rounded(_Session):
    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        await self.inner.add(
            evolve(info, last_modified=info.last_modified.replace(microsecond=0)), attributes, chunks
        )


class RoundsTimes(Sound):
    session_of = _Rounded


class _AnySize(_Session):
    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        body = b"".join([chunk async for chunk in chunks])

        async def again() -> AsyncIterator[bytes]:
            yield body

        await self.inner.add(evolve(info, size=len(body)), attributes, again())


class TakesAnySize(Sound):
    session_of = _AnySize


class _AnySizeTogether(_Session):
    async def add_all(self, objects: Sequence[WholeObject]) -> None:
        await self.inner.add_all(
            [evolve(one, listed=evolve(one.listed, size=len(one.data))) for one in objects]
        )


class TakesAnySizeTogether(Sound):
    session_of = _AnySizeTogether


class _Forgets(_Session):
    async def add_all(self, objects: Sequence[WholeObject]) -> None:
        await self.inner.add_all(list(objects)[:-1] if len(objects) > 1 else objects)


class ForgetsOneOfMany(Sound):
    session_of = _Forgets


class _AllAgain(_Session):
    def __init__(self, inner: BackupSession, vault: Sound) -> None:
        super().__init__(inner, vault)
        self.all: list[BackupRecord] = []

    async def commit(self) -> Sequence[BackupRecord]:
        self.all += await super().commit()
        return self.all


class CommitTellsAllAgain(Sound):
    session_of = _AllAgain


class _Poisoned(_Session):
    broken = False

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        try:
            await self.inner.add(info, attributes, chunks)
        except BaseException:
            self.broken = True
            raise

    async def commit(self) -> Sequence[BackupRecord]:
        if self.broken:
            raise VaultError("an add has failed")
        return await super().commit()


class OneFailureSpoilsAll(Sound):
    session_of = _Poisoned


class _ByKey(_Session):
    async def commit(self) -> Sequence[BackupRecord]:
        return list({record.key: record for record in await super().commit()}.values())


class OneVersionOfAKey(Sound):
    session_of = _ByKey


class _Shared(_Session):
    busy = False

    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        if self.busy:
            raise VaultError("one at a time")
        self.busy = True
        try:
            await self.inner.add(info, attributes, chunks)
        finally:
            self.busy = False


class OneTaskAtATime(Sound):
    session_of = _Shared


class _Wrong(_Session):
    async def commit(self) -> Sequence[BackupRecord]:
        return [evolve(record, sha256="0" * 64) for record in await super().commit()]


class WritesAnotherHash(Sound):
    session_of = _Wrong


# ------------------------------------------------------------------ itself


class AnyBucket(Sound):
    async def open(self, store_url: str, *, create: bool = True) -> None:
        await super().open("s3://contract", create=create)


class AlwaysMakes(Sound):
    async def open(self, store_url: str, *, create: bool = True) -> None:
        await super().open(store_url)


class AlwaysRoom(Sound):
    async def check(self, *, max_fill: float) -> None:
        await super().check(max_fill=1.0)


class FineWhenClosed(Sound):
    async def check(self, *, max_fill: float) -> None:
        try:
            await super().check(max_fill=max_fill)
        except VaultError as error:
            if "open" not in str(error) and "closed" not in str(error):
                raise


class AlwaysWell(Sound):
    async def verify(self, share: Share | None = None) -> VaultCheck:
        return evolve(await super().verify(share), ok=True, problems=())


class NamesNoProblem(Sound):
    async def verify(self, share: Share | None = None) -> VaultCheck:
        found = await super().verify(share)
        return evolve(found, problems=["something" for _ in found.problems])


class CountsNothing(Sound):
    async def stats(self) -> VaultStats:
        return evolve(await super().stats(), original_bytes=0)


class ClosesOnce(Sound):
    async def aclose(self) -> None:
        if getattr(self, "_gone", False):
            raise VaultError("closed")
        self._gone = True
        await super().aclose()


# ------------------------------------------------------------------ the journal


class _OneByOne(_Journal):
    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        for draft in drafts:
            await self.inner.append([draft])


class AppendsOneByOne(Sound):
    journal_of = _OneByOne


class _Backwards(_Journal):
    async def read(self, **filters: Any) -> AsyncIterator[JournalEntry]:  # type: ignore[override]
        for entry in reversed([entry async for entry in self.inner.read(**filters)]):
            yield entry


class NewestFirst(Sound):
    journal_of = _Backwards


class _Without(_Journal):
    left_out = ""

    async def read(self, **filters: Any) -> AsyncIterator[JournalEntry]:  # type: ignore[override]
        filters.pop(self.left_out, None)
        async for entry in self.inner.read(**filters):
            yield entry


class _NoKey(_Without):
    left_out = "key"


class _NoPrefix(_Without):
    left_out = "prefix"


class _NoOperation(_Without):
    left_out = "operation_id"


class _NoEvents(_Without):
    left_out = "events"


class _NoAfter(_Without):
    left_out = "after_seq"


class IgnoresKey(Sound):
    journal_of = _NoKey


class IgnoresPrefix(Sound):
    journal_of = _NoPrefix


class IgnoresOperation(Sound):
    journal_of = _NoOperation


class IgnoresEvents(Sound):
    journal_of = _NoEvents


class IgnoresAfter(Sound):
    journal_of = _NoAfter


class _NoneMeansAll(_Journal):
    async def read(self, **filters: Any) -> AsyncIterator[JournalEntry]:  # type: ignore[override]
        events: Collection[str] | None = filters.pop("events", None)
        async for entry in self.inner.read(events=events or None, **filters):
            yield entry


class NoEventsMeansAll(Sound):
    journal_of = _NoneMeansAll


class _Flat(_Journal):
    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        await self.inner.append(
            [evolve(one, data={name: str(value) for name, value in one.data.items()}) for one in drafts]
        )


class WritesTexts(Sound):
    journal_of = _Flat


class _Fine(_Journal):
    async def verify(self) -> AuditResult:
        return AuditResult(True, 0, "")


class AuditsNothing(Sound):
    journal_of = _Fine


class _Growing(_Journal):
    async def read(self, **filters: Any) -> AsyncIterator[JournalEntry]:  # type: ignore[override]
        """Tells what is appended while it is read, too (but ends)."""
        last, more = filters.pop("after_seq", 0), True
        for _ in range(9):
            if not more:
                return
            more = False
            async for entry in self.inner.read(after_seq=last, **filters):
                last, more = entry.seq, True
                yield entry


class ReadsWhatComes(Sound):
    journal_of = _Growing


class _Seen:
    """A vault as the suite sees it: the vault itself goes on with its real journal."""

    def __init__(self, vault: Sound) -> None:
        self._vault = vault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)

    @property
    def journal(self) -> Journal:
        return self._vault.journal_of(self._vault.journal)


def _flip(folder: Path, record: BackupRecord) -> None:
    pack, offset, length = parse_location(record.location)
    path = folder / "packs" / f"{pack}.pack"
    data = bytearray(path.read_bytes())
    data[offset + length - 150] ^= 1
    path.write_bytes(data)


def _suite(vault: type[Sound]) -> type:
    class Suite(VaultContract):
        only = () if vault.journal_of is _Journal else ("journal", "append", "any_key")

        @pytest.fixture
        def anyio_backend(self) -> str:
            return "asyncio"

        @pytest.fixture
        def make_vault(self, tmp_path: Path) -> Callable[[], Vault]:
            return lambda: _Seen(vault(tmp_path / "vault"))  # type: ignore[return-value]

        @pytest.fixture
        def damage(self, tmp_path: Path) -> Callable[[BackupRecord], None]:
            return lambda record: _flip(tmp_path / "vault", record)

    return Suite


for _one in [one for one in list(globals().values()) if isinstance(one, type) and issubclass(one, Sound)]:
    if not _one.__name__.startswith("_"):
        globals()[f"Test{_one.__name__}"] = _suite(_one)
