"""Backups are read again by shares that cover all, and the result is on record."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.clock import SystemClock
from s3gc.errors import VaultError
from s3gc.model import BackupRecord, JournalDraft, JournalEntry, ScrubReport, Share
from s3gc.testing.vault_contract import entries, store
from s3gc.vault import LocalVault
from s3gc.vault import scrub as scrubbing
from s3gc.vault.packs import location_of, parse_location
from s3gc.vault.scrub import Verified, in_share, next_share, scrub
from unit.test_vault_local import vault  # noqa: F401

pytestmark = pytest.mark.anyio

PACK = "01K00000000000000000000000"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of small stretches, so that small backups spread over them."""
    monkeypatch.setattr(scrubbing, "STRIDE_BYTES", 100)


def spoil(vault: LocalVault, record: BackupRecord) -> None:
    pack, offset, length = parse_location(record.location)
    fd = os.open(vault.folder / "packs" / f"{pack}.pack", os.O_RDWR)
    os.pwrite(fd, b"\xff", offset + length - 1)
    os.pwrite(fd, b"\x00", offset + length - 2)
    os.close(fd)


@given(st.integers(0, 2**50), st.integers(1, 400))
def test_every_backup_is_in_exactly_one_share(offset: int, of: int) -> None:
    place = location_of(PACK, offset, 1)
    assert [in_share(place, Share(number, of)) for number in range(of)].count(True) == 1


def verification(day: int, problems: int, number: int | None = None, of: int = 3) -> JournalEntry:
    share = None if number is None else {"number": number, "of": of}
    at = datetime(2026, 1, day, tzinfo=UTC)
    data = {"share": share, "problems": problems}
    return JournalEntry(day, at, "s3://b", "op", "vault_verified", None, data, "", "")


def test_a_bad_share_counts_until_it_is_read_again() -> None:
    found = Verified()
    seen = []
    for entry in (
        verification(1, 0, 0),
        verification(2, 5, 1),
        verification(3, 0, 2),  # all read: the first one at day 1
        verification(4, 0, 0),
        verification(5, 1, 1),
        verification(6, 2),  # all at once
        verification(7, 0, 0),
        verification(8, 3, 1),
        verification(9, 0, 0, of=2),  # other shares: what the old ones found counts until these went round
        verification(10, 0, 1, of=2),
    ):
        found.take(entry)
        seen.append((found.problems, found.whole_at.day if found.whole_at else None))
        assert found.at == entry.at
    assert seen == [
        (0, None),
        (5, None),
        (5, 1),
        (5, 2),
        (1, 3),
        (2, 6),
        (2, 6),
        (5, 6),
        (5, 6),
        (0, 9),
    ]


async def run(vault: LocalVault, of: int | None = None) -> ScrubReport:
    share = None if of is None else await next_share(vault, of)
    return await scrub(vault, SystemClock(), "op", share)


async def test_after_n_runs_everything_was_read_once(vault: LocalVault, fine: None) -> None:
    records = await store(vault, {f"k{n}": b"%d" % n * 100 for n in range(40)})
    spoil(vault, records["k17"])
    reports = [await run(vault, 7) for _ in range(7)]
    assert [report.share for report in reports] == [Share(n, 7) for n in range(7)]
    assert sum(report.backups for report in reports) == 40
    assert max(report.backups for report in reports) < 40
    told = [problem for report in reports for problem in report.problems]
    assert len(told) == 1
    assert "'k17'" in told[0]
    assert [report.ok for report in reports].count(False) == 1
    assert (await run(vault, 7)).share == Share(0, 7)  # and again from the first one
    noted = await entries(vault, events={"vault_verified"})
    assert sum(entry.data["problems"] for entry in noted[:7]) == 1


async def test_a_run_that_was_cut_off_is_done_again(
    vault: LocalVault, fine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(vault, {f"k{n}": b"x" * 100 for n in range(10)})
    await run(vault, 5)

    async def cut_off(share: Share | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(vault, "verify", cut_off)
        with pytest.raises(KeyboardInterrupt):
            await run(vault, 5)
    assert (await run(vault, 5)).share == Share(1, 5)
    # Another division, and a check of all, have a count of their own.
    assert (await run(vault, 3)).share == Share(0, 3)
    assert (await run(vault)).share is None
    assert (await run(vault, 5)).share == Share(2, 5)


async def test_what_is_no_share(vault: LocalVault) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await next_share(vault, 0)


async def test_a_result_that_cannot_be_noted_is_a_problem(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(vault, {"k": b"x"})

    async def refuse(drafts: object) -> None:
        raise VaultError("read-only")

    monkeypatch.setattr(vault.journal, "append", refuse)
    report = await run(vault)
    assert (report.ok, report.backups) == (False, 1)
    assert "could not be noted" in report.problems[0]


async def test_an_entry_without_a_record_is_told_in_every_share(vault: LocalVault) -> None:
    await vault.journal.append([JournalDraft("backed_up", "op", "k", {"backup": {"key": 1}})])
    report = await run(vault, 4)
    assert not report.ok
    assert "no backup record" in report.problems[0]
