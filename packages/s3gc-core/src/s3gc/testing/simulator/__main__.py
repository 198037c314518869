"""``python -m s3gc.testing.simulator --schedules 20000 --seed 0 --jobs 2 [--world NAME]``."""

from __future__ import annotations

import argparse
import os
import sys

from s3gc.testing.simulator import WORLDS, Totals, run, simulate

PLAIN = ("plans", "operations", "deletions", "resurrected", "restored", "put back", "claims", "crashes")


def main() -> int:
    """Returns the exit code: 1 after a broken promise."""
    parser = argparse.ArgumentParser(prog="s3gc.testing.simulator", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default: 2)")
    parser.add_argument("--world", choices=sorted(WORLDS), help="only this one (default: all that are on)")
    parser.add_argument("--keep-going", action="store_true", help="count all broken promises")
    parser.add_argument("--story", action="store_true", help="tell the story of --seed, and run nothing else")
    given = parser.parse_args()
    if given.story:
        outcome = simulate(given.seed, world=given.world)
        try:
            print(*outcome.story, sep="\n", flush=True)
        except BrokenPipeError:  # `… --story | head`: the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if outcome.violation is None else 1

    told = [0.0]

    def progress(totals: Totals) -> None:
        if totals.seconds - told[0] >= 10:
            told[0] = totals.seconds
            print(f"{totals.schedules} schedules in {totals.seconds:.0f} s", file=sys.stderr, flush=True)

    seeds = range(given.seed, given.seed + given.schedules)
    totals = run(seeds, given.jobs, world=given.world, progress=progress, keep_going=given.keep_going)
    print(summary(totals, given.seed))
    for violation in totals.violations:
        print(f"world {violation.world}, seed {violation.seed}: {violation.invariant}: {violation.text}")
    for violation in totals.violations[:1]:
        print(f"\n{violation}")
    return 1 if totals.violations else 0


def summary(totals: Totals, first: int) -> str:
    """What a run did, in words."""
    count = totals.counts
    lines = [
        f"{totals.schedules} schedules from seed {first} on, {totals.steps} steps, {totals.seconds:.0f} s: "
        f"{len(totals.violations)} broken promises",
        ", ".join(f"{count[name]} {name}" for name in PLAIN),
    ]
    for head in ("held by ", "ended by "):
        named = {name.removeprefix(head): n for name, n in count.items() if name.startswith(head)}
        shown = ", ".join(f"{name} {n}" for name, n in sorted(named.items()))
        lines.append(f"{head.strip()}: {shown or 'nothing'}")
    lines.append("worlds: " + ", ".join(f"{name} {n}" for name, n in sorted(totals.worlds.items())))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
