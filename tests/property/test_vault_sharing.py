"""Backups that share bytes, through any history of back-ups, forgetting, pruning, re-encoding, rebuilding."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coder_doubles import SeedCoder, picture
from s3gc.compressors import ZstdCompressor
from s3gc.errors import BackupGone
from s3gc.model import BackupRecord, JournalDraft, ObjectInfo
from s3gc.testing.fakes import FakeClock
from s3gc.testing.vault_contract import ATTRIBUTES, entries, pieces, read
from s3gc.vault import LocalVault, record_from_json, record_to_json
from s3gc.vault.packs import read_frames
from s3gc.vault.prune import forget, prune
from s3gc.vault.transcode import transcode

URL = "memory://fake"

CONTENTS = [
    b"".join(hashlib.sha256(bytes([seed, n % 256, n // 256])).digest() for n in range(300))
    for seed in range(3)
] + [picture("shared", 9_000), b"little " * 40]
"""Nothing makes the first ones smaller, so their bytes can be looked for in the packs."""

KEYS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.one_of(
    st.tuples(
        st.just("back up"),
        st.lists(st.tuples(KEYS, st.integers(0, 4)), min_size=1, max_size=5),
        st.booleans(),
    ),
    st.tuples(st.just("forget"), KEYS, st.none()),
    st.tuples(st.just("prune"), st.integers(0, 3), st.none()),
    st.tuples(st.just("transcode"), st.none(), st.none()),
    st.tuples(st.just("reopen"), st.booleans(), st.none()),
)


class History:
    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, FakeClock()
        self.vault = self.unopened()
        self.kept: list[tuple[BackupRecord, bytes]] = []
        self.gone: list[BackupRecord] = []
        self.operations = 0

    def unopened(self) -> LocalVault:
        return LocalVault(
            self.folder,
            compressors=[ZstdCompressor()],
            clock=self.clock,
            codec="store",
            coder=SeedCoder(),
            solid=ZstdCompressor(1),
        )

    def next_id(self) -> str:
        self.operations += 1
        return f"01K{self.operations:023d}"

    async def reopen(self) -> None:
        await self.vault.aclose()
        self.vault = self.unopened()
        await self.vault.open(URL)

    async def back_up(self, objects: list[tuple[str, int]], *, at_once: bool) -> None:
        self.clock.advance(timedelta(days=1))
        operation = self.next_id()
        async with self.vault.session(operation) as session:
            made: list[BackupRecord] = []
            for n, (key, content) in enumerate(objects):
                data = CONTENTS[content]
                info = ObjectInfo(key, len(data), f"{operation}-{n}", self.clock.now())
                await session.add(info, ATTRIBUTES, pieces(data))
                if not at_once:
                    made += await session.commit()
            made += await session.commit()
        drafts = [(r, {"backup": record_to_json(r)}) for r in made]
        await self.vault.journal.append(
            [JournalDraft(e, operation, r.key, d) for e in ("backed_up", "deleted") for r, d in drafts]
        )
        by_etag = {f"{operation}-{n}": CONTENTS[content] for n, (_, content) in enumerate(objects)}
        self.kept += [(record, by_etag[record.etag]) for record in made]

    async def step(self, what: str, argument: object, more: object) -> None:
        if what == "back up":
            await self.back_up(argument, at_once=bool(more))  # type: ignore[arg-type]
        elif what == "forget" and any(record.key == argument for record, _ in self.kept):
            await self.reopen()
            report = await forget(self.vault, self.next_id(), str(argument), reason="law", dry_run=False)
            assert report.problems == ()
            self.gone += [record for record, _ in self.kept if record.key == argument]
            self.kept = [one for one in self.kept if one[0].key != argument]
            assert report.removed >= 1
            assert self.frames_of(str(argument)) == 0
        elif what == "prune":
            await self.reopen()
            before = self.clock.now() - timedelta(days=int(str(argument)), hours=1)
            report = await prune(
                self.vault, self.next_id(), before=lambda _: before, reason="old", dry_run=False
            )
            assert report.problems == ()
            await self.sort_out()
        elif what == "transcode":
            await self.reopen()
            assert (await transcode(self.vault, self.next_id(), dry_run=False)).problems == ()
        elif what == "reopen":
            if argument:
                (self.folder / "contents.sqlite3").unlink(missing_ok=True)
            await self.reopen()

    async def sort_out(self) -> None:
        """Which ones the journal says are gone."""
        told = {
            (entry.key, entry.data["backup"]["etag"])
            for entry in await entries(self.vault, events={"backup_removed"})
        }
        self.gone += [record for record, _ in self.kept if (record.key, record.etag) in told]
        self.kept = [one for one in self.kept if (one[0].key, one[0].etag) not in told]

    def frames_of(self, key: str) -> int:
        return sum(f.record.key == key for path in self.packs() for f in read_frames(path))

    def packs(self) -> list[Path]:
        return sorted((self.folder / "packs").glob("*.pack"))

    async def in_order(self) -> None:
        for record, data in self.kept:
            assert await read(self.vault, record) == data
        for record in self.gone:
            with pytest.raises(BackupGone):
                await read(self.vault, record)
        check = await self.vault.verify()
        assert (check.problems, check.backups) == ((), len(self.kept))
        assert (await self.vault.journal.verify()).ok
        assert (await self.vault.stats()).backups == len(self.kept)
        stored = b"".join(path.read_bytes() for path in self.packs())
        for content in CONTENTS[:3]:
            copies = stored.count(content)
            if any(data == content for _, data in self.kept):
                assert copies >= 1

    async def rebuilt(self) -> None:
        """From the packs alone all are there again, and whatever is found can be read."""
        await self.vault.aclose()
        if not self.packs():
            return
        for path in self.folder.iterdir():
            if path.is_file():
                path.unlink()
        self.vault = self.unopened()
        report = await self.vault.rebuild(URL, self.next_id())
        assert report.damaged == ()
        await self.vault.open(URL)
        found: dict[tuple[str, str], bytes] = {}
        for entry in await entries(self.vault, events={"backup_found"}):
            record = record_from_json(entry.data["backup"])
            found[record.key, record.etag] = await read(self.vault, record)
        for record, data in self.kept:
            assert found[record.key, record.etag] == data
        assert (await self.vault.verify()).ok


@given(steps=st.lists(STEPS, min_size=1, max_size=9), trio=st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_is_kept_is_lost(steps: list[tuple[str, object, object]], trio: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="s3gc-sharing-"))

    async def everything() -> None:
        history = History(folder / "vault")
        await history.vault.open(URL)
        for step in steps:
            await history.step(*step)
            await history.in_order()
        await history.rebuilt()
        await history.vault.aclose()

    try:
        anyio.run(everything, backend="trio" if trio else "asyncio")
    finally:
        shutil.rmtree(folder)
