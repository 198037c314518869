"""A vault from a replica alone: folder, packs and journal, up to where the replica was brought."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen

from s3gc import _threads
from s3gc._pool import each
from s3gc.abc import Compressor, ObjectCoder
from s3gc.clock import Clock
from s3gc.compressors.store import StoreCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.journal_events import PACK_RETIRED
from s3gc.vault import _fs
from s3gc.vault._chain import INSERT, genesis
from s3gc.vault._head import Head, HeadFile
from s3gc.vault._identity import IDENTITY_NAME, Identity, read_identity
from s3gc.vault.journal import HEAD_NAME, JOURNAL_NAME, SqliteJournal
from s3gc.vault.local import PACKS_NAME, LocalVault
from s3gc.vault.packs import PACK_SUFFIX
from s3gc.vault.records import canonical
from s3gc.vault.replica._box import Box
from s3gc.vault.replica._names import (
    IDENTITY,
    Span,
    missing,
    parse_piece,
    parse_segment,
    piece_name,
    segment_name,
)
from s3gc.vault.replica._place import vault_json_in
from s3gc.vault.replica._remote import Remote
from s3gc.vault.replica._seal import ReplicaKeys
from s3gc.vault.replica._segments import places_in, rows_in, unpack_lines

MARKER = ".fetching"
"""In a folder that a fetch began and didn't end: the replica's identity."""

DOWNLOADS_AT_ONCE = 4

T = TypeVar("T")


@frozen
class FetchReport:
    """What came back."""

    vault_id: str
    store_url: str
    packs: int
    pack_bytes: int
    entries: int
    unnamed_bytes: int
    """Bytes of packs behind all that the journal names. From a run that was stopped; or the journal's last
    part is missing in the replica, which can't be told apart."""
    problems: tuple[str, ...]
    """What is missing or damaged, by name. Empty: everything that the replica ever held is here."""


async def fetch(
    remote: Remote, folder: Path, *, clock: Clock, keys: ReplicaKeys | None = None
) -> FetchReport:
    """Rebuild a vault in a new folder; one that a fetch of the same replica began is gone on with.

    What is missing or damaged is named in the report, and the rest is brought back all the same. The journal
    ends before its first gap, because no entry can be proved that doesn't follow the one before it. A missing
    stretch of a pack becomes zeros, so that the frames behind it keep their places. Verify the result with
    ``audit verify`` and ``vault verify``: what isn't sealed has no digests but those of frames and entries.

    Raises:
        VaultError: there is no replica, the folder is in use, or a key is missing.
        VaultCorrupt: the replica's identity is damaged.
        StoreError: the remote can't be read.
    """
    return await _Fetch(Box(remote, keys), folder, clock).run()


async def fetch_verified(
    remote: Remote,
    folder: Path,
    *,
    compressors: Sequence[Compressor],
    clock: Clock,
    keys: ReplicaKeys | None = None,
    coder: ObjectCoder | None = None,
) -> FetchReport:
    """:func:`fetch`, and then every link of the journal and every backup is read; all is in ``problems``.

    Raises:
        As fetch does; ConfigError for the codecs, as LocalVault does.
    """
    report = await fetch(remote, folder, clock=clock, keys=keys)
    vault = LocalVault(folder, compressors=compressors, clock=clock, codec=StoreCompressor.name, coder=coder)
    await vault.open(report.store_url, create=False)
    try:
        audit, backups = await vault.journal.verify(), await vault.verify()
        found = (*report.problems, *vault.problems, *audit.problems, *backups.problems)
    finally:
        await vault.aclose()
    return evolve(report, problems=found)


