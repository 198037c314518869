"""Run schedules: one, or very many on all cores."""

from __future__ import annotations

import asyncio
import functools
import gc as garbage
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from attrs import Factory, define, frozen

from s3gc.testing.simulator._chooser import Chooser, SeedChooser
from s3gc.testing.simulator._host import Host
from s3gc.testing.simulator._loop import Stuck, VirtualLoop
from s3gc.testing.simulator._schedule import GARBAGE, Schedule, Settings, Step, draw
from s3gc.testing.simulator._story import Violation
from s3gc.testing.simulator._vault import watched
from s3gc.testing.simulator._world import World
from s3gc.testing.simulator._worlds import DEFAULT, WORLDS

CLEAN_EVERY = 40
"""Schedules between two collections of Python's own garbage."""


@frozen
class Outcome:
    """How a schedule went."""

    world: str
    steps: int  # callbacks of the event loop
    counts: Counter[str]
    story: Sequence[str]
    violation: Violation | None = None


@define
class Totals:
    """How many schedules went."""

    schedules: int = 0
    steps: int = 0
    counts: Counter[str] = Factory(Counter)
    worlds: Counter[str] = Factory(Counter)
    violations: list[Violation] = Factory(list)
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.schedules += 1
        self.steps += outcome.steps
        self.counts += outcome.counts
        self.worlds[outcome.world] += 1
        if outcome.violation is not None:
            self.violations.append(outcome.violation)


def schedule_of(seed: int, world: str | None = None) -> Schedule:
    """The schedule that a seed stands for."""
    chooser = SeedChooser(seed)
    profile = (
        WORLDS[world]
        if world is not None
        else WORLDS[chooser.weighted({one.name: one.weight for one in DEFAULT})]
    )
    return draw(chooser, profile)


def simulate(seed: int, *, world: str | None = None) -> Outcome:
    """Run the schedule of a seed. The same seed gives the same story, everywhere.

    Args:
        world: its name, else the seed picks one of the default worlds.
    """
    return run_schedule(schedule_of(seed, world), seed=seed)


def simulate_drawn(chooser: Chooser, world: str) -> Outcome:
    """Run a schedule that ``chooser`` draws."""
    return run_schedule(draw(chooser, WORLDS[world]))


