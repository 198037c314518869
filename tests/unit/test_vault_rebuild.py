"""A vault that lost its journal: all that its packs hold is back, and what they don't tell isn't made up."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from ulid import ULID

from s3gc import Collector, create_config, create_plugin_manager
from s3gc.archive import Archive
from s3gc.errors import VaultError, VaultMismatch
from s3gc.model import BackupRecord
from s3gc.testing.fakes import FakeClock, FakeStore
from s3gc.testing.vault_contract import OPERATION, STORE_URL, add, backed_up, entries, read
from s3gc.vault import LocalVault, _encode, record_from_json
from s3gc.vault import rebuild as rebuilding
from s3gc.vault.packs import parse_location
from unit.test_vault_local import local_vault, packs

pytestmark = pytest.mark.anyio

AFTER = "01K0000000000000000000000Z"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


CONTENT = {f"a/{n}.txt": f"{n} ".encode() * 50 * n for n in range(1, 9)} | {"empty": b"", "é\n": b"odd"}


@pytest.fixture
async def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LocalVault, dict[str, BackupRecord]]:
    """A vault with several packs, closed, its journal gone; and what it holds."""
    monkeypatch.setattr(_encode, "PACK_ROLL_BYTES", 2_000)
    vault = local_vault(tmp_path / "vault")
    await vault.open(STORE_URL)
    records: dict[str, BackupRecord] = {}
    for key, data in CONTENT.items():
        async with vault.session(OPERATION) as session:
            await add(session, key, data)
            (record,) = await session.commit()
        await vault.journal.append(backed_up([record]))
        records[key] = record
    await vault.aclose()
    assert len(packs(vault)) > 2
    lose_journal(vault)
    return local_vault(vault.folder), records


def lose_journal(vault: LocalVault) -> None:
    for path in vault.folder.iterdir():
        if path.is_file():
            path.unlink()


async def found(vault: LocalVault) -> dict[str, BackupRecord]:
    return {
        str(entry.key): record_from_json(entry.data["backup"])
        for entry in await entries(vault, events={"backup_found"})
    }


async def test_every_backup_is_back(lost: tuple[LocalVault, dict[str, BackupRecord]]) -> None:
    vault, records = lost
    before = [path.read_bytes() for path in packs(vault)]
    report = await vault.rebuild(STORE_URL, AFTER)
    assert (report.backups, report.packs, report.damaged) == (len(CONTENT), len(before), ())
    assert (report.previous_vault, report.set_aside) == (None, None)
    assert [path.read_bytes() for path in packs(vault)] == before
    await vault.open(STORE_URL, create=False)
    assert await found(vault) == records  # in every field
    for entry in await entries(vault, events={"backup_found"}):
        assert entry.operation_id == OPERATION
    for key, record in records.items():
        assert await read(vault, record) == CONTENT[key]
    assert (await vault.verify()).backups == len(CONTENT)
    assert (await vault.verify()).ok
    assert (await vault.journal.verify()).ok
    assert (await vault.stats()).original_bytes == sum(map(len, CONTENT.values()))
    assert report.vault_id == vault.id
    (last,) = await entries(vault, events={"vault_rebuilt"})
    assert (last.operation_id, last.data["backups"]) == (AFTER, len(CONTENT))
    assert {path.name for path in vault.folder.iterdir()} >= {"vault.json", "journal.sqlite3", "packs"}
    assert not list(vault.folder.glob("rebuild-*"))
    await vault.aclose()


async def test_damaged_and_torn_frames_are_named_and_the_rest_is_back(
    lost: tuple[LocalVault, dict[str, BackupRecord]],
) -> None:
    vault, records = lost
    hit = records["a/3.txt"]
    pack, offset, length = parse_location(hit.location)
    with (vault.folder / "packs" / f"{pack}.pack").open("r+b") as file:
        file.seek(offset + length // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    torn = records["é\n"]  # the last one
    last_pack, begin, size = parse_location(torn.location)
    os.truncate(vault.folder / "packs" / f"{last_pack}.pack", begin + size - 5)
    report = await vault.rebuild(STORE_URL, AFTER)
    assert len(report.damaged) == 2
    assert any(f"{pack} at {offset}" in text for text in report.damaged)
    await vault.open(STORE_URL, create=False)
    assert await found(vault) == {k: r for k, r in records.items() if k not in ("a/3.txt", "é\n")}
    told = [entry.data for entry in await entries(vault, events={"damage_found"})]
    assert {(t["pack"], t["offset"], t["torn"]) for t in told} >= {(last_pack, begin, True)}
    assert (await vault.verify()).ok
    await vault.aclose()
    assert (vault.folder / "packs" / f"{last_pack}.pack").stat().st_size == begin + size - 5


async def test_a_journal_that_is_there_is_not_replaced_unasked(
    lost: tuple[LocalVault, dict[str, BackupRecord]],
) -> None:
    vault, records = lost
    first = await vault.rebuild(STORE_URL, AFTER)
    journal = (vault.folder / "journal.sqlite3").read_bytes()
    with pytest.raises(VaultError, match="is there"):
        await vault.rebuild(STORE_URL, OPERATION)
    assert (vault.folder / "journal.sqlite3").read_bytes() == journal
    second = await vault.rebuild(STORE_URL, OPERATION, set_aside=True)
    assert second.previous_vault == first.vault_id != second.vault_id
    assert second.set_aside is not None
    assert (Path(second.set_aside) / "journal.sqlite3").read_bytes() == journal
    await vault.open(STORE_URL, create=False)
    assert await found(vault) == records
    with pytest.raises(VaultError, match="is open"):
        await vault.rebuild(STORE_URL, AFTER, set_aside=True)
    await vault.aclose()


async def test_packs_of_another_bucket_are_refused(lost: tuple[LocalVault, dict[str, BackupRecord]]) -> None:
    vault, _ = lost
    with pytest.raises(VaultMismatch, match="s3://another"):
        await vault.rebuild("s3://another", AFTER)
    assert not (vault.folder / "vault.json").exists()
    assert not (vault.folder / "journal.sqlite3").exists()
    await vault.rebuild(STORE_URL, OPERATION)  # what the refused one left doesn't hinder
    with pytest.raises(VaultMismatch, match="belongs to"):
        await vault.rebuild("s3://another", AFTER, set_aside=True)


async def test_without_packs_there_is_nothing_to_rebuild(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="no packs"):
        await local_vault(tmp_path).rebuild(STORE_URL, AFTER)


@pytest.mark.parametrize("step", range(10))
async def test_cut_off_at_any_step_it_is_done_again(
    lost: tuple[LocalVault, dict[str, BackupRecord]], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The step is a rename or a removal: each is where a crash changes what is found next time."""
    vault, records = lost
    await vault.rebuild(STORE_URL, AFTER)  # so that there is something to set aside
    left = step
    real = os.replace

    def replace(*arguments: object, **named: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rebuilding.os, "replace", replace)
    try:
        await vault.rebuild(STORE_URL, OPERATION, set_aside=True)
    except KeyboardInterrupt:
        monkeypatch.setattr(rebuilding.os, "replace", real)
        if (vault.folder / "vault.json").exists() and (vault.folder / "journal.sqlite3").exists():
            pass  # nothing was moved: the old one is whole
        else:
            with pytest.raises(VaultError):  # never taken for a new and empty vault
                await vault.open(STORE_URL)
            await vault.rebuild(STORE_URL, OPERATION, set_aside=True)
    else:
        assert step > 6
    await vault.open(STORE_URL, create=False)
    assert await found(vault) == records
    assert (await vault.journal.verify()).ok
    await vault.aclose()


