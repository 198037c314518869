"""The contract suite for places of references. A source is right when it passes.

Subclass, give the two fixtures, and run pytest::

    class TestMySource(SourceContract):
        @pytest.fixture
        async def place(self): yield MyPlace()

        @pytest.fixture
        async def source(self, place): yield MySource(place.url)

Take the other suites of this module for what your source has besides, together if need be: transactions
(:class:`TransactionalSourceContract`), folders (:class:`FolderSourceContract`), a schema to look through
(:class:`CoverageContract`), changes (:class:`ChangesContract`, :class:`TransactionalChangesContract`). Their
places have more methods. All tests run on asyncio and on trio, by anyio's pytest plugin.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import timedelta

import anyio
import pytest
from attrs import evolve

from s3gc.abc import ReferenceSource, Wanted
from s3gc.errors import PositionLost, SourceError
from s3gc.model import ChangeBatch, Column, Position, Reference, RowChange, UntrackedColumn

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


class FolderPlace(Place):
    """A place with rows that refer to everything below a folder."""

    @abc.abstractmethod
    async def add_folder(self, value: str) -> str:
        """Write a row that refers to the folder ``value``; ``/`` is the whole bucket. Returns as ``add``."""


class CoveredPlace(Place):
    """A place that could hold references where the source doesn't read them."""

    @abc.abstractmethod
    async def add_loose(self, value: str) -> tuple[str, str]:
        """Write a row whose value is in a column that isn't tracked; returns its table and column."""


class ChangingPlace(Place):
    """A place whose changes can be followed."""

    @abc.abstractmethod
    async def empty(self) -> None:
        """Remove all rows, at once if there is a way to (TRUNCATE)."""

    @abc.abstractmethod
    async def forget(self) -> None:
        """Make the changes so far unavailable for ever: drop the slot, purge the log."""


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

    async def test_tracked_columns_are_never_told_as_untracked(
        self, source: ReferenceSource, place: Place
    ) -> None:
        await place.add("a.jpg")
        assert {Column(*at) for at in await untracked(source)}.isdisjoint(source.columns())

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
            # On a busy machine one of our own, thrown away a moment ago, may not have ended yet either.
            with pytest.raises(SourceError, match=r"\d transaction"):
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


class FolderSourceContract(SourceContract):
    """What a source must do besides whose rows may refer to folders."""

    async def test_a_folder_is_told_as_a_prefix(self, source: ReferenceSource, place: FolderPlace) -> None:
        await place.add("a.jpg")
        await place.add_folder("photos/7")
        await place.add_folder("photos/8/")
        prefixes = {r.key for r in await scanned(source) if r.prefix}
        assert {"photos/7/", "photos/8/"} <= prefixes
        assert all(key.endswith("/") and not key.endswith("//") for key in prefixes)

    async def test_all_below_a_folder_is_found_and_nothing_beside_it(
        self, source: ReferenceSource, place: FolderPlace
    ) -> None:
        await place.add_folder("photos/7")
        await place.add_folder("videos")
        inside = {"photos/7/a.jpg", "photos/7/deep/er/b.jpg", "photos/7/", "videos/a.mp4"}
        beside = {"photos/7.jpg", "photos/70/a.jpg", "photos/", "7/a.jpg", "more/photos/7/a.jpg"}
        assert await protected(source, *inside, *beside) == inside
        assert await protected(source, *beside) == set()
        for key in inside:
            assert await protected(source, key) == {key}

    async def test_a_removed_folder_protects_nothing(
        self, source: ReferenceSource, place: FolderPlace
    ) -> None:
        row = await place.add_folder("photos/7")
        other = await place.add_folder("photos/7")
        await place.remove(row)
        assert await protected(source, "photos/7/a.jpg") == {"photos/7/a.jpg"}
        await place.remove(other)
        assert await protected(source, "photos/7/a.jpg") == set()
        assert [r for r in await scanned(source) if r.prefix] == []

    async def test_a_key_is_no_folder(self, source: ReferenceSource, place: FolderPlace) -> None:
        await place.add("photos/7")
        await place.add("dir/")
        assert await protected(source, "photos/7/a.jpg", "dir/a.jpg") == set()

    async def test_the_whole_bucket_is_a_folder(self, source: ReferenceSource, place: FolderPlace) -> None:
        row = await place.add_folder("/")
        assert await protected(source, *KEYS) == set(KEYS)
        await place.remove(row)
        assert await protected(source, *KEYS) == set()

    async def test_scan_and_find_agree_on_folders(self, source: ReferenceSource, place: FolderPlace) -> None:
        await place.add("a.jpg")
        await place.add_folder("photos/7")
        scan = set(await scanned(source))
        assert {r async for r in source.find({r.key for r in scan})} == scan


