"""One flipped bit anywhere in a small vault's files: it is found, and it costs no other object.

By default each test takes a sample that reaches every part of its file. All bits, one after the other, take
hours: ``VAULT_BIT_STRIDE=1 pytest tests/property/test_vault_bits.py --timeout 0``.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.journal_events import BACKUPS
from s3gc.model import BackupRecord, JournalDraft, JournalEntry
from s3gc.testing.vault_contract import OPERATION, STORE_URL, add, backed_up, entries, read
from s3gc.vault import LocalVault, _contents, _session, _sharing
from s3gc.vault._head import SLOT_OFFSETS
from s3gc.vault._locations import index_of
from s3gc.vault.checkpoints import against, checkpoints_from, make_checkpoint
from s3gc.vault.packs import parse_location
from s3gc.vault.records import canonical, record_from_json

SAMPLES = 250
"""Bits tried in a file by default, at most."""

TEXT = b"a text that compresses, a text that compresses. " * 20
LARGE = b"streamed, not read whole " * 60  # larger than SMALL_OBJECT_BYTES here

CONTENT = {
    "frames": {
        "text": TEXT,
        "noise": bytes(range(256)),
        "empty": b"",
        "the same text": TEXT,
        "large": LARGE,
        "last": b"the frame at the end of its pack",
    },
    "blocks": {
        "a.txt": b"of the block that others share bytes of",
        "text.txt": TEXT,
        "z.txt": b"the end of that block",
        "the same text.txt": TEXT,
        "large.txt": LARGE,
        "1.json": b'{"of": "a block in the second commit"}',
        "2.json": b'{"of": "the same block"}',
        "noise": bytes(range(256)),
    },
}
"""By what the vault makes of small objects. The first three are of one commit, the others of a second one."""


def bits(size: int) -> Iterator[int]:
    """The bits of a file to try: spread over all of it, in every place of a byte."""
    stride = int(os.environ.get("VAULT_BIT_STRIDE", "0")) or max(1, size * 8 // SAMPLES) | 1
    return iter(range(0, size * 8, stride))


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """The file with one bit changed, in its place: whoever has it open sees it."""

    def flip() -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            (byte,) = os.pread(fd, 1, bit // 8)
            os.pwrite(fd, bytes([byte ^ 1 << bit % 8]), bit // 8)
        finally:
            os.close(fd)

    flip()
    try:
        yield
    finally:
        flip()


class Made:
    """A vault in files, closed, and what is in it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.content = CONTENT[kind]
        self.key = Ed25519PrivateKey.generate()
        self.records: dict[str, BackupRecord] = {}
        self.journal: list[JournalEntry] = []
        self.checkpoint = ""

    def unopened(self, folder: Path) -> LocalVault:
        """The vault in a folder, this one or a copy."""
        solid = ZstdCompressor() if self.kind == "blocks" else None
        return LocalVault(folder, compressors=[ZstdCompressor()], clock=SystemClock(), solid=solid)

    async def make(self) -> None:
        vault = self.unopened(self.folder)
        await vault.open(STORE_URL)
        keys_of_all = list(self.content)
        for keys in (keys_of_all[:3], keys_of_all[3:]):  # equal content is shared with an earlier commit
            async with vault.session(OPERATION) as session:
                for key in keys:
                    await add(session, key, self.content[key])
                made = await session.commit()
            await vault.journal.append(backed_up(made))
            self.records |= {record.key: record for record in made}
        await vault.journal.append(
            [JournalDraft("deleted", OPERATION, keys_of_all[0], {"n": 1.5, "ü": [None, True]})]
        )
        one = await make_checkpoint(vault, self.key, vault._clock.now(), OPERATION)
        self.checkpoint = canonical(one.as_json()) + "\n"
        self.journal = await entries(vault)
        await vault.aclose()

    def owners(self, pack: str, byte: int) -> set[str]:
        """Whose bytes these are: the frame's object, and those that share them."""
        mine: set[str] = set()
        for key, record in self.records.items():
            name, offset, length = parse_location(record.location)
            if name == pack and offset <= byte < offset + length:
                mine.add(key)
        sharers = {
            key
            for key, record in self.records.items()
            if record.same_as is not None and record.same_as.key in mine
        }
        return mine | sharers


