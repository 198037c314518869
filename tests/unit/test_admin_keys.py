"""Keys, the limit for guessing, sessions and the schedule, by themselves and in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import anyio
import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from fixtures_admin import AS_OPERATOR, BASE, OPERATOR, Site, as_role, client_of
from s3gc import create_config
from s3gc.errors import ConfigError
from s3gc.testing.fakes import FakeClock
from s3gc_fastapi import AdminKey, Role
from s3gc_fastapi._keys import ADDRESSES, FAILURES, REFILL, Keyring, Throttle, _network, keys_of
from s3gc_fastapi._schedule import TOO_LATE, Schedule, Timer
from s3gc_fastapi._sessions import COOKIE, HOURS, Sessions, from_elsewhere, same
from s3gc_fastapi._values import clean, shown

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# --------------------------------------------------------------------------- keys


def test_the_keys_of_a_configuration() -> None:
    config = create_config("b-1", admin_api_key="one", admin_keys=["g:viewer:two:three"])
    ring = Keyring(keys_of(config))
    found = ring.find("one")
    assert found is not None
    assert (found.name, found.role) == ("admin", Role.OPERATOR)
    found = ring.find("two:three")
    assert found is not None
    assert (found.name, found.role) == ("g", Role.VIEWER)
    assert ring.find("") is None
    assert ring.find("two") is None
    assert "two" not in repr(found)
    assert ring.short == ["admin", "g"]


def test_keys_that_could_be_mistaken_are_refused() -> None:
    with pytest.raises(ConfigError, match="same name"):
        Keyring([AdminKey("a", Role.VIEWER, "x"), AdminKey("a", Role.OPERATOR, "y")])
    with pytest.raises(ConfigError, match="same text"):
        Keyring([AdminKey("a", Role.VIEWER, "x"), AdminKey("b", Role.OPERATOR, "x")])
    with pytest.raises(ConfigError, match="isn't empty"):
        AdminKey("a", Role.VIEWER, " ")


def test_comparing_a_key_looks_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only up to the right one: the time must not tell which it was, or how much was right."""
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("s3gc_fastapi._keys.hmac.compare_digest", compare)
    ring = Keyring(AdminKey(str(n), Role.VIEWER, f"key {n}") for n in range(3))
    for secret in ("key 0", "key 2", "no key"):
        compared.clear()
        ring.find(secret)
        assert len(compared) == 3
        assert {len(each) for each in compared} == {32}


def test_sessions_end_when_any_key_changes() -> None:
    keys = [AdminKey("a", Role.VIEWER, "x"), AdminKey("b", Role.OPERATOR, "y")]
    secret = Keyring(keys).signing_secret()
    assert secret == Keyring(keys[::-1]).signing_secret()
    others = (
        keys[:1],
        [keys[0], AdminKey("b", Role.OPERATOR, "z")],
        [keys[0], AdminKey("b", Role.VIEWER, "y")],
        [keys[0], AdminKey("c", Role.OPERATOR, "y")],
    )
    assert len({secret, *(Keyring(other).signing_secret() for other in others)}) == 5


# --------------------------------------------------------------------------- guessing


def test_an_address_runs_out_of_attempts_and_gets_one_back_in_time() -> None:
    clock = FakeClock()
    throttle = Throttle(clock)
    for _ in range(FAILURES):
        assert throttle.wait("10.0.0.1") == 0
        throttle.failed("10.0.0.1")
    assert 0 < throttle.wait("10.0.0.1") <= REFILL
    assert throttle.wait("10.0.0.2") == 0
    clock.advance(timedelta(seconds=REFILL))
    assert throttle.wait("10.0.0.1") == 0
    throttle.failed("10.0.0.1")
    assert throttle.wait("10.0.0.1") > 0
    assert throttle.failures == FAILURES + 1


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), max_size=80))
def test_nobody_guesses_faster_than_the_limit(attempts: list[tuple[int, float]]) -> None:
    clock = FakeClock()
    throttle = Throttle(clock)
    start = clock.now()
    tried = dict.fromkeys(range(4), 0)
    for address, pause in attempts:
        clock.advance(timedelta(seconds=pause))
        if throttle.wait(str(address)) == 0:
            tried[address] += 1
            throttle.failed(str(address))
    seconds = (clock.now() - start).total_seconds()
    assert all(count <= FAILURES + seconds / REFILL + 1e-3 for count in tried.values())


