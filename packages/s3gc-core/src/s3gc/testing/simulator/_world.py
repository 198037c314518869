"""One simulated world: time, databases, bucket, applications, hosts; and fate, which strikes at points."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from s3gc.testing.simulator._actors import App
from s3gc.testing.simulator._bucket import Bucket
from s3gc.testing.simulator._database import FOLDER, TRACKED, Database
from s3gc.testing.simulator._invariants import Oracle
from s3gc.testing.simulator._loop import VirtualLoop
from s3gc.testing.simulator._operation import Rules
from s3gc.testing.simulator._schedule import GARBAGE, ROW_KINDS, Act, Profile, Schedule
from s3gc.testing.simulator._source import Link
from s3gc.testing.simulator._story import Story
from s3gc.testing.simulator._vault import Disk
from s3gc.vault.packs import PACK_SUFFIX

if TYPE_CHECKING:
    from s3gc import Collector
    from s3gc.testing.simulator._process import Process

PINNED = (("f0", "p/1.jpg"), ("p0", "p/2.jpg"), ("a0", "p/"), ("s0", "p/1.jpg"))
"""Rows that always stay, and their objects: a source without any reference holds every cycle."""


LEASE_SECONDS = 2_100.0
"""The default ``lease_ttl``."""


def rules_of(schedule: Schedule, lease: float | None) -> Rules:
    """The schedule's numbers as the oracle knows them."""
    settings = schedule.settings
    return Rules(
        mode=settings.mode,
        retention=timedelta(hours=settings.retention_hours),
        grace=timedelta(hours=settings.grace_hours),
        observations=settings.observations,
        max_deletes=settings.max_deletes,
        max_share=settings.max_share,
        max_drop=settings.max_drop,
        min_rate=settings.min_rate,
        max_skew=timedelta(minutes=5),
        unconditional=settings.unconditional_allowed,
        excluded=("keep/",),
        owned=settings.owned,
        derived=settings.derived,
        lease=None if lease is None else timedelta(seconds=lease),
    )


