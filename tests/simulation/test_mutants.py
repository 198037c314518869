"""Each guard bears load: without it, its recorded schedule breaks a promise; with it, none."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.mutate import BEGIN, PAGE, hunt, recorded, run_without, table

from s3gc.testing.simulator import WORLDS, simulate

RECORDED = recorded(PAGE.read_text(encoding="utf-8"))
MIN_GUARDS = 25


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
@pytest.mark.timeout(900)
def test_the_simulator_notices_that_a_guard_is_gone(mutant: Mutant) -> None:
    found = hunt(mutant, first=RECORDED.get(mutant.name))
    assert found is not None, f"{mutant.name} lives: nothing shows that {mutant.where} bears load"


def test_the_table_is_of_these_mutants() -> None:
    assert list(RECORDED) == [mutant.name for mutant in MUTANTS]
    assert len(MUTANTS) >= MIN_GUARDS
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_no_promise_is_without_a_guard() -> None:
    assert {mutant.promise for mutant in MUTANTS} == {f"P{number}" for number in range(1, 7)}


def test_each_guard_is_where_the_table_says() -> None:
    source = Path(__file__).parents[2] / "packages" / "s3gc-core" / "src" / "s3gc"
    for mutant in MUTANTS:
        for where in mutant.where.split(", "):
            names = where.split(".")
            paths = [source.joinpath(*names[:length]) for length in range(1, len(names))]
            text = "".join(
                file.read_text(encoding="utf-8")
                for path in paths
                for file in (
                    [path.with_suffix(".py")] if path.with_suffix(".py").exists() else path.glob("*.py")
                )
            )
            assert names[-1] in text, where


def test_a_mutant_is_a_mutant_only_while_it_lasts() -> None:
    mutant = next(one for one in MUTANTS if one.name in RECORDED)
    world, seed = RECORDED[mutant.name]
    assert world in WORLDS
    assert run_without(mutant, world, seed).violation is not None
    assert simulate(seed, world=world).violation is None


def test_the_table_is_written_where_the_page_has_room_for_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(BEGIN) == 1
    assert recorded(f"{BEGIN}\n{table([])}\n") == {}
