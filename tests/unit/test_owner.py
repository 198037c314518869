"""Whose bucket this is: another vault that would delete here is held by the mark of the one that does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtures_kernel import DAY, FREE, LIVE, Bench, Scanned, anyio_backend, bench, held_by  # noqa: F401
from s3gc import owner
from s3gc.errors import CycleHeld, StoreError
from s3gc.model import SourceIdentity
from s3gc.owner import FOLDER

pytestmark = pytest.mark.anyio

OWNER = ("bucket_owner", "")


def vault(bench: Bench, name: str, **options: Any) -> Any:
    """A collector with a vault, so a journal and a registry, of its own."""
    return bench.open(vault_path=bench.folder / name, **options)


async def collect(bench: Bench, name: str, **options: Any) -> None:
    async with vault(bench, name, **options) as gc:
        await gc.collect()


async def held(bench: Bench, name: str, **options: Any) -> list[tuple[str, str]]:
    async with vault(bench, name, **options) as gc:
        return held_by(await gc.plan())


def marks(bench: Bench) -> set[str]:
    return {key for key in bench.store.reserved() if key.startswith(FOLDER)}


async def test_another_vault_on_the_bucket_is_held_and_deletes_nothing(bench: Bench) -> None:
    await collect(bench, "production")
    bench.store.upload("free/4", b"")
    bench.clock.advance(DAY)
    async with vault(bench, "staging") as gc:
        with pytest.raises(CycleHeld, match="belongs to another vault"):
            await gc.collect()
    assert bench.keys == {LIVE, "free/4"}
    await collect(bench, "production")
    assert bench.keys == {LIVE}, "the one that was there first goes on"


@pytest.mark.parametrize("mode", ["execute", "audit_only", "dry_run"])
async def test_it_is_held_in_every_mode(bench: Bench, mode: str) -> None:
    await collect(bench, "production")
    assert await held(bench, "staging", mode=mode) == [OWNER]


@pytest.mark.parametrize("mode", ["audit_only", "dry_run"])
async def test_who_deletes_nothing_leaves_no_mark(bench: Bench, mode: str) -> None:
    await collect(bench, "looker", mode=mode)
    async with vault(bench, "looker", mode=mode) as gc:
        await owner.bind(gc._parts)
    assert bench.store.reserved() == set()
    assert await held(bench, "production") == []


async def test_a_held_cycle_leaves_no_mark(bench: Bench) -> None:
    bench.source.truncate()
    async with vault(bench, "staging") as gc:
        with pytest.raises(CycleHeld, match="no_references"):
            await gc.collect()
    assert marks(bench) == set()


async def test_an_older_plan_of_another_vault_is_held_and_takes_nothing_over(bench: Bench) -> None:
    """It was made before anybody owned the bucket."""
    async with vault(bench, "staging") as gc:
        plan = await gc.plan()
        bench.store.upload("free/4", b"")
        await collect(bench, "production")
        bench.store.upload("free/1", b"free/1")
        with pytest.raises(CycleHeld, match="belongs to another vault"):
            await gc.collect(plan)
    assert "free/1" in bench.keys
    assert await held(bench, "production") == []


async def test_an_older_plan_is_not_executed_with_another_database(bench: Bench) -> None:
    """The name of the source leads elsewhere by now: its direct read would call everything free."""

    class Identified(Scanned):
        system = "7001"

        async def check(self) -> SourceIdentity:
            return SourceIdentity(self.name, "postgresql", {"system_identifier": self.system})

    database = Identified(bench.clock, "db")
    database.write("1", LIVE)
    async with bench.open(database) as gc:
        plan = await gc.plan()
        database.write("2", "free/1")
    staging = Identified(bench.clock, "db")
    staging.system = "7002"
    staging.write("1", LIVE)
    async with bench.open(staging) as gc:
        with pytest.raises(CycleHeld, match="system_identifier 7002"):
            await gc.collect(plan)
    assert bench.keys == {LIVE, *FREE}


async def test_marks_that_cannot_be_asked_hold(bench: Bench) -> None:
    await collect(bench, "vault")
    get = bench.store.get

    def failing(key: str, *, if_match: str | None = None) -> Any:
        if key.startswith(FOLDER):
            raise StoreError("503 slow down")
        return get(key, if_match=if_match)

    async with vault(bench, "vault") as gc:
        plan = await gc.plan()
        bench.store.get = failing  # type: ignore[method-assign]
        with pytest.raises(CycleHeld, match="store_failed"):
            await gc.plan()
        with pytest.raises(CycleHeld, match="store_failed"):
            await gc.collect(plan)


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        (["images"], ["images2"], True),
        (["images/"], ["videos", "audio"], True),
        (["images"], ["images/thumbs"], False),
        (["images/thumbs"], ["images"], False),
        (["images*"], ["images2"], False),
        (["a", "images"], ["b", "images/"], False),
        (["images"], [], False),
        ([], ["images"], False),
    ],
)
async def test_parts_of_a_bucket_may_have_an_owner_each(
    bench: Bench, first: list[str], second: list[str], apart: bool
) -> None:
    await collect(bench, "one", owned_prefixes=first)
    assert await held(bench, "two", owned_prefixes=second) == ([] if apart else [OWNER])
    if apart:
        await collect(bench, "two", owned_prefixes=second)
        assert await held(bench, "one", owned_prefixes=first) == []
        await collect(bench, "one", owned_prefixes=first)
        assert len(marks(bench)) == 2, "neither takes the other's mark away"


async def test_an_owner_deletes_only_what_is_its_own(bench: Bench) -> None:
    bench.store.upload("free2/1", b"")
    bench.store.upload("other/1", b"")
    bench.clock.advance(DAY)
    await collect(bench, "one", owned_prefixes=["free"])
    assert bench.keys == {LIVE, "free2/1", "other/1"}
    await collect(bench, "two", owned_prefixes=["free2", "other"])
    assert bench.keys == {LIVE}


async def test_an_acknowledgement_hands_the_bucket_over(bench: Bench) -> None:
    await collect(bench, "old")
    async with vault(bench, "new") as gc:
        assert held_by(await gc.plan()) == [OWNER]
        await gc.acknowledge("bucket_owner", "the old vault's disk is gone")
        await gc.collect()
        assert len(marks(bench)) == 1
        assert held_by(await gc.plan()) == []
    assert await held(bench, "old") == [OWNER], "and now the old one is the stranger"


async def test_a_changed_part_replaces_the_old_mark(bench: Bench) -> None:
    await collect(bench, "one", owned_prefixes=["free", "live"])
    await collect(bench, "one", owned_prefixes=["free"])
    assert len(marks(bench)) == 1
    assert await held(bench, "two", owned_prefixes=["live"]) == []


async def test_the_mark_outlives_the_registry_and_a_move_of_the_vault(bench: Bench) -> None:
    await collect(bench, "vault")
    bench.lose_registry()
    assert await held(bench, "vault") == []
    (bench.folder / "vault").rename(bench.folder / "moved")
    assert await held(bench, "moved") == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b'"text"',
        b"null",
        b"{}",
        b'{"vault": "x"}',
        b'{"vault": "x", "prefixes": 5}',
        b'{"vault": "x", "prefixes": null}',
        b'{"vault": "x", "prefixes": "zz"}',
        b'{"vault": "x", "prefixes": ["zz", 5]}',
        b'{"vault": 5, "prefixes": ["zz"]}',
        b"[" * 200_000,
        json.dumps({"vault": "x", "prefixes": ["zz"]}).encode()[:-1],
    ],
)
async def test_a_mark_that_cannot_be_read_owns_everything(bench: Bench, garbage: bytes) -> None:
    bench.store.upload(f"{FOLDER}x", garbage)
    assert await held(bench, "vault", owned_prefixes=["free"]) == [OWNER]
    async with vault(bench, "vault", owned_prefixes=["free"]) as gc:
        with pytest.raises(CycleHeld, match="unknown"):
            await gc.collect()
        await gc.acknowledge("bucket_owner", "somebody's test")
        assert sorted((await gc.collect()).deleted) == FREE
        assert len(marks(bench)) == 1, "what could not be read is gone"


async def test_a_huge_mark_is_not_read(bench: Bench) -> None:
    mark = json.dumps({"vault": "x", "prefixes": ["zz"], "more": "x" * 1024 * 1024})
    bench.store.upload(f"{FOLDER}x", mark.encode())
    assert await held(bench, "vault", owned_prefixes=["free"]) == [OWNER]


async def test_a_mark_that_goes_while_it_is_read_owns_nothing(bench: Bench) -> None:
    await collect(bench, "other")
    (mark,) = marks(bench)
    get = bench.store.get

    def racing(key: str, *, if_match: str | None = None) -> Any:
        if key == mark:
            bench.store.remove(key)
        return get(key, if_match=if_match)

    bench.store.get = racing  # type: ignore[method-assign]
    assert await held(bench, "vault") == []


async def test_a_mark_is_small_and_tells_whose_it_is(bench: Bench) -> None:
    await collect(bench, "one", owned_prefixes=["free", "b*"])
    (mark,) = marks(bench)
    body = json.loads(bench.store._objects[mark].body)
    async with vault(bench, "one", owned_prefixes=["free", "b*"]) as gc:
        assert body == {"vault": gc._parts.vault.id, "prefixes": ["b", "free/"]}
