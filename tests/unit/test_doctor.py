"""The doctor: a broken precondition fails or warns under its own name, and comes with what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fixtures_kernel import FREE, LIVE, Bench, Scanned
from s3gc import Safety, create_config, create_plugin_manager
from s3gc.doctor import CHECKS, Check, Status, examine
from s3gc.doctor._vault import file_system_of
from s3gc.errors import CycleHeld, SourceError, StoreError
from s3gc.lease import hold
from s3gc.model import UntrackedColumn

pytestmark = pytest.mark.anyio

PASS, WARN, FAIL = Status.PASS, Status.WARN, Status.FAIL


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def _on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests' folder lies on."""
    monkeypatch.setattr("s3gc.doctor._vault.file_system_of", lambda folder: "ext4")


async def doctor(bench: Bench, *, probe: bool = False, **options: Any) -> list[Check]:
    known: dict[str, Any] = {
        "bucket": "fake-bucket",
        "mode": "execute",
        "retention_days": 0,
        "vault_path": bench.folder / "vault",
        "safety": Safety.full().but(grace=timedelta(0), min_observations=1),
    }
    return [
        check
        async for check in examine(
            create_config(**known | options),
            probe=probe,
            store=bench.store,
            sources=[bench.source] if bench.source is not None else [],
            clock=bench.clock,
            plugins=create_plugin_manager(entry_points=False),
        )
    ]


def of(checks: list[Check], name: str) -> list[tuple[str, Status]]:
    return [(check.subject, check.status) for check in checks if check.name == name]


def worst(checks: list[Check], name: str) -> Status:
    found = [check.status for check in checks if check.name == name]
    return FAIL if FAIL in found else WARN if WARN in found else PASS


async def ready(bench: Bench) -> None:
    """A collector that has worked: probed, planned, collected, verified, drilled."""
    async with bench.open(safety=Safety.full().but(grace=timedelta(0), min_observations=1)) as gc:
        bench.source.write("2", FREE[1])
        bench.source.write("3", FREE[2])
        await gc.collect()
        await gc.verify()
        await gc.drill()


async def test_all_is_well_and_every_check_was_made(bench: Bench, tmp_path: Path) -> None:
    await ready(bench)
    checks = await doctor(bench, probe=True, safety=Safety(), replicas=[(tmp_path / "copy").as_uri()])
    assert list(dict.fromkeys(check.name for check in checks)) == list(CHECKS), "in the order that is told"
    wrong = [check for check in checks if check.status is not PASS]
    assert [check.name for check in wrong if check.name not in ("replicas", "backups")] == []
    assert all(check.found for check in checks)
    assert all(check.fix for check in wrong), "what isn't right comes with what to do"
    assert not any(check.fix for check in checks if check.status is PASS)


async def test_looking_changes_nothing_in_the_bucket(bench: Bench) -> None:
    before = bench.store.contents(), bench.store.reserved()
    await doctor(bench)
    assert (bench.store.contents(), bench.store.reserved()) == before
    await doctor(bench, probe=True)
    assert (bench.store.contents(), bench.store.reserved()) == before


async def test_what_cannot_be_opened_ends_it(bench: Bench) -> None:
    (bench.folder / "vault").write_text("not a folder")
    checks = await doctor(bench)
    assert [(check.name, check.status) for check in checks] == [("opening", FAIL)]


# ------------------------------------------------------------------------------- one broken thing each


async def broken_settings(bench: Bench) -> dict[str, Any]:
    return {"safety": Safety.full().but(max_delete_share=0.9)}


async def broken_clock(bench: Bench) -> dict[str, Any]:
    now = bench.store.now

    async def late() -> Any:
        return await now() + timedelta(hours=1)

    bench.store.now = late  # type: ignore[method-assign]
    return {}


async def broken_listing(bench: Bench) -> dict[str, Any]:
    def refused(*args: Any, **options: Any) -> Any:
        raise StoreError("403: needs s3:ListBucket")

    bench.store.list = refused  # type: ignore[method-assign, assignment]
    return {}


async def broken_store(bench: Bench) -> dict[str, Any]:
    async def refused() -> Any:
        raise StoreError("403: needs s3:PutObject")

    bench.store.probe = refused  # type: ignore[method-assign]
    return {"probe": True}


async def broken_owner(bench: Bench) -> dict[str, Any]:
    async with bench.open(vault_path=bench.folder / "another") as gc:
        await gc.collect()
    return {}


async def broken_source(bench: Bench) -> dict[str, Any]:
    async def down() -> Any:
        raise SourceError("connection refused")

    bench.source.check = down  # type: ignore[method-assign]
    return {}


async def broken_pins(bench: Bench) -> dict[str, Any]:
    async with bench.open() as gc:
        await gc.plan()
    bench.source = Scanned(bench.clock, "another")
    return {}


async def broken_position(bench: Bench) -> dict[str, Any]:
    async with bench.open() as gc:
        await gc.plan()
        await gc._parts.registry.references.lose_position(bench.source.name, "the slot is gone")
    return {}


async def broken_coverage(bench: Bench) -> dict[str, Any]:
    async def loose(sample: int) -> AsyncIterator[UntrackedColumn]:
        yield UntrackedColumn("users", "name", "text", ["Ann", "Bob"], 2)
        yield UntrackedColumn("users", "avatar", "text", [LIVE, "free/9"], 2)

    bench.source.untracked = loose  # type: ignore[method-assign]
    return {}


