"""A vault re-encoded to plain zstd: no other codec is needed, and nothing is unreadable at any moment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from coder_doubles import NAME, SeedCoder, picture
from s3gc import create_config, create_plugin_manager, lease
from s3gc.archive import Archive
from s3gc.compressors import ZstdCompressor
from s3gc.errors import LeaseHeld, VaultError
from s3gc.model import BackupRecord, JournalDraft
from s3gc.testing.fakes import FakeClock
from s3gc.testing.simulator._vault import Disk, watched
from s3gc.testing.vault_contract import ATTRIBUTES, add, entries, object_info, pieces, read
from s3gc.vault import LocalVault, record_to_json
from s3gc.vault.browse import Wanted, latest
from s3gc.vault.packs import parse_location, read_frames
from s3gc.vault.transcode import transcode
from unit.test_vault_prune import Dead, dying

pytestmark = pytest.mark.anyio

URL = "memory://fake"
FIRST, SECOND = "01K00000000000000000000000", "01K00000000000000000000001"
NOW = "01K0000000000000000000000Z"
CODED = {"p/1": picture("one"), "p/2": picture("two")}
OTHERS = {"text": b"some text, " * 50, "noise": os.urandom(3_000), "empty": b""}
PLAIN_PACK = {"later": b"later " * 99}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vault_in(folder: Path, *, coder: bool = True, codec: str = "zstd") -> LocalVault:
    return LocalVault(
        folder,
        compressors=[ZstdCompressor()],
        clock=FakeClock(),
        codec=codec,
        coder=SeedCoder() if coder else None,
    )


async def put(vault: LocalVault, operation: str, objects: dict[str, bytes]) -> dict[str, BackupRecord]:
    async with vault.session(operation) as session:
        for key, data in objects.items():
            await add(session, key, data)
        made = await session.commit()
    await vault.journal.append(
        [JournalDraft("backed_up", operation, r.key, {"backup": record_to_json(r)}) for r in made]
    )
    return {record.key: record for record in made}


async def fill(folder: Path) -> dict[str, BackupRecord]:
    """One pack with coded backups and others, one without."""
    vault = vault_in(folder)
    await vault.open(URL)
    records = await put(vault, FIRST, CODED | OTHERS)
    await vault.aclose()
    await vault.open(URL)
    records |= await put(vault, SECOND, PLAIN_PACK)
    await vault.aclose()
    assert len({parse_location(r.location)[0] for r in records.values()}) == 2
    return records


@pytest.fixture
async def records(tmp_path: Path) -> dict[str, BackupRecord]:
    return await fill(tmp_path / "vault")


@pytest.fixture
async def vault(tmp_path: Path, records: dict[str, BackupRecord]) -> AsyncIterator[LocalVault]:
    made = vault_in(tmp_path / "vault")
    await made.open(URL)
    yield made
    await made.aclose()


ALL = CODED | OTHERS | PLAIN_PACK


async def all_there(vault: LocalVault, records: dict[str, BackupRecord]) -> None:
    for key, data in ALL.items():
        assert await read(vault, records[key]) == data
    check = await vault.verify()
    assert (check.problems, check.backups) == ((), len(ALL))
    assert (await vault.journal.verify()).ok


async def test_what_needed_a_codec_is_by_zstd_and_the_rest_stays(
    vault: LocalVault, records: dict[str, BackupRecord]
) -> None:
    packs = {path.name for path in vault.packs_folder.iterdir()}
    planned = await transcode(vault, NOW, dry_run=True)
    assert (planned.encoded, planned.moved, planned.packs, planned.bytes_after) == (2, 3, 1, 0)
    assert {path.name for path in vault.packs_folder.iterdir()} == packs
    done = await transcode(vault, NOW, dry_run=False)
    assert (done.encoded, done.moved, done.packs, done.problems) == (2, 3, 1, ())
    assert done.bytes_before == planned.bytes_before < 9_000 < done.bytes_after
    await all_there(vault, records)
    untouched = parse_location(records["later"].location)[0] + ".pack"
    assert packs & {path.name for path in vault.packs_folder.iterdir()} == {untouched}
    await vault.aclose()
    without = vault_in(vault.folder, coder=False)
    await without.open(URL)
    await all_there(without, records)
    found = {stored.record.key: stored async for stored in latest(without, Wanted())}
    assert {stored.record.codec for stored in found.values()} == {"zstd", "store"}
    assert {key: stored.operation_id for key, stored in found.items()} == {
        key: SECOND if key == "later" else FIRST for key in ALL
    }
    again = await transcode(without, NOW, dry_run=False)
    assert (again.encoded, again.packs) == (0, 0)
    await without.aclose()
    frames = [f for path in sorted(without.packs_folder.iterdir()) for f in read_frames(path)]
    assert {f.record.codec for f in frames} == {"zstd", "store"}
    assert {f.operation_id for f in frames} == {FIRST, SECOND}  # a rebuild finds them under the right one


async def test_it_writes_by_zstd_whatever_the_vault_writes_by(
    records: dict[str, BackupRecord], tmp_path: Path
) -> None:
    vault = vault_in(tmp_path / "vault", codec="store")
    await vault.open(URL)
    await transcode(vault, NOW, dry_run=False)
    moved = {e.key: e.data["backup"]["codec"] for e in await entries(vault, events={"repacked"})}
    assert (moved["text"], moved["p/1"]) == ("zstd", "store")  # zstd gains nothing on a picture
    await vault.aclose()
    other = LocalVault(tmp_path / "other", compressors=[], clock=FakeClock(), codec="store")
    await other.open(URL)
    with pytest.raises(VaultError, match="zstd"):
        async with other.copying(NOW, plain=True):
            pass
    await other.aclose()


async def test_without_the_codec_a_pack_stays_as_it_is(
    records: dict[str, BackupRecord], tmp_path: Path
) -> None:
    vault = vault_in(tmp_path / "vault", coder=False)
    await vault.open(URL)
    report = await transcode(vault, NOW, dry_run=False)
    assert (report.encoded, report.packs) == (0, 0)
    assert "can't be read" in report.problems[0]
    await vault.aclose()
    whole = vault_in(tmp_path / "vault")
    await whole.open(URL)
    await all_there(whole, records)
    await whole.aclose()


def flip(folder: Path, record: BackupRecord) -> None:
    pack, offset, length = parse_location(record.location)
    path = folder / "packs" / f"{pack}.pack"
    data = bytearray(path.read_bytes())
    data[offset + length - 120] ^= 1
    path.write_bytes(data)


async def test_a_pack_of_which_something_is_damaged_stays(
    vault: LocalVault, records: dict[str, BackupRecord]
) -> None:
    flip(vault.folder, records["noise"])
    report = await transcode(vault, NOW, dry_run=False)
    assert "can't be read" in report.problems[0]
    for key in ALL.keys() - {"noise"}:
        assert await read(vault, records[key]) == ALL[key]


async def test_a_pack_that_is_written_to_stays(vault: LocalVault, records: dict[str, BackupRecord]) -> None:
    more = await put(vault, SECOND, {"p/3": picture("three")})
    report = await transcode(vault, NOW, dry_run=False)
    assert (report.encoded, report.packs) == (2, 1)
    assert "written to" in report.problems[0]
    assert await read(vault, more["p/3"]) == picture("three")


def power_cut_at(folder: Path, step: int, backend: str) -> bool:
    """Transcode on a disk that loses what wasn't synced, cut off at a step. Whether there was such a step."""

    async def everything() -> bool:
        disk = Disk()
        with watched(disk):
            records = await fill(folder)
            vault = vault_in(folder)
            await vault.open(URL)
        died = False
        with dying(step, disk):
            try:
                await transcode(vault, NOW, dry_run=False)
            except Dead:
                died = True
        disk.lose_power(folder)
        vault.journal._close()
        if vault._current is not None:
            vault._current.close()
        vault = vault_in(folder)
        await vault.open(URL, create=False)
        assert vault.problems == ()
        await all_there(vault, records)
        assert (await transcode(vault, NOW, dry_run=False)).problems == ()
        await all_there(vault, records)
        codecs = {stored.record.codec async for stored in latest(vault, Wanted())}
        assert NAME not in codecs
        await vault.aclose()
        return died

    return anyio.run(everything, backend=backend)