class World:
    """Everything that a schedule happens in."""

    def __init__(self, loop: VirtualLoop, schedule: Schedule, profile: Profile, folder: Path) -> None:
        self.loop, self.schedule, self.profile, self.folder = loop, schedule, profile, folder
        self.settings = schedule.settings
        self.story = Story(loop, secrets=[str(folder), f"process {os.getpid()}", platform.node()])
        self.noise = random.Random(schedule.noise)
        self.disk = Disk(on_sync=self._synced)
        self.calm = False  # the end: nothing strikes any more
        self.broken: tuple[str, str] | None = None  # the first broken promise
        self.at_work: Process | None = None  # whose blocking work runs at this moment
        self.processes: list[Process] = []
        self.failure: Exception | None = None  # an error that nobody expected
        self.claimed: dict[str, float] = {}  # key → second up to which it was promised
        self.claimed_rows: set[tuple[str, int]] = set()  # (key, tick) of rows that came under a claim
        self.claimer: tuple[Collector, Process] | None = None  # with which the application claims
        self.asking: list[asyncio.Task[None]] = []  # claims on their way
        self.finished = asyncio.Event()  # all hosts have come to the end of their scripts
        self._tick = 0
        self._ids = 0
        self._reached: Counter[str] = Counter()
        self._triggers: dict[tuple[str, int], list[Act]] = {}
        for one in schedule.triggers:
            self._triggers.setdefault((one.point, one.nth), []).append(one.act)
        self.bucket = Bucket(
            self,
            page_size=self.settings.page_size,
            conditional=self.settings.conditional,
            skew=timedelta(seconds=self.settings.store_skew),
        )
        tracked = [*TRACKED, FOLDER] if self.settings.folders else list(TRACKED)
        columns = {"main": tracked, "second": [("docs", "file")]}
        self.links = {
            name: Link(
                name,
                Database(name, f"{name}-1", self.tick, loop.time, columns[name]),
                follows=profile.follows,
            )
            for name in profile.sources
        }
        self.staging = {
            name: Database(name, f"{name}-2", self.tick, loop.time, columns[name]) for name in profile.sources
        }
        self.following = frozenset(profile.sources) if profile.follows else frozenset()
        lease = LEASE_SECONDS if profile.layout == "two machines" else None
        self.oracle = Oracle(self, rules_of(schedule, lease))
        self.app = App(self)
        self._first()

    # ------------------------------------------------------------------ small things

    def tick(self) -> int:
        """A number that grows with every effect: what came before what, also within one moment."""
        self._tick += 1
        return self._tick

    def new_id(self) -> str:
        """An operation's id, the same in every run."""
        self._ids += 1
        return f"OP{self._ids:04}"

    def latency(self) -> float:
        """Seconds that something is on its way: mostly short."""
        kind, within = self.noise.random(), self.noise.random()
        if kind < 0.55:
            return round(0.001 + 0.02 * within, 3)
        if kind < 0.97:
            return round(0.02 + 0.3 * within, 3)
        return round(1.0 + 8.0 * within, 3)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something after a while, unless the end has come."""
        self.loop.call_later(seconds, lambda: None if self.calm else act())

    def databases(self) -> list[Database]:
        return [link.database for link in self.links.values()]

    def owners(self) -> list[str]:
        """The vaults that have left their mark in the bucket."""
        marks = [one for key, one in self.bucket.objects.items() if key.startswith(".s3gc/owner/")]
        return [json.loads(one.body)["vault"] for one in marks]

    def violate(self, invariant: str, text: str) -> None:
        """Note a broken promise; the first one counts, and all processes end."""
        text = self.story.scrubbed(text)
        self.story.say("ORACLE", "{} IS BROKEN: {}", invariant, text)
        if self.broken is None:
            self.broken = (invariant, text)

    # ------------------------------------------------------------------ the beginning and the end

    def _first(self) -> None:
        self.story.muted = True  # it stands in the schedule
        for row, key in PINNED:
            if row[0] == "a" and not self.settings.folders:
                continue
            if row[0] == "s" and "second" not in self.links:
                continue
            if not key.endswith("/"):
                self.app.do(Act("upload", key))
            self.app.do(Act("insert", key, row))
            source, table, column = ROW_KINDS[row[0]]
            self.staging[source].at_once(table, row, {column: key})
        for act in self.schedule.initial:
            self.app.do(act)
        self.story.muted = False
        for seconds, act in self.schedule.timeline:
            self.later(seconds, lambda act=act: self.perform(act, None))  # type: ignore[misc]

    def calm_down(self) -> None:
        """Nothing strikes any more, all links are healed, all transactions end."""
        self.calm = True
        for link in self.links.values():
            link.down_until = link.replica_until = link.garbled_until = 0.0
            for transaction in list(link.database.open.values()):
                if self.noise.random() < 0.5:
                    link.database.commit(transaction)
                else:
                    link.database.roll_back(transaction)
                self.story.say("app", "{} {} at last", transaction.name, transaction.state)

    # ------------------------------------------------------------------ fate

    def reached(self, point: str, process: Process) -> str | None:
        """What the schedule has for this point happens; returns the fault that the call is to suffer."""
        if self.broken is not None:
            process.kill()
            return None
        if process.eyes.pending_resets and not point.startswith(("find", "work", "page")):
            self.oracle.found_again(process)
        if self.calm:
            return None
        self._reached[point] = nth = self._reached[point] + 1
        fault = None
        for act in self._triggers.get((point, nth), ()):
            fault = self.perform(act, process, f"{point} ({nth})") or fault
        return fault

    def perform(self, act: Act, process: Process | None, where: str = "") -> str | None:
        """Do an act now. Returns the fault that the call at this point is to suffer."""
        if act.key == "?":
            act = evolve(act, key=self._doomed(act.number, process))
        if self.app.do(act):
            return None
        link = self.links[sorted(self.links)[act.number % len(self.links)]]
        until = self.loop.time() + act.seconds
        match act.kind:
            case "down":
                link.down_until = until
            case "replica":
                link.replica_until = until
            case "garble":
                for each in self.links.values():  # the resolver's settings are wrong, not one database
                    each.garbled_until = until
            case "clock":
                self.bucket.skew += timedelta(seconds=(-2_000, -400, 400, 90_000)[act.number % 4])
            case "slot":
                link.slot_lost = True
            case "repeat":
                link.repeats = True
            case "lag":
                link.lags_until = until
            case "purge":
                link.purged_to = link.database.lsn
            case "failover":
                link.database.timeline += 1
            case _ if process is not None:
                return self._strike(act, process, where)
            case _:
                return None
        self.story.say("fate", "{} at {} for {:g}s", act.kind, link.name, act.seconds)
        return None

    def _doomed(self, number: int, process: Process | None) -> str:
        """A key that is about to be deleted, or at least garbage."""
        keys: list[str] = []
        if process is not None:
            plan = self.oracle.registry(process).plans.get(process.eyes.plan or process.eyes.executes)
            keys = sorted(plan.objects) if plan is not None else []
        if not keys:
            keys = [one for one in GARBAGE if one in self.bucket.objects and not self.oracle.named(one)]
        return keys[number % len(keys)] if keys else GARBAGE[number % len(GARBAGE)]

    def _strike(self, act: Act, process: Process, where: str) -> str | None:
        self.story.say("fate", "{} strikes {} at {}", act.kind, process.name, where)
        match act.kind:
            case "crash" | "power":
                self.story.count("crashes")
                process.kill(power=act.kind == "power")
            case "pause":
                process.pause(act.seconds)
            case "cancel":
                process.cancel()
            case "full":
                process.vault_full_until = self.loop.time() + act.seconds
            case "corrupt":
                process.corrupts = True
            case fault:
                return fault
        return None

    def _synced(self, fd: int) -> None:
        """A disk that changes a byte while it writes."""
        process = self.at_work
        if process is None or not process.corrupts:
            return
        if not os.readlink(f"/proc/self/fd/{fd}").endswith(PACK_SUFFIX):
            return
        process.corrupts = False
        size = os.fstat(fd).st_size
        place = size - 100 if size > 200 else size // 2
        byte = os.pread(fd, 1, place)
        os.pwrite(fd, bytes([byte[0] ^ 0x55]), place)
        self.story.say("fate", "the disk changes a byte of a pack")
