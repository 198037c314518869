"""``s3gc vault …`` and ``s3gc audit …`` on a vault that a collect has filled."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from acceptance.test_cli_commands import Command, collected, place, s3gc  # noqa: F401
from fixtures_cli import DECOMPOSED, FILES, ORPHANS, Place, environment


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_ls_tells_every_backup(s3gc: Command, collected: str) -> None:
    *found, end = lines(s3gc("vault", "ls", "--json").stdout)
    by_key = {one["record"]["key"]: one for one in found}  # type: ignore[index]
    assert by_key.keys() == ORPHANS
    for key, one in by_key.items():
        assert one["record"]["sha256"] == hashlib.sha256(FILES[key]).hexdigest()  # type: ignore[index]
        assert one["operation_id"] == collected
    assert end == {"total": len(ORPHANS), "bytes": sum(len(FILES[key]) for key in ORPHANS)}
    shown = s3gc("vault", "ls", "--prefix", "images/")
    assert shown.code == 0
    assert shown.stdout.count("images/") == 2
    assert json.dumps(DECOMPOSED) in s3gc("vault", "ls", "--key", DECOMPOSED).stdout
    assert s3gc("vault", "ls", "--quiet", "--operation", "nobody").stdout == "0 backups of 0 bytes\n"
    assert s3gc("vault", "ls", "--at", "2026-11-22").code == 2


def test_the_vault_is_read_without_bucket_and_database(s3gc: Command, place: Place, collected: str) -> None:
    place.database.unlink()
    run = s3gc("vault", "cat", "images/1.jpg")
    assert run.code == 0
    assert not place.database.exists()


def test_cat_gives_the_bytes_and_nothing_else(s3gc: Command, place: Place, collected: str) -> None:
    process = [sys.executable, "-m", "s3gc_cli", "vault", "cat", "images/1.jpg"]
    done = subprocess.run(process, cwd=place.folder, env=environment(), capture_output=True, check=True)
    assert done.stdout == FILES["images/1.jpg"]
    missing = s3gc("vault", "cat", "nothing")
    assert (missing.code, missing.stdout) == (1, "")
    assert "no version of nothing" in missing.stderr
    assert s3gc("vault", "cat").code == 2
    assert s3gc("vault", "cat", "images/1.jpg", "--json").document["error"]["exit_code"] == 2


def test_extract_into_a_folder(s3gc: Command, place: Place, collected: str) -> None:
    run = s3gc("vault", "extract", "out", "--prefix", "images/", "--json")
    assert run.code == 0
    assert (run.document["objects"], run.document["errors"]) == (2, {})
    assert (place.folder / "out" / "images" / "1.jpg").read_bytes() == FILES["images/1.jpg"]
    again = s3gc("vault", "extract", "out")
    assert again.code == 1
    assert "not empty" in again.stderr


def test_extract_tells_what_it_could_not_read(s3gc: Command, place: Place, collected: str) -> None:
    (pack,) = (place.folder / "vault" / "packs").glob("*.pack")
    body = bytearray(pack.read_bytes())
    body[len(body) // 2] ^= 1
    pack.write_bytes(body)
    run = s3gc("vault", "extract", "out")
    assert run.code == 1
    assert "1 error" in run.stdout


def test_stats(s3gc: Command, collected: str) -> None:
    found = s3gc("vault", "stats", "--json").document
    assert (found["backups"], found["packs"]) == (len(ORPHANS), 1)
    assert "4 backups of " in s3gc("vault", "stats").stdout


def test_a_vault_is_never_made_by_looking_for_one(s3gc: Command, place: Place) -> None:
    for command in (["ls"], ["stats"], ["cat", "k"], ["extract", "out"]):
        assert s3gc("vault", *command).code == 1
    assert not (place.folder / "vault" / "vault.json").exists()


def test_rebuild(s3gc: Command, place: Place, collected: str) -> None:
    held = s3gc("vault", "rebuild")
    assert held.code == 1
    assert "audit verify" in held.stderr
    (place.folder / "vault" / "journal.sqlite3").unlink()
    assert s3gc("vault", "ls").code == 1
    run = s3gc("vault", "rebuild", "--json")
    assert (run.code, run.document["backups"], run.document["damaged"]) == (0, len(ORPHANS), [])
    assert s3gc("audit", "verify").code == 0
    assert s3gc("restore", "--prefix", "", "--execute").code == 0
    assert place.objects() == FILES


@pytest.mark.parametrize("answer", ["text", "json"])
def test_a_rebuild_of_a_damaged_pack_says_so(
    s3gc: Command,
    place: Place,
    collected: str,
    answer: str,
) -> None:
    (pack,) = (place.folder / "vault" / "packs").glob("*.pack")
    pack.write_bytes(pack.read_bytes()[:-1])
    (place.folder / "vault" / "journal.sqlite3").unlink()
    run = s3gc("vault", "rebuild", *(["--json"] if answer == "json" else []))
    assert run.code == 1
    assert "damaged" in run.stdout


def test_verify_by_shares_and_as_a_whole(s3gc: Command, place: Place, collected: str) -> None:
    found = [s3gc("vault", "verify", "--share", "1/3", "--json").document for _ in range(4)]
    assert [one["share"]["number"] for one in found] == [0, 1, 2, 0]
    assert sum(one["backups"] for one in found[:3]) == len(ORPHANS)
    assert s3gc("vault", "verify").stdout == "read 4 backups: all as they were\n"
    for share in ("2/3", "1/0", "x", "1/"):
        assert s3gc("vault", "verify", "--share", share).code == 2
    (pack,) = (place.folder / "vault" / "packs").glob("*.pack")
    body = bytearray(pack.read_bytes())
    body[-1] ^= 1
    pack.write_bytes(body)
    run = s3gc("vault", "verify")
    assert run.code == 1
    assert "2 problems" in run.stdout  # images/1.jpg and images/2.jpg are in one block


def test_a_drill_leaves_the_bucket_as_it_was(s3gc: Command, place: Place, collected: str) -> None:
    before = place.everything()
    run = s3gc("vault", "drill", "--objects", "2", "--json")
    assert (run.code, run.document["objects"]) == (0, 2)  # these files had no attributes to lose
    assert place.everything() == before
    assert "restored 4 of 4 objects exactly" in s3gc("vault", "drill").stdout


def keys_for(place: Place) -> tuple[str, str]:
    """A key pair, as files."""
    private = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    (place.folder / "key.pem").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (place.folder / "key.pub").write_bytes(
        private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return "key.pem", "key.pub"


def test_a_checkpoint_shows_a_journal_that_was_made_anew(s3gc: Command, place: Place, collected: str) -> None:
    private, public = keys_for(place)
    made = s3gc("audit", "checkpoint", "--key", private, "--out", "kept.jsonl", "--json")
    assert made.code == 0
    assert json.loads((place.folder / "kept.jsonl").read_text()) == made.document
    check = ("audit", "verify", "--checkpoint", "kept.jsonl", "--public-key", public)
    assert s3gc(*check).code == 0
    assert s3gc("audit", "checkpoint", "--key", private, "--out", "kept.jsonl", "--quiet").code == 0
    assert s3gc(*check).code == 0  # a file of two
    (place.folder / "vault" / "journal.sqlite3").unlink()
    assert s3gc("vault", "rebuild").code == 0
    assert s3gc("audit", "verify").code == 0  # the chain has nothing against it
    run = s3gc(*check, "--json")
    assert (run.code, run.document["journal"]["ok"]) == (1, False)
    assert "made anew" in run.document["journal"]["problems"][0]


def test_what_a_checkpoint_needs(s3gc: Command, place: Place, collected: str) -> None:
    _, public = keys_for(place)
    assert s3gc("audit", "verify", "--checkpoint", public).code == 2
    assert s3gc("audit", "verify", "--public-key", "nowhere").code == 2
    assert s3gc("audit", "verify", "--checkpoint", public, "--public-key", public).code == 1
    assert s3gc("audit", "checkpoint", "--key", public).code == 2
    out = s3gc("audit", "checkpoint", "--key", "key.pem", "--out", "no/such/folder")
    assert out.code == 2
    assert "the journal has the checkpoint" in out.stderr


def test_export(s3gc: Command, place: Place, collected: str) -> None:
    found = lines(s3gc("audit", "export", "--event", "deleted", "--event", "backed_up").stdout)
    assert len(found) == 2 * len(ORPHANS)
    assert {one["key"] for one in found} == ORPHANS
    table = s3gc("audit", "export", "--format", "csv", "--prefix", "images/").stdout
    assert table.startswith("seq,at,bucket,")
    assert lines(s3gc("audit", "export", "--json", "--until", "2020-01-01T00:00:00Z").stdout) == []
    for wrong in (
        ["--format", "xml"],
        ["--event", "x"],
        ["--since", "2026-01-01"],
        ["--json", "--format", "csv"],
    ):
        assert s3gc("audit", "export", *wrong).code == 2


def test_transcode(s3gc: Command, place: Place, collected: str) -> None:
    path = place.folder / "s3gc.toml"
    path.write_text('compression = "full"\n' + path.read_text())
    planned = s3gc("vault", "transcode", "--json").document
    assert (planned["dry_run"], planned["encoded"], planned["problems"]) == (True, 0, [])
    run = s3gc("vault", "transcode", "--execute")
    assert (run.code, run.stdout.startswith("re-encoded 0 backups")) == (0, True)
    path.write_text(path.read_text().replace('"full"', '"lepton"'))
    assert "no codec 'lepton'" in s3gc("vault", "transcode").stderr


def test_prune_by_the_configuration(s3gc: Command, place: Place, collected: str) -> None:
    unset = s3gc("vault", "prune")
    assert unset.code == 2
    assert "how far back" in unset.stderr
    path = place.folder / "s3gc.toml"
    text = path.read_text()
    path.write_text("vault_retention_days = 1e-9\nrecovery_window_days = 1e-9\n" + text)
    planned = s3gc("vault", "prune", "--json").document
    assert (planned["dry_run"], planned["removed"]) == (True, len(ORPHANS))
    assert s3gc("vault", "ls", "--quiet").stdout.startswith("4 backups")
    assert s3gc("vault", "prune", "--execute").stdout.startswith("removed 4 backups")
    assert s3gc("vault", "ls", "--quiet").stdout.startswith("0 backups")
    assert s3gc("vault", "stats", "--json").document["packs"] == 0
    assert s3gc("audit", "verify").code == 0
    run = s3gc("restore", "--prefix", "images/", "--json")
    assert (run.code, run.document["restored"]) == (1, [])
    assert "gone for good" in str(run.document["errors"])
    path.write_text("vault_retention_days = 1\nrecovery_window_days = 2\n" + text)
    assert s3gc("vault", "prune").code == 2


def test_forget(s3gc: Command, place: Place, collected: str) -> None:
    assert s3gc("vault", "forget", "images/1.jpg").code == 2  # without a reason
    assert s3gc("vault", "forget", "--reason", "law").code == 2
    assert s3gc("vault", "forget", "nothing", "--reason", "law").code == 1
    assert s3gc("vault", "forget", "images/1.jpg", "--reason", "law").stdout.startswith(
        "would remove 1 backup"
    )
    assert s3gc("vault", "cat", "images/1.jpg").code == 0
    assert s3gc("vault", "forget", "images/1.jpg", "--reason", "law 7", "--execute").code == 0
    assert s3gc("vault", "cat", "images/1.jpg").code == 1
    assert "law 7" in s3gc("restore", "--key", "images/1.jpg", "--execute", "--json").stdout
    assert s3gc("restore", "--prefix", "", "--execute").code == 1  # the others are back
    assert place.objects() == {key: body for key, body in FILES.items() if key != "images/1.jpg"}
    shown = s3gc("audit", "export", "--event", "backup_removed", "--key", "images/1.jpg").stdout
    assert json.loads(shown)["data"]["reason"] == "law 7"