def test_a_power_cut_at_any_step_leaves_everything_readable(tmp_path: Path) -> None:
    steps = 0
    while power_cut_at(tmp_path / str(steps), steps, "asyncio" if steps % 2 else "trio"):
        steps += 1
    assert steps > 5


async def test_by_the_archive_and_not_beside_a_collector(
    records: dict[str, BackupRecord], tmp_path: Path
) -> None:
    config = create_config(bucket=URL, vault_path=tmp_path / "vault")
    plugins = create_plugin_manager(entry_points=False)
    vault = vault_in(tmp_path / "vault")
    async with Archive.open(config, vault=vault, plugins=plugins) as archive:
        assert (await archive.transcode()).dry_run
        async with lease.hold(tmp_path / "vault" / "collector.lock"):
            with pytest.raises(LeaseHeld):
                await archive.transcode(dry_run=False)
        assert (await archive.transcode(dry_run=False)).encoded == 2
        await all_there(vault, records)


async def test_two_versions_of_a_key_keep_their_bytes(tmp_path: Path) -> None:
    vault = vault_in(tmp_path / "vault")
    await vault.open(URL)
    async with vault.session(FIRST) as session:
        for etag, seed in (("1", "old"), ("2", "new")):
            data = picture(seed)
            await session.add(object_info("k", len(data), etag=etag), ATTRIBUTES, pieces(data))
        made = await session.commit()
    await vault.journal.append(
        [JournalDraft("backed_up", FIRST, r.key, {"backup": record_to_json(r)}) for r in made]
    )
    await vault.aclose()
    await vault.open(URL)
    assert (await transcode(vault, NOW, dry_run=False)).encoded == 2
    assert {r.etag: await read(vault, r) for r in made} == {"1": picture("old"), "2": picture("new")}
    await vault.aclose()