class _Fetch:
    def __init__(self, box: Box, folder: Path, clock: Clock) -> None:
        self._box = box
        self._folder = folder.absolute()
        self._clock = clock
        self._pieces: dict[str, list[Span]] = {}
        self._segments: list[Span] = []
        self._problems: list[str] = []
        self._bounds: dict[str, int] = {}
        self._retired: set[str] = set()
        self._sizes: dict[str, int] = {}

    async def run(self) -> FetchReport:
        text = await self._run(self._begin)
        identity = _parsed(text, self._folder)
        await self._run(self._list)
        entries, head = await self._journal(identity)
        # Of a retired pack nothing is read any more, whether the replica still has it or never had it.
        packs = sorted((self._pieces.keys() | self._bounds.keys()) - self._retired)
        await each(packs, self._pack, workers=DOWNLOADS_AT_ONCE)
        await self._run(lambda: self._end(text, head))
        return FetchReport(
            vault_id=identity.vault_id,
            store_url=identity.store_url,
            packs=len(self._sizes),
            pack_bytes=sum(self._sizes.values()),
            entries=entries,
            unnamed_bytes=sum(max(0, n - self._bounds.get(p, 0)) for p, n in self._sizes.items()),
            problems=tuple(self._problems),
        )

    # ------------------------------------------------------------------ beginning and end

    def _begin(self) -> str:
        try:
            text = vault_json_in(self._box.read(IDENTITY), self._box.remote.url)
        except FileNotFoundError:
            raise VaultError(f"there is no replica in {self._box.remote.url}") from None
        marker = self._folder / MARKER
        begun = marker.read_text(encoding="utf-8") if marker.exists() else None
        if begun is None and self._folder.exists() and any(self._folder.iterdir()):
            raise VaultError(f"{self._folder} isn't empty: fetch into a new folder")
        if begun not in (None, text):
            raise VaultError(f"{self._folder} holds what was begun to be fetched from another replica")
        (self._folder / PACKS_NAME).mkdir(parents=True, exist_ok=True, mode=_fs.PRIVATE_FOLDER)
        self._folder.chmod(_fs.PRIVATE_FOLDER)
        _fs.replace_file(marker, text.encode())
        return text

    def _end(self, text: str, head: Head) -> None:
        HeadFile(self._folder / HEAD_NAME).create(head)
        _fs.sync_folder(self._folder / PACKS_NAME)
        # Last, so that a folder with vault.json is a whole vault.
        _fs.replace_file(self._folder / IDENTITY_NAME, text.encode())
        (self._folder / MARKER).unlink()
        _fs.sync_folder(self._folder)
        _fs.sync_folder(self._folder.parent)

    def _list(self) -> None:
        for name, size in self._box.remote.names():
            if piece := parse_piece(name):
                pack, span = piece
                if self._box.fits(size, span[1] - span[0]):
                    self._pieces.setdefault(pack, []).append(span)
                else:
                    self._problems.append(f"{name} has {size} bytes")
            elif segment := parse_segment(name):
                self._segments.append(segment)

    # ------------------------------------------------------------------ the journal

    async def _journal(self, identity: Identity) -> tuple[int, Head]:
        """Make the journal and give its last entry."""
        for name in (JOURNAL_NAME, JOURNAL_NAME + "-wal", JOURNAL_NAME + "-shm"):
            await self._run(partial((self._folder / name).unlink, missing_ok=True))
        journal = SqliteJournal(
            self._folder, vault_id=identity.vault_id, bucket=identity.store_url, clock=self._clock
        )
        await journal.create()
        head = await self._run(lambda: self._fill(identity))
        return head.seq, head

    def _fill(self, identity: Identity) -> Head:
        head = Head(0, genesis(identity.vault_id, identity.store_url))
        connection = sqlite3.connect(self._folder / JOURNAL_NAME, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            while (after := self._extended(connection, identity, head)) is not None:
                head = after
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise VaultError(f"can't write {self._folder / JOURNAL_NAME}: {error}") from error
        finally:
            connection.close()
        end = max((span[1] for span in self._segments), default=0)
        if head.seq < end:
            begins = min((span[0] for span in self._segments if span[0] > head.seq), default=None)
            gap = f"to {begins}" if begins is not None else "on"
            self._problems.append(
                f"journal entries from {head.seq + 1} {gap} are missing or damaged, {end} is the last one: "
                f"the journal ends at {head.seq}"
            )
        return head

    def _extended(self, connection: sqlite3.Connection, identity: Identity, head: Head) -> Head | None:
        """The head after one more segment; the longest one that is right. None: there is none."""
        bucket_json = canonical(identity.store_url)
        fitting = sorted((s for s in self._segments if s[0] <= head.seq < s[1]), key=lambda s: -s[1])
        for span in fitting:
            name = segment_name(span)
            try:
                rows = rows_in(unpack_lines(self._box.read(name)), span, bucket_json)[head.seq - span[0] :]
                if rows[0][6] != head.hash:
                    raise VaultCorrupt(f"entry {rows[0][0]} doesn't follow the one before it")
            except (VaultCorrupt, FileNotFoundError) as error:
                self._problems.append(f"{name}: {error}")
                continue
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, rows)
            connection.execute("COMMIT")
            for row in rows:
                data = json.loads(row[5])
                for pack, end in places_in(data):
                    self._bounds[pack] = max(self._bounds.get(pack, 0), end)
                if row[3] == PACK_RETIRED:
                    self._retired.add(str(data["pack"]))
            return Head(rows[-1][0], rows[-1][7])
        return None

    # ------------------------------------------------------------------ packs

    async def _pack(self, pack: str) -> None:
        spans = self._pieces.get(pack, [])
        end = max([self._bounds.get(pack, 0), *(span[1] for span in spans)])
        path = self._folder / PACKS_NAME / (pack + PACK_SUFFIX)
        holes = missing(spans, (0, end))
        self._problems += [f"{path.name}: bytes {a} to {b} are missing" for a, b in holes]
        if not spans:
            return
        await self._run(lambda: self._write_pack(pack, path, spans))

    def _write_pack(self, pack: str, path: Path, spans: Iterable[Span]) -> None:
        end = max(stop for _, stop in spans)
        self._sizes[pack] = end
        if path.exists() and path.stat().st_size == end:
            return  # renamed when it was whole, by a fetch that was stopped later
        temporary = path.with_name(path.name + ".new")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, _fs.PRIVATE_FILE)
        written: list[Span] = []
        try:
            # Longer ones first: one that is damaged may be covered by others.
            for span in sorted(spans, key=lambda s: (s[0], -s[1])):
                for begin, stop in missing(written, span):
                    data = self._read(pack, span)
                    if data is None:
                        break
                    _fs.write_at(fd, data[begin - span[0] : stop - span[0]], begin)
                    written.append((begin, stop))
            for begin, stop in missing(written, (0, end)):
                if not missing(spans, (begin, stop)):
                    self._problems.append(f"{path.name}: bytes {begin} to {stop} are damaged")
            os.ftruncate(fd, end)
            _fs.sync_data(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)

    def _read(self, pack: str, span: Span) -> bytes | None:
        name = piece_name(pack, span)
        try:
            data = self._box.read(name)
            if len(data) != span[1] - span[0]:
                raise VaultCorrupt(f"it holds {len(data)} bytes")
        except (VaultCorrupt, FileNotFoundError) as error:
            self._problems.append(f"{name}: {error}")
            return None
        return data

    async def _run(self, function: Callable[[], T]) -> T:
        def explained() -> T:
            with _fs.explained(f"fetch into {self._folder}"):
                return function()

        return await _threads.run(explained)


def _parsed(text: str, folder: Path) -> Identity:
    """The identity that a ``vault.json`` holds, by the very reader of vaults."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        Path(scratch, IDENTITY_NAME).write_text(text, encoding="utf-8")
        identity = read_identity(Path(scratch))
    assert identity is not None
    return identity