@pytest.fixture(scope="module", params=["frames", "blocks"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_session, "SMALL_OBJECT_BYTES", 1_200)
        for module in (_contents, _sharing):
            patched.setattr(module, "SHARED_MIN_BYTES", 500)
        found = Made(tmp_path_factory.mktemp("bits") / "vault", request.param)
        anyio.run(found.make)
        yield found


async def unreadable(vault: LocalVault, made: Made) -> set[str]:
    """The keys whose backups can't be read; all others give their very bytes."""
    lost: set[str] = set()
    for key, record in made.records.items():
        try:
            assert await read(vault, record) == made.content[key], key
        except VaultCorrupt:
            lost.add(key)
    return lost


def test_the_vault_has_what_it_should(made: Made) -> None:
    shared = [record.same_as for record in made.records.values() if record.same_as is not None]
    assert len(shared) == 1
    in_blocks = {key for key, record in made.records.items() if index_of(record.location) is not None}
    if made.kind == "blocks":
        assert in_blocks == {"a.txt", "text.txt", "z.txt", "1.json", "2.json"}
        assert shared[0].key in in_blocks  # as a vault with a smaller SHARED_MIN_BYTES would do
    else:
        assert not in_blocks
    assert {record.codec for record in made.records.values()} >= {"zstd", "store"}
    assert len(list((made.folder / "packs").iterdir())) >= 2


def test_each_bit_of_a_pack(made: Made) -> None:
    """In an open vault: verify finds each, names the object, and every other one gives its very bytes."""

    async def run() -> int:
        vault = made.unopened(made.folder)
        await vault.open(STORE_URL, create=False)
        tried = 0
        for path in sorted((made.folder / "packs").iterdir()):
            for bit in bits(path.stat().st_size):
                owners = made.owners(path.stem, bit // 8)
                assert owners, (path, bit)  # no byte of a pack is nobody's
                with flipped(path, bit):
                    check = await vault.verify()
                    assert not check.ok, (path.name, bit)
                    assert any(repr(key) in problem for key in owners for problem in check.problems)
                    lost = await unreadable(vault, made)
                    assert lost, (path.name, bit)
                    assert lost <= owners, (path.name, bit)
                    small = await vault.read_small(list(made.records.values()))
                    assert all(made.content[key] == data for key, data in small.items())
                tried += 1
        assert (await vault.verify()).ok
        await vault.aclose()
        return tried

    assert anyio.run(run) > 200


def test_each_bit_of_a_pack_that_is_opened_anew(made: Made, tmp_path: Path) -> None:
    """Opening a vault cuts torn ends; what the journal knows is never taken for one."""

    async def run() -> None:
        for path in sorted((made.folder / "packs").iterdir()):
            size = path.stat().st_size
            for bit in list(bits(size))[::12]:
                folder = tmp_path / "copy"
                shutil.copytree(made.folder, folder)
                copy = folder / "packs" / path.name
                with flipped(copy, bit):
                    vault = made.unopened(folder)
                    await vault.open(STORE_URL, create=False)
                    assert copy.stat().st_size == size
                    assert not (await vault.verify()).ok, (path.name, bit)
                    assert await unreadable(vault, made) <= made.owners(path.stem, bit // 8)
                    await vault.aclose()
                shutil.rmtree(folder)

    anyio.run(run)


async def found_in_journal(folder: Path, made: Made) -> bool:
    """Whether opening or auditing tells of it. If not, every entry must be as it was written.

    What is found leaves the backups alone: they are read as before, but for bytes that are shared, where the
    journal is asked for their place. Then it is made anew from the packs, and all are there.
    """
    vault = made.unopened(folder)
    try:
        await vault.open(STORE_URL, create=False)
    except VaultError:
        return True
    try:
        audit = await vault.journal.verify()
        if audit.ok:
            assert await entries(vault) == made.journal
            return False
        lost = await unreadable(vault, made)
    finally:
        await vault.aclose()
    if lost:
        assert all(made.records[key].same_as is not None for key in lost)
        await made.unopened(folder).rebuild(STORE_URL, OPERATION, set_aside=True)
        anew = made.unopened(folder)
        await anew.open(STORE_URL, create=False)
        backups = [record_from_json(entry.data["backup"]) for entry in await entries(anew, events=BACKUPS)]
        assert {record.key for record in backups} == made.content.keys()
        for record in backups:
            assert await read(anew, record) == made.content[record.key]
        await anew.aclose()
    return True


def each_bit(made: Made, folder: Path, name: str) -> tuple[list[int], list[int]]:
    """The bits of a file that are found, and those that change nothing."""

    async def run() -> tuple[list[int], list[int]]:
        found: list[int] = []
        silent: list[int] = []
        for bit in bits((made.folder / name).stat().st_size):
            copy = folder / "copy"
            shutil.copytree(made.folder, copy)
            with flipped(copy / name, bit):
                (found if await found_in_journal(copy, made) else silent).append(bit)
            shutil.rmtree(copy)
        return found, silent

    return anyio.run(run)


def used(path: Path) -> set[int]:
    """The bytes of an SQLite file that hold the rows' own text: where a changed bit changes a row."""
    data = path.read_bytes()
    places: set[int] = set()
    with sqlite3.connect(path) as database:
        for row in database.execute("SELECT at, operation_id, event, data, previous, hash FROM entries"):
            for text in row:
                raw = str(text).encode()
                at = data.find(raw)
                while at >= 0:
                    places.update(range(at, at + len(raw)))
                    at = data.find(raw, at + 1)
    database.close()
    return places


def test_each_bit_of_the_journal(made: Made, tmp_path: Path) -> None:
    """Found, or in a place of the file that nothing is read from: every entry is as it was written."""
    found, silent = each_bit(made, tmp_path, "journal.sqlite3")
    assert len(found) > 50
    text = used(made.folder / "journal.sqlite3")
    assert not [bit for bit in silent if bit // 8 in text]


def test_each_bit_of_the_head(made: Made, tmp_path: Path) -> None:
    """A head with one wrong bit never speaks against a journal that is whole, and never loses an entry.

    Its other slot counts then, which is one append older: what a crash leaves, too.
    """
    found, silent = each_bit(made, tmp_path, "journal.head")
    assert found == []
    assert {offset for offset in SLOT_OFFSETS for bit in silent if offset <= bit // 8 < offset + 150}


def test_each_bit_of_a_checkpoint(made: Made) -> None:
    async def run() -> None:
        vault = made.unopened(made.folder)
        await vault.open(STORE_URL, create=False)
        assert await against(vault, checkpoints_from(made.checkpoint), made.key.public_key()) == []
        text = made.checkpoint.encode()
        for bit in range(len(text) * 8 - 8):  # but for the newline behind it
            changed = bytearray(text)
            changed[bit // 8] ^= 1 << bit % 8
            try:
                given = checkpoints_from(changed.decode())
            except (VaultError, UnicodeDecodeError):
                continue
            assert await against(vault, given, made.key.public_key()) != [], (bit, changed)
        await vault.aclose()

    anyio.run(run)