async def test_a_collector_restores_from_what_was_found(tmp_path: Path) -> None:
    """The latest version by default, the older one as of its time; a live object is left alone."""
    clock = FakeClock()
    store = FakeStore(clock)
    config = create_config(bucket="memory://fake", vault_path=tmp_path / "vault", mode="execute")
    plugins = create_plugin_manager(entry_points=False)
    vault = LocalVault(tmp_path / "vault", compressors=[], clock=clock, codec="store")
    await vault.open(store.url)
    times = []
    for body in (b"first", b"second"):
        info = store.upload("k", body)
        times.append(clock.now())
        clock.advance(timedelta(days=10))
        async with vault.session(str(ULID.from_datetime(clock.now()))) as session, store.get("k") as reader:
            await session.add(info, reader.attributes, reader.chunks())
            await session.commit()
        store.remove("k")
        clock.advance(timedelta(days=10))
    await vault.aclose()
    lose_journal(vault)
    vault = LocalVault(tmp_path / "vault", compressors=[], clock=clock, codec="store")
    await vault.rebuild(store.url, AFTER)
    async with Collector.open(config, store=store, vault=vault, plugins=plugins, clock=clock) as gc:
        told = await gc.explain("k")
        assert "in the vault" in told.decision
        await gc.restore(key="k", at=times[0] + timedelta(hours=1), dry_run=False)
        assert store.contents()["k"] == b"first"
        store.remove("k")
        await gc.restore(prefix="", dry_run=False)
        assert store.contents()["k"] == b"second"
        store.upload("k", b"newer")
        assert not (await gc.restore(prefix="", dry_run=False)).restored
        assert store.contents()["k"] == b"newer"
        # Long after both operations there was nothing.
        assert not (await gc.restore(prefix="", at=clock.now())).restored


async def test_the_archive_rebuilds_without_bucket_and_database(tmp_path: Path) -> None:
    bucket = tmp_path / "gone"
    config = create_config(
        bucket=bucket.as_uri(), vault_path=tmp_path / "vault", database_url="sqlite:////nowhere/at/all"
    )
    vault = local_vault(tmp_path / "vault")
    await vault.open(bucket.as_uri())
    async with vault.session(OPERATION) as session:
        await add(session, "k", b"body")
        await session.commit()
    await vault.aclose()
    (tmp_path / "vault" / "journal.sqlite3").unlink()
    with pytest.raises(VaultError, match="missing"):
        async with Archive.open(config):
            pass
    report = await Archive.rebuild(config)
    assert report.backups == 1
    assert report.previous_vault is not None  # vault.json was still there
    async with Archive.open(config) as archive:
        assert archive.vault.id == report.vault_id
