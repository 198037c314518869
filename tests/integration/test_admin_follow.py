"""The follower in the lifespan: one at a time, out of the way of cycles, and health tells how it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from fixtures_admin import BASE, Site, client_of, run
from s3gc import Collector
from s3gc.capture import CaptureFinding, CaptureState, ChangeCapture
from s3gc.clock import SystemClock
from s3gc.errors import SourceError
from s3gc.testing.fakes import FakeFollowingSource
from s3gc_fastapi import _admin, _follower

pytestmark = pytest.mark.anyio


class Source(FakeFollowingSource, ChangeCapture):
    """Follows a log in memory, and keeps something in a database that isn't there."""

    state = CaptureState("followed", lag_bytes=7, held_bytes=1234)

    async def capture_state(self) -> CaptureState:
        return self.state

    async def set_up(self) -> list[str]:
        return []

    async def tear_down(self) -> list[str]:
        return []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(_admin, "FRESH", -1.0)
    monkeypatch.setattr(_admin, "STATS_FRESH", -1.0)
    return Site(tmp_path)


@pytest.fixture
def source() -> Source:
    made = Source(SystemClock())
    made.write("1", "images/11.jpg")
    return made


def app_of(site: Site, source: Source, **options: Any) -> Any:
    return site.app(config=site.config(database_url=None, tables={}), sources=[source], **options)


async def until(ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    found = None
    with anyio.move_on_after(60):
        while not wanted(found := await ask()):  # noqa: ASYNC110 - it is asked over HTTP
            await anyio.sleep(0.02)
        return found
    raise AssertionError(f"it stays {found}")


async def follower(client: httpx.AsyncClient) -> Any:
    return (await client.get(f"{BASE}/health")).json()["follower"]


async def first(client: httpx.AsyncClient) -> Any:
    return (await client.get(f"{BASE}/health")).json()["sources"][0]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_follows_between_cycles_and_gives_way_to_them(site: Site, source: Source) -> None:
    async with client_of(app_of(site, source, follow=True)) as client:
        await until(lambda: follower(client), lambda told: told["state"] in ("following", "waiting"))
        await run(client)  # the first reading of all rows is the cycle's
        position = (await first(client))["position"]
        source.write("2", "images/1.jpg")
        moved = await until(lambda: first(client), lambda told: told["position"] != position)
        assert moved["lag"] < 60
        await until(lambda: follower(client), lambda told: told["state"] == "following")
        await run(client)
        text = (await client.get(f"{BASE}/metrics/prometheus")).text
        assert "s3gc_follower_up{" in text
        assert "s3gc_source_held_bytes{bucket=" in text
        (numbers,) = (await client.get(f"{BASE}/metrics")).json()["capture"].values()
        assert (numbers["held_bytes"], numbers["lag_bytes"], numbers["ready"]) == (1234, 7, True)
        assert numbers["lag_seconds"] < 60


async def test_without_the_option_nobody_follows(site: Site, source: Source) -> None:
    async with client_of(app_of(site, source)) as client:
        await run(client)
        assert (await follower(client))["state"] == "off"
        position = (await first(client))["position"]
        source.write("2", "images/1.jpg")
        await run(client)
        assert (await first(client))["position"] != position
        assert "s3gc_follower_up{" not in (await client.get(f"{BASE}/metrics/prometheus")).text


async def test_of_two_workers_one_follows(site: Site, source: Source) -> None:
    app, other = app_of(site, source, follow=True), app_of(site, source, follow=True)
    async with client_of(app) as one, client_of(other) as two:
        await run(one)

        async def states() -> set[str]:
            return {(await follower(client))["state"] for client in (one, two)}

        await until(states, lambda told: told == {"following", "standing by"})


async def test_what_can_not_be_followed_is_told_and_ends_nothing(site: Site) -> None:
    async with client_of(site.app(follow=True)) as client:  # its database is scanned
        told = await until(lambda: follower(client), lambda told: told["state"] == "failed")
        assert "follows changes" in told["why"]
        await run(client)
        assert "s3gc_follower_up{bucket=" in (await client.get(f"{BASE}/metrics/prometheus")).text


async def test_an_error_is_tried_again(site: Site, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follower, "FIRST_PAUSE", 0.001)
    tries = 0
    original = Collector.follow

    async def broken(self: Collector, **options: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise RuntimeError(f"no luck with {site.config().admin_api_key}")
        await original(self, **options)

    monkeypatch.setattr(Collector, "follow", broken)
    async with client_of(app_of(site, source, follow=True)) as client:
        await run(client)
        await until(lambda: follower(client), lambda told: told["state"] == "following")
        assert tries == 4


async def test_health_tells_what_is_wrong_with_change_capture(site: Site, source: Source) -> None:
    async with client_of(app_of(site, source)) as client:
        await run(client)
        told = await first(client)
        assert (told["ok"], told["capture"]) == (
            True,
            {"ready": True, "findings": [], "lag_bytes": 7, "held_bytes": 1234},
        )
        ours = CaptureFinding("no_slot", "s", "there is no slot", "make one", ours=True)
        warns = CaptureFinding("small", "s", "little is kept", "keep more", fatal=False)
        source.state = CaptureState("followed", [ours, warns])
        told = await first(client)
        assert (told["ok"], told["capture"]["ready"]) == (True, False), "the next cycle mends it"
        assert told["capture"]["findings"] == ["there is no slot: make one", "little is kept: keep more"]
        source.state = CaptureState("followed", [CaptureFinding("low", "s", "wal_level is low", "set it")])
        answer = await client.get(f"{BASE}/health")
        told = answer.json()["sources"][0]
        assert (answer.status_code, told["ok"], told["capture"]["ready"]) == (503, False, False)
        assert "wal_level is low: set it" in told["detail"]

        async def fails() -> CaptureState:
            raise SourceError("it can't be looked at")

        source.capture_state = fails  # type: ignore[method-assign]
        told = await first(client)
        assert (told["ok"], told["capture"]) == (False, None)
        assert "it can't be looked at" in told["detail"]
        (numbers,) = (await client.get(f"{BASE}/metrics")).json()["capture"].values()
        assert "it can't be looked at" in numbers["error"]