def test_addresses_are_remembered_in_bounds_and_ipv6_by_network() -> None:
    throttle = Throttle(FakeClock())
    for number in range(ADDRESSES + 10):
        throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(throttle._buckets) == ADDRESSES
    assert _network("2001:db8::1") == _network("2001:db8::ffff") != _network("2001:db8:0:1::1")
    assert _network("::ffff:10.0.0.1") != _network("::ffff:10.0.0.2")
    assert _network("unix") == "unix"


async def test_wrong_keys_are_logged_and_slowed_and_the_right_one_waits_with_them(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with client_of(site.app(clock=clock), headers={}) as client:
        with caplog.at_level(logging.INFO, "s3gc_fastapi"):
            for number in range(FAILURES):
                answer = await client.get(f"{BASE}/status", headers=as_role(f"guess {number}"))
                assert answer.status_code == 401
            for headers in (as_role("guess"), AS_OPERATOR):
                answer = await client.get(f"{BASE}/status", headers=headers)
                assert answer.status_code == 429
                assert int(answer.headers["retry-after"]) >= 1
        refused = [r for r in caplog.records if r.getMessage() == "admin_key_refused"]
        assert len(refused) == FAILURES
        assert all(r.__dict__["address"] == "127.0.0.1" for r in refused)
        assert not any("guess" in str(r.__dict__) for r in caplog.records)
        clock.advance(timedelta(seconds=REFILL))
        assert (await client.get(f"{BASE}/status", headers=AS_OPERATOR)).status_code == 200


async def test_an_admin_without_a_key_says_so_at_the_start(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "s3gc_fastapi"):
        site.app(config=site.config(admin_api_key=None, admin_keys=[]))
        site.app(config=site.config(admin_api_key="short", admin_keys=[]))
        site.app()
    assert [r.getMessage() for r in caplog.records] == ["admin_closed", "admin_key_short"]
    assert "S3GC_ADMIN_API_KEY" in caplog.records[0].__dict__["why"]
    assert "'short'" not in str(caplog.records[1].__dict__["keys"])


# --------------------------------------------------------------------------- sessions


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw, "query_string": b""})


