"""Replaying a random history never calls a policy safe that would have deleted a key named again later.

The oracle knows the whole timeline and replays the policy cycle by cycle; the backtest has the registry only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
from attrs import frozen
from hypothesis import event, given, settings
from hypothesis import strategies as st

from s3gc.backtest import Policy, Verdict, _absence, judge
from s3gc.model import ChangeBatch, ObjectInfo, Position, Reference, RowChange
from s3gc.registry import Registry

KEYS = ("a", "b/c", "é")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MODIFIED = START - 30 * HOUR


@frozen
class Cycle:
    """What is so when a cycle runs, and what happened since the one before."""

    gap: int  # hours since the cycle before
    named: frozenset[str]
    spoken_of: frozenset[str]  # by a change, since the cycle before; the reference came and went
    goes: frozenset[str]  # of the free ones: deleted after this cycle, by whomever
    lost: bool = False  # the source's position was lost before this cycle


some_keys = st.frozensets(st.sampled_from(KEYS))
rarely = st.one_of(st.just(frozenset[str]()), st.just(frozenset[str]()), some_keys)
histories = st.lists(
    st.builds(Cycle, st.integers(1, 60), some_keys, rarely, rarely, st.just(False) | st.booleans()),
    min_size=1,
    max_size=9,
)
policies = st.builds(
    Policy,
    st.integers(0, 120).map(lambda hours: hours * HOUR),
    st.integers(1, 3),
    st.integers(0, 100).map(lambda hours: hours * HOUR),
)


async def replay(history: Sequence[Cycle], folder: Path) -> tuple[Registry, datetime]:
    registry = Registry(str(folder / "registry.sqlite3"))
    await registry.open("fake://bucket")
    there = set(KEYS)
    now = START
    await registry.references.begin()
    await registry.references.apply("s", Position("s", "0", 0), now, followed=True)
    for ordinal, cycle in enumerate(history, 1):
        now += cycle.gap * HOUR
        rows = [
            RowChange(
                "t",
                key,
                [Reference(key, "t", key, "c")] if key in cycle.named else [],
                named=([key] if key in cycle.spoken_of else []),
            )
            for key in KEYS
        ]
        batch = ChangeBatch(rows, Position("s", str(ordinal), ordinal), now - HOUR / 2)
        await registry.references.change("s", batch, now - HOUR / 2)
        if cycle.lost:
            await registry.references.lose_position("s", "lost")
        await registry.listing.begin()
        await registry.listing.add([ObjectInfo(key, 1, "e", MODIFIED) for key in sorted(there)])
        await registry.listing.finish()
        await registry.listing.compare()
        await registry.listing.observe(f"cycle {ordinal}", now)
        there -= cycle.goes - cycle.named
    return registry, now


def deletes_too_early(history: Sequence[Cycle], policy: Policy) -> bool:
    """By the timeline since the last loss: whether the policy deletes a key that is named later."""
    last = max((at for at, cycle in enumerate(history) if cycle.lost), default=0)
    now = START + sum(cycle.gap for cycle in history[:last]) * HOUR
    before: frozenset[str] = frozenset()
    since: dict[str, datetime] = {}
    seen = dict.fromkeys(KEYS, 0)
    deleted: set[str] = set()
    gone: set[str] = set()
    for cycle in history[last:]:
        now += cycle.gap * HOUR
        for key in KEYS:
            if key in cycle.named or key in cycle.spoken_of:
                if key in deleted:
                    return True
                since.pop(key, None)
                seen[key] = 0
            if key in cycle.named or (key in gone and key not in since):
                continue  # what has gone and was named since is not to be seen any more
            told = (key in before or key in cycle.spoken_of) and not cycle.lost
            since.setdefault(key, now - HOUR / 2 if told else now)
            seen[key] += 1
            long = now - since[key] >= policy.grace and now - MODIFIED >= policy.retention
            if long and seen[key] >= policy.min_observations:
                deleted.add(key)
        gone |= cycle.goes - cycle.named
        before = cycle.named
    return False


@settings(max_examples=300)
@given(histories, policies)
def test_no_policy_is_called_safe_that_deletes_what_is_named_later(
    history: list[Cycle], policy: Policy
) -> None:
    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            registry, _ = await replay(history, Path(folder))
            try:
                noted = await registry.absences.all()
            finally:
                await registry.aclose()
        assert noted.begun is not None
        assert noted.last is not None
        # A hundred times as long: only the absences may keep the verdict from being "safe".
        watched = 100 * max(noted.last - noted.begun, timedelta(days=30))
        found = judge([_absence(one) for one in noted.absences], policy, watched)
        if deletes_too_early(history, policy):
            event("deletes too early")
            assert found.verdict is not Verdict.SAFE
            if not any(cycle.goes for cycle in history):
                assert found.verdict is Verdict.UNSAFE, "nothing went, so every cycle was seen"
        elif found.verdict is Verdict.SAFE:
            event("safe")
        elif found.verdict is Verdict.UNSAFE and not any(cycle.goes or cycle.lost for cycle in history):
            raise AssertionError("the policy deleted nothing too early, and is called unsafe")

    anyio.run(check)
