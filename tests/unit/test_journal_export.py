"""The journal as text: every entry, exactly, and only those that are asked for."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest

from s3gc.model import JournalDraft
from s3gc.testing.fakes import FakeClock
from s3gc.testing.vault_contract import ODD_KEYS, STORE_URL
from s3gc.vault import LocalVault
from s3gc.vault import export as exporting
from s3gc.vault.export import COLUMNS, Filters, export

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def vault(tmp_path, clock):  # type: ignore[no-untyped-def]
    made = LocalVault(tmp_path / "vault", compressors=[], clock=clock, codec="store")
    await made.open(STORE_URL)
    for key in (*ODD_KEYS, "=1+1", 'a,"b"'):
        await made.journal.append([JournalDraft("would_delete", "op1", key, {"ключ": [1, None, "x,\n"]})])
        clock.advance(timedelta(hours=1))
    await made.journal.append([JournalDraft("operation_completed", "op2", None, {"deleted": 0})])
    yield made
    await made.aclose()


async def text(vault: LocalVault, form: str = "jsonl", **filters: object) -> str:
    return "".join([piece async for piece in export(vault.journal, Filters(**filters), form)])  # type: ignore[arg-type]


async def test_both_forms_hold_every_entry_exactly(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PIECE_ENTRIES", 4)  # so that there are several pieces
    stored = [entry async for entry in vault.journal.read()]
    lines = [json.loads(line) for line in (await text(vault)).splitlines()]
    rows = list(csv.DictReader(io.StringIO(await text(vault, "csv"), newline="")))
    assert len(lines) == len(rows) == len(stored) == len(ODD_KEYS) + 3
    for entry, line, row in zip(stored, lines, rows, strict=True):
        assert tuple(row) == COLUMNS
        assert line.keys() == set(COLUMNS)
        for found in (line, {**row, "data": json.loads(row["data"]), "key": row["key"] or None}):
            assert found["key"] == entry.key
            assert found["data"] == entry.data
            assert (str(found["seq"]), found["hash"], found["at"]) == (
                str(entry.seq),
                entry.hash,
                entry.at.isoformat(timespec="microseconds"),
            )


async def test_filters(vault: LocalVault, clock: FakeClock) -> None:
    def keys(found: str) -> list[str]:
        return [json.loads(line)["key"] for line in found.splitlines()]

    assert keys(await text(vault, key="=1+1")) == ["=1+1"]
    assert set(keys(await text(vault, prefix="a"))) == {"a//b", "a/../b", 'a,"b"'}
    assert keys(await text(vault, operation_id="op2")) == [None]
    assert keys(await text(vault, events={"operation_completed"})) == [None]
    start = clock.now() - timedelta(hours=2)
    assert keys(await text(vault, since=start)) == ["=1+1", 'a,"b"', None]
    assert keys(await text(vault, since=start, until=start + timedelta(hours=1))) == ["=1+1"]
    assert await text(vault, key="nothing") == ""
    assert await text(vault, "csv", key="nothing") == ",".join(COLUMNS) + "\r\n"


async def test_a_clock_that_went_back_hides_no_entry(vault: LocalVault, clock: FakeClock) -> None:
    now = clock.now()
    clock.advance(-timedelta(days=30))
    await vault.journal.append([JournalDraft("would_delete", "back", "k", {})])
    clock.advance(timedelta(days=31))
    await vault.journal.append([JournalDraft("would_delete", "on", "k", {})])
    found = [json.loads(line)["operation_id"] for line in (await text(vault, since=now)).splitlines()]
    assert found[-1] == "on"
    assert "back" not in found
    assert "back" in await text(vault, until=now - timedelta(days=20))


async def test_there_is_no_other_form(vault: LocalVault) -> None:
    with pytest.raises(ValueError, match="jsonl or csv"):
        await text(vault, "xml")