def test_a_session_is_signed_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring([AdminKey("a", Role.VIEWER, "x")])
    response = Response()
    Sessions(ring).open(response, AdminKey("a", Role.VIEWER, "x"), path="/admin", secure=True)
    cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/admin"} <= set(cookie.split("; "))
    value = cookie.partition("=")[2].partition(";")[0]
    session = Sessions(ring).read(request(cookie=f"{COOKIE}={value}"))
    assert session is not None
    assert session.key.name == "a"
    for wrong in ("", "x", value[:-1], "a" + value, value + "a"):
        assert Sessions(ring).read(request(cookie=f"{COOKIE}={wrong}")) is None
    nobody = Sessions(ring)._signer.dumps(["nobody", "x"])
    assert Sessions(ring).read(request(cookie=f"{COOKIE}={nobody}")) is None
    other = Keyring([AdminKey("a", Role.VIEWER, "y")])
    assert Sessions(other).read(request(cookie=f"{COOKIE}={value}")) is None
    import itsdangerous.timed

    later = datetime.now(UTC).timestamp() + HOURS * 3600 + 5
    monkeypatch.setattr(itsdangerous.timed.time, "time", lambda: later)
    assert Sessions(ring).read(request(cookie=f"{COOKIE}={value}")) is None


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({}, False),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://app.test"}, True),
        ({"origin": "https://app.test"}, False),
        ({"origin": "https://evil.test"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_what_other_sites_send_is_told_apart(headers: dict[str, str], elsewhere: bool) -> None:
    assert from_elsewhere(request(host="app.test", **headers)) is elsewhere


def test_nothing_is_the_same_as_nothing() -> None:
    assert same("a", "a")
    for one, other in ((None, None), ("", ""), ("a", None), (None, "a"), ("a", "b")):
        assert not same(one, other)


async def test_a_session_opens_the_api_and_changes_nothing_without_its_own_value(site: Site) -> None:
    app = site.app()
    ring = app.state.s3gc_admins[BASE].keyring
    response = Response()
    Sessions(ring).open(response, ring.find(OPERATOR), path="/", secure=False)
    value = response.headers["set-cookie"].partition("=")[2].partition(";")[0]
    session = Sessions(ring).read(request(cookie=f"{COOKIE}={value}"))
    assert session is not None
    async with client_of(app, headers={"cookie": f"{COOKIE}={value}"}) as client:
        assert (await client.get(f"{BASE}/status")).status_code == 200
        for headers in ({}, {"x-csrf-token": "wrong"}, {"x-csrf-token": ""}):
            assert (await client.post(f"{BASE}/plan", headers=headers)).json()["error"]["type"] == "csrf"
        right = {"x-csrf-token": session.csrf}
        assert (await client.post(f"{BASE}/plan", headers=right)).status_code == 202
        answer = await client.post(f"{BASE}/plan", headers={**right, "sec-fetch-site": "cross-site"})
        assert answer.json()["error"]["type"] == "cross_site"


# --------------------------------------------------------------------------- values


@given(st.text())
def test_what_is_shown_can_be_seen_and_cleaned_text_can_be_sent(text: str) -> None:
    assert shown(text).isprintable()
    assert clean({text: [text]})
    str(clean(text)).encode()


def test_texts_that_fool_people_are_escaped() -> None:
    assert shown("od\u202ed\x1b[31m\n.txt") == "od\\u202ed\\u001b[31m\\u000a.txt"
    assert shown("café/ü b.txt") == "café/ü b.txt"
    assert clean(float("nan")) is None


# --------------------------------------------------------------------------- schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "now", "due"),
    [
        ("02:30", "UTC", "2026-03-01T02:29:59", "2026-03-01T02:30:00"),
        ("02:30", "UTC", "2026-03-01T02:30:00", "2026-03-02T02:30:00"),
        ("30 2 * * *", "UTC", "2026-03-01T02:30:00", "2026-03-02T02:30:00"),
        ("0 */6 * * *", "UTC", "2026-03-01T06:00:01", "2026-03-01T12:00:00"),
        ("0 4 * * mon-fri", "UTC", "2026-03-06T04:00:00", "2026-03-09T04:00:00"),
        ("0 4 29 2 *", "UTC", "2026-03-01T00:00:00", "2028-02-29T04:00:00"),
        ("02:30", "Europe/Berlin", "2026-07-01T00:00:00", "2026-07-01T00:30:00"),
        # In the night without a 02:30 it runs all the same, and in the one with two of them, once.
        ("02:30", "Europe/Berlin", "2026-03-29T00:00:00", "2026-03-29T01:00:00"),
        ("02:30", "Europe/Berlin", "2026-10-24T23:00:00", "2026-10-25T00:30:00"),
        ("02:30", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
    ],
)
def test_when_the_next_run_begins(text: str, zone: str, now: str, due: str) -> None:
    assert Schedule(text, zone).after(at(now)) == at(due)


@pytest.mark.parametrize(
    ("text", "zone", "jitter"),
    [
        ("61 * * * *", "UTC", 0),
        ("* * * * xyz", "UTC", 0),
        ("0 0 30 2 *", "UTC", 0),
        ("02:30", "Europe/Nowhere", 0),
        ("02:30", "UTC", -1),
        ("02:30", "UTC", 3600),
    ],
)
def test_a_schedule_that_names_no_time_is_refused(text: str, zone: str, jitter: int) -> None:
    with pytest.raises(ConfigError):
        Schedule(text, zone, timedelta(seconds=jitter))


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.integers(0, 23), st.integers(0, 59))
def test_a_daily_run_is_never_more_than_a_day_away(moment: datetime, hour: int, minute: int) -> None:
    now = moment.replace(tzinfo=UTC)
    due = Schedule(f"{hour:02}:{minute:02}").after(now)
    assert now < due <= now + timedelta(days=1)
    assert (due.hour, due.minute, due.second) == (hour, minute, 0)


class Night:
    """Virtual time: it passes while the timer sleeps, and a run takes as long as the test says."""

    def __init__(self, schedule: Schedule, *, start: str, until: str) -> None:
        self.clock = FakeClock(at(start))
        self.until = at(until)
        self.begun: list[datetime] = []
        self.missed: list[datetime] = []
        self.takes = timedelta()
        self.asleep: Callable[[], None] = lambda: None
        self.timer = Timer(
            schedule, self.clock, self.run, self.missed.append, sleep=self.sleep, chance=Random(7)
        )

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 60
        self.clock.advance(timedelta(seconds=seconds))
        self.asleep()
        if self.clock.now() >= self.until:
            raise EndOfNight

    async def run(self, due: datetime) -> None:
        self.begun.append(self.clock.now())
        self.clock.advance(self.takes)

    async def pass_by(self) -> None:
        with pytest.raises(EndOfNight):
            await self.timer.serve()


class EndOfNight(Exception): ...


async def test_it_runs_at_each_time_once() -> None:
    night = Night(Schedule("0 * * * *"), start="2026-03-01T00:30:00", until="2026-03-01T05:10:00")
    await night.pass_by()
    assert night.begun == [at(f"2026-03-01T0{hour}:00:00") for hour in (1, 2, 3, 4, 5)]
    assert night.timer.next_run == at("2026-03-01T06:00:00")


async def test_a_run_whose_time_comes_during_another_is_left_out() -> None:
    night = Night(Schedule("0 * * * *"), start="2026-03-01T00:30:00", until="2026-03-01T06:10:00")
    night.takes = timedelta(minutes=130)
    await night.pass_by()
    assert night.begun == [at("2026-03-01T01:00:00"), at("2026-03-01T04:00:00")]
    assert night.missed == []


async def test_a_machine_that_slept_runs_late_or_leaves_it_out() -> None:
    for slept, begun, missed in ((TOO_LATE / 2, 1, 0), (TOO_LATE * 3, 0, 1)):
        night = Night(Schedule("02:00"), start="2026-03-01T01:59:30", until="2026-03-01T05:30:00")

        def fall_asleep(night: Night = night, slept: timedelta = slept) -> None:
            night.asleep = lambda: None
            night.clock.advance(slept)

        night.asleep = fall_asleep
        await night.pass_by()
        assert (len(night.begun), len(night.missed)) == (begun, missed)


async def test_a_clock_that_is_set_back_runs_nothing_twice() -> None:
    night = Night(Schedule("0 * * * *"), start="2026-03-01T00:59:00", until="2026-03-01T02:30:00")

    def set_back() -> None:
        if night.begun:
            night.asleep = lambda: None
            night.clock.advance(-timedelta(minutes=30))

    night.asleep = set_back
    await night.pass_by()
    assert len(night.begun) == 2
    assert night.begun[1] == at("2026-03-01T02:00:00")


async def test_a_clock_that_is_set_back_during_a_run_does_not_run_it_again() -> None:
    night = Night(Schedule("0 * * * *"), start="2026-03-01T00:59:00", until="2026-03-01T02:30:00")
    night.takes = -timedelta(minutes=10)

    def once() -> None:
        if night.begun:
            night.takes = timedelta()

    night.asleep = once
    await night.pass_by()
    assert night.begun == [at("2026-03-01T01:00:00"), at("2026-03-01T02:00:00")]


@given(st.integers(0, 3500))
def test_jitter_only_delays_and_by_less_than_it_may(seconds: int) -> None:
    night = Night(
        Schedule("0 2 * * *", jitter=timedelta(seconds=seconds)),
        start="2026-03-01T01:00:00",
        until="2026-03-03T01:30:00",
    )
    anyio.run(night.pass_by)
    assert len(night.begun) == 2
    for begun, day in zip(night.begun, (1, 2), strict=True):
        assert (
            at(f"2026-03-0{day}T02:00:00")
            <= begun
            <= at(f"2026-03-0{day}T02:00:00") + timedelta(seconds=seconds)
        )


async def test_of_several_workers_one_collects_and_none_is_missed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has the schedule; whoever comes first runs, also when it has ended before the next one looks."""
    due = datetime.now(UTC)
    apps: list[FastAPI] = [site.app() for _ in range(2)]
    admins = [app.state.s3gc_admins[BASE] for app in apps]
    async with client_of(apps[0]) as client, client_of(apps[1]):
        with caplog.at_level(logging.INFO):
            for admin in admins:
                await admin._scheduled(due)
            assert (await _runs(client)) == 1
            await admins[1]._scheduled(datetime.now(UTC))
            assert (await _runs(client)) == 2
    assert [r.getMessage() for r in caplog.records].count("scheduled_run_elsewhere") == 1


async def test_a_scheduled_run_that_meets_another_operation_is_skipped_loudly(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    app = site.app()
    admin = app.state.s3gc_admins[BASE]
    async with client_of(app) as client:
        async with admin.gc._operation(writes=False, own_id="01KOTHER"):
            with caplog.at_level(logging.WARNING):
                await admin._scheduled(datetime.now(UTC))
        assert (await _runs(client)) == 0
        admin._missed(datetime.now(UTC))
    assert "scheduled_run_skipped" in [r.getMessage() for r in caplog.records]
    assert "01KOTHER" in caplog.text or any("01KOTHER" in str(r.__dict__) for r in caplog.records)


async def _runs(client: httpx.AsyncClient) -> int:
    return int((await client.get(f"{BASE}/operations")).json()["total"])
