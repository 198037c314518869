"""``s3gc vault replicate|replicas|fetch|new-key``, on a vault that a collect has filled."""

from __future__ import annotations

import re

import pytest

from acceptance.test_cli_commands import Command, collected, place, s3gc  # noqa: F401
from fixtures_cli import FILES, Place


def configured(place: Place, *lines: str) -> None:
    path = place.folder / "s3gc.toml"
    text = re.sub(r"^replica.*\n", "", path.read_text(), flags=re.MULTILINE)
    path.write_text("\n".join(lines) + "\n" + text)


@pytest.fixture
def replica(place: Place, collected: str) -> str:
    url = (place.folder / "replica").as_uri()
    configured(place, f'replicas = ["{url}"]')
    return url


def test_replicate_look_lose_and_fetch(s3gc: Command, place: Place, replica: str) -> None:
    behind = s3gc("vault", "replicas", "--json")
    assert behind.code == 1
    (status,) = behind.document["replicas"]
    assert (status["url"], status["seq"], status["error"]) == (replica, 0, None)
    assert status["entries_behind"] > 4
    assert status["bytes_behind"] > 1000
    assert status["lag"] >= 0
    assert "behind, since" in s3gc("vault", "replicas").stdout
    assert not (place.folder / "replica").exists()

    done = s3gc("vault", "replicate")
    assert (done.code, done.stderr) == (0, "")
    assert "up to date" in done.stdout
    assert s3gc("vault", "replicas", "--quiet").stdout == "1 of 1 replica up to date\n"

    (place.folder / "vault").rename(place.folder / "lost")
    back = s3gc("vault", "fetch", replica, "vault", "--json")
    assert back.code == 0
    assert back.document["problems"] == []
    assert back.document["entries"] == status["entries_behind"]
    assert s3gc("restore", "--prefix", "", "--execute").code == 0
    assert place.objects() == dict(FILES)
    assert s3gc("vault", "replicate").code == 0


def test_what_is_damaged_in_a_replica_is_told(s3gc: Command, place: Place, replica: str) -> None:
    assert s3gc("vault", "replicate").code == 0
    (part,) = (place.folder / "replica" / "packs").rglob("*.part")
    body = bytearray(part.read_bytes())
    body[len(body) // 2] ^= 1
    part.write_bytes(body)
    back = s3gc("vault", "fetch", replica, "back")
    assert back.code == 1
    assert "1 problem" in back.stdout
    part.unlink()
    assert f"bytes 0 to {len(body)} are missing" in s3gc("vault", "fetch", replica, "back2").stdout
    found = s3gc("vault", "replicas")
    assert found.code == 1
    assert f"{part.name} was there and is gone" in found.stdout
    assert s3gc("vault", "fetch", replica, "back").code == 1  # the folder isn't empty
    assert s3gc("vault", "fetch", replica + "x", "back3").code == 1


def test_a_sealed_replica(s3gc: Command, place: Place, replica: str) -> None:
    made = s3gc("vault", "new-key", "2026-11", "keys", "--json")
    assert (made.code, made.document) == (0, {"file": "keys", "ids": ["2026-11"]})
    secret = (place.folder / "keys").read_text().split()[1]
    assert (place.folder / "keys").stat().st_mode & 0o077 == 0
    configured(place, f'replicas = ["{replica}"]', 'replica_keys = "keys"')
    assert s3gc("vault", "replicate").code == 0
    parts = [path for path in (place.folder / "replica").rglob("*") if path.is_file()]
    assert len(parts) == 3
    assert all(path.read_bytes().startswith(b"S3GCSEAL") for path in parts)

    refused = s3gc("vault", "fetch", replica, "back")
    assert (refused.code, "sealed: give its keys" in refused.stderr) == (1, True)
    assert s3gc("vault", "new-key", "2026-12", "keys").stdout.count("2026-12") == 2
    assert s3gc("vault", "replicate").code == 0
    assert s3gc("vault", "fetch", replica, "back", "--keys", "keys").code == 0
    assert s3gc("vault", "new-key", "2026-12", "keys").code == 2
    (place.folder / "other").write_text(f"x {'A' * 43}=\n")
    wrong = s3gc("vault", "fetch", replica, "back2", "--keys", "other")
    assert (wrong.code, "'2026-11'" in wrong.stderr) == (1, True)
    for run in (made, refused, wrong, s3gc("config", "show"), s3gc("vault", "replicas", "-vv")):
        assert secret not in run.stdout + run.stderr


def test_what_cannot_be_meant(s3gc: Command, place: Place, collected: str) -> None:
    assert s3gc("vault", "replicate").code == 2
    for line in (
        f'replicas = ["{place.bucket.as_uri()}/replica"]',
        'replicas = ["s3://bucket/x", "s3://bucket/x/"]',
        'replicas = ["nowhere"]',
        'replicas = ["s3://bucket/x?lock_days=1"]',
    ):
        configured(place, line)
        assert s3gc("vault", "replicate").code == 2, line
    url = (place.folder / "replica").as_uri()
    configured(place, f'replicas = ["{url}"]', 'replica_keys = "env:NO_SUCH_VARIABLE"')
    assert s3gc("vault", "replicate").code == 2


def test_a_collect_that_waits_for_copies(s3gc: Command, place: Place) -> None:
    replica = place.folder / "replica"
    configured(place, f'replicas = ["{replica.as_uri()}"]', "backup_copies = 2")
    assert "Before an object goes, its backup is in the vault and 1 of 1 replica." in s3gc("plan").stdout
    assert "backup_copies" in s3gc("config", "show").stdout

    replica.write_text("no folder")
    before = place.objects()
    held = s3gc("collect", "--mode", "execute", "--yes")
    assert held.code == 3
    assert "held by too_few_copies" in held.stderr
    assert str(replica) in held.stderr
    assert place.objects() == before

    replica.unlink()
    assert s3gc("collect", "--mode", "execute", "--yes").code == 0
    assert place.objects() != before
    looked = s3gc("vault", "replicas", "--json")
    assert (looked.code, looked.document["backup_copies"]) == (0, 2)


def test_a_replica_that_is_behind_is_told_after_a_collect(s3gc: Command, place: Place) -> None:
    replica = place.folder / "replica"
    configured(place, f'replicas = ["{replica.as_uri()}"]')
    replica.write_text("no folder")
    done = s3gc("collect", "--mode", "execute", "--yes")
    assert done.code == 0
    assert re.search(r"the replica \S+ is \d+ journal entries and .* behind, since .*: ", done.stderr)
