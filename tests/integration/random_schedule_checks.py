"""What must hold after each cycle of test_random_schedule.py, while the writers rest between two steps.

P1  No deleted key had a row that was written before its batch's fence and not taken away before the deletion.
P2  The bytes that were deleted are those that were backed up.
P3  A row whose transaction began before the operation's last deletion has its object when the operation ends,
    and that object has the bytes that the application uploaded last. A row of a later transaction may name an
    object that is gone, for nobody claimed it: the application uploads it anew ("late").
P4  Report, journal and server tell the same deletions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import asyncpg
from attrs import Factory, define
from random_schedule_world import COLLECTOR, NAMED, World

from s3gc import Collector, Report
from s3gc.abc import RESERVED_PREFIX

Write = Mapping[str, Any]
"""A write as the server knows it: method, key, who, ok, before, after (digests or None), began, ended."""

STORY = 120
"""Lines of a story, at most."""


class Broken(AssertionError):
    """A promise was broken."""


@define
class Checks:
    """The bookkeeping of the checks, and what they have seen so far."""

    world: World
    gc: Collector
    database: asyncpg.Connection[Any]
    cycles: int = 0
    deleted: int = 0
    resurrected: int = 0
    seen_by_direct_read: int = 0
    late: int = 0
    objects: Mapping[str, str] = Factory(dict)  # what the bucket holds: digest by key
    gone: dict[str, tuple[str, int]] = Factory(dict)  # key → digest, end of its operation's last deletion
    _uploaded: dict[str, str] = Factory(dict)  # digest by key of what the application uploaded last
    _writes: list[Write] = Factory(list)

    async def after_cycle(self, report: Report) -> None:
        """Check one cycle.

        Raises:
            Broken: with the key's story.
        """
        self.cycles += 1
        self.objects, fresh = await self.world.bucket.report(len(self._writes))
        self._writes += fresh
        deletions: dict[str, Write] = {}
        for write in fresh:
            key = write["key"]
            if not write["ok"] or key.startswith(RESERVED_PREFIX):
                continue
            if write["method"] == "DELETE" and write["before"] is not None:
                if key in deletions:
                    raise self._broken("P4: deleted twice in one operation", key)
                deletions[key] = write
            elif write["method"] == "PUT" and write["who"] != COLLECTOR:
                self._uploaded[key] = write["after"]
        await self._check_deletions(report, deletions)
        await self._check_rows()
        self.deleted += len(deletions)
        self.resurrected += len(report.resurrected)
        self.seen_by_direct_read += report.kept.get("referenced_now", 0)
        self.world.forget_gone(self.objects.keys())

    async def at_the_end(self, report: Report) -> None:
        """Check a cycle without writers: there is what rows name with its bytes, by boto3, and no more."""
        await self.after_cycle(report)
        bucket = self.world.bucket
        named = {key for _, _, key in await self.database.fetch(NAMED)}
        there = {key for key in bucket.keys() if not key.startswith(RESERVED_PREFIX)}  # noqa: SIM118
        assert there == named, f"seed {self.world.seed}: garbage {there - named}, lost {named - there}"
        for key in sorted(there):
            if hashlib.sha256(bucket.read(key)[0]).hexdigest() != self._uploaded[key]:
                raise self._broken("other bytes than were uploaded", key)

    # ------------------------------------------------------------------ P1, P2, P4

    async def _check_deletions(self, report: Report, deletions: Mapping[str, Write]) -> None:
        fences, backups = await self._journal(report.operation_id)
        if not deletions.keys() == backups.keys() == {*report.deleted, *report.resurrected}:
            raise self._broken(
                f"P4: deleted were {sorted(deletions)}, the journal tells {sorted(backups)}, the report "
                f"{sorted(report.deleted)} and back {sorted(report.resurrected)}"
            )
        for key, write in deletions.items():
            if backups[key] != write["before"]:
                raise self._broken("P2: the bytes that were deleted aren't those that were backed up", key)
            for naming in self.world.namings.get(key, ()):
                if naming.state == "undone" or naming.lsn > fences[key]:
                    continue
                if naming.removed is None or naming.removed > write["began"]:
                    raise self._broken(f"P1: deleted after the fence at {fences[key]:x}, with {naming}", key)
        last = max((write["ended"] for write in deletions.values()), default=0)
        self.gone.update({key: (write["before"], last) for key, write in deletions.items()})

    async def _journal(self, operation_id: str) -> tuple[dict[str, int], dict[str, str]]:
        """By deleted key: its batch's fence (a position in PostgreSQL's log), and the backup's digest."""
        fence = 0
        fences: dict[str, int] = {}
        backups: dict[str, str] = {}
        async for entry in self.gc.history(operation_id=operation_id):
            if entry.event == "fence_reached":
                [position] = entry.data["positions"].values()
                fence = int(position, 16)
            elif entry.event == "deleted" and entry.key is not None:
                fences[entry.key] = fence
                backups[entry.key] = entry.data["backup"]["sha256"]
        return fences, backups

    # ------------------------------------------------------------------ P3

    async def _check_rows(self) -> None:
        rows = {(table, row): key for table, row, key in await self.database.fetch(NAMED)}
        namings = [
            naming
            for some in self.world.namings.values()
            for naming in some
            if naming.state == "committed" and rows.get((naming.table, naming.row)) == naming.key
        ]
        assert {(one.table, one.row) for one in namings} == rows.keys(), "the test lost track of its own rows"
        late: set[str] = set()
        for naming in namings:
            key = naming.key
            if key not in self._uploaded:
                continue  # its first upload is to come
            if key in self.objects:
                if self.objects[key] != self._uploaded[key]:
                    raise self._broken(f"P3: other bytes than were uploaded, with {naming}", key)
            elif key not in self.gone or naming.began < self.gone[key][1]:
                raise self._broken(f"P3: not there when the operation has ended, with {naming}", key)
            else:
                late.add(key)
        for key in sorted(late):
            await self.world.bucket.put(key, self.world.latest[key])
        self.late += len(late)

    # ------------------------------------------------------------------ a story to read

    def _broken(self, what: str, key: str = "") -> Broken:
        told = [(one.began, f"named: {one}") for one in self.world.namings.get(key, ())]
        told += [
            (write["began"], f"{write['method']} by {write['who']}: {self._change(write)}")
            for write in self._writes
            if write["key"] == key
        ]
        told = sorted(told)[-STORY // 2 :]
        told += [(at, f"collector: {event}") for at, event in self.world.phases.told[-STORY // 2 :]]
        story = "".join(f"\n  {at} {text}" for at, text in sorted(told))
        return Broken(f"seed {self.world.seed}, cycle {self.cycles}, key {key!r}: {what}{story}")

    @staticmethod
    def _change(write: Write) -> str:
        if not write["ok"]:
            return "refused"
        before, after = ((write[name] or "nothing")[:12] for name in ("before", "after"))
        return f"{before} -> {after}"
