"""A vault of an earlier version is read for ever, and ``docs/vault-format.md`` tells the truth about it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.testing.vault_contract import backed_up, entries, pieces, read
from s3gc.vault import LocalVault, read_frames, record_from_json
from s3gc.vault._layout import HEAD_BYTES, TAIL_BYTES

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "vault-v1"
DOCS = ROOT / "docs" / "vault-format.md"
STORE_URL = "s3://golden"
OPERATION = "01K00000000000000000000000"
WHEN = datetime(2026, 11, 23, 18, 42, 0, 123456, tzinfo=UTC)

OBJECTS: list[tuple[str, bytes, str | None, ObjectAttributes]] = [
    (
        "notes/hello.txt",
        b"hello, hello, hello, hello, hello!\n" * 3,
        None,
        ObjectAttributes(content_type="text/plain"),
    ),
    ("noise.bin", b"".join(hashlib.sha256(bytes([n])).digest() for n in range(40)), "v1", ObjectAttributes()),
    ("dir/", b"", None, ObjectAttributes()),
    (
        "日本語/é\x00🎉",
        b'{"a": 1}' * 500,
        None,
        ObjectAttributes(
            content_type="application/json",
            content_encoding="identity",
            content_language="ja",
            content_disposition='attachment; filename="ü.json"',
            cache_control="no-store",
            expires="Thu, 01 Jan 1970 00:00:00 GMT",
            website_redirect="/elsewhere",
            storage_class="STANDARD_IA",
            metadata={"owner": "Zoë", "empty": ""},
            tags={"state": "old"},
        ),
    ),
    ("large.img", bytes(9 * 1024 * 1024) + b"end", None, ObjectAttributes(content_type="image/x-raw")),
]


class FixedClock:
    def now(self) -> datetime:
        return WHEN

    def monotonic(self) -> float:
        return 0.0


async def make(folder: Path) -> None:
    """How the golden vault was made. A change of format makes a new one beside it; this one stays."""
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=FixedClock())
    await vault.open(STORE_URL)
    async with vault.session(OPERATION) as session:
        for n, (key, data, version, attributes) in enumerate(OBJECTS):
            await session.add(
                ObjectInfo(key, len(data), f"etag-{n}", WHEN, version_id=version), attributes, pieces(data)
            )
        records = await session.commit()
    await vault.journal.append(backed_up(records))
    await vault.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_golden_vault_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    shutil.copytree(GOLDEN, folder)
    vault = LocalVault(folder, compressors=[ZstdCompressor()], clock=FixedClock())
    await vault.open(STORE_URL, create=False)
    audit = await vault.journal.verify()
    assert (audit.ok, audit.entries) == (True, len(OBJECTS))
    found = {e.key: record_from_json(e.data["backup"]) for e in await entries(vault)}
    for n, (key, data, version, attributes) in enumerate(OBJECTS):
        record = found[key]
        assert await read(vault, record) == data
        assert (record.etag, record.size, record.version_id) == (f"etag-{n}", len(data), version)
        assert record.attributes == attributes
        assert record.last_modified == WHEN
    assert {r.codec for r in found.values()} == {"zstd", "store"}
    assert (await vault.verify()).ok
    await vault.aclose()


def test_today_the_same_is_written(tmp_path: Path) -> None:
    """If not, the format or its version has changed: think, then make ``tests/data/vault-v2``.

    Compressed bytes may differ with another zstd, so what is compared is all but them.
    """
    anyio.run(make, tmp_path / "vault")

    def written(folder: Path) -> list[Any]:
        frames = [f for path in sorted((folder / "packs").iterdir()) for f in read_frames(path)]
        return sorted(
            (f.record.key, f.record.sha256, f.record.attributes, f.record.codec, f.bucket, f.operation_id)
            for f in frames
        )

    assert written(tmp_path / "vault") == written(GOLDEN)


# --------------------------------------------------------------------------- the page about the format


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """What stands below a heading, up to the next one."""
    return re.split(r"^#+ ", DOCS.read_text().split(f"# {title}\n")[1], flags=re.MULTILINE)[0]


def golden_packs() -> Iterator[Path]:
    yield from sorted((GOLDEN / "packs").glob("*.pack"))


def test_the_twenty_lines_of_the_page_read_every_pack() -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 34
    scope: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), scope)
    found = {h["key"]: (h, data) for path in golden_packs() for h, data in scope["objects"](path)}
    assert {key: data for key, (_, data) in found.items()} == {key: data for key, data, _, _ in OBJECTS}
    for key, _, version, _ in OBJECTS:
        assert found[key][0]["bucket"] == STORE_URL
        assert found[key][0]["version_id"] == version


def test_the_twenty_lines_see_damage(tmp_path: Path) -> None:
    (code,) = blocks("python")
    scope: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), scope)
    pack = next(p for p in golden_packs() if p.stat().st_size > 2_000 and len(list(read_frames(p))) > 1)
    data = bytearray(pack.read_bytes())
    noise = next(f for f in read_frames(pack) if f.record.key == "noise.bin")
    data[noise.offset + noise.length - 200] ^= 1
    (tmp_path / "pack").write_bytes(data)
    with pytest.raises(AssertionError):
        list(scope["objects"](tmp_path / "pack"))


def example() -> bytes:
    """The frame that the page takes apart."""
    for path in golden_packs():
        for frame in read_frames(path):
            if frame.record.key == "notes/hello.txt":
                return path.read_bytes()[frame.offset : frame.offset + frame.length]
    raise AssertionError("the golden vault has no notes/hello.txt")


def dumped(frame: bytes) -> str:
    lines = []
    for at in range(0, len(frame), 16):
        row = frame[at : at + 16]
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        lines.append(f"{at:04x}  {row.hex(' '):<47}  {shown}".rstrip())
    return "\n".join(lines) + "\n"


def test_the_worked_example_of_the_page_is_a_frame_of_the_golden_vault() -> None:
    assert dumped(example()) in section("A frame, taken apart")


def test_the_numbers_of_the_worked_example() -> None:
    """The table below the dump: each part with its place, and nothing between them."""
    rows = re.findall(
        r"^\| `([0-9a-f]{4})` \| (\d+) \| (.+?) \|", section("A frame, taken apart"), re.MULTILINE
    )
    frame = example()
    at = 0
    for place, size, _ in rows:
        assert int(place, 16) == at
        at += int(size)
    assert at == len(frame)
    header = int.from_bytes(frame[12:16])
    assert [int(size) for _, size, _ in rows][:6] == [8, 2, 2, 4, 8, 32]
    assert int(rows[6][1]) == header
    assert HEAD_BYTES == 56
    assert TAIL_BYTES == 96


def test_the_chain_is_as_the_page_says(tmp_path: Path) -> None:
    """Recomputed with nothing but sqlite3, json and hashlib."""

    def hashed(value: dict[str, Any]) -> str:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    shutil.copytree(GOLDEN, tmp_path / "vault")
    connection = sqlite3.connect(tmp_path / "vault" / "journal.sqlite3")
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM entries ORDER BY seq")]
    connection.close()
    vault_id = json.loads((GOLDEN / "vault.json").read_text())["vault_id"]
    previous = hashed({"bucket": STORE_URL, "format": 1, "vault_id": vault_id})
    for number, row in enumerate(rows, 1):
        found = row.pop("hash")
        assert (row["seq"], row["previous"]) == (number, previous)
        assert found == hashed(row | {"bucket": STORE_URL, "data": json.loads(row["data"])})
        previous = found
    head = (GOLDEN / "journal.head").read_bytes()
    slots = [head[at : at + 151].decode().split() for at in (0, 4096)]
    assert [f"{len(rows):020d}", previous] in [slot[:2] for slot in slots]
    assert all(check == hashlib.sha256(f"{n} {h}".encode()).hexdigest() for n, h, check in slots)
