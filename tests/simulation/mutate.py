"""Hunt for each mutant: a seed whose schedule breaks a promise without the guard, and none with it.

python -m tests.simulation.mutate --write     # the table of docs/safety-case.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen
from tests.simulation.mutants import MUTANTS, Mutant

from s3gc.testing.simulator import DEFAULT, WORLDS, Outcome, simulate

PAGE = Path(__file__).parents[2] / "docs" / "safety-case.md"
BEGIN, END = "<!-- guards: begin -->", "<!-- guards: end -->"

BUDGET = 1_500
"""Schedules that may be run to find a mutant."""


@frozen
class Found:
    """A schedule that shows what a guard is for."""

    mutant: str
    world: str
    seed: int
    invariant: str
    text: str


def worlds_of(mutant: Mutant) -> Sequence[str]:
    """Where to look: the worlds that it names, else all that are run by default."""
    named = [name for name in mutant.worlds if name in WORLDS]
    return named or [profile.name for profile in DEFAULT]


def seeds_of(mutant: Mutant, budget: int) -> Iterator[tuple[str, int]]:
    """Worlds and seeds in the order in which they are tried."""
    worlds = worlds_of(mutant)
    for number in range(budget):
        yield worlds[number % len(worlds)], number // len(worlds)


def run_without(mutant: Mutant, world: str, seed: int) -> Outcome:
    """One schedule without the guard."""
    with mutant.without():
        return simulate(seed, world=world)


def hunt(mutant: Mutant, budget: int = BUDGET, first: tuple[str, int] | None = None) -> Found | None:
    """A schedule within the budget that breaks a promise without the guard; None: the mutant lives.

    Args:
        first: world and seed to try before all others.
    """
    for world, seed in itertools.chain([first] if first else [], seeds_of(mutant, budget)):
        violation = run_without(mutant, world, seed).violation
        if violation is not None and simulate(seed, world=world).violation is None:
            return Found(mutant.name, world, seed, violation.invariant, violation.text)
    return None


def row(mutant: Mutant, found: Found) -> str:
    """One line of the table."""
    text = found.text.replace("|", "\\|").replace("<", "&lt;")
    return (
        f"| {mutant.promise} | {mutant.guard} | `{mutant.where}` | `{mutant.name}` | {found.world}, "
        f"seed {found.seed} | {found.invariant}: {text} |"
    )


def table(rows: Sequence[str]) -> str:
    """The whole table, as it stands between the marks of the page."""
    head = [
        "| promise | guard | where | mutant | shown by | what breaks without it |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def rows_of(page: str) -> dict[str, str]:
    """Mutant → its line, from the page."""
    inside = page.partition(BEGIN)[2].partition(END)[0]
    found: dict[str, str] = {}
    for line in inside.splitlines():
        cells = line.strip("| ").split(" | ")
        if len(cells) >= 5 and cells[3].startswith("`"):
            found[cells[3].strip("`")] = line
    return found


def recorded(page: str) -> dict[str, tuple[str, int]]:
    """Mutant → world and seed, from the page."""
    found: dict[str, tuple[str, int]] = {}
    for name, line in rows_of(page).items():
        world, _, seed = line.strip("| ").split(" | ")[4].partition(", seed ")
        found[name] = (world, int(seed))
    return found


def _hunt(number: int) -> Found | None:
    return hunt(MUTANTS[number])


def main() -> int:
    """Returns the exit code: 1 if a mutant lives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/safety-case.md")
    parser.add_argument("--only", action="append", help="only this mutant (may be given several times)")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    chosen = [n for n, mutant in enumerate(MUTANTS) if not given.only or mutant.name in given.only]
    alive: list[str] = []
    killed: list[tuple[Mutant, Found]] = []
    with multiprocessing.get_context("fork").Pool(given.jobs) as pool:
        for number, found in zip(chosen, pool.imap(_hunt, chosen), strict=True):
            mutant = MUTANTS[number]
            if found is None:
                alive.append(mutant.name)
                print(f"LIVES  {mutant.name}", flush=True)
            else:
                killed.append((mutant, found))
                print(f"killed {json.dumps([found.mutant, found.world, found.seed, found.text])}", flush=True)
    if given.write and not alive:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        rows = {**rows_of(page), **{mutant.name: row(mutant, found) for mutant, found in killed}}
        inside = table([rows[mutant.name] for mutant in MUTANTS if mutant.name in rows])
        PAGE.write_text(f"{before}{BEGIN}\n{inside}\n{END}{after}", encoding="utf-8")
    print(f"{len(killed)} killed, {len(alive)} alive: {', '.join(alive)}")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
