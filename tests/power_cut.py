"""A disk that loses power: what was synced stays, and of all else any part, in any order, whole or torn.

What a process asks of a folder's files is watched; at a step of one's choice it is dead, and the disk as it
may be found then is made in another folder. SQLite's own writes can't be watched from here. With
``synchronous=FULL`` each commit is on the disk when it returns, so a journal is taken as it stands, or in the
middle of a commit with any sectors of its log's new part.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define

from s3gc.vault.journal import JOURNAL_NAME, SqliteJournal

SECTOR_BYTES = 512
LOG_NAME = JOURNAL_NAME + "-wal"
INDEX_NAME = "contents.sqlite3"


class Dead(BaseException):
    """The process is gone."""


@define
class _File:
    durable: bytearray = Factory(bytearray)
    waiting: list[tuple[int, bytes | None]] = Factory(list)  # (offset, bytes), or (new size, None)

    def sync(self) -> None:
        for offset, data in self.waiting:
            _put(self.durable, offset, data)
        self.waiting.clear()

    def found(self, chance: random.Random) -> bytes:
        """What may be there after a loss of power."""
        made = bytearray(self.durable)
        waiting = list(self.waiting)
        if chance.random() < 0.5:
            chance.shuffle(waiting)
        for offset, data in waiting:
            fate = chance.choice(("lost", "there", "torn"))
            if fate == "there" or (data is None and fate == "torn"):
                _put(made, offset, data)
            elif fate == "torn" and data is not None:
                for place, sector in _sectors(offset, data):
                    if chance.random() < 0.5:
                        _put(made, place, sector)
        return bytes(made)


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        size = offset
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Pieces that a disk writes whole or not at all."""
    at = 0
    while at < len(data):
        size = SECTOR_BYTES - (offset + at) % SECTOR_BYTES
        yield offset + at, data[at : at + size]
        at += size


