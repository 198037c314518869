"""The application and its bucket: rows that name files in many ways, files, and files that nothing names.

What a row refers to is written down here while the row is made: that is the truth which the checks compare
s3gc's answers with. s3gc reads the database and the bucket, and never this.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from attrs import Factory, define, frozen

from s3gc_cli._demo._content import content

CDN = "https://cdn.example.com"
BUCKET = "demo-bucket"
EXCLUDED = "legal"
RETENTION_DAYS = 7
TABLES: Mapping[str, Sequence[str]] = {
    "users": ("avatar",),
    "photos": ("original", "thumbnail"),
    "products": ("image_url", "hover_url"),
    "downloads": ("url",),
    "orders": ("documents",),
    "articles": ("body",),
    "exports": ("location",),
}
_DAY = 86_400  # seconds


@frozen
class Form:
    """One way in which rows name files."""

    words: str
    place: str  # table.column
    example: str


@frozen
class World:
    """All that the demo is played with."""

    folder: Path
    forms: Sequence[Form]
    rows: Mapping[str, int]  # by table, today
    today: frozenset[str]  # keys that a row names today
    yesterday: frozenset[str]  # keys that a row named when the database was backed up
    original: Mapping[str, bytes]  # every object as it was made, out of s3gc's reach
    modified: Mapping[str, float]  # and when, as a file system has it
    excluded: frozenset[str]  # below the excluded prefix and named by nothing
    young: frozenset[str]  # too young and named by nothing
    alike: tuple[str, str]  # a key that goes, and one that looks like it and stays

    @property
    def bucket(self) -> Path:
        """The folder that is the bucket."""
        return self.folder / BUCKET

    @property
    def objects(self) -> frozenset[str]:
        """All keys."""
        return frozenset(self.original)

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(map(len, self.original.values()))

    @property
    def database(self) -> Path:
        """The application's database."""
        return self.folder / "app.sqlite3"

    @property
    def backup(self) -> Path:
        """The database as it was yesterday."""
        return self.folder / "app-yesterday.sqlite3"

    @property
    def latest(self) -> Path:
        """The database as it was before it was put back to yesterday."""
        return self.folder / "app-today.sqlite3"

    @property
    def garbage(self) -> frozenset[str]:
        """What may go today."""
        return self.objects - self.today - self.excluded - self.young


@define
class _Application:
    """Rows and files as they come to be."""

    rng: random.Random
    database: sqlite3.Connection
    named: dict[tuple[str, int], tuple[str, ...]] = Factory(dict)  # (table, row) → keys
    files: set[str] = Factory(set)

    def insert(self, table: str, row: int, values: Sequence[object], keys: Sequence[str]) -> None:
        marks = ", ".join("?" * (len(values) + 1))
        self.database.execute(f"INSERT INTO {table} VALUES ({marks})", (row, *values))
        self.named[table, row] = tuple(keys)
        self.files.update(keys)

    def delete(self, table: str, row: int) -> None:
        self.database.execute(f"DELETE FROM {table} WHERE id = ?", (row,))
        del self.named[table, row]

    def references(self) -> frozenset[str]:
        return frozenset(key for keys in self.named.values() for key in keys)


def build(folder: Path, seed: int) -> World:
    """Make application and bucket in an empty folder."""
    rng = random.Random(seed)
    path = folder / "app.sqlite3"
    with sqlite3.connect(path) as database:
        app = _Application(rng, database)
        _create(database)
        forms = _fill(app)
        yesterday = app.references()
        database.commit()
        shutil.copyfile(path, folder / "app-yesterday.sqlite3")
        _a_day_passes(app)
        rows = {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    database.close()

    orphans = {f"images2/{n}.jpg" for n in range(1, 41)} - app.files
    orphans |= {f"uploads/{rng.randbytes(8).hex()}.part" for _ in range(50)}
    orphans |= {f"avatars/{n:04}-old.jpg" for n in rng.sample(range(1, 1_201), 60)}
    orphans |= {f"{EXCLUDED}2/case-{n:02}.pdf" for n in range(1, 13)}
    excluded = {f"{EXCLUDED}/case-{n:02}.pdf" for n in range(1, 13)}
    young = {f"uploads/new-{rng.randbytes(4).hex()}.jpg" for _ in range(25)}
    objects = app.files | orphans | excluded | young

    now = time.time()
    original, modified = {}, {}
    for key in sorted(objects):
        age = rng.uniform(0.01, 0.5) if key in young else rng.uniform(RETENTION_DAYS + 10, 400)
        original[key] = content(rng, key)
        modified[key] = now - age * _DAY
    _write(folder / BUCKET, original, modified)
    return World(
        folder=folder,
        forms=forms,
        rows=rows,
        today=app.references(),
        yesterday=yesterday,
        original=original,
        modified=modified,
        excluded=frozenset(excluded),
        young=frozenset(young),
        alike=("images/7.jpg", "images/17.jpg"),
    )


def _create(database: sqlite3.Connection) -> None:
    columns = {table: ", ".join(f"{column} TEXT" for column in names) for table, names in TABLES.items()}
    for table, names in columns.items():
        database.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {names})")


