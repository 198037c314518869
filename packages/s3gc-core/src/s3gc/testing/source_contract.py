"""The contract suite for places of references. A source is right when it passes.

Subclass, give the two fixtures, and run pytest::

    class TestMySource(SourceContract):
        @pytest.fixture
        async def place(self): yield MyPlace()

        @pytest.fixture
        async def source(self, place): yield MySource(place.url)

Sources whose place has transactions take :class:`TransactionalSourceContract`. All tests run on asyncio
and on trio, by anyio's pytest plugin.
"""

from __future__ import annotations

import abc
from collections import Counter
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import anyio
import pytest

from s3gc.abc import ReferenceSource
from s3gc.errors import SourceError
from s3gc.model import Column, Position, Reference

PATIENCE = timedelta(seconds=60)
"""How long a fence may take that nothing holds up."""

GLANCE = 0.5
"""Seconds after which a fence that waits is taken to wait."""


class Place(abc.ABC):
    """What a test does to the place that the source reads. Changes are committed on return."""

    @abc.abstractmethod
    async def add(self, value: str) -> str:
        """Write a row whose tracked value is ``value``; returns a name for the row."""

    @abc.abstractmethod
    async def change(self, row: str, value: str) -> None:
        """Give the row another value."""

    @abc.abstractmethod
    async def remove(self, row: str) -> None:
        """Delete the row."""

    @abc.abstractmethod
    async def break_down(self) -> None:
        """Make the place unreadable for the source: drop the table, take the file away, return errors."""


class Transaction(abc.ABC):
    """A transaction of a place, open."""

    @abc.abstractmethod
    async def add(self, value: str) -> None:
        """Write a row, uncommitted."""

    @abc.abstractmethod
    async def commit(self) -> None:
        """Commit. Leaving the context without it rolls back."""


class TransactionalPlace(Place):
    """A place with transactions."""

    @abc.abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction that has done something already, on a connection of its own."""


KEYS = (
    "a.jpg",
    "dir/",
    "deep/er/b c.png",
    "é/漢字.txt",
    "e\u0301.txt",
    "100%.txt",
    "a+b&c=d.txt",
    "under_score-1.bin",
)


class SourceContract:
    """What every source must do."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def place(self) -> Place:
        """The place, empty. Override."""
        raise NotImplementedError("override the fixture 'place'")

    @pytest.fixture
    async def source(self, place: Place) -> ReferenceSource:
        """The source that reads the place. Override, and close it at the end."""
        raise NotImplementedError("override the fixture 'source'")

    async def test_check_says_which_source_it_is(self, source: ReferenceSource) -> None:
        first, second = await source.check(), await source.check()
        assert first == second
        assert first.name
        assert first.kind

    async def test_everything_written_is_scanned(self, source: ReferenceSource, place: Place) -> None:
        for key in KEYS:
            await place.add(key)
        assert set(KEYS) <= {r.key for r in await scanned(source)}

    async def test_everything_written_is_found(self, source: ReferenceSource, place: Place) -> None:
        for key in KEYS:
            await place.add(key)
        assert await found(source, *KEYS, "not/there.jpg") == set(KEYS)
        assert await found(source, "dir/") == {"dir/"}
        assert await found(source, "jpg", "er/b c.png") == set()

    async def test_find_sees_the_place_as_it_is_now(self, source: ReferenceSource, place: Place) -> None:
        assert await found(source, "a.jpg", "b.jpg") == set()
        row = await place.add("a.jpg")
        assert await found(source, "a.jpg", "b.jpg") == {"a.jpg"}
        await place.change(row, "b.jpg")
        assert await found(source, "a.jpg", "b.jpg") == {"b.jpg"}
        await place.remove(row)
        assert await found(source, "a.jpg", "b.jpg") == set()

    async def test_what_was_removed_is_gone_from_a_scan(self, source: ReferenceSource, place: Place) -> None:
        first, second = await place.add("a.jpg"), await place.add("b.jpg")
        await place.add("c.jpg")
        await place.remove(first)
        await place.change(second, "d.jpg")
        assert {r.key for r in await scanned(source)} == {"c.jpg", "d.jpg"}

    async def test_a_shared_key_stays_until_its_last_row_goes(
        self, source: ReferenceSource, place: Place
    ) -> None:
        first, second = await place.add("a.jpg"), await place.add("a.jpg")
        await place.remove(first)
        assert await found(source, "a.jpg") == {"a.jpg"}
        await place.remove(second)
        assert await found(source, "a.jpg") == set()

    async def test_order_of_writing_does_not_matter(self, source: ReferenceSource, place: Place) -> None:
        rows = {key: await place.add(key) for key in reversed(KEYS)}
        before = {r.key for r in await scanned(source)}
        for key in ("a.jpg", "100%.txt"):
            await place.remove(rows[key])
        for key in ("100%.txt", "a.jpg"):
            await place.add(key)
        assert {r.key for r in await scanned(source)} == before

    async def test_a_repeated_scan_repeats(self, source: ReferenceSource, place: Place) -> None:
        for key in KEYS:
            await place.add(key)
        assert Counter(await scanned(source)) == Counter(await scanned(source))

    async def test_scan_and_references_and_find_agree(self, source: ReferenceSource, place: Place) -> None:
        for key in KEYS:
            await place.add(key)
        plain: set[Reference] = set()
        async for item in source.references():
            plain.update([item] if isinstance(item, Reference) else item)
        scan = set(await scanned(source))
        assert plain == scan
        assert {r async for r in source.find({r.key for r in scan})} == scan

    async def test_tracked_columns_are_counted(self, source: ReferenceSource, place: Place) -> None:
        """A source that names its columns counts their rows and values; an empty one says so."""
        assert await counted(source) == {column: (0, 0) for column in source.columns()}
        rows = [await place.add(key) for key in KEYS]
        await place.change(rows[0], "")
        counts = await counted(source)
        assert set(counts) == set(source.columns())
        if counts:
            assert sum(rows for rows, _ in counts.values()) >= len(KEYS)
            assert max(counts.values()) == (len(KEYS), len(KEYS) - 1)

    async def test_an_abandoned_scan_does_no_harm(self, source: ReferenceSource, place: Place) -> None:
        await place.add("a.jpg")
        scan = source.scan()
        async for _ in scan:
            break
        await scan.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert await found(source, "a.jpg") == {"a.jpg"}

    async def test_failure_raises_and_is_never_empty(self, source: ReferenceSource, place: Place) -> None:
        await place.add("a.jpg")
        assert await scanned(source)
        await place.break_down()
        with pytest.raises(Exception):  # noqa: B017 - any error will do, an answer will not
            await scanned(source)
        with pytest.raises(Exception):  # noqa: B017
            await found(source, "a.jpg")

    async def test_a_fence_passes_when_nothing_is_open(self, source: ReferenceSource, place: Place) -> None:
        await place.add("a.jpg")
        position = await source.fence(PATIENCE)
        assert isinstance(position, Position)
        assert position.source == (await source.check()).name
        assert await found(source, "a.jpg") == {"a.jpg"}

    async def test_closing_twice_is_allowed(self, source: ReferenceSource, place: Place) -> None:
        await source.aclose()
        await source.aclose()