@define(eq=False)
class TornDisk:
    """The files below a folder, and the moment when the power goes.

    Args:
        folder: what is watched.
        image: a folder that doesn't exist: the disk as it is found afterwards.
        step: with which watched call it goes; that call isn't made, and nothing happens behind it.
        seed: which of the unsynced writes survive.
    """

    folder: Path
    image: Path
    step: int
    seed: int
    steps: int = 0
    dead: bool = False
    last: str = ""  # the call that was not made
    _files: dict[int, _File] = Factory(dict)
    _names: dict[Path, int] = Factory(dict)  # durable: path -> inode
    _waiting: list[tuple[Path, int | None]] = Factory(list)  # names that came or went since
    _lock: Any = Factory(threading.RLock)

    # ------------------------------------------------------------------ watching

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this runs, the calls of this process are the disk's steps."""
        with pytest.MonkeyPatch.context() as patched:

            def watch(name: str, then: Callable[..., None]) -> None:
                real = getattr(os, name)

                def call(*arguments: Any, **named: Any) -> Any:
                    if name in ("replace", "unlink") and not self._is_mine(Path(arguments[0])):
                        return real(*arguments, **named)
                    with self._lock:
                        self._count(name)
                        made = real(*arguments, **named)
                        then(made, *arguments)
                        return made

                patched.setattr(os, name, call)

            watch("pwrite", lambda made, fd, data, at: self._wrote(fd, bytes(data)[:made], at))
            watch("ftruncate", lambda _, fd, size: self._wrote(fd, None, size))
            watch("fsync", lambda _, fd: self._synced(fd))
            watch("fdatasync", lambda _, fd: self._synced(fd))
            watch("replace", lambda _, old, new: self._renamed(Path(old), Path(new)))
            watch("unlink", lambda _, path: self._waiting.append((Path(path), None)))
            self._watch_open(patched)
            self._watch_journal(patched)
            yield

    def _watch_open(self, patched: pytest.MonkeyPatch) -> None:
        real = os.open

        def call(path: Any, flags: int, *more: Any, **named: Any) -> int:
            makes = flags & os.O_CREAT and self._is_mine(Path(path)) and not Path(path).exists()
            if not makes and not flags & os.O_TRUNC:
                return real(path, flags, *more, **named)
            with self._lock:
                self._count("open")
                fd = real(path, flags, *more, **named)
                if makes:
                    inode = os.fstat(fd).st_ino
                    self._files[inode] = _File()
                    self._waiting.append((Path(path), inode))
                else:
                    self._wrote(fd, None, 0)
                return fd

        patched.setattr(os, "open", call)

    def _watch_journal(self, patched: pytest.MonkeyPatch) -> None:
        real = SqliteJournal._append

        def call(journal: SqliteJournal, drafts: Any) -> None:
            with self._lock:
                if self.steps == self.step and not self.dead and journal.path.parent == self.folder:
                    self._cut_within(lambda: real(journal, drafts))
                self._count("append")
                real(journal, drafts)

        patched.setattr(SqliteJournal, "_append", call)

    def _count(self, name: str) -> None:
        if self.dead:
            raise Dead
        if self.steps == self.step:
            self.last, self.dead = name, True
            self._develop(random.Random(self.seed))
            raise Dead
        self.steps += 1

    def _is_mine(self, path: Path) -> bool:
        return path.is_relative_to(self.folder)

    def _wrote(self, fd: int, data: bytes | None, at: int) -> None:
        self._files[os.fstat(fd).st_ino].waiting.append((at, data))

    def _synced(self, fd: int) -> None:
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode):
            if found.st_ino in self._files:
                self._files[found.st_ino].sync()
            return
        folder = Path(os.readlink(f"/proc/self/fd/{fd}"))
        for path, inode in self._waiting:
            if path.parent == folder:
                self._name(self._names, path, inode)
        self._waiting = [(path, inode) for path, inode in self._waiting if path.parent != folder]

    def _renamed(self, old: Path, new: Path) -> None:
        self._waiting += [(new, new.stat().st_ino), (old, None)]

    @staticmethod
    def _name(names: dict[Path, int], path: Path, inode: int | None) -> None:
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode

    # ------------------------------------------------------------------ the disk as it is found

    def _cut_within(self, append: Callable[[], None]) -> None:
        """In the middle of a commit, or between it and the journal's head."""
        log = self.folder / LOG_NAME
        before = log.read_bytes() if log.exists() else b""
        chance = random.Random(self.seed)
        self.last, self.dead = "within append", True
        self._develop(chance)
        with contextlib.suppress(Dead):  # the head isn't written any more
            append()
        after = log.read_bytes()
        made = bytearray(before)
        share = chance.choice((0.0, 0.8, 1.0))
        if after[: len(before)] == before:
            for place, sector in _sectors(len(before), after[len(before) :]):
                if chance.random() < share:
                    _put(made, place, sector)
        (self.image / LOG_NAME).write_bytes(bytes(made))
        raise Dead

    def _develop(self, chance: random.Random) -> None:
        self.image.mkdir(parents=True)
        names = dict(self._names)
        for path, inode in self._waiting:
            if chance.random() < 0.5:
                self._name(names, path, inode)
        known = {*self._names, *(path for path, _ in self._waiting)}
        for path in sorted(self.folder.rglob("*")):
            if path.is_dir():
                self._in_image(path).mkdir(parents=True, exist_ok=True)
            elif path not in known and path.name != INDEX_NAME and not path.name.endswith("-shm"):
                shutil.copyfile(path, self._in_image(path))
        for path, inode in names.items():
            file = self._files.get(inode)
            content = path.read_bytes() if file is None else file.found(chance)
            self._in_image(path).write_bytes(content)
        self._index(chance)

    def _in_image(self, path: Path) -> Path:
        return self.image / path.relative_to(self.folder)

    def _index(self, chance: random.Random) -> None:
        """The index beside the journal is never synced: it may be anything."""
        index, log = self.folder / INDEX_NAME, self.image / (INDEX_NAME + "-wal")
        log.unlink(missing_ok=True)
        if not index.exists() or chance.random() < 0.2:
            return
        content = bytearray(index.read_bytes())
        whole = index.with_name(log.name)
        logged = bytearray(whole.read_bytes()) if whole.exists() else bytearray()
        if chance.random() < 0.7:
            for some in (content, logged):
                for place, sector in list(_sectors(0, bytes(some))):
                    if chance.random() < 0.1:
                        some[place : place + len(sector)] = bytes(len(sector))
        (self.image / INDEX_NAME).write_bytes(bytes(content))
        if chance.random() < 0.7:
            log.write_bytes(bytes(logged))
