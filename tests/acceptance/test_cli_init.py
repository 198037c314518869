"""``s3gc init`` and ``s3gc discover``: what a look at the database and the bucket finds."""

from __future__ import annotations

import os
import sqlite3
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_cli_commands import Command, place, s3gc  # noqa: F401
from fixtures_cli import Place
from s3gc.config import load_config

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, avatar TEXT, homepage TEXT);
CREATE TABLE "odd.table" (id INTEGER PRIMARY KEY, "the file" TEXT, note TEXT);
CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT, cover TEXT);
INSERT INTO users (name, avatar, homepage) VALUES
    ('Ann', 'images/11.jpg', 'https://example.org/ann.html'),
    ('Bob', 'https://cdn.example.com/docs/a%20b.pdf', 'https://example.org/bob.html'),
    ('Cid', 'images/gone.jpg', NULL);
INSERT INTO "odd.table" ("the file", note) VALUES ('images/1.jpg', 'hello');
INSERT INTO pages (body, cover) VALUES
    ('<img src="/media/images/2.jpg">', '/media/images/1.jpg'), ('nothing', '/media/images/2.jpg');
"""


@pytest.fixture
def app(place: Place) -> Place:
    """A database that nobody has configured yet, and no s3gc.toml."""
    place.database.unlink()
    with sqlite3.connect(place.database) as database:
        database.executescript(SCHEMA)
    database.close()
    (place.folder / "s3gc.toml").unlink()
    return place


def arguments(app: Place) -> list[str]:
    return ["--bucket", app.bucket.as_uri(), "--database-url", f"sqlite:///{app.database}"]


def columns(run: Any) -> Mapping[str, Mapping[str, Any]]:
    return {f"{one['table']}.{one['column']}": one for one in run.document["columns"]}


def test_it_finds_what_names_objects_and_its_file_works(s3gc: Command, app: Place) -> None:
    before = app.everything()
    run = s3gc("init", *arguments(app), "--json")
    assert run.code == 0, run.stderr
    found = columns(run)
    assert {name for name, one in found.items() if one["names_objects"]} == {
        "users.avatar",
        '"odd.table".the file',
        "pages.cover",
        "pages.body",
    }
    assert (found["users.avatar"]["found"], found["users.avatar"]["tried"]) == (2, 3)
    assert found["pages.cover"]["below"] == {"media/": 2}
    written = tomllib.loads((app.folder / "s3gc.toml").read_text(encoding="utf-8"))
    assert written["tables"]["users"] == ["avatar"]
    assert set(written["tables"]) == {"users", '"odd.table"', "pages"}
    assert written["base_urls"] == ["/media/"]
    assert "mode" not in written
    assert app.everything() == before, "it only reads"

    plan = s3gc("plan", "--json")
    assert plan.document["kept"]["referenced"] == 4, "both images, eleven, and the pdf"
    assert s3gc("discover", "-q").stdout.startswith("3 untracked columns with values, 0 of them")


def test_what_it_did_not_take_is_in_the_file_with_an_example(s3gc: Command, app: Place) -> None:
    shown = s3gc("init", *arguments(app))
    assert "users.avatar" in shown.stdout
    assert "2 of 3" in shown.stdout
    assert "s3gc doctor" in shown.stdout
    text = (app.folder / "s3gc.toml").read_text(encoding="utf-8")
    assert "# avatar: 2 of 3 values name an object, such as docs/a b.pdf" in text
    assert "#   users.homepage: such as " in text
    assert "users.name" not in text, "words are no keys"


def test_a_file_is_replaced_only_when_told(s3gc: Command, app: Place) -> None:
    file = app.folder / "s3gc.toml"
    file.write_text("mine")
    run = s3gc("init", *arguments(app))
    assert run.code == 2
    assert "--force" in run.stderr
    assert file.read_text() == "mine"
    assert s3gc("init", *arguments(app), "--out", "other.toml").code == 0
    assert (app.folder / "other.toml").exists()
    assert s3gc("init", *arguments(app), "--force").code == 0
    assert "avatar" in file.read_text()
    assert not list(app.folder.glob("*.part"))


@pytest.mark.parametrize(
    ("left_out", "says"), [("--bucket", "S3_BUCKET"), ("--database-url", "DATABASE_URL")]
)
def test_what_is_missing_is_asked_for(
    s3gc: Command,
    app: Place,
    monkeypatch: pytest.MonkeyPatch,
    left_out: str,
    says: str,
) -> None:
    monkeypatch.delenv("S3_BUCKET", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    given = arguments(app)
    at = given.index(left_out)
    run = s3gc("init", *given[:at], *given[at + 2 :])
    assert run.code == 2
    assert says in run.stderr
    assert not (app.folder / "s3gc.toml").exists()


def test_the_environment_says_what_the_command_line_does_not(
    s3gc: Command,
    app: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("S3_BUCKET", app.bucket.as_uri())
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{app.database}")
    monkeypatch.setenv("S3GC_TABLES", "users:name")  # what is configured elsewhere doesn't count here
    assert s3gc("init").code == 0
    assert "avatar" in (app.folder / "s3gc.toml").read_text()


def test_a_database_that_is_not_there_is_one_clear_line(s3gc: Command, app: Place) -> None:
    run = s3gc("init", "--bucket", app.bucket.as_uri(), "--database-url", "sqlite:///nowhere.sqlite3")
    assert run.code == 1
    assert "there is no database file" in run.stderr
    assert not (app.folder / "s3gc.toml").exists()


def test_no_password_gets_into_the_file_or_onto_the_screen(
    s3gc: Command,
    app: Place,
) -> None:
    url = "postgresql://joe:s3cr3t@127.0.0.1:1/app"
    run = s3gc("init", "--bucket", app.bucket.as_uri(), "--database-url", url, "-vv")
    assert run.code == 1
    assert "s3cr3t" not in run.stdout + run.stderr

    from s3gc_cli._draft import draft

    text = draft("bucket", url, [])
    assert "s3cr3t" not in text
    assert 'database_url = "${DATABASE_URL}"' in text
    os.environ["DATABASE_URL"] = url
    try:
        (app.folder / "s3gc.toml").write_text(text)
        assert load_config(app.folder / "s3gc.toml").database_url == url
    finally:
        del os.environ["DATABASE_URL"]


def test_discover_ends_with_3_while_a_column_is_forgotten(s3gc: Command, app: Place) -> None:
    s3gc("init", *arguments(app))
    file = app.folder / "s3gc.toml"
    file.write_text(file.read_text().replace('users = ["avatar"]', ""))
    run = s3gc("discover", "--json")
    assert run.code == 3
    assert [name for name, one in columns(run).items() if one["names_objects"]] == ["users.avatar"]
    assert "add each to [tables]" in s3gc("discover").stdout


def test_doctor_tells_the_same_and_what_to_do(s3gc: Command, app: Place) -> None:
    s3gc("init", *arguments(app))
    run = s3gc("doctor", "--json")
    counts = run.document["counts"]
    assert (run.code, counts["fail"]) == (0, 0), run.stdout
    file = app.folder / "s3gc.toml"
    file.write_text(file.read_text().replace('users = ["avatar"]', ""))
    run = s3gc("doctor")
    assert run.code == 3
    assert "fail  coverage users.avatar  2 of 3 values name an object" in run.stdout
    assert "add it to [tables]" in run.stdout
    assert "failed: coverage" in s3gc("doctor", "-q").stdout


def test_a_draft_survives_every_name(tmp_path: Path) -> None:
    from s3gc.discovery import Lead
    from s3gc_cli._draft import draft

    table = '"a.b"."c ""d"" \u007f é"'
    column = 'x\ny"z\\'
    text = draft("bucket", "sqlite:///a${b}.db", [Lead("s", table, column, "text", 9, 9, 9, ["k\n\x1b[31m"])])
    (tmp_path / "s3gc.toml").write_text(text, encoding="utf-8")
    loaded = load_config(tmp_path / "s3gc.toml", database_url="sqlite:///x")
    assert {name: list(columns) for name, columns in loaded.tables.items()} == {table: [column]}
    assert "\x1b" not in text


def test_values_relative_to_a_folder_columns_of_folders_and_derived_objects(
    s3gc: Command, place: Place
) -> None:
    """As django-storages with a location, an album's folder, and a thumbnailer leave them."""
    place.database.unlink()
    (place.folder / "s3gc.toml").unlink()
    for number in range(6):
        place.put(f"media/photos/p{number}.jpg", b"a photo")
        place.put(f"media/photos/p{number}_200x200.jpg", b"its thumbnail")
        place.put(f"media/thumbs/photos/p{number}_64.png", b"no photo of that ending")
        place.put(f"media/cache/photos/p{number}.jpg", b"a cached one")
        place.put(f"galleries/{number}/a.jpg", b"in a gallery")
    with sqlite3.connect(place.database) as database:
        database.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, file TEXT, word TEXT)")
        database.execute("CREATE TABLE albums (id INTEGER PRIMARY KEY, folder TEXT)")
        for number in range(6):
            database.execute(
                "INSERT INTO photos (file, word) VALUES (?, 'hello')", (f"photos/p{number}.jpg",)
            )
            database.execute("INSERT INTO albums (folder) VALUES (?)", (f"galleries/{number}",))
    database.close()
    before = place.everything()
    run = s3gc("init", *arguments(place), "--json")
    assert run.code == 0, run.stderr
    assert place.everything() == before, "it only reads"
    found = columns(run)
    assert found["photos.file"]["above"] == {"media/": 6}
    assert found["albums.folder"]["folders"] == 6
    assert found["photos.word"]["names_objects"] is False
    rules = {one["form"]: (one["parent"], one["found"], one["tried"]) for one in run.document["derived"]}
    assert rules["{key}_200x200.jpg"] == ("{key}.jpg", 6, 6)
    assert rules["media/cache/{key}"] == ("media/{key}", 6, 6)
    assert not any("_64" in form for form in rules), "there is no such parent"

    text = (place.folder / "s3gc.toml").read_text(encoding="utf-8")
    written = tomllib.loads(text)
    assert written["key_prefixes"] == ["media/"]
    assert written["folders"] == {"albums": ["folder"]}
    assert written["derived"]["{key}_200x200.jpg"] == "{key}.jpg"
    assert "# 6 of 6 have it" in text
    plan = s3gc("plan", "--json").document
    kept = plan["kept"]
    assert kept["referenced"] == 12, "six photos, and six that lie in galleries"
    assert kept["derived"] == 12