class CoverageContract(SourceContract):
    """What a source must do besides that has a schema to look through for columns that nobody tracks."""

    async def test_an_untracked_column_is_told_with_its_keys(
        self, source: ReferenceSource, place: CoveredPlace
    ) -> None:
        at = await place.add_loose("loose/a.jpg")
        assert await place.add_loose("loose/b.jpg") == at
        columns = await untracked(source)
        assert at in columns
        column = columns[at]
        assert {"loose/a.jpg", "loose/b.jpg"} <= set(column.keys)
        assert column.sampled == 2

    async def test_untracked_values_are_no_references(
        self, source: ReferenceSource, place: CoveredPlace
    ) -> None:
        await place.add_loose("loose/a.jpg")
        assert "loose/a.jpg" not in {r.key for r in await scanned(source)}
        assert await found(source, "loose/a.jpg") == set()

    async def test_empty_values_are_not_counted(self, source: ReferenceSource, place: CoveredPlace) -> None:
        at = await place.add_loose("")
        empty = (await untracked(source)).get(at)
        assert empty is None or (empty.sampled, set(empty.keys)) == (0, set())

    async def test_a_sample_is_bounded(self, source: ReferenceSource, place: CoveredPlace) -> None:
        for number in range(60):
            at = await place.add_loose(f"loose/{number}.jpg")
        assert 1 <= (await untracked(source, 4))[at].sampled <= 20
        assert (await untracked(source, 1000))[at].sampled == 60

    async def test_asking_again_tells_the_same(self, source: ReferenceSource, place: CoveredPlace) -> None:
        at = await place.add_loose("loose/a.jpg")
        async with aclosing(source.untracked(10)) as columns:  # type: ignore[type-var]  # it is a generator
            async for _ in columns:
                break
        first, second = await untracked(source), await untracked(source)
        assert at in first
        assert {name: (set(c.keys), c.sampled) for name, c in first.items()} == {
            name: (set(c.keys), c.sampled) for name, c in second.items()
        }

    async def test_a_schema_that_cannot_be_read_is_an_error(
        self, source: ReferenceSource, place: CoveredPlace
    ) -> None:
        await place.add_loose("loose/a.jpg")
        await place.break_down()
        with pytest.raises(Exception):  # noqa: B017 - any error will do, an answer will not
            await untracked(source)


