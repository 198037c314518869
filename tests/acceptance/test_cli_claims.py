"""``s3gc claims``: what applications have claimed, and how a person ends a claim that was left behind."""

from __future__ import annotations

from datetime import timedelta

import anyio

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import Place
from s3gc import Collector, load_config

KEY = "images/1.jpg"


def claim(place: Place, key: str, hours: int) -> None:
    async def work() -> None:
        async with Collector.open(load_config(place.folder / "s3gc.toml")) as gc:
            assert await gc.claim(key, timedelta(hours=hours))

    anyio.run(work)


def test_claims_are_listed_until_they_end(s3gc: Command, place: Place) -> None:
    assert s3gc("claims", "list").stdout == "0 claims on 0 keys\n"
    claim(place, KEY, 2)
    claim(place, KEY, 5)
    claim(place, "empty", 1)
    run = s3gc("claims", "list")
    assert run.stdout.startswith("3 claims on 2 keys")
    assert KEY in run.stdout
    document = s3gc("claims", "list", "--json", "--prefix", "images/").document
    assert [one["key"] for one in document["claims"]] == [KEY, KEY]


def test_a_person_ends_a_claim_on_record(s3gc: Command, place: Place) -> None:
    claim(place, KEY, 2)
    claim(place, KEY, 5)
    place.configure(mode="execute")
    assert KEY not in s3gc("collect", "--yes", "--json").document["deleted"]
    one, other = s3gc("claims", "list", "--json").document["claims"]
    ended = s3gc("claims", "release", KEY, "--id", one["id"], "--reason", "the import died", "--json")
    assert (ended.code, [each["id"] for each in ended.document["ended"]]) == (0, [one["id"]])
    assert [each["id"] for each in s3gc("claims", "list", "--json").document["claims"]] == [other["id"]]
    assert s3gc("claims", "release", KEY, "--reason", "the other one, too").code == 0
    assert s3gc("claims", "release", KEY, "--reason", "again").code == 1
    told = s3gc("audit", "export").stdout
    assert told.count('"claim_ended"') == 2
    assert "the import died" in told
    assert KEY in s3gc("collect", "--yes", "--json").document["deleted"]


def test_a_claim_isnt_ended_without_a_reason(s3gc: Command, place: Place) -> None:
    claim(place, KEY, 2)
    assert s3gc("claims", "release", KEY).code == 2
    assert s3gc("claims", "release", KEY, "--reason", " ").code == 2
    assert s3gc("claims", "release", "--reason", "x").code == 2
    assert s3gc("claims", "list").stdout.startswith("1 claim on 1 key")