async def broken_resolve_rate(bench: Bench) -> dict[str, Any]:
    for number in range(9):
        bench.source.write(f"x{number}", f"gone/{number}")
    async with bench.open(safety=Safety()) as gc:
        await gc.plan()
    return {}


async def broken_vault(bench: Bench) -> dict[str, Any]:
    return {"safety": Safety.full().but(max_vault_fill=0.0)}


async def broken_backups(bench: Bench) -> dict[str, Any]:
    await ready(bench)
    pack = next((bench.folder / "vault" / "packs").glob("*.pack"))
    whole = bytearray(pack.read_bytes())
    whole[len(whole) // 2] ^= 1
    pack.write_bytes(whole)
    async with bench.open() as gc:
        await gc._parts.vault.journal.append([])
        await gc.drill()
    return {}


async def broken_recovery(bench: Bench) -> dict[str, Any]:
    async with bench.open() as gc:
        from s3gc.cycle import journal

        await journal(gc._parts, "01AN4Z07BY79KA1307SR9X4MV3", "operation_started", {"kind": "collect"})
    return {}


async def broken_breakers(bench: Bench) -> dict[str, Any]:
    bench.source.write("2", *FREE[1:])
    async with bench.open(safety=Safety.none().but(max_deletes=0, self_clearing=())) as gc:
        with pytest.raises(CycleHeld):
            await gc.collect()
    return {}


Break = Callable[[Bench], Any]


@pytest.mark.parametrize(
    ("name", "how", "status"),
    [
        ("settings", broken_settings, WARN),
        ("clock", broken_clock, FAIL),
        ("listing", broken_listing, FAIL),
        ("store", broken_store, FAIL),
        ("owner", broken_owner, FAIL),
        ("source", broken_source, FAIL),
        ("pins", broken_pins, FAIL),
        ("position", broken_position, FAIL),
        ("coverage", broken_coverage, FAIL),
        ("resolve_rate", broken_resolve_rate, FAIL),
        ("vault", broken_vault, FAIL),
        ("backups", broken_backups, FAIL),
        ("recovery", broken_recovery, WARN),
        ("breakers", broken_breakers, FAIL),
    ],
)
async def test_a_broken_precondition_shows_under_its_own_name(
    bench: Bench, name: str, how: Break, status: Status
) -> None:
    sound = await doctor(bench, safety=Safety(), probe=True)
    assert worst(sound, name) in (PASS, WARN)
    options = await how(bench)
    checks = await doctor(bench, **{"safety": Safety()} | options)
    assert worst(checks, name) is status
    assert all(check.fix for check in checks if check.name == name and check.status is not PASS)
    assert {check.name for check in checks} >= set(CHECKS) - {"replicas", "fence", "position", "pins"}, (
        "the other checks are made all the same"
    )


async def test_an_open_transaction_shows_at_the_fence(bench: Bench) -> None:
    async def blocked(timeout: timedelta) -> Any:
        assert timeout <= timedelta(seconds=5)
        raise SourceError("1 transaction(s) that were open are open still")

    bench.source.fence = blocked  # type: ignore[method-assign]
    assert of(await doctor(bench), "fence") == [("following", WARN)]


async def test_no_source_at_all_fails(bench: Bench) -> None:
    bench.source = None  # type: ignore[assignment]
    assert ("", FAIL) in of(await doctor(bench), "source")


async def test_a_column_that_was_waived_is_named_and_passes_on(bench: Bench) -> None:
    await broken_coverage(bench)
    async with bench.open() as gc:
        with pytest.raises(CycleHeld, match="untracked_column"):
            await gc.collect()
        await gc.acknowledge("untracked_column", "old avatars", subject="following:users.avatar")
    assert ("users.avatar", WARN) in of(await doctor(bench), "coverage")


async def test_another_process_at_work_is_told(bench: Bench) -> None:
    await doctor(bench)
    async with hold(bench.folder / "vault" / "collector.lock"):
        assert of(await doctor(bench), "lock") == [("", WARN)]
    assert of(await doctor(bench), "lock") == [("", PASS)]


async def test_a_replica_that_is_down_fails_and_one_behind_is_to_look_at(
    bench: Bench, tmp_path: Path
) -> None:
    await ready(bench)
    there = tmp_path / "copies"
    checks = await doctor(bench, replicas=[there.as_uri()])
    assert worst(checks, "replicas") is not PASS


@pytest.mark.parametrize(
    ("kind", "mode", "status"),
    [
        ("tmpfs", "execute", FAIL),
        ("overlay", "dry_run", WARN),
        ("nfs4", "dry_run", FAIL),
        (None, "execute", WARN),
        ("ext4", "execute", WARN),  # one disk, no copy
    ],
)
async def test_what_the_vault_lies_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str | None, mode: str, status: Status
) -> None:
    monkeypatch.setattr("s3gc.doctor._vault.file_system_of", lambda folder: kind)
    assert of(await doctor(bench, mode=mode), "durability") == [("", status)]


def test_the_mount_nearest_to_the_folder_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n"
        "/dev/sda1 /data ext4 rw 0 0\n"
        "server:/x /data/far\\040away nfs4 rw 0 0\n"
        "tmpfs /datasheets tmpfs rw 0 0\n"
    )
    assert file_system_of(Path("/data/vault"), mounts) == "ext4"
    assert file_system_of(Path("/data/far away/vault"), mounts) == "nfs4"
    assert file_system_of(Path("/database"), mounts) == "overlay"
    assert file_system_of(Path("/datasheets"), mounts) == "tmpfs"
    assert file_system_of(Path("/data"), tmp_path / "none") is None
