"""The lease: who may take it, what a holder must look at before a delete, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define

from s3gc import lease
from s3gc.abc import ObjectReader
from s3gc.errors import LeaseHeld, LeaseLost, PreconditionFailed, StoreError
from s3gc.lease import LEASE_PREFIX, Lease, NoLease, bucket_lease, hold
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectInfo
from s3gc.safety import Safety
from s3gc.testing.fakes import FakeClock, FakeStore

pytestmark = pytest.mark.anyio

TTL = timedelta(minutes=15)
MARGIN = timedelta(seconds=0.05)  # slept through for real
SAFETY = Safety.none().but(lease_ttl=TTL, lease_margin=MARGIN)
SECOND = timedelta(seconds=1)

Hook = Callable[[str, str], Awaitable[None]]


async def nothing(operation: str, key: str) -> None:
    pass


class Bucket(FakeStore):
    """A bucket whose requests a test can count, hold up and spoil."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.sent: list[str] = []
        self.before: Hook = nothing
        self.after: Hook = nothing
        self.conditions = True

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        await self._begin("list", prefix)
        found = [page async for page in super().list(prefix, start_after)]
        await self.after("list", prefix)
        for page in found:
            yield page

    def get(self, key: str, *, if_match: str | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        self.sent.append("get")
        return super().get(key, if_match=if_match)

    async def put(self, key: str, body: Any, **options: Any) -> ObjectInfo:
        await self._begin("put", key)
        if not self.conditions:
            options["if_none_match"] = False
        written = await super().put(key, body, **options)
        await self.after("put", key)
        return written

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        await self._begin("delete", key)
        return await super().delete(key, if_match=if_match)

    async def now(self) -> datetime:
        self.sent.append("now")
        return await super().now()

    async def _begin(self, operation: str, key: str) -> None:
        self.sent.append(operation)
        await self.before(operation, key)

    def raw(self) -> dict[str, bytes]:
        """All, s3gc's own too."""
        return {key: stored.body for key, stored in self._objects.items()}

    def tokens(self) -> dict[int, dict[str, Any]]:
        found = {key: body for key, body in self.raw().items() if key.startswith(LEASE_PREFIX)}
        return {int(key.removeprefix(LEASE_PREFIX)): json.loads(body) for key, body in found.items()}

    def write(self, number: int, **changes: Any) -> None:
        """A token by somebody else."""
        body = {
            "holder": "other",
            "nonce": "x",
            "released": False,
            "settled": True,
            "host": "there",
            "pid": 7,
        }
        self.upload(f"{LEASE_PREFIX}{number:012d}", json.dumps({**body, "renewals": 0, **changes}).encode())


@define
class TwoClocks:
    """A machine's clocks, which need not agree."""

    wall: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ticks: float = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def pass_by(self, span: timedelta) -> None:
        self.wall += span
        self.ticks += span.total_seconds()


class Bench:
    """A bucket and machines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store_clock = FakeClock()
        self.clock = TwoClocks()
        self.store = Bucket(self.store_clock)
        self.host = "here"
        self.ids = 0
        self.slept: list[float] = []
        monkeypatch.setattr(lease, "_whereabouts", lambda: (self.host, 1))
        real = anyio.sleep

        async def sleep(seconds: float) -> None:
            if seconds:
                self.slept.append(seconds)
            await real(seconds)

        monkeypatch.setattr("s3gc.lease.anyio.sleep", sleep)

    def new_id(self) -> str:
        self.ids += 1
        return f"id{self.ids}"

    def lease(self, holder: str = "mine", **options: Any) -> AbstractAsyncContextManager[Lease]:
        known: dict[str, Any] = {"store": self.store, "clock": self.clock, "safety": SAFETY}
        known |= options
        return bucket_lease(
            known["store"], known["clock"], known["safety"], holder=holder, new_id=self.new_id
        )

    def pass_by(self, span: timedelta) -> None:
        self.store_clock.advance(span)
        self.clock.pass_by(span)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


# --------------------------------------------------------------------------- on this machine


async def test_one_holds_the_lock(tmp_path: Path) -> None:
    async with hold(tmp_path / "lock"):
        with pytest.raises(LeaseHeld, match=r"another collector \(process \d+\)"):
            async with hold(tmp_path / "lock"):
                raise AssertionError
    async with hold(tmp_path / "lock"):
        pass


# --------------------------------------------------------------------------- taking


async def test_the_first_lease_is_number_one_and_released_at_the_end(bench: Bench) -> None:
    async with bench.lease() as held:
        assert held.token == 1
        assert bench.store.tokens() == {
            1: {
                "holder": "mine",
                "nonce": "id1",
                "released": False,
                "settled": True,
                "host": "here",
                "pid": 1,
                "renewals": 0,
            }
        }
        await held.confirm()
        await held.before_delete()
    assert bench.store.tokens()[1]["released"] is True
    assert bench.slept == []


async def test_numbers_grow_and_old_ones_are_cleaned_up(bench: Bench) -> None:
    for number in (1, 2, 3):
        async with bench.lease(f"holder {number}") as held:
            assert held.token == number
            assert list(bench.store.tokens()) == [number]
    assert bench.slept == []


async def test_a_held_lease_is_left_alone_and_says_whose_it_is(bench: Bench) -> None:
    async with bench.lease("A"):
        bench.pass_by(timedelta(minutes=5))
        bench.host = "elsewhere"
        with pytest.raises(LeaseHeld) as caught:
            async with bench.lease("B"):
                raise AssertionError
        assert str(caught.value) == (
            "another collector holds the bucket's lease 1: A, process 1 on host here, renewed 300 s ago. "
            "Wait until it has ended; if that machine is gone for good, the lease can be taken in 600 s"
        )
        assert list(bench.store.tokens()) == [1]


@pytest.mark.parametrize(("age", "free"), [(TTL, False), (TTL + SECOND, True)])
async def test_a_lease_expires_by_the_stores_clock(bench: Bench, age: timedelta, free: bool) -> None:
    bench.store.write(5)
    bench.clock.pass_by(timedelta(days=1))  # what our clock says doesn't matter
    bench.store_clock.advance(age)
    if free:
        async with bench.lease() as held:
            assert held.token == 6
    else:
        with pytest.raises(LeaseHeld):
            async with bench.lease():
                raise AssertionError


CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "released": ({"released": True}, False),
    "released while it waited": ({"released": True, "settled": False}, True),
    "ours": ({"holder": "mine", "host": "here"}, False),
    "ours, dead while it waited": ({"holder": "mine", "host": "here", "settled": False}, True),
    "ours, on another machine": ({"holder": "mine"}, True),
    "expired": ({}, True),
}


@pytest.mark.parametrize("case", CASES)
async def test_who_may_still_be_deleting_is_waited_for(bench: Bench, case: str) -> None:
    token, waits = CASES[case]
    bench.store.write(5, **token)
    if case == "expired":
        bench.store_clock.advance(TTL + SECOND)
    during: list[dict[str, Any]] = []

    async def note(operation: str, key: str) -> None:
        during.append(bench.store.tokens().get(6, {}))

    bench.store.before = note
    async with bench.lease() as held:
        assert held.token == 6
        assert bench.slept == ([MARGIN.total_seconds()] if waits else [])
        assert bench.store.tokens()[6]["settled"] is True
    assert (False in [token.get("settled") for token in during]) is waits


async def test_cancelled_in_the_wait_the_next_one_waits_too(bench: Bench) -> None:
    bench.store.write(5)
    bench.store_clock.advance(TTL + SECOND)
    with anyio.move_on_after(0.01):
        async with bench.lease():
            raise AssertionError
    assert [(t["released"], t["settled"]) for t in bench.store.tokens().values()] == [
        (False, True),
        (True, False),
    ]
    bench.slept.clear()
    async with bench.lease("B") as held:
        assert held.token == 7
        assert bench.slept == [MARGIN.total_seconds()]


async def test_taken_over_in_the_wait(bench: Bench) -> None:
    bench.store.write(5)
    bench.store_clock.advance(TTL + SECOND)

    async def overtake() -> None:
        await anyio.sleep(MARGIN.total_seconds() / 2)
        bench.store.write(7, holder="quicker")

    async with anyio.create_task_group() as group:
        group.start_soon(overtake)
        with pytest.raises(LeaseHeld, match="lease 7: quicker"):
            async with bench.lease():
                raise AssertionError
    assert bench.store.tokens()[6]["released"] is False  # whoever took it over need not know of us


async def test_of_two_at_once_one_gets_it(bench: Bench) -> None:
    got: list[str] = []

    async def want(holder: str) -> None:
        try:
            async with bench.lease(holder) as held:
                await held.before_delete()
                got.append(holder)
                await anyio.sleep(0.05)
        except LeaseHeld as error:
            assert "it was quicker" in str(error)  # noqa: PT017 - one of the two, whichever

    async def slow(operation: str, key: str) -> None:
        await anyio.sleep(0.01)

    bench.store.before = slow
    async with anyio.create_task_group() as group:
        for holder in "ABC":
            group.start_soon(want, holder)
    assert len(got) == 1
    assert list(bench.store.tokens()) == [1]


async def test_without_conditional_writes_the_last_writer_has_it(bench: Bench) -> None:
    bench.store.conditions = False
    passed: list[str] = []
    beaten: list[str] = []
    writing = 0
    both = anyio.Event()

    async def together(operation: str, key: str) -> None:
        """Both create number 1 before either looks."""
        nonlocal writing
        if operation == "put" and not both.is_set():
            writing += 1
            if writing == 2:
                both.set()
            await both.wait()

    async def want(holder: str) -> None:
        try:
            async with bench.lease(holder) as held:
                await held.before_delete()
                passed.append(holder)
                await anyio.sleep(0.05)
        except (LeaseHeld, LeaseLost):
            beaten.append(holder)

    bench.store.before = together
    async with anyio.create_task_group() as group:
        group.start_soon(want, "A")
        group.start_soon(want, "B")
    assert (len(passed), len(beaten)) == (1, 1)


async def test_without_conditional_writes_the_first_delete_looks_again(bench: Bench) -> None:
    async with bench.lease("A") as held:
        bench.store.write(1, holder="B", nonce="of B")  # B had looked before, and writes now
        with pytest.raises(LeaseLost, match="that of B"):
            await held.before_delete()
    assert bench.store.tokens()[1]["released"] is False


async def test_a_late_creation_of_a_taken_number_harms_nobody(bench: Bench) -> None:
    """Between our look and our request another took the number and began."""
    async with bench.lease("A") as first:

        async def meanwhile(operation: str, key: str) -> None:
            if operation == "put":
                bench.store.before = nothing
                await stack.__aenter__()

        stack = bench.lease("B")
        await first.before_delete()
        bench.store_clock.advance(TTL + SECOND)
        bench.store.before = meanwhile
        with pytest.raises(LeaseHeld, match="lease 2: B"):
            async with bench.lease("C"):
                raise AssertionError
        assert bench.store.tokens()[2]["holder"] == "B"
        await stack.__aexit__(None, None, None)


async def test_a_late_creation_of_an_old_number_is_no_lease(bench: Bench) -> None:
    """Between our look and our request others came and went, and the number was cleaned up."""
    bench.store.write(5, released=True)

    async def meanwhile(operation: str, key: str) -> None:
        if operation == "put" and 6 not in bench.store.tokens():
            bench.store.before = nothing
            bench.store.write(8, holder="B")

    bench.store.before = meanwhile
    with pytest.raises(LeaseHeld, match="lease 8: B"):
        async with bench.lease("A"):
            raise AssertionError
    assert bench.store.tokens()[8]["holder"] == "B"


async def test_a_lease_that_goes_while_it_is_read(bench: Bench) -> None:
    bench.store.write(5)
    bench.store.write(4, released=True)

    async def meanwhile(operation: str, key: str) -> None:
        bench.store.after = nothing
        bench.store.remove(f"{LEASE_PREFIX}{5:012d}")

    bench.store.after = meanwhile
    async with bench.lease() as held:
        assert held.token == 5


async def test_what_is_no_token_means_nothing(bench: Bench) -> None:
    for name in ("", "notes", "0000000000123", "12", "00000000000x", "000000000009/x"):
        bench.store.upload(LEASE_PREFIX + name, b"?")
    async with bench.lease() as held:
        assert held.token == 1
        await held.before_delete()


BIG = json.dumps(
    {"holder": "B", "nonce": "", "released": True, "settled": True, "host": "", "pid": 1, "renewals": 0}
).encode()


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"released": true}', BIG + b" " * 70_000], ids=range(6)
)
async def test_a_token_that_cannot_be_read_is_somebodys(bench: Bench, body: bytes) -> None:
    bench.store.upload(f"{LEASE_PREFIX}{1:012d}", body)
    with pytest.raises(LeaseHeld, match="unknown"):
        async with bench.lease():
            raise AssertionError
    bench.store_clock.advance(TTL + SECOND)
    async with bench.lease() as held:
        assert held.token == 2
        assert bench.slept == [MARGIN.total_seconds()]


@pytest.mark.parametrize(
    ("ttl", "margin"), [(TTL, timedelta(0)), (timedelta(0), timedelta(0)), (MARGIN * 2.9, MARGIN)]
)
def test_numbers_that_make_no_sense(ttl: timedelta, margin: timedelta) -> None:
    with pytest.raises(ValueError, match="lease_margin"):
        SAFETY.but(lease_ttl=ttl, lease_margin=margin)


# --------------------------------------------------------------------------- lost responses


class LostResponse:
    """The next write happens, or doesn't, or happens later; its answer is lost."""

    def __init__(self, bench: Bench, happens: bool) -> None:
        self.bench = bench
        if happens:
            bench.store.after = self.hook
        else:
            bench.store.before = self.hook

    async def hook(self, operation: str, key: str) -> None:
        if operation == "put":
            self.bench.store.before = self.bench.store.after = nothing
            raise StoreError("no answer", outcome_unknown=True)


async def test_the_answer_to_the_taking_is_lost_and_we_have_it(bench: Bench) -> None:
    LostResponse(bench, happens=True)
    async with bench.lease() as held:
        assert held.token == 1
        await held.before_delete()
    assert bench.store.tokens()[1]["released"] is True


async def test_the_answer_to_the_taking_is_lost_and_it_did_not_happen(bench: Bench) -> None:
    LostResponse(bench, happens=False)
    with pytest.raises(StoreError, match="no answer"):
        async with bench.lease():
            raise AssertionError
    assert bench.store.tokens() == {}


async def test_the_answer_is_lost_and_another_has_the_number(bench: Bench) -> None:
    async def hook(operation: str, key: str) -> None:
        if operation == "put":
            bench.store.before = nothing
            bench.store.write(1, holder="B")
            raise StoreError("no answer", outcome_unknown=True)

    bench.store.before = hook
    with pytest.raises(StoreError, match="no answer"):
        async with bench.lease("A"):
            raise AssertionError
    assert bench.store.tokens()[1]["holder"] == "B"


async def test_a_repeated_request_finds_its_own_object(bench: Bench) -> None:
    """A client that sent it twice by itself may tell that the object exists: it is ours."""

    async def hook(operation: str, key: str) -> None:
        if operation == "put":
            bench.store.after = nothing
            raise PreconditionFailed("exists")

    bench.store.after = hook
    async with bench.lease() as held:
        assert held.token == 1


async def test_a_taking_that_was_refused_writes_nothing_more(bench: Bench) -> None:
    async def hook(operation: str, key: str) -> None:
        if operation == "put":
            raise StoreError("denied")

    bench.store.before = hook
    with pytest.raises(StoreError, match="denied"):
        async with bench.lease():
            raise AssertionError
    assert bench.store.sent == ["now", "list", "put"]


async def test_a_renewal_whose_answer_is_lost(bench: Bench) -> None:
    async with bench.lease() as held:
        bench.pass_by(TTL / 2)
        LostResponse(bench, happens=True)
        with pytest.raises(StoreError, match="no answer"):
            await held.keep()
        await held.keep()  # another ETag is there now, and it is ours
        await held.before_delete()
        assert bench.store.tokens()[1]["renewals"] >= 1
    assert bench.store.tokens()[1]["released"] is True


# --------------------------------------------------------------------------- keeping


async def test_keep_asks_nothing_while_the_lease_is_young(bench: Bench) -> None:
    async with bench.lease() as held:
        bench.store.sent.clear()
        bench.pass_by(TTL / 3 - SECOND)
        await held.keep()
        assert bench.store.sent == []
        bench.pass_by(SECOND)
        await held.keep()
        assert bench.store.sent == ["list", "put"]
        await held.keep()
        assert bench.store.sent == ["list", "put"]
        bench.pass_by(TTL - SECOND)
        with pytest.raises(LeaseHeld):
            async with bench.lease("B"):
                raise AssertionError


def suspended(bench: Bench) -> None:
    bench.clock.wall += TTL / 2  # the monotonic clock stood still


def set_back(bench: Bench) -> None:
    bench.clock.ticks += (TTL / 2).total_seconds()
    bench.clock.wall -= timedelta(hours=1)


def stopped_wall(bench: Bench) -> None:
    bench.clock.ticks += (TTL / 2).total_seconds()


def went_back(bench: Bench) -> None:
    bench.clock.wall -= timedelta(microseconds=1)


@pytest.mark.parametrize("happening", [suspended, set_back, stopped_wall, went_back])
async def test_either_clock_can_tell_that_time_has_passed(
    bench: Bench, happening: Callable[[Bench], None]
) -> None:
    async with bench.lease() as held:
        await held.before_delete()
        bench.store.sent.clear()
        happening(bench)
        await held.keep()
        assert bench.store.sent == ["list", "put"]
        happening(bench)
        bench.store.write(2)
        with pytest.raises(LeaseLost):
            await held.before_delete()


async def superseded(bench: Bench) -> None:
    bench.store.write(2)


async def deleted(bench: Bench) -> None:
    bench.store.remove(f"{LEASE_PREFIX}{1:012d}")


async def overwritten(bench: Bench) -> None:
    bench.store.write(1, nonce="of another")


@pytest.mark.parametrize("happening", [superseded, deleted, overwritten])
@pytest.mark.parametrize("method", ["keep", "confirm", "before_delete"])
async def test_a_lost_lease_is_noticed_and_stays_lost(
    bench: Bench, happening: Callable[[Bench], Awaitable[None]], method: str
) -> None:
    async with bench.lease() as held:
        await held.before_delete()
        await happening(bench)
        bench.pass_by(TTL / 2)
        left = bench.store.raw()
        with pytest.raises(LeaseLost):
            await getattr(held, method)()
        assert bench.store.raw() == left
        bench.store.write(1, holder="mine", nonce="id1")
        bench.store.remove(f"{LEASE_PREFIX}{2:012d}")
        bench.store.sent.clear()
        for name in ("keep", "confirm", "before_delete"):
            with pytest.raises(LeaseLost):
                await getattr(held, name)()
    assert bench.store.sent == []  # no release either
    assert bench.store.tokens()[1]["released"] is False


# --------------------------------------------------------------------------- before each delete


async def test_a_look_counts_for_the_margin(bench: Bench) -> None:
    async with bench.lease() as held:
        bench.store.sent.clear()
        await held.before_delete()
        assert bench.store.sent == ["list"]  # having taken it is no look
        bench.pass_by(MARGIN - timedelta(milliseconds=1))
        await held.before_delete()
        assert bench.store.sent == ["list"]
        bench.pass_by(timedelta(milliseconds=1))
        await held.before_delete()
        assert bench.store.sent == ["list", "list"]


async def test_confirm_looks_now(bench: Bench) -> None:
    async with bench.lease() as held:
        await held.before_delete()
        bench.store.write(2)
        await held.before_delete()  # within the margin
        with pytest.raises(LeaseLost, match="number 2"):
            await held.confirm()
        with pytest.raises(LeaseLost, match="number 2"):
            await held.before_delete()


async def test_a_look_counts_from_its_beginning(bench: Bench) -> None:
    """A process that stopped while it looked learns nothing of what came since."""
    async with bench.lease() as held:
        slow = [True, False]

        async def stopped(operation: str, key: str) -> None:
            if operation == "list" and slow.pop(0):
                bench.pass_by(2 * MARGIN)
                bench.store.write(2)

        bench.store.after = stopped
        with pytest.raises(LeaseLost):
            await held.before_delete()
        assert slow == []


async def test_a_bucket_that_is_too_slow_to_look_at(bench: Bench) -> None:
    async with bench.lease() as held:

        async def stopped(operation: str, key: str) -> None:
            bench.pass_by(2 * MARGIN)

        bench.store.after = stopped
        with pytest.raises(StoreError, match="lease_margin"):
            await held.before_delete()
        bench.store.after = nothing
        await held.before_delete()


async def test_a_look_that_fails_lets_nothing_pass(bench: Bench) -> None:
    async with bench.lease() as held:
        await held.before_delete()
        bench.pass_by(2 * MARGIN)

        async def broken(operation: str, key: str) -> None:
            raise StoreError("503")

        bench.store.before = broken
        for _ in range(2):
            with pytest.raises(StoreError, match="503"):
                await held.before_delete()
        bench.store.before = nothing
        await held.before_delete()


async def test_many_workers_wait_for_one_look(bench: Bench) -> None:
    async with bench.lease() as held:
        bench.store.sent.clear()

        async def slow(operation: str, key: str) -> None:
            await anyio.sleep(0.01)

        bench.store.before = slow
        async with anyio.create_task_group() as group:
            for _ in range(64):
                group.start_soon(held.before_delete)
        assert bench.store.sent == ["list"]


async def test_renewed_on_the_way(bench: Bench) -> None:
    async with bench.lease() as held:
        bench.pass_by(TTL / 2)
        bench.store.sent.clear()
        await held.before_delete()
        assert bench.store.sent == ["list", "put"]


# --------------------------------------------------------------------------- its end


async def test_released_when_the_task_is_cancelled(bench: Bench) -> None:
    with anyio.move_on_after(0.01):
        async with bench.lease():
            await anyio.sleep(60)
    assert bench.store.tokens()[1]["released"] is True


async def test_released_when_the_body_fails(bench: Bench) -> None:
    with pytest.raises(KeyError):
        async with bench.lease():
            raise KeyError
    assert bench.store.tokens()[1]["released"] is True


@pytest.mark.parametrize("error", [StoreError("503"), OSError("a plugin's own")])
async def test_a_failing_release_hides_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def broken(operation: str, key: str) -> None:
        raise error

    async def work() -> None:
        async with bench.lease():
            bench.store.before = broken
            raise KeyError

    with pytest.raises(KeyError):
        await work()
    assert "lease_not_released" in caplog.text
    caplog.clear()
    bench.store.before = nothing
    bench.store_clock.advance(2 * TTL)
    async with bench.lease("B"):
        bench.store.before = broken
    assert "lease_not_released" in caplog.text
    assert bench.store.tokens()[2]["released"] is False


async def test_a_release_that_hangs_ends(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RELEASE_SECONDS", 0.01)

    async def hang(operation: str, key: str) -> None:
        await anyio.Event().wait()

    async with bench.lease():
        bench.store.before = hang
    assert "lease_not_released" in caplog.text


async def test_the_release_of_a_lease_that_was_taken_over_unnoticed_writes_nothing(bench: Bench) -> None:
    async with bench.lease():
        bench.store.write(1, holder="B", nonce="of B")
        left = bench.store.raw()
    assert bench.store.raw() == left


async def test_after_its_end_a_lease_allows_nothing(bench: Bench) -> None:
    async with bench.lease() as held:
        await held.before_delete()
    for name in ("keep", "confirm", "before_delete"):
        with pytest.raises(LeaseLost, match="released"):
            await getattr(held, name)()


async def test_a_clean_up_that_fails_is_told_and_harms_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store.write(1, released=True)

    async def broken(operation: str, key: str) -> None:
        if operation == "delete":
            raise StoreError("denied")

    bench.store.before = broken
    async with bench.lease() as held:
        await held.before_delete()
    assert "lease_clean_up_failed" in caplog.text
    assert sorted(bench.store.tokens()) == [1, 2]


async def test_no_lease_allows_all() -> None:
    none = NoLease()
    await none.keep()
    await none.confirm()
    await none.before_delete()
    assert none.token == 0


async def test_content_is_plain(bench: Bench) -> None:
    """No attributes: a store that keeps none need not warn."""
    async with bench.lease():
        head = await bench.store.head(f"{LEASE_PREFIX}{1:012d}")
        assert head is not None
        assert head.attributes == ObjectAttributes()