class ChangesContract(SourceContract):
    """What a source must do besides that follows changes.

    A test keeps rows as the registry does (:class:`Rows`): after all changes up to a fence they are what a
    scan gives then.
    """

    @pytest.fixture
    async def later(self, place: Place) -> ReferenceSource:
        """The same source once more, as the next process opens it. Override, and close it at the end."""
        raise NotImplementedError("override the fixture 'later'")

    async def test_it_says_that_it_follows_changes(self, source: ReferenceSource) -> None:
        assert source.follows_changes

    async def test_every_change_after_the_beginning_is_told(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        first, second, third = [await place.add(key) for key in ("a.jpg", "b.jpg", "c.jpg")]
        begun = await source.begin()
        rows = Rows(await scanned(source))
        await place.change(first, "d.jpg")
        await place.remove(second)
        await place.change(third, "")
        await place.add("e.jpg")
        await place.add("d.jpg")
        rows.apply(await changed(source, begun))
        assert {r.key for r in rows.references} == {"d.jpg", "e.jpg"}
        assert rows.references == set(await scanned(source))

    async def test_what_a_scan_misses_or_sees_already_is_told(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        """Changes before, while and after the scan reads."""
        kept = [await place.add(f"k/{number}") for number in range(20)]
        begun = await source.begin()
        await place.change(kept[0], "before.jpg")
        await place.remove(kept[1])
        seen: list[Reference] = []
        async for batch in source.scan():
            if not seen:
                await place.change(kept[2], "while.jpg")
                await place.change(kept[19], "k/2")
                await place.remove(kept[18])
            seen += batch.references
        await place.change(kept[0], "after.jpg")
        await place.remove(kept[3])
        rows = Rows(seen)
        rows.apply(await changed(source, begun))
        assert rows.references == set(await scanned(source))
        assert {"after.jpg", "while.jpg", "k/2"} <= {r.key for r in rows.references}

    async def test_the_last_change_of_a_row_wins(self, source: ReferenceSource, place: ChangingPlace) -> None:
        row, other = await place.add("a.jpg"), await place.add("b.jpg")
        begun = await source.begin()
        rows = Rows(await scanned(source))
        for key in ("c.jpg", "", "b.jpg", "d.jpg"):
            await place.change(row, key)
        await place.change(other, "a.jpg")
        gone = await place.add("gone.jpg")
        await place.remove(gone)
        rows.apply(await changed(source, begun))
        assert {r.key for r in rows.references} == {"a.jpg", "d.jpg"}

    async def test_the_end_is_told_also_when_nothing_changed(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        await place.add("a.jpg")
        begun = await source.begin()
        rows = Rows(await scanned(source))
        batches = await changed(source, begun)
        rows.apply(batches)
        assert {r.key for r in rows.references} == {"a.jpg"}
        rows.apply(await changed(source, batches[-1].position))
        assert {r.key for r in rows.references} == {"a.jpg"}

    async def test_reading_again_from_an_old_position_tells_the_same(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        row = await place.add("a.jpg")
        begun = await source.begin()
        before = await scanned(source)
        await place.change(row, "b.jpg")
        await place.add("c.jpg")
        for _ in range(2):
            rows = Rows(before)
            rows.apply(await changed(source, begun))
            assert {r.key for r in rows.references} == {"b.jpg", "c.jpg"}
        rows.apply(await changed(source, begun))
        assert {r.key for r in rows.references} == {"b.jpg", "c.jpg"}, "told twice it does no harm"

    async def test_one_can_read_on_from_every_batch(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        begun = await source.begin()
        before = await scanned(source)
        names = [await place.add(f"k/{number}") for number in range(10)]
        batches = list(await changed(source, begun))
        for number, name in enumerate(names[:5]):
            await place.change(name, f"l/{number}")
        batches += await changed(source, batches[-1].position)
        now = set(await scanned(source))
        for at, batch in enumerate(batches):
            rows = Rows(before)
            rows.apply(batches[: at + 1])
            rows.apply(await changed(source, batch.position))
            assert rows.references == now

    async def test_what_was_applied_may_be_released_and_the_rest_stays(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        await place.add("a.jpg")
        begun = await source.begin()
        rows = Rows(await scanned(source))
        await source.applied(begun)
        row = await place.add("b.jpg")
        batches = await changed(source, begun)
        rows.apply(batches)
        await source.applied(batches[-1].position)
        await source.applied(batches[-1].position)
        await place.change(row, "c.jpg")
        rows.apply(await changed(source, batches[-1].position))
        assert {r.key for r in rows.references} == {"a.jpg", "c.jpg"}

    async def test_the_next_process_reads_on(
        self, source: ReferenceSource, place: ChangingPlace, later: ReferenceSource
    ) -> None:
        await place.add("a.jpg")
        begun = await source.begin()
        rows = Rows(await scanned(source))
        row = await place.add("b.jpg")
        batches = await changed(source, begun)
        rows.apply(batches)
        await source.applied(batches[-1].position)
        await source.aclose()
        await place.change(row, "c.jpg")
        rows.apply(await changed(later, batches[-1].position))
        assert {r.key for r in rows.references} == {"a.jpg", "c.jpg"}

    async def test_rows_that_go_all_at_once_are_told(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        for key in KEYS:
            await place.add(key)
        begun = await source.begin()
        rows = Rows(await scanned(source))
        await place.add("between.jpg")
        await place.empty()
        await place.add("new.jpg")
        rows.apply(await changed(source, begun))
        assert {r.key for r in rows.references} == {"new.jpg"}

    async def test_lost_changes_are_noticed_and_one_can_begin_anew(
        self, source: ReferenceSource, place: ChangingPlace
    ) -> None:
        await place.add("a.jpg")
        begun = await source.begin()
        await place.add("b.jpg")
        await place.forget()
        with pytest.raises(PositionLost):
            await changed(source, begun)
        begun = await source.begin()
        rows = Rows(await scanned(source))
        await place.add("c.jpg")
        rows.apply(await changed(source, begun))
        assert {r.key for r in rows.references} == {"a.jpg", "b.jpg", "c.jpg"}


class TransactionalChangesContract(ChangesContract, TransactionalSourceContract):
    """What a source must do besides that follows the changes of a place with transactions."""

    async def test_a_scan_sees_one_state(self, source: ReferenceSource, place: TransactionalPlace) -> None:
        """With the changes after the beginning: a key that moves between rows while a scan runs is seen."""
        rows = [await place.add(f"k/{number}") for number in range(50)]
        begun = await source.begin()
        seen: list[Reference] = []
        async for batch in source.scan():
            if not seen:
                await place.change(rows[0], "k/49")
                await place.change(rows[49], "k/0")
            seen += batch.references
        kept = Rows(seen)
        kept.apply(await changed(source, begun))
        assert {r.key for r in kept.references} == {f"k/{number}" for number in range(50)}

    async def test_a_transaction_open_at_the_beginning_is_told_when_it_commits(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        """The beginning may wait for it, or tell it as a change."""
        await place.add("a.jpg")
        begun: list[Position] = []
        began = anyio.Event()

        async def begin() -> None:
            begun.append(await source.begin())
            began.set()

        async with anyio.create_task_group() as tasks, place.transaction() as transaction:
            await transaction.add("open.jpg")
            tasks.start_soon(begin)
            with anyio.move_on_after(GLANCE):
                await began.wait()
            rows = Rows(await scanned(source)) if began.is_set() else None
            await transaction.commit()
            await began.wait()
        rows = rows if rows is not None else Rows(await scanned(source))
        rows.apply(await changed(source, begun[0]))
        assert {r.key for r in rows.references} == {"a.jpg", "open.jpg"}

    async def test_a_transaction_is_told_when_it_commits_and_not_before(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        await place.add("a.jpg")
        begun = await source.begin()
        rows = Rows(await scanned(source))
        until = await source.fence(PATIENCE)
        async with place.transaction() as transaction:
            await transaction.add("late.jpg")
            batches = await changed(source, begun, until)
            rows.apply(batches)
            assert {r.key for r in rows.references} == {"a.jpg"}
            await transaction.commit()
        rows.apply(await changed(source, batches[-1].position))
        assert {r.key for r in rows.references} == {"a.jpg", "late.jpg"}

    async def test_the_rolled_back_is_never_told(
        self, source: ReferenceSource, place: TransactionalPlace
    ) -> None:
        begun = await source.begin()
        rows = Rows(await scanned(source))
        async with place.transaction() as transaction:
            await transaction.add("never.jpg")
        await place.add("a.jpg")
        batches = await changed(source, begun)
        rows.apply(batches)
        assert {r.key for r in rows.references} == {"a.jpg"}
        assert "never.jpg" not in {r.key for b in batches for c in b.changes for r in c.references}


class Rows:
    """References by row, kept by changes as the registry keeps them."""

    def __init__(self, references: Iterable[Reference]) -> None:
        self._rows: dict[tuple[str, str], set[Reference]] = {}
        for reference in references:
            self._rows.setdefault((reference.table, reference.row_id), set()).add(reference)

    @property
    def references(self) -> set[Reference]:
        """What all rows refer to now."""
        return {reference for row in self._rows.values() for reference in row}

    def apply(self, batches: Iterable[ChangeBatch]) -> None:
        """Follow what happened, in order."""
        for batch in batches:
            for table in batch.emptied:
                self._rows = {at: row for at, row in self._rows.items() if at[0] != table}
            for change in batch.changes:
                self._one(change)

    def _one(self, change: RowChange) -> None:
        moved = change.previous_row_id not in (None, change.row_id)
        before = self._rows.pop((change.table, change.previous_row_id or change.row_id), set())
        if moved:
            self._rows.pop((change.table, change.row_id), None)
        kept = {r for r in before if change.columns is not None and r.column not in change.columns}
        self._rows[change.table, change.row_id] = {
            *change.references,
            *(evolve(reference, row_id=change.row_id) for reference in kept),
        }


async def changed(
    source: ReferenceSource, after: Position, until: Position | None = None
) -> Sequence[ChangeBatch]:
    """All changes after a position up to a fence (by default one that is taken now), each well formed."""
    until = until or await source.fence(PATIENCE)
    batches = [batch async for batch in source.changes(after, until)]
    assert batches, "the end has to be told"
    reached = after.ordinal
    for batch in batches:
        assert batch.position.source == until.source
        assert batch.at is None or batch.at.tzinfo is not None
        ordinal = batch.position.ordinal
        if reached is not None and ordinal is not None:
            assert reached <= ordinal, "positions don't go back"
        reached = reached if ordinal is None else ordinal
        for change in batch.changes:
            for reference in change.references:
                assert (reference.table, reference.row_id) == (change.table, change.row_id)
                assert change.columns is None or reference.column in change.columns
    if reached is not None and until.ordinal is not None:
        assert reached >= until.ordinal, "the last batch is at the fence or past it"
    return batches


async def scanned(source: ReferenceSource) -> list[Reference]:
    """All references of one scan."""
    return [reference async for batch in source.scan() for reference in batch.references]


async def found(source: ReferenceSource, *keys: str) -> set[str]:
    """Those of the keys that the direct read finds."""
    references = [reference async for reference in source.find(keys)]
    assert all(Wanted(keys).by(reference) for reference in references)
    return {reference.key for reference in references if not reference.prefix}


async def counted(source: ReferenceSource) -> dict[Column, tuple[int, int]]:
    """Rows and values of each column in one scan."""
    totals: dict[Column, tuple[int, int]] = {}
    async for batch in source.scan():
        for column, count in batch.counts.items():
            rows, values = totals.get(column, (0, 0))
            totals[column] = (rows + count.rows, values + count.values)
    return totals


async def protected(source: ReferenceSource, *keys: str) -> set[str]:
    """Those of the keys that the direct read finds, by themselves or by a folder."""
    references = [reference async for reference in source.find(keys)]
    assert all(Wanted(keys).by(reference) for reference in references)
    return {key for key in keys if any(Wanted([key]).by(reference) for reference in references)}


async def untracked(source: ReferenceSource, sample: int = 100) -> dict[tuple[str, str], UntrackedColumn]:
    """The columns that nobody tracks, by table and column; each is told once."""
    columns = [column async for column in source.untracked(sample)]
    named = {(column.table, column.column): column for column in columns}
    assert len(named) == len(columns)
    return named
