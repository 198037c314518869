"""Looking into a vault: which versions there are, and files from it that are whole and in their place."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from s3gc.errors import VaultError
from s3gc.model import ExtractReport, ObjectInfo
from s3gc.testing.vault_contract import (
    ATTRIBUTES,
    ODD_KEYS,
    OPERATION,
    WHEN,
    backed_up,
    pieces,
    store,
)
from s3gc.vault import LocalVault
from s3gc.vault import extract as extracting
from s3gc.vault.browse import Wanted, latest, versions
from s3gc.vault.extract import extract
from s3gc.vault.names import path_of
from s3gc.vault.packs import parse_location
from unit.test_vault_local import local_vault, vault  # noqa: F401

pytestmark = pytest.mark.anyio

LATER = "01K00000000000000000000009"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def put(vault: LocalVault, key: str, data: bytes, days: int, operation: str = OPERATION) -> None:
    """A version uploaded so many days after WHEN."""
    info = ObjectInfo(key, len(data), f"e{days}", WHEN + timedelta(days=days))
    async with vault.session(operation) as session:
        await session.add(info, ATTRIBUTES, pieces(data))
        drafts = backed_up(await session.commit())
    await vault.journal.append([type(d)(d.event, operation, d.key, d.data) for d in drafts])


async def listed(found: object) -> list[tuple[str, int]]:
    return [(one.record.key, (one.record.last_modified - WHEN).days) async for one in found]  # type: ignore[attr-defined]


async def test_versions_and_the_latest_of_each(vault: LocalVault) -> None:
    await put(vault, "a/1", b"new", 9)
    await put(vault, "a/1", b"old", 2)  # backed up later, and older all the same
    await put(vault, "a/2", b"x", 3, LATER)
    await put(vault, "b", b"y", 4)
    assert await listed(versions(vault, Wanted())) == [("a/1", 9), ("a/1", 2), ("a/2", 3), ("b", 4)]
    assert await listed(latest(vault, Wanted())) == [("a/1", 9), ("a/2", 3), ("b", 4)]
    assert await listed(latest(vault, Wanted(prefix="a/"))) == [("a/1", 9), ("a/2", 3)]
    assert await listed(latest(vault, Wanted(key="b"))) == [("b", 4)]
    assert await listed(versions(vault, Wanted(operation_id=LATER))) == [("a/2", 3)]
    assert await listed(latest(vault, Wanted(at=WHEN + timedelta(days=5)))) == [
        ("a/1", 2),
        ("a/2", 3),
        ("b", 4),
    ]
    assert await listed(versions(vault, Wanted(key="a/1", at=WHEN))) == []


async def taken(vault: LocalVault, folder: Path) -> tuple[ExtractReport, dict[str, bytes]]:
    """Extract all, and read it back by the list."""
    report = await extract(vault, latest(vault, Wanted()), folder)
    return report, files_of(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    found = {}
    for line in (folder / "%index.jsonl").read_text().splitlines():
        told = json.loads(line)
        file = folder / told["path"]
        assert file.resolve().is_relative_to(folder.resolve())
        assert file.stat().st_mtime == pytest.approx(WHEN.timestamp())
        assert told["backup"]["attributes"]["content_type"] == ATTRIBUTES.content_type
        found[told["key"]] = file.read_bytes()
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "%index.jsonl"]
    assert len(files) == len(found)
    return found


KEYS = (*ODD_KEYS, "a", "a/b", "../../up", "/abs", "x/../../y", "A", "aux.txt")


async def test_every_key_becomes_a_file_of_its_own(vault: LocalVault, tmp_path: Path) -> None:
    content = {key: f"{n}:{key}".encode() for n, key in enumerate(dict.fromkeys(KEYS))}
    await store(vault, content)
    report, found = await taken(vault, tmp_path / "out")
    assert found == content
    assert (report.objects, report.bytes, report.errors) == (
        len(content),
        sum(map(len, content.values())),
        {},
    )
    assert set(os.listdir(tmp_path)) == {"out", "vault"}


async def test_where_case_does_not_count_no_file_is_written_over(
    vault: LocalVault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extracting, "path_of", lambda key: path_of(key.lower()))
    content = {"Readme": b"one", "README": b"two", "readme": b"three"}
    await store(vault, content)
    _, found = await taken(vault, tmp_path / "out")
    assert found == content


async def test_what_cannot_be_read_leaves_no_file_and_the_rest_is_there(
    vault: LocalVault,
    tmp_path: Path,
) -> None:
    records = await store(vault, {"good": b"g" * 1000, "bad": b"b" * 1000})
    pack, offset, length = parse_location(records["bad"].location)
    fd = os.open(vault.folder / "packs" / f"{pack}.pack", os.O_RDWR)
    os.pwrite(fd, b"\xff", offset + length - 40)
    os.close(fd)
    report, found = await taken(vault, tmp_path / "out")
    assert found == {"good": b"g" * 1000}
    assert list(report.errors) == ["bad"]


async def test_a_folder_with_something_in_it_is_refused(vault: LocalVault, tmp_path: Path) -> None:
    await store(vault, {"a/b": b"x"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path)
    with pytest.raises(VaultError, match="not empty"):
        await extract(vault, latest(vault, Wanted()), tmp_path / "out")
    assert not (tmp_path / "b").exists()
