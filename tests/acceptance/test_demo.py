"""The demo runs, and its checks can fail: each is shown to notice what it claims to notice."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from typer.testing import CliRunner

from fixtures_cli import Run, environment, spawn
from s3gc import Collector, Explanation, Plan, Report, RestoreReport
from s3gc.model import AuditResult, VaultCheck
from s3gc_cli._app import app
from s3gc_cli._demo._checks import Checks
from s3gc_cli._demo._compare import compare, files, own
from s3gc_cli._demo._world import TABLES, World, build

NAME = "my demo, 50%? #1"
"""Of a folder: what URLs and TOML give a meaning to must not matter."""

# --------------------------------------------------------------------------- a whole run


def test_the_demo_measures_that_all_went_well(tmp_path: Path) -> None:
    run = spawn(["demo", "--json"], tmp_path, TMPDIR=str(tmp_path))
    found = run.document
    assert run.code == 0, run.stderr
    assert found["ok"] is True
    assert all(check["ok"] and check["found"] for check in found["checks"])
    assert found["world"]["rows"] > 2_000
    assert found["plan"]["planned"] == found["collect"]["deleted"] == found["collect"]["backed_up"] > 100
    assert found["restore"]["would_restore"] == found["restore"]["restored"] == found["collect"]["deleted"]
    assert found["restore"]["compared_files"] == found["world"]["objects"]
    assert found["restore"]["compared_bytes"] == found["world"]["bytes"] > 1_000_000
    assert found["database_restored"]["missing"] > 0
    assert list(tmp_path.iterdir()) == []  # it cleans up after itself
    assert "1. An application and its bucket" in run.stderr


def test_the_demo_for_people_and_a_folder_to_play_with(tmp_path: Path) -> None:
    run = spawn(["demo", "--keep", NAME, "--seed", "5"], tmp_path)
    assert run.code == 0, run.stderr
    for step in range(1, 9):
        assert f"\n{step}. " in run.stdout
    assert "checks passed" in run.stdout
    assert "s3gc plan" in run.stdout.splitlines()[-1]
    assert "✗" not in run.stdout
    assert "\x1b" not in run.stdout + run.stderr

    kept = tmp_path / NAME
    plan = spawn(["plan", "--json"], kept)
    assert plan.code == 0, plan.stderr
    assert plan.document["mode"] == "dry_run"
    assert plan.document["planned"] > 100
    gone = spawn(["collect", "--mode", "execute", "--yes", "--json"], kept).document["deleted"]
    assert len(gone) == plan.document["planned"]
    again = spawn(["demo", "--keep", NAME], tmp_path)
    assert again.code == 2
    assert "isn't empty" in again.stderr


# --------------------------------------------------------------------------- the checks can fail


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Run]]:
    """The demo in this process, so that a test can spoil a step of it."""
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)

    def run() -> Run:
        result = CliRunner().invoke(app, ["demo", "--json", "-q"])
        return Run(result.exit_code, result.stdout, result.stderr)

    yield run
    structlog.reset_defaults()


def _bucket(gc: Collector) -> Path:
    return Path(gc._parts.store.url.removeprefix("file://"))


async def _flip_a_byte(gc: Collector, done: RestoreReport) -> RestoreReport:
    if not done.dry_run:
        path = _bucket(gc) / next(key for key in done.restored if key.endswith(".jpg"))
        body = bytearray(path.read_bytes())
        body[-1] ^= 1
        path.write_bytes(body)
    return done


async def _write_in_a_dry_run(gc: Collector, done: RestoreReport) -> RestoreReport:
    if done.dry_run:
        (_bucket(gc) / done.restored[0]).write_bytes(b"not yet")
    return done


async def _delete_a_live_file(gc: Collector, done: Report) -> Report:
    (_bucket(gc) / "images/17.jpg").unlink()
    return done


async def _touch_a_file(gc: Collector, done: Plan) -> Plan:
    (_bucket(gc) / "images/11.jpg").write_bytes(b"a plan that writes")
    return done


async def _mark_the_bucket(gc: Collector, done: Plan) -> Plan:
    mark = _bucket(gc) / ".s3gc" / "not-an-owner" / "me"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_bytes(b"a plan that writes")
    return done


async def _say_broken(_: Collector, done: tuple[AuditResult, VaultCheck]) -> tuple[AuditResult, VaultCheck]:
    return attrs.evolve(done[0], ok=False), attrs.evolve(done[1], ok=False)


async def _lose_the_rows(_: Collector, done: Explanation) -> Explanation:
    return attrs.evolve(done, references=(), history=())


EQUAL = "the bucket equals the original, byte for byte"
OTHERS = "every other file is there, byte for byte"


@pytest.mark.parametrize(
    ("spoil", "failing"),
    [
        ({"restore": _flip_a_byte}, {EQUAL}),
        (
            {"restore": _write_in_a_dry_run},
            {"the restore's dry-run touches nothing", "the restore brings back all that went", EQUAL},
        ),
        (
            {"collect": _delete_a_live_file},
            {
                "all that the plan named is gone",
                OTHERS,
                "images/17.jpg is kept because a row names it",
                "images/7.jpg went, images/17.jpg stayed",
                EQUAL,
                "every row of yesterday has its file again",
            },
        ),
        ({"plan": _touch_a_file}, {"a plan touches nothing", OTHERS, EQUAL}),
        ({"plan": _mark_the_bucket}, {"a plan touches nothing"}),
        (
            {"verify": _say_broken, "explain": _lose_the_rows},
            {
                "the journal's chain is whole",
                "every deleted object has a back-up that reads back whole",
                "images/17.jpg is kept because a row names it",
                "the journal tells how images/7.jpg went",
                "the journal holds, the restore included",
            },
        ),
    ],
)
def test_a_step_that_goes_wrong_is_seen(
    demo: Callable[[], Run],
    monkeypatch: pytest.MonkeyPatch,
    spoil: dict[str, Callable[[Collector, Any], Any]],
    failing: set[str],
) -> None:
    for method, change in spoil.items():
        monkeypatch.setattr(Collector, method, _spoiled(getattr(Collector, method), change))
    run = demo()
    assert {check["claim"] for check in run.document["checks"] if not check["ok"]} == failing
    assert (run.code, run.document["ok"]) == (1, False)


def _spoiled(right: Callable[..., Any], change: Callable[[Collector, Any], Any]) -> Callable[..., Any]:
    async def wrong(self: Collector, *arguments: Any, **options: Any) -> Any:
        return await change(self, await right(self, *arguments, **options))

    return wrong


def test_a_plan_that_leaves_something_out_is_seen(
    demo: Callable[[], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Plan.keys
    monkeypatch.setattr(Plan, "keys", lambda self: iter(list(right(self))[1:]))
    run = demo()
    failing = {check["claim"] for check in run.document["checks"] if not check["ok"]}
    assert failing == {"the plan names what no row refers to, and nothing else"}
    assert run.code == 1


# --------------------------------------------------------------------------- the comparing itself


@pytest.fixture
def original(tmp_path: Path) -> dict[str, bytes]:
    body = {"a": b"one", "b/c": b"two", "empty": b""}
    for key, content in body.items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(content)
    return body


def test_equal_folders_are_equal(tmp_path: Path, original: dict[str, bytes]) -> None:
    found = compare(original, tmp_path)
    assert (found.equal, found.same, found.bytes) == (True, 3, 6)
    assert files(tmp_path) == set(original)


def test_what_s3gc_keeps_itself_is_no_file_of_the_application(
    tmp_path: Path, original: dict[str, bytes]
) -> None:
    for key in (".s3gc/lease/1", ".s3gcx", "b/.s3gc/x"):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(b"")
    assert own(tmp_path) == {".s3gc/lease/1"}
    assert files(tmp_path) == {*original, ".s3gcx", "b/.s3gc/x"}
    assert compare(original, tmp_path).extra == (".s3gcx", "b/.s3gc/x")


def test_a_changed_byte_is_seen(tmp_path: Path, original: dict[str, bytes]) -> None:
    (tmp_path / "b/c").write_bytes(b"twO")
    found = compare(original, tmp_path)
    assert (found.equal, found.different) == (False, ("b/c",))
    assert "'b/c'" in str(found)


def test_a_missing_and_an_extra_file_are_seen(tmp_path: Path, original: dict[str, bytes]) -> None:
    (tmp_path / "empty").unlink()
    (tmp_path / "more").write_bytes(b"")
    found = compare(original, tmp_path)
    assert (found.equal, found.missing, found.extra) == (False, ("empty",), ("more",))
    some = compare(original, tmp_path, only={"a", "b/c"})
    assert (some.equal, some.same, some.extra) == (True, 2, ())


def test_a_key_that_was_never_there_is_different(tmp_path: Path, original: dict[str, bytes]) -> None:
    (tmp_path / "more").write_bytes(b"x")
    assert compare(original, tmp_path, only={"more"}).different == ("more",)


def test_nothing_compared_is_no_proof(tmp_path: Path) -> None:
    found = compare({}, tmp_path)
    assert not found.equal
    assert "nothing was compared" in str(found)


def test_checks() -> None:
    checks = Checks()
    assert not checks.ok  # nothing claimed is nothing proven
    checks.same_keys("equal", {"a", "b"}, ["b", "a"])
    assert checks.ok
    for found in (["a"], ["a", "b", "c"], ["a", "a", "b"]):
        checks = Checks()
        checks.same_keys("not equal", {"a", "b"}, found)
        assert not checks.ok
        assert checks.done[0].found


# --------------------------------------------------------------------------- its world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("world"), seed=1)


def test_the_world_is_as_the_demo_says(world: World) -> None:
    assert files(world.bucket) == world.objects
    assert compare(world.original, world.bucket).equal
    assert world.today < world.yesterday < world.objects
    gone, stays = world.alike
    assert gone in world.garbage
    assert stays in world.today
    assert any(key.startswith("images2/") for key in world.garbage)
    assert any(key.startswith("images2/") for key in world.today)
    assert any(key.startswith("legal2/") for key in world.garbage)
    assert world.excluded
    assert world.young
    assert not world.garbage & (world.today | world.excluded | world.young)
    with sqlite3.connect(world.database) as database:
        for table in TABLES:
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (world.rows[table],)
    database.close()


def test_the_same_seed_makes_the_same_world(world: World, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    same = build(tmp_path / "same", seed=1)
    assert (same.original, same.today) == (world.original, world.today)
    (tmp_path / "other").mkdir()
    other = build(tmp_path / "other", seed=2)
    assert other.today != world.today
    assert json.dumps(sorted(other.rows)) == json.dumps(sorted(world.rows))
