"""Restores to other places, rows that name nothing, backups that are read again and tried."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_admin import AS_VIEWER, BASE, Site, client_of, finished, run
from fixtures_cli import FILES, KEPT, ORPHANS
from s3gc import Collector
from s3gc.clock import SystemClock
from s3gc.testing.fakes import FakeStore
from s3gc_fastapi import _report, _upkeep
from s3gc_fastapi._report import Sums

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (found := tmp_path / "other").mkdir()
    return found


def found_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------- to another place


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_into_a_place_of_the_configuration(site: Site, other: Path) -> None:
    config = site.config(restore_targets=[other.as_uri()])
    async with client_of(site.app(config=config)) as client:
        operation_id = await run(client)
        assert (await client.get(f"{BASE}/config")).json()["restore_targets"] == [other.as_uri()]
        into = {"into": other.as_uri()}
        would = (await client.post(f"{BASE}/restore/{operation_id}", params=into)).json()
        assert (would["restored"], would["dry_run"], found_in(other)) == (len(ORPHANS), True, {})
        one = {"s3_key": "images/1.jpg", "dry_run": "false", **into}
        assert (await client.post(f"{BASE}/restore-key", params=one)).json()["restored"] == 1
        assert found_in(other) == {"images/1.jpg": FILES["images/1.jpg"]}
        done = await client.post(f"{BASE}/restore/{operation_id}", params={"dry_run": "false", **into})
        assert (done.json()["restored"], done.json()["skipped"]) == (len(ORPHANS) - 1, 1)
        assert found_in(other) == {key: FILES[key] for key in ORPHANS}
        assert set(site.place.objects()) == KEPT, "the bucket itself has no more than before"
        told = (await client.get(f"{BASE}/operations/{done.json()['operation_id']}")).json()["operation"]
        assert told["filters"]["into"] == other.as_uri()
        assert (await client.get(f"{BASE}/metrics")).json()["total_restored"] == 0


@pytest.mark.parametrize(
    "into",
    [
        "/",
        "/..",
        "/x",
        "x",
        "?a=b",
        "#a",
        "",
        "file:///",
        "file:///etc",
        "s3://elsewhere",
        "\u0000",
        "\ud800",
    ],
)
async def test_no_other_place_is_written_to(site: Site, other: Path, into: str) -> None:
    """One that begins as an allowed one, contains one, or is none at all."""
    place = into if "://" in into or not into.isprintable() else other.as_uri() + (into or "/../other")
    async with client_of(site.app(config=site.config(restore_targets=[other.as_uri()]))) as client:
        operation_id = await run(client)
        before = found_in(site.folder)
        for path in (f"/restore/{operation_id}", "/restore-key?s3_key=images/1.jpg"):
            for dry_run in ("true", "false"):
                query = {"into": place.encode("utf-8", "surrogatepass"), "dry_run": dry_run}
                answer = await client.post(f"{BASE}{path}", params=query)
                assert answer.status_code == 422, (place, answer.text)
                assert answer.json()["error"]["type"] in ("no_target", "invalid")
        after = found_in(site.folder)
        assert {k: v for k, v in after.items() if not k.startswith("vault/")} == {
            k: v for k, v in before.items() if not k.startswith("vault/")
        }


async def test_without_targets_there_is_no_other_place(site: Site, other: Path) -> None:
    async with client_of(site.app()) as client:
        answer = await client.post(
            f"{BASE}/restore-key", params={"s3_key": "images/1.jpg", "into": other.as_uri()}
        )
        assert (answer.status_code, answer.json()["error"]["type"]) == (422, "no_target")


async def test_the_bucket_and_the_vault_are_no_targets(site: Site) -> None:
    targets = [site.place.bucket.as_uri(), (site.folder / "vault").as_uri()]
    async with client_of(site.app(config=site.config(restore_targets=targets))) as client:
        await run(client)
        for target in targets:
            query = {"s3_key": "images/1.jpg", "into": target, "dry_run": "false"}
            answer = await client.post(f"{BASE}/restore-key", params=query)
            assert answer.status_code == 503, answer.text
            assert "restore into another place" in answer.json()["error"]["message"]


# --------------------------------------------------------------------------- checks


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_rows_that_name_nothing_are_found(site: Site) -> None:
    with sqlite3.connect(site.place.database) as database:
        database.executemany(
            "INSERT INTO assets (location) VALUES (?)", [("gone/<script>.jpg",), ("gone/2.jpg",)]
        )
    database.close()
    async with client_of(site.app()) as client:
        answer = (await client.post(f"{BASE}/missing")).json()
        assert (answer["state"], answer["message"]) == ("completed", None)
        result = answer["result"]
        assert result["total"] == 2 == sum(result["columns"].values())
        named = {key for row in result["rows"] for key in row["keys"]}
        assert named >= {"gone/<script>.jpg", "gone/2.jpg"}
        assert {(row["table"], row["column"]) for row in result["rows"]} == {("assets", "location")}
        told = (await client.get(f"{BASE}/operations/{answer['operation_id']}")).json()
        assert (told["running"]["kind"], told["running"]["result"]) == ("missing", result)
        assert site.place.objects() == FILES


async def test_many_rows_are_counted_and_the_first_are_named(site: Site) -> None:
    with sqlite3.connect(site.place.database) as database:
        rows = [(f"gone/{number}.jpg",) for number in range(450)]
        database.executemany("INSERT INTO assets (location) VALUES (?)", rows)
    database.close()
    async with client_of(site.app()) as client:
        result = (await client.post(f"{BASE}/missing")).json()["result"]
        assert (result["total"], len(result["rows"])) == (450, 200)


async def test_backups_are_read_again_and_damage_is_told(site: Site) -> None:
    async with client_of(site.app()) as client:
        await run(client)
        for share in ("", "?share_of=2", "?share_of=2"):
            answer = (await client.post(f"{BASE}/verify{share}")).json()
            assert (answer["state"], answer["result"]["ok"]) == ("completed", True)
        assert answer["result"]["share"] == "2 of 2"
        numbers = (await client.get(f"{BASE}/metrics")).json()
        assert (numbers["last_verify_problems"], numbers["last_verify_at"] is None) == (0, False)
        (pack,) = (site.folder / "vault" / "packs").glob("*.pack")
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
        answer = (await client.post(f"{BASE}/verify")).json()
        assert answer["result"]["ok"] is False
        assert answer["result"]["problems"] == len(answer["result"]["first_problems"]) > 0
        assert (await client.get(f"{BASE}/metrics")).json()["last_verify_problems"] > 0
        for wrong in ("0", "-1", "1001", "x"):
            assert (await client.post(f"{BASE}/verify?share_of={wrong}")).status_code == 422


async def test_backups_are_tried(site: Site) -> None:
    async with client_of(site.app()) as client:
        await run(client)
        before = site.place.objects()
        answer = (await client.post(f"{BASE}/drill?objects=2")).json()
        assert (answer["result"]["ok"], answer["result"]["objects"], answer["result"]["restored"]) == (
            True,
            2,
            2,
        )
        assert site.place.objects() == before
        assert (await client.get(f"{BASE}/metrics")).json()["last_drill_problems"] == 0
        for wrong in ("0", "101", "x"):
            assert (await client.post(f"{BASE}/drill?objects={wrong}")).status_code == 422


async def test_a_check_that_takes_long_goes_on_beside_a_cycle(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, begun = anyio.Event(), anyio.Event()
    original = Collector.verify_backups

    async def slow(self: Collector, **options: Any) -> Any:
        begun.set()
        await release.wait()
        return await original(self, **options)

    monkeypatch.setattr(Collector, "verify_backups", slow)
    monkeypatch.setattr(_upkeep, "PATIENCE", 0.0)
    async with client_of(site.app()) as client:
        first = await client.post(f"{BASE}/verify")
        assert (first.status_code, first.json()["state"], first.json()["result"]) == (202, "running", None)
        operation_id = first.json()["operation_id"]
        await begun.wait()
        second = await client.post(f"{BASE}/verify")
        assert (second.status_code, second.json()["error"]["operation_id"]) == (409, operation_id)
        await run(client)
        release.set()
        assert (await finished(client, operation_id))["result"]["ok"] is True
        third = (await client.post(f"{BASE}/verify")).json()["operation_id"]
        assert (await finished(client, third))["state"] == "completed"


async def test_what_keeps_a_check_from_being_done_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Collector, **options: Any) -> Any:
        raise RuntimeError(f"no luck with {site.config().admin_api_key}")

    monkeypatch.setattr(Collector, "verify_backups", broken)
    async with client_of(site.app()) as client:
        answer = await client.post(f"{BASE}/verify")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "failed")
        assert str(site.config().admin_api_key) not in answer.text
        site.place.database.unlink()
        site.place.database.mkdir()
        answer = await client.post(f"{BASE}/missing")
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "held")
        refused = await client.post(f"{BASE}/drill", headers=AS_VIEWER)
        assert refused.status_code == 403


HOSTILE = [
    "../evil",
    "../../evil",
    "a/../../evil",
    "/evil",
    "//evil",
    "a//b",
    ".",
    "..",
    "a/",
    "-rf",
    "<b>.txt",
]


async def test_no_key_leads_out_of_the_place(site: Site, other: Path) -> None:
    """Keys that a bucket can hold, brought into a folder: what can be no file is told and not written."""
    store = FakeStore(SystemClock(), "hostile")
    store.upload("images/11.jpg", b"live")
    for key in HOSTILE:
        store.upload(key, key.encode())
    before = {path: path.read_bytes() for path in site.folder.rglob("*evil*")}
    config = site.config(restore_targets=[other.as_uri()])
    async with client_of(site.app(config=config, store=store)) as client:
        operation_id = await run(client)
        assert set(store.contents()) == {"images/11.jpg"}
        query = {"into": other.as_uri(), "dry_run": "false"}
        done = (await client.post(f"{BASE}/restore/{operation_id}", params=query)).json()
        assert done["restored"] + done["errors"] == len(HOSTILE)
        assert set(done["restored_keys"]) >= {"-rf", "<b>.txt"}
        assert set(done["error_keys"]) >= {key for key in HOSTILE if ".." in key or key.startswith("/")}
        assert found_in(other) == {key: key.encode() for key in done["restored_keys"]}
        assert {path: path.read_bytes() for path in site.folder.rglob("*evil*")} == before
        assert not list(site.folder.parent.glob("evil"))
        back = (await client.post(f"{BASE}/restore/{operation_id}?dry_run=false")).json()
        assert back["restored"] == len(HOSTILE), "into the bucket itself they come back, each as it was"
        assert all(store.contents()[key] == key.encode() for key in HOSTILE)


# --------------------------------------------------------------------------- reports


async def test_a_report_of_a_plan_and_of_an_operation(site: Site) -> None:
    async with client_of(site.app()) as client:
        assert (await client.get(f"{BASE}/report")).status_code == 404
        operation_id = await run(client)
        sizes = {key: len(FILES[key]) for key in ORPHANS}
        for query, kind in (("", "plan"), (f"?operation_id={operation_id}", "collect")):
            told = (await client.get(f"{BASE}/report{query}")).json()
            assert (told["kind"], told["objects"], told["bytes"]) == (kind, len(sizes), sum(sizes.values()))
            assert {one["s3_key"]: one["size"] for one in told["largest"]} == sizes
            assert sum(one["objects"] for one in told["folders"]) == len(sizes)
            assert {one["prefix"] for one in told["folders"]} >= {"images/"}
            page = (await client.get(f"{BASE}/ui/report{query}")).text
            assert all(key in page for key in sizes)
        for wrong in ("x", "0" * 25):
            assert (await client.get(f"{BASE}/report?operation_id={wrong}")).status_code == 422
            assert (await client.get(f"{BASE}/ui/report?operation_id={wrong}")).status_code == 422
        assert (await client.get(f"{BASE}/report?operation_id={'0' * 26}")).status_code == 404


@given(st.lists(st.tuples(st.text("ab/", max_size=8), st.integers(0, 9)), max_size=80), st.integers(1, 6))
def test_sums_lose_nothing_however_few_folders_are_told_apart(
    objects: list[tuple[str, int]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as few:
        few.setattr(_report, "MOST_FOLDERS", most)
        sums = Sums()
        for key, size in objects:
            sums.add(key, size)
        told = sums.document()
    assert (told["objects"], told["bytes"]) == (len(objects), sum(size for _, size in objects))
    assert len(sums.folders) <= most + 1, "the one for all the rest"
    assert sum(number for number, _ in sums.folders.values()) == len(objects)
    assert sum(size for _, size in sums.folders.values()) == told["bytes"]
    assert [one["size"] for one in told["largest"]] == sorted((s for _, s in objects), reverse=True)[:20]
    for name in sums.folders:
        assert not name or any(key.startswith(name) for key, _ in objects)
