"""Folders, parents and claims keep an object: in the registry, in the direct read, and in the sweep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from fixtures_kernel import (  # noqa: F401
    DAY,
    FREE,
    HOUR,
    LIVE,
    Bench,
    Following,
    Scanned,
    anyio_backend,
    bench,
    entries,
    held_by,
    observed,
)
from s3gc import Reference, Safety
from s3gc.derivation import Derivation
from s3gc.protection import Protection, Sought
from s3gc.registry import folder_hash, key_hash

pytestmark = pytest.mark.anyio

THUMBS = {"thumbs/{key}_{size}.jpg": "{key}.jpg"}
KINDS = pytest.mark.parametrize("kind", [Following, Scanned])


# --------------------------------------------------------------------------- the rules


def test_registry_and_direct_read_are_asked_for_the_same() -> None:
    protection = Protection(Derivation(THUMBS))
    key = "thumbs/a/b_200.jpg"
    folders, parents = protection.hashes(key)
    assert set(folders) == {folder_hash(""), folder_hash("thumbs/"), folder_hash("thumbs/a/")}
    assert set(parents) == {key_hash("a/b.jpg"), folder_hash(""), folder_hash("a/")}
    assert set(protection.all_hashes(key)) == {key_hash(key), *folders, *parents}
    sought = Sought([key, "other"], protection)
    assert set(sought.names) == {key, "a/b.jpg", "other"}

    def protects(name: str, *, prefix: bool = False) -> set[str]:
        return set(sought.protected_by(Reference(name, prefix=prefix)))

    assert protects(key) == protects("a/b.jpg") == {key}
    assert protects("a/", prefix=True) == protects("thumbs/a/", prefix=True) == {key}
    assert protects("", prefix=True) == {key, "other"}
    assert protects("a/") == protects("a", prefix=True) == protects("thumbs/a/b", prefix=True) == set()


# --------------------------------------------------------------------------- folders


@KINDS
@pytest.mark.parametrize(
    ("folder", "kept"),
    [
        ("free/", set(FREE)),
        ("", set(FREE)),
        ("free", set()),
        ("fre", set()),
        ("free/1/", set()),
        ("Free/", set()),
    ],
)
async def test_a_folder_keeps_all_below_it(
    tmp_path: Path, kind: type[Following], folder: str, kept: set[str]
) -> None:
    bench = Bench(tmp_path, kind)
    bench.source.write("2", folders=[folder])
    async with bench.open() as gc:
        report = await gc.collect()
    assert bench.keys == {LIVE} | kept
    assert report.kept["referenced"] == 1 + len(kept)


@KINDS
async def test_the_marker_of_a_folder_is_an_object_and_no_folder(
    tmp_path: Path, kind: type[Following]
) -> None:
    bench = Bench(tmp_path, kind)
    bench.store.upload("free/", b"")
    bench.clock.advance(DAY)
    bench.source.write("2", "free/")
    async with bench.open() as gc:
        await gc.collect()
        assert bench.keys == {LIVE, "free/"}
        bench.source.write("2", folders=["free/"])
        await gc.collect()
    assert bench.keys == {LIVE, "free/"}, "it lies in the folder that it marks"


async def test_a_folder_that_is_no_longer_named_keeps_nothing(bench: Bench) -> None:
    bench.source.write("2", folders=["free/"])
    async with bench.open() as gc:
        assert list((await gc.collect()).deleted) == []
        bench.source.write("2", folders=["elsewhere/"])
        assert sorted((await gc.collect()).deleted) == FREE


@KINDS
@pytest.mark.parametrize("event", ["plan_made", "batch_verified", "batch_backed_up"])
@pytest.mark.parametrize("derived", [False, True])
async def test_a_folder_that_is_named_between_plan_and_delete_keeps(
    tmp_path: Path, kind: type[Following], event: str, derived: bool
) -> None:
    bench = Bench(tmp_path, kind)
    folder = "big/" if derived else "free/"
    bench.on[event] = lambda: bench.source.write("2", folders=[folder])
    async with bench.open(derived={"free/{n}": "big/{n}"}) as gc:
        report = await gc.collect()
    assert list(report.deleted) == []
    assert bench.keys == {LIVE, *FREE}


@KINDS
async def test_a_folder_that_only_the_registry_knows_keeps(tmp_path: Path, kind: type[Following]) -> None:
    bench = Bench(tmp_path, kind)
    bench.source.blind = True
    bench.source.write("2", folders=["free/"])
    async with bench.open() as gc:
        await gc.collect()
    assert bench.keys == {LIVE, *FREE}


@KINDS
@pytest.mark.parametrize("folder", ["free/", "big/"])
async def test_a_folder_that_is_named_after_the_delete_heals(
    tmp_path: Path, kind: type[Following], folder: str
) -> None:
    bench = Bench(tmp_path, kind)

    async def late(key: str) -> None:
        bench.source.write("late", folders=[folder])

    bench.store.after_delete = late
    async with bench.open(derived={"free/{n}": "big/{n}"}) as gc:
        report = await gc.collect()
        assert sorted(report.resurrected) == FREE
        why = {entry.data["why"] for entry in await entries(gc, "resurrected")}
        assert why == {f"following: rows.folder of row late names the folder {folder!r} that it lies in"}
    assert bench.keys == {LIVE, *FREE}


# --------------------------------------------------------------------------- derived objects


def with_thumbs(folder: Path, kind: type[Following]) -> Bench:
    """``a.jpg`` is referenced and ``b.jpg`` is not; each has two thumbnails."""
    bench = Bench(folder, kind)
    for name in ("a", "b"):
        for key in (f"{name}.jpg", f"thumbs/{name}_1.jpg", f"thumbs/{name}_2.jpg"):
            bench.store.upload(key, key.encode())
    bench.source.write("a", "a.jpg")
    bench.clock.advance(DAY)
    return bench


THUMBS_OF_A = {"thumbs/a_1.jpg", "thumbs/a_2.jpg"}


@KINDS
async def test_a_thumbnail_lives_with_its_parent(tmp_path: Path, kind: type[Following]) -> None:
    bench = with_thumbs(tmp_path, kind)
    async with bench.open(derived=THUMBS) as gc:
        report = await gc.collect()
        assert bench.keys == {LIVE, "a.jpg"} | THUMBS_OF_A
        assert (report.kept["derived"], report.kept["referenced"]) == (2, 2)
        bench.source.remove("a")
        assert set((await gc.collect()).deleted) == {"a.jpg"} | THUMBS_OF_A


async def test_without_the_rule_it_does_not(tmp_path: Path) -> None:
    bench = with_thumbs(tmp_path, Following)
    async with bench.open() as gc:
        await gc.collect()
    assert bench.keys == {LIVE, "a.jpg"}


@KINDS
async def test_what_is_referenced_itself_counts_as_referenced(tmp_path: Path, kind: type[Following]) -> None:
    bench = with_thumbs(tmp_path, kind)
    bench.source.write("2", "thumbs/a_1.jpg")
    bench.source.write("3", folders=["thumbs/"])
    async with bench.open(derived=THUMBS, mode="dry_run") as gc:
        kept = (await gc.plan()).kept
    assert kept == {"referenced": 6}, "live, a.jpg, and four by their folder, two of them derived too"


async def test_what_is_derived_and_referenced_counts_once(tmp_path: Path) -> None:
    bench = with_thumbs(tmp_path, Following)
    bench.source.write("2", "thumbs/a_1.jpg")
    async with bench.open(derived=THUMBS, mode="dry_run") as gc:
        assert (await gc.plan()).kept == {"derived": 1, "referenced": 3}


@KINDS
async def test_the_folder_of_a_parent_keeps_its_thumbnails(tmp_path: Path, kind: type[Following]) -> None:
    bench = Bench(tmp_path, kind)
    bench.store.upload("thumbs/album/x_1.jpg", b"")
    bench.source.write("2", folders=["album/"])
    bench.clock.advance(DAY)
    async with bench.open(derived=THUMBS) as gc:
        report = await gc.collect()
    assert (bench.keys, report.kept["derived"]) == ({LIVE, "thumbs/album/x_1.jpg"}, 1)


@KINDS
@pytest.mark.parametrize("event", ["plan_made", "batch_verified", "batch_backed_up"])
async def test_a_parent_that_is_named_between_plan_and_delete_keeps(
    tmp_path: Path, kind: type[Following], event: str
) -> None:
    bench = with_thumbs(tmp_path, kind)
    bench.on[event] = lambda: bench.source.write("b", "b.jpg")
    async with bench.open(derived=THUMBS) as gc:
        report = await gc.collect()
    assert sorted(report.deleted) == FREE
    # One row protects three objects. A scanned source tells of it by the direct read alone.
    by_changes = kind is Following and event != "plan_made"
    assert report.kept == {"referenced": 2 + 3 * by_changes, "derived": 2} | (
        {} if by_changes else {"referenced_now": 3}
    )


@KINDS
async def test_a_parent_that_is_named_after_the_delete_heals_its_thumbnails(
    tmp_path: Path, kind: type[Following]
) -> None:
    bench = with_thumbs(tmp_path, kind)

    async def late(key: str) -> None:
        bench.source.write("b", "b.jpg")

    bench.store.after_delete = late
    async with bench.open(derived=THUMBS) as gc:
        report = await gc.collect()
    assert sorted(report.resurrected) == ["b.jpg", "thumbs/b_1.jpg", "thumbs/b_2.jpg"]
    assert sorted(report.deleted) == FREE


async def test_a_parent_that_is_named_in_a_late_batch_heals_an_early_one(tmp_path: Path) -> None:
    bench = with_thumbs(tmp_path, Following)

    async def late(key: str) -> None:
        if key == "thumbs/b_2.jpg":
            bench.source.write("b", "b.jpg")

    bench.store.after_delete = late
    async with bench.open(derived=THUMBS, safety=Safety.none().but(batch_objects=1)) as gc:
        report = await gc.collect()
    assert sorted(report.resurrected) == ["b.jpg", "thumbs/b_1.jpg", "thumbs/b_2.jpg"]


async def test_a_key_that_can_be_read_in_too_many_ways_is_kept(bench: Bench) -> None:
    unclear = "x" * 1_023
    bench.store.upload(unclear, b"")
    bench.clock.advance(DAY)
    async with bench.open(derived={"{a}{b}": "{b}/{a}"}) as gc:
        report = await gc.collect()
        assert report.kept["unclear_parent"] == 1
        verdicts = {one.gate: one for one in (await gc.explain(unclear)).verdicts}
        assert verdicts["unclear_parent"].keep
    assert unclear in bench.keys


# --------------------------------------------------------------------------- claims


async def claims(gc: Any, key: str) -> bool:
    return bool(await gc.claim(key, HOUR))


async def test_what_is_claimed_before_the_sweep_is_kept(bench: Bench) -> None:
    async with bench.open() as gc, bench.open() as application:
        assert await claims(application, "free/1")
        report = await gc.collect()
        assert report.kept["claimed"] == 1
        assert sorted(report.deleted) == FREE[1:]
        assert "free/1" not in {entry.key for entry in await entries(gc, "delete_intended")}
        bench.clock.advance(2 * HOUR)
        assert list((await gc.collect()).deleted) == ["free/1"], "the claim is over"


async def test_the_last_look_at_claims_comes_after_all_other_looks(bench: Bench) -> None:
    async with bench.open() as gc, bench.open() as application:
        doom = gc._parts.registry.claims.doom

        async def after_a_claim(*arguments: Any) -> Any:
            assert await claims(application, "free/1")
            return await doom(*arguments)

        gc._parts.registry.claims.doom = after_a_claim
        report = await gc.collect()
        assert report.kept["claimed"] == 1
        assert sorted(report.deleted) == FREE[1:]
        assert "free/1" not in {entry.key for entry in await entries(gc, "delete_intended")}


def on_first(bench: Bench, act: Callable[[], Any]) -> Callable[[str], Any]:
    """Once, at the first delete."""
    done: list[bool] = []

    async def once(key: str) -> None:
        if not done:
            done.append(True)
            await act()

    return once


@pytest.mark.parametrize("moment", ["before_delete", "after_delete"])
@pytest.mark.parametrize("own_process", [True, False])
async def test_what_is_claimed_while_it_is_deleted_is_put_back_first(
    bench: Bench, moment: str, own_process: bool
) -> None:
    answers: list[tuple[bool, bool]] = []
    async with bench.open() as gc, bench.open() as other, anyio.create_task_group() as tasks:
        application = other if own_process else gc
        waits = anyio.Event()
        is_doomed = application._parts.registry.claims.is_doomed

        async def asks(key: str) -> bool:
            waits.set()
            return bool(await is_doomed(key))

        application._parts.registry.claims.is_doomed = asks

        async def claim_it() -> None:
            answer = await claims(application, "free/1")
            answers.append((answer, "free/1" in bench.keys))

        async def begin() -> None:
            tasks.start_soon(claim_it)
            await waits.wait()

        setattr(bench.store, moment, on_first(bench, begin))
        report = await gc.collect()
        assert list(report.resurrected) == ["free/1"]
        assert sorted(report.deleted) == FREE[1:]
    assert answers == [(True, True)]
    assert bench.store.contents()["free/1"] == b"free/1"


async def test_a_claim_of_a_deleted_key_restores_it(bench: Bench) -> None:
    async with bench.open() as gc:
        await gc.collect()
        assert bench.keys == {LIVE}
        assert await claims(gc, "free/1")
        assert bench.store.contents() == {LIVE: b"live", "free/1": b"free/1"}
        (back,) = await entries(gc, "resurrected")
        assert (back.key, back.data["why"]) == ("free/1", "claimed")
        assert not await claims(gc, "never")
        bench.store.remove("free/1")
        assert not await claims(gc, "free/1"), "the application deleted it itself"
        assert bench.keys == {LIVE}


async def test_a_claim_begins_grace_anew(bench: Bench) -> None:
    async with bench.open(safety=Safety.none().but(grace=DAY)) as gc:
        await gc.plan()
        bench.clock.advance(2 * DAY)
        plan = await gc.plan()
        assert await gc.claim("free/1", timedelta(minutes=1))
        bench.clock.advance(HOUR)
        report = await gc.collect(plan)
        assert sorted(report.deleted) == FREE[1:]
        assert report.kept["in_grace"] == 1


async def test_after_a_crash_a_doomed_key_is_free_to_be_claimed(bench: Bench) -> None:
    """The collector died between its doom and its deletes; recovery settles it and lets go."""
    async with bench.open() as gc:
        keep = gc._parts.vault.journal.append

        async def dies(drafts: Any) -> None:
            if any(draft.event == "delete_intended" for draft in drafts):
                raise RuntimeError("killed here")
            await keep(drafts)

        gc._parts.vault.journal.append = dies
        with pytest.raises(RuntimeError):
            await gc.collect()
        assert await gc._parts.registry.claims.is_doomed("free/1")
    async with bench.open() as gc:
        assert not await gc._parts.registry.claims.is_doomed("free/1")
        assert await claims(gc, "free/1")
        assert sorted((await gc.collect()).deleted) == FREE[1:]


async def test_what_a_vanished_operation_doomed_is_free_again(bench: Bench) -> None:
    """A vault that was put back from a copy knows nothing of the operation that the registry remembers."""
    async with bench.open() as gc:
        await gc._parts.registry.claims.doom("forgotten", ["free/1"], bench.clock.now())
        await gc.plan()
        assert not await gc._parts.registry.claims.is_doomed("free/1")
