"""P1, P2 and P4 against a model: an application works while cycles and restores run, also in their middle."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from s3gc import (
    Collector,
    ObjectAttributes,
    Reference,
    Safety,
    create_config,
    create_plugin_manager,
    hookimpl,
)
from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import CycleHeld
from s3gc.model import DeleteOutcome
from s3gc.testing.fakes import FakeClock, FakeSource, FakeStore
from s3gc.vault.records import record_from_json

KEYS = ["a/b.txt", "a_b.txt", "dir/", "dir", "/lead", "a//b", "../up", "1.jpg", "11.jpg", "é", "e\u0301", "x"]
BODIES = [b"", b"one", b"two" * 50, bytes(range(256))]
ATTRIBUTES = [
    ObjectAttributes(),
    ObjectAttributes(content_type="image/png", metadata={"owner": "7"}, tags={"k": "v"}),
]
ROWS = ["1", "2", "3", "4", "5"]
PINNED = "pinned"  # a row and an object that always stay: a source without references holds every cycle

keys = st.sampled_from(KEYS)
bodies = st.sampled_from(BODIES)
attributes = st.sampled_from(ATTRIBUTES)


@frozen
class Version:
    """What the application put, as a restore must give it back."""

    body: bytes
    attributes: ObjectAttributes


@frozen
class Removal:
    """A version that is only in the vault now."""

    at: datetime
    key: str
    version: Version
    modified: datetime


@frozen
class Interference:
    """Something the application does at the nth moment of a cycle."""

    moment: int
    act: str
    key: str
    body: bytes


interferences = st.lists(
    st.builds(
        Interference,
        st.integers(0, 25),
        st.sampled_from(["reference", "upload", "upload_and_reference", "dereference", "remove"]),
        keys,
        bodies,
    ),
    max_size=3,
)


class World(FakeStore):
    """The bucket; every request to it is a moment at which the application may act."""

    on_request: Callable[[], None] | None = None

    def _moment(self) -> None:
        if self.on_request is not None:
            self.on_request()

    async def head(self, key: str) -> Any:
        if not key.startswith(RESERVED_PREFIX):
            self._moment()
        return await super().head(key)

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        if key.startswith(RESERVED_PREFIX):
            return await super().delete(key, if_match=if_match)
        self._moment()
        outcome = await super().delete(key, if_match=if_match)
        self._moment()
        return outcome


class Rows(FakeSource):
    """The database; counts how often it was read, so that the model knows what a read could have seen."""

    reads = 0

    async def references(self) -> AsyncIterator[Reference]:
        self.reads += 1
        async for reference in super().references():
            yield reference


class CycleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="s3gc-machine-", dir=shm if shm.is_dir() else None))
        self.clock = FakeClock()
        self.store = World(self.clock)
        self.rows: dict[str, list[str]] = {PINNED: [PINNED]}
        self.source = Rows(rows=self.rows)
        self.live: dict[str, Version] = {}
        self.modified: dict[str, datetime] = {}
        self.removed: list[Removal] = []
        self.unclear: set[str] = set()  # removed and uploaded again within one cycle
        self.late: dict[str, int] = {}  # key → reads of the database before a row named it
        self.runner = asyncio.Runner()
        self._upload(PINNED, b"pinned", ObjectAttributes())

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------------ the application

    def _upload(self, key: str, body: bytes, what: ObjectAttributes) -> None:
        self.clock.advance(timedelta(seconds=1))
        self.store.upload(key, body, what)
        self.live[key] = Version(body, what)
        self.modified[key] = self.clock.now()

    @initialize(first=st.lists(st.tuples(keys, bodies, attributes), max_size=6))
    def fill(self, first: list[tuple[str, bytes, ObjectAttributes]]) -> None:
        for key, body, what in first:
            self._upload(key, body, what)

    @rule(key=keys, body=bodies, what=attributes)
    def upload(self, key: str, body: bytes, what: ObjectAttributes) -> None:
        self._upload(key, body, what)

    @rule(row=st.sampled_from(ROWS), named=st.lists(keys, min_size=1, max_size=2))
    def write_row(self, row: str, named: list[str]) -> None:
        self.rows[row] = named

    @rule(row=st.sampled_from(ROWS))
    def delete_row(self, row: str) -> None:
        self.rows.pop(row, None)

    @rule(hours=st.integers(1, 100))
    def wait(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    def _act(self, what: Interference) -> None:
        if "reference" in what.act and what.act != "dereference":
            self.late[what.key] = self.source.reads
        if what.act == "reference":
            self.rows[f"late-{what.key}"] = [what.key]
        elif what.act == "upload":
            self._upload(what.key, what.body, ObjectAttributes())
        elif what.act == "upload_and_reference":
            self._upload(what.key, what.body, ObjectAttributes())
            self.rows[f"late-{what.key}"] = [what.key]
        elif what.act == "dereference":
            for row in [row for row, named in self.rows.items() if what.key in named]:
                del self.rows[row]
        else:
            self.store.remove(what.key)
            self.live.pop(what.key, None)

    # ------------------------------------------------------------------ s3gc

    def _open(self, safety: Safety, retention_days: float) -> Any:
        config = create_config(
            bucket="fake-bucket",
            mode="execute",
            retention_days=retention_days,
            vault_path=str(self.folder / "vault"),
            safety=safety,
        )
        plugins = create_plugin_manager(entry_points=False)
        machine = self

        class Listener:
            @hookimpl
            def s3gc_event(self, event: str, data: Mapping[str, Any]) -> None:
                machine.store._moment()

        plugins.register(Listener())
        return Collector.open(
            config, store=self.store, sources=[self.source], clock=self.clock, plugins=plugins
        )

    @rule(
        careful=st.booleans(),
        retention_days=st.sampled_from([0, 1]),
        disturbed=interferences,
        batch=st.sampled_from([1, 3, 1000]),
    )
    def cycle(self, careful: bool, retention_days: float, disturbed: list[Interference], batch: int) -> None:
        base = Safety.none().but(grace=timedelta(hours=24), min_observations=2) if careful else Safety.none()
        safety = base.but(batch_objects=batch)
        self.late.clear()
        free = {key for key in self.live if key not in self._referenced()}
        old = {
            key
            for key, info in ((key, self.store._objects[key].info) for key in self.live)
            if self.clock.now() - info.last_modified >= timedelta(days=retention_days)
        }
        count = 0

        def moment() -> None:
            nonlocal count
            due = [what for what in disturbed if what.moment == count]
            count += 1
            for what in due:
                self._act(what)

        async def run() -> Any:
            async with self._open(safety, retention_days) as gc:
                self.store.on_request = moment
                try:
                    return await gc.collect()
                finally:
                    self.store.on_request = None

        try:
            report = self.runner.run(run())
        except CycleHeld as held:
            report = self._allowed(held)
        there = self.store.contents()

        # What a row named only after the last read of the operation is beyond the promise.
        beyond = {key for key, reads in self.late.items() if reads == self.source.reads}

        # P1 and P3: what a row names and existed is there, with the bytes last uploaded.
        for key in self._referenced() - beyond:
            if key in self.live:
                assert there.get(key) == self.live[key].body, f"{key!r} is referenced and lost"

        # P2: whatever is gone is in the vault, exactly.
        deleted = set(report.deleted) if report else set()
        gone = {key: version for key, version in self.live.items() if key not in there}
        assert set(gone) <= deleted, (gone, report)
        assert deleted - set(gone) <= {what.key for what in disturbed}
        self.unclear |= deleted - set(gone)
        in_vault = self._backed_up(gone)
        assert {key: version for key, (_, version) in in_vault.items()} == gone
        for key, (at, version) in in_vault.items():
            self.removed.append(Removal(at, key, version, self.modified[key]))
            del self.live[key]
        self._adopt_resurrected(report)

        # Everything that could go went (when nothing disturbed and nothing waits).
        if report and not disturbed and not careful and not report.held_by:
            assert set(gone) == free & old, (free, old, report.kept)

    def _allowed(self, held: CycleHeld) -> Any:
        """Only a database that names nothing in the bucket may hold this world's cycles."""
        assert {breaker.code for breaker in held.breakers} <= {"resolve_rate", "no_references"}, held
        return held.report

    def _adopt_resurrected(self, report: Any) -> None:
        for key in report.resurrected if report else ():
            # It may have been removed by the application too, then named by a row: back it is.
            self._restored(key)

    def _referenced(self) -> set[str]:
        return {key for named in self.rows.values() for key in named}

    def _backed_up(self, gone: Mapping[str, Version]) -> Mapping[str, tuple[datetime, Version]]:
        """When each key was last deleted, and the version that the vault has of it."""

        async def read() -> dict[str, tuple[datetime, Version]]:
            found: dict[str, tuple[datetime, Version]] = {}
            async with self._open(Safety.none(), 0) as gc:
                for key in gone:
                    entries = [entry async for entry in gc.history(key=key)]
                    names = [entry.event for entry in entries]
                    deleted = [entry for entry in entries if entry.event == "deleted"]
                    # P4: the journal alone tells how it came to that.
                    assert names.index("backed_up") < names.index("delete_intended") < names.index("deleted")
                    record = record_from_json(deleted[-1].data["backup"])
                    body = b"".join([chunk async for chunk in gc._parts.vault.read(record)])
                    found[key] = deleted[-1].at, Version(body, record.attributes)
            return found

        return self.runner.run(read())

    def _clear(self) -> list[Removal]:
        return [removal for removal in self.removed if removal.key not in self.unclear]

    def _restored(self, key: str) -> None:
        stored = self.store._objects[key]
        self.live[key] = Version(stored.body, stored.attributes)
        self.modified[key] = stored.info.last_modified

    @precondition(lambda self: self._clear())
    @rule(data=st.data(), overwrite=st.booleans())
    def restore_key(self, data: st.DataObject, overwrite: bool) -> None:
        key = data.draw(st.sampled_from(self._clear())).key
        latest = [removal.version for removal in self.removed if removal.key == key][-1]
        was, was_modified = self.live.get(key), self.modified.get(key)

        async def run() -> Any:
            async with self._open(Safety.none(), 0) as gc:
                dry = await gc.restore(key=key, overwrite=overwrite)
                return dry, await gc.restore(key=key, dry_run=False, overwrite=overwrite)

        self.clock.advance(timedelta(seconds=1))
        dry, report = self.runner.run(run())
        assert (list(dry.restored), set(dry.skipped)) == (list(report.restored), set(report.skipped))
        if was is None or (overwrite and was != latest):
            assert list(report.restored) == [key]
            self._restored(key)
            assert self.live[key] == latest
            if was is not None and was_modified is not None:
                # P2 again: the overwritten one is now the newest removal of this key.
                self.removed.append(Removal(self.clock.now(), key, was, was_modified))
        else:
            assert key in report.skipped

    @precondition(lambda self: self._clear())
    @rule(data=st.data())
    def restore_to_a_time(self, data: st.DataObject) -> None:
        moment = data.draw(st.sampled_from(self.removed)).at - timedelta(microseconds=1)
        expected: dict[str, Version] = {}
        for removal in self.removed:
            if removal.at > moment >= removal.modified and removal.key not in self.live:
                expected.setdefault(removal.key, removal.version)

        async def run() -> Any:
            async with self._open(Safety.none(), 0) as gc:
                return await gc.restore(at=moment, dry_run=False)

        self.clock.advance(timedelta(seconds=1))
        report = self.runner.run(run())
        assert not report.errors
        for key in report.restored:
            assert key not in self.live
            self._restored(key)
        clear = {key: version for key, version in expected.items() if key not in self.unclear}
        assert {key: self.live[key] for key in clear if key in self.live} == clear
        assert set(report.restored) - self.unclear == set(clear)

    @invariant()
    def the_bucket_is_as_the_model_says(self) -> None:
        there = {
            key: Version(one.body, one.attributes)
            for key, one in self.store._objects.items()
            if not key.startswith(RESERVED_PREFIX)
        }
        assert there == self.live

    @rule()
    def audit(self) -> None:
        async def run() -> Any:
            async with self._open(Safety.none(), 0) as gc:
                return await gc.verify()

        journal, vault = self.runner.run(run())
        assert journal.ok, journal.problems
        assert vault.ok, vault.problems


@pytest.mark.timeout(600)
def test_promises_hold_against_the_model() -> None:
    run_state_machine_as_test(CycleMachine, settings=settings(max_examples=40, stateful_step_count=20))