def _fill(app: _Application) -> tuple[Form, ...]:
    for n in range(1, 1_201):
        avatar = f"avatars/{n:04}.jpg" if n % 3 == 2 else None  # most people have none
        app.insert("users", n, [avatar], [avatar] if avatar else [])
    for n in range(1, 201):
        original, small = f"photos/2026/{n:04}.jpg", f"photos/2026/thumbs/{n:04}_200x200.webp"
        app.insert("photos", n, ["/" + original, "/" + small], [original, small])
    for n in range(1, 301):
        # Some have a second picture, in a folder whose name begins like the first one's.
        image, hover = f"images/{n}.jpg", f"images2/{n}.jpg" if n % 6 == 0 else None
        urls = [f"{CDN}/{image}?v={app.rng.randrange(9)}", f"{CDN}/{hover}" if hover else None]
        app.insert("products", n, urls, [image, *([hover] if hover else [])])
    for n in range(1, 121):
        key = f"files/Jahresübersicht {2000 + n % 27} – no. {n} (50% más).pdf"
        app.insert("downloads", n, [f"{CDN}/{quote(key)}"], [key])
    for n in range(1, 401):
        invoice, labels = (
            f"invoices/2026/{n:05}.pdf",
            [f"labels/{n}-{side}.png" for side in "ab"[: 1 + n % 2]],
        )
        document = {"total": n * 7, "invoice": {"pdf": invoice}, "labels": labels}
        app.insert("orders", n, [json.dumps(document).replace("/", "\\/")], [invoice, *labels])
    for n in range(1, 81):
        figure, paper = f"articles/{n}/figure-1.png", f"articles/{n}/paper.pdf"
        picture = f'<img alt="Figure 1" src="{CDN}/{figure}?w=800&amp;h=600">'
        html = f'<p>Figure:</p>\n{picture}\n<p>See <a href="/{paper}">it</a>.</p>'
        markdown = f'# Article {n}\n\n![Figure 1]({CDN}/{figure})\n\nSee [the paper]({CDN}/{paper} "PDF").'
        app.insert("articles", n, [html if n % 2 else markdown], [figure, paper])
    for n in range(1, 61):
        key = f"exports/2026/{n:03}.csv.gz"
        app.insert("exports", n, [f"s3://{BUCKET}/{key}"], [key])
    return tuple(_form(app.database, words, place) for words, place in _FORMS)


_FORMS = (
    ("a raw key", "users.avatar"),
    ("a path, and its thumbnail", "photos.thumbnail"),
    ("a URL of a CDN", "products.image_url"),
    ("a percent-encoded URL", "downloads.url"),
    ("JSON, escaped", "orders.documents"),
    ("HTML", "articles.body"),
    ("an s3:// URL", "exports.location"),
)


def _form(database: sqlite3.Connection, words: str, place: str) -> Form:
    table, _, column = place.partition(".")
    (example,) = database.execute(f"SELECT {column} FROM {table} WHERE id = 11").fetchone()
    return Form(words, place, str(example))


def _a_day_passes(app: _Application) -> None:
    """Rows go, as they do. Their files stay behind."""
    for table, share in (
        ("users", 0.12),
        ("photos", 0.1),
        ("products", 0.1),
        ("orders", 0.08),
        ("articles", 0.1),
    ):
        ids = sorted(row for name, row in app.named if name == table)
        leaving = set(app.rng.sample(ids, int(len(ids) * share))) - {11}
        if table == "products":
            leaving = (leaving | {7}) - {17}  # 7.jpg goes, 17.jpg stays
        for row in sorted(leaving):
            app.delete(table, row)


def _write(bucket: Path, files: Mapping[str, bytes], modified: Mapping[str, float]) -> None:
    for parent in {key.rpartition("/")[0] for key in files}:
        (bucket / parent).mkdir(parents=True, exist_ok=True)
    for key, body in files.items():
        path = bucket / key
        path.write_bytes(body)
        os.utime(path, (modified[key], modified[key]))