class TransactionalSourceContract(SourceContract):
    """What a source of a place with transactions must do besides."""

    concurrent_writers = True
    """Whether two transactions of the place can write at the same time."""

    async def test_the_uncommitted_is_not_read(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        async with place.transaction() as transaction:
            await transaction.add("a.jpg")
            assert await found(source, "a.jpg") == set()

    async def test_a_fence_waits_for_a_transaction_opened_before(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        passed = anyio.Event()

        async def fence() -> None:
            await source.fence(PATIENCE)
            passed.set()

        async with anyio.create_task_group() as tasks, place.transaction() as transaction:
            await transaction.add("a.jpg")
            tasks.start_soon(fence)
            await anyio.sleep(GLANCE)
            assert not passed.is_set()
            await transaction.commit()
            await passed.wait()
            assert await found(source, "a.jpg") == {"a.jpg"}
            assert "a.jpg" in {r.key for r in await scanned(source)}

    async def test_a_fence_gives_up_after_its_timeout(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        async with place.transaction() as transaction:
            await transaction.add("a.jpg")
            with pytest.raises(SourceError, match="1 transaction"):
                await source.fence(timedelta(seconds=GLANCE))
        await source.fence(PATIENCE)

    async def test_a_fence_does_not_wait_for_transactions_opened_after(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        passed = anyio.Event()

        async def fence() -> None:
            await source.fence(PATIENCE)
            passed.set()

        if not self.concurrent_writers:
            async with place.transaction():
                with pytest.raises(SourceError):  # the one writer is there: nothing can pass
                    await source.fence(timedelta(seconds=GLANCE))
            return
        async with anyio.create_task_group() as tasks, place.transaction() as later:
            await later.commit()
            async with place.transaction() as before:
                await before.add("a.jpg")
                tasks.start_soon(fence)
                await anyio.sleep(GLANCE)
                async with place.transaction() as after:
                    await after.add("b.jpg")
                    await before.commit()
                    with anyio.fail_after(PATIENCE.total_seconds() / 2):
                        await passed.wait()

    async def test_a_scan_sees_one_state(self, source: ReferenceSource, place: TransactionalPlace) -> None:
        """A key that moves from one row to another while a scan runs is seen."""
        rows = [await place.add(f"k/{number}") for number in range(50)]
        keys: set[str] = set()
        moved = False
        async for batch in source.scan():
            keys |= {r.key for r in batch.references}
            if not moved:
                moved = True
                await place.change(rows[0], "k/49")
                await place.change(rows[49], "k/0")
        assert keys == {f"k/{number}" for number in range(50)}


async def scanned(source: ReferenceSource) -> list[Reference]:
    """All references of one scan."""
    return [reference async for batch in source.scan() for reference in batch.references]


async def found(source: ReferenceSource, *keys: str) -> set[str]:
    """Those of the keys that the direct read finds."""
    references = [reference async for reference in source.find(keys)]
    assert {r.key for r in references} <= set(keys)
    return {r.key for r in references}


async def counted(source: ReferenceSource) -> dict[Column, tuple[int, int]]:
    """Rows and values of each column in one scan."""
    totals: dict[Column, tuple[int, int]] = {}
    async for batch in source.scan():
        for column, count in batch.counts.items():
            rows, values = totals.get(column, (0, 0))
            totals[column] = (rows + count.rows, values + count.values)
    return totals
