"""``s3gc store``: what the last probe found, in words and as values."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import FILES, Place
from s3gc import Safety
from s3gc.breakers import unconditional_delete
from s3gc.capabilities import StoreState
from s3gc.model import StoreCapabilities, Versioning
from s3gc_cli._output import Secrets
from s3gc_cli._render.store import in_one_line, show_store

HELD = "allow_unconditional_delete = false"


def test_a_store_that_was_never_probed(s3gc: Command, place: Place) -> None:
    shown = s3gc("store")
    assert shown.code == 0
    assert shown.stdout.startswith("the store was never probed: s3gc store --probe does it")
    run = s3gc("store", "--json")
    assert (run.code, run.document) == (0, {"probed_at": None, "held_by": [], "capabilities": None})
    assert s3gc("store", "-q").stdout.startswith("the store was never probed")
    assert place.everything() == FILES


def test_a_probe_is_shown_until_the_next(s3gc: Command, place: Place) -> None:
    before = datetime.now(UTC)
    run = s3gc("store", "--probe", "--json")
    assert run.code == 0
    found = run.document
    assert before <= datetime.fromisoformat(found["probed_at"]) <= datetime.now(UTC)
    assert found["held_by"] == []
    able = found["capabilities"]
    assert able["conditional_delete"] is False  # a folder
    assert able["versioning"] == "never enabled"
    assert able["clock_difference"] == 0.0
    assert able["details"]["conditional_delete"] == "compares right before"
    assert "notes" not in able
    assert place.everything() == FILES
    assert s3gc("store", "--json").document == found
    shown = s3gc("store")
    assert "conditional delete  no" in shown.stdout
    assert "Nothing about the store holds a sweep." in shown.stdout
    assert s3gc("store", "-q").stdout.startswith("nothing about the store holds a sweep; probed ")
    assert s3gc("store", "--probe", "--json").document["probed_at"] > found["probed_at"]


def test_a_store_that_would_hold_a_sweep_ends_with_3(s3gc: Command, place: Place) -> None:
    place.configure(safety=HELD)
    assert s3gc("store").code == 0, "nobody knows yet"
    run = s3gc("store", "--probe", "--json")
    assert run.code == 3
    (breaker,) = run.document["held_by"]
    assert breaker["code"] == "unconditional_delete"
    shown = s3gc("store")
    assert shown.code == 3
    assert "held by unconditional_delete" in shown.stdout
    assert "turn on versioning" in shown.stdout
    assert "allow_unconditional_delete" in shown.stdout
    assert "s3gc acknowledge" not in shown.stdout  # it can't be
    quiet = s3gc("store", "-q")
    assert (quiet.code, quiet.stdout.partition(";")[0]) == (
        3,
        "a sweep would be held by unconditional_delete",
    )


def test_a_collect_leaves_what_it_found(s3gc: Command, place: Place) -> None:
    place.configure(safety=HELD)
    assert s3gc("collect", "-q", "--yes", "--mode", "execute").code == 3
    assert s3gc("store", "-q").code == 3
    assert place.objects() == FILES


# --------------------------------------------------------------------------- in words


def words(state: StoreState) -> str:
    console = Console(width=160, file=None, record=True, quiet=False, highlight=False, markup=False)
    with console.capture() as captured:
        show_store(console, Secrets(), state)
    return captured.get()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "conditional delete  yes"),
        ({"conditional_delete": False}, "conditional delete  no"),
        ({"conditional_bulk_delete": True}, "the same in bulk    yes"),
        ({}, "the same in bulk    no"),
        ({"conditional_put": False}, "conditional put     no"),
        ({"read_after_write": True}, "read after write    yes"),
        ({"list_order": True}, "list order          yes"),
        ({"versioning": Versioning.ENABLED}, "versioning          yes"),
        ({"versioning": Versioning.SUSPENDED}, "it is suspended"),
        ({}, "versioning          unknown"),
        ({"object_lock": True}, "object lock         yes"),
        ({"object_lock": False}, "object lock         no"),
        ({}, "object lock         unknown"),
        ({}, "clock               unknown"),
        ({"clock_difference": timedelta(seconds=-0.4)}, "clock               right"),
        ({"clock_difference": timedelta(seconds=90.5)}, "clock               90.5 s ahead"),
        ({"clock_difference": timedelta(seconds=-90.5)}, "clock               90.5 s behind"),
        ({"details": {"odd": "a\x1b[2Jb"}}, "a\\u001b[2Jb"),
    ],
)
def test_each_finding_has_words(changes: dict[str, Any], said: str) -> None:
    known: dict[str, Any] = {"conditional_delete": True, "conditional_put": True}
    found = StoreCapabilities(**known | changes)
    state = StoreState(found, datetime.now(UTC), unconditional_delete(found, Safety.full()))
    assert said in words(state)
    assert json.dumps(in_one_line(state))


def test_the_age_is_told() -> None:
    found = StoreCapabilities(conditional_delete=True, conditional_put=True)
    state = StoreState(found, datetime.now(UTC) - timedelta(hours=3, minutes=5))
    assert "probed 3 h 5 min ago" in words(state)
    assert in_one_line(state) == "nothing about the store holds a sweep; probed 3 h 5 min ago"
    ahead = StoreState(found, datetime.now(UTC) + timedelta(hours=1))
    assert "probed 0 s ago" in words(ahead)