def run_schedule(schedule: Schedule, *, seed: int | None = None) -> Outcome:
    """Run one schedule."""
    folder = Path(tempfile.mkdtemp(prefix="s3gc-sim-", dir=_ram()))
    try:
        return _run_in(folder, schedule, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ram() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _run_in(folder: Path, schedule: Schedule, seed: int | None) -> Outcome:
    profile = WORLDS[schedule.world]
    loop = VirtualLoop()
    world = World(loop, schedule, profile, folder)
    hosts = _hosts(world, folder, schedule)
    doomed = [key for key in GARBAGE if key in world.bucket.objects and not world.oracle.named(key)]
    try:
        with watched(world.disk):
            loop.run_to_end(_play(world, hosts, doomed))
    except Stuck as stuck:
        world.violate("progress", str(stuck))
    violation = None
    if world.broken is not None:
        story = [*schedule.lines(), *world.story.lines()]
        violation = Violation(*world.broken, seed, schedule.world, story)
        violation.__cause__ = world.failure
    return Outcome(schedule.world, loop.steps, world.story.counts, LazyLines(world), violation)


class LazyLines(Sequence[str]):
    """A story that is put into words when it is read."""

    def __init__(self, world: World) -> None:
        self._make: Callable[[], Sequence[str]] = lambda: [*world.schedule.lines(), *world.story.lines()]
        self._made: Sequence[str] | None = None

    def _lines(self) -> Sequence[str]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __len__(self) -> int:
        return len(self._lines())

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        return self._lines()[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines())


def _hosts(world: World, folder: Path, schedule: Schedule) -> list[Host]:
    """The machines of a world's layout."""
    vault, second = folder / "vault", folder / "second"
    if not schedule.settings.fresh:
        (vault / "packs").mkdir(parents=True)
        for name, data in _template():
            (vault / name).write_bytes(data)
    first, *more = schedule.scripts
    hosts = [Host(world, "gc1", first, vault=vault)]
    match world.profile.layout:
        case "two processes":
            hosts.append(Host(world, "gc2", more[0], vault=vault))
        case "two machines":
            hosts.append(Host(world, "gc2", more[0], vault=vault, folder=second))
        case "staging":
            collect = [Step("wait", 90_000.0), Step("collect")]
            hosts.append(Host(world, "staging", collect, vault=second, staging=True))
        case "claims":
            hosts.append(Host(world, "web", [Step("serve")], vault=vault, prefix="web:"))
    return hosts


async def _play(world: World, hosts: Sequence[Host], doomed: Sequence[str]) -> None:
    serving = asyncio.gather(*(host.run() for host in hosts if host.prefix))
    await asyncio.gather(*(host.run() for host in hosts if not host.prefix))
    world.finished.set()
    await serving
    if world.broken is not None:
        return
    world.calm_down()
    await hosts[0].settle()  # the others have the same vault, or delete nothing
    if world.broken is None:
        world.oracle.finish(hosts[0])
    if world.profile.quiet and world.broken is None:
        world.oracle.alive(doomed)


@functools.cache
def _template() -> Sequence[tuple[str, bytes]]:
    """The files of a new vault with its registry, made once in each process."""
    with tempfile.TemporaryDirectory(prefix="s3gc-sim-new-", dir=_ram()) as name:
        folder = Path(name)
        vault = folder / "vault"
        schedule = Schedule("quiet", Settings(), [], [[]], [], [], 0)
        world = World(VirtualLoop(), schedule, WORLDS["quiet"], folder)

        async def make() -> None:
            await Host(world, "new", [], vault=vault).settle()

        world.loop.run_to_end(make())
        if world.broken is not None:
            raise RuntimeError(f"no vault can be made: {world.broken}") from world.failure
        return [(path.name, path.read_bytes()) for path in sorted(vault.iterdir()) if path.is_file()]


# ------------------------------------------------------------------ very many


def _several(work: tuple[Sequence[int], str | None, bool]) -> Totals:
    seeds, world, keep_going = work
    totals = Totals()
    if not garbage.get_freeze_count():
        simulate(0)  # loads and makes what all schedules share
        garbage.collect()
        garbage.freeze()
    garbage.disable()
    try:
        for number, seed in enumerate(seeds):
            totals.add(simulate(seed, world=world))
            if totals.violations and not keep_going:
                break
            if number % CLEAN_EVERY == CLEAN_EVERY - 1:
                garbage.collect()
    finally:
        garbage.enable()
    return totals


def run(
    seeds: Iterable[int],
    jobs: int = 1,
    *,
    world: str | None = None,
    progress: Callable[[Totals], None] | None = None,
    keep_going: bool = False,
) -> Totals:
    """Run the schedules of many seeds.

    Args:
        jobs: processes at once.
        world: run them all in this world.
        progress: told of the totals from time to time.
        keep_going: go on after a violation (else the run ends soon).
    """
    started = time.monotonic()
    totals = Totals()
    for part in _parts(seeds, jobs, world, keep_going):
        totals.schedules += part.schedules
        totals.steps += part.steps
        totals.counts += part.counts
        totals.worlds += part.worlds
        totals.violations += part.violations
        totals.seconds = time.monotonic() - started
        if progress is not None:
            progress(totals)
        if totals.violations and not keep_going:
            break
    return totals


def _parts(seeds: Iterable[int], jobs: int, world: str | None, keep_going: bool) -> Iterator[Totals]:
    chunks = ((chunk, world, keep_going) for chunk in _chunks(seeds, 100))
    if jobs == 1:
        yield from map(_several, chunks)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(_several, chunks)


def _chunks(seeds: Iterable[int], size: int) -> Iterator[Sequence[int]]:
    chunk: list[int] = []
    for seed in seeds:
        chunk.append(seed)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
