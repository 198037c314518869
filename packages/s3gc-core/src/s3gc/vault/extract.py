"""Objects from a vault as files in a folder, with a list of what lies where."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from s3gc import _threads
from s3gc._pool import each
from s3gc.abc import Vault
from s3gc.errors import VaultError
from s3gc.model import BackupRecord, ExtractReport
from s3gc.vault import _fs
from s3gc.vault.browse import Stored
from s3gc.vault.names import INDEX, other_path_of, path_of
from s3gc.vault.records import canonical, record_to_json

AT_ONCE = 8
"""Objects read at one time."""

BATCH = 256
"""Objects whose lines of the list are written together."""

T = TypeVar("T")

_TAKEN = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
"""What a file system says of a name that it can't give, or has given away."""


async def extract(vault: Vault, found: AsyncIterator[Stored], folder: Path) -> ExtractReport:
    """Write each object as a file below ``folder``, which is made, or is empty.

    A file is there whole and hash-checked, or not at all. One that can't be read is named in ``errors``, and
    the rest goes on. The file ``%index.jsonl`` tells of each its key, its path, and its backup's record.

    Raises:
        VaultError: the folder isn't empty, or can't be written to.
    """
    await _run(folder, lambda: _make(folder))
    extraction = _Extraction(vault, folder)
    batch: list[Stored] = []
    async with aclosing(found) as stream:  # type: ignore[type-var]
        async for stored in stream:
            batch.append(stored)
            if len(batch) >= BATCH:
                await extraction.take(batch)
                batch = []
    await extraction.take(batch)
    return ExtractReport(str(folder), extraction.objects, extraction.bytes, extraction.errors)


class _Extraction:
    def __init__(self, vault: Vault, folder: Path) -> None:
        self._vault = vault
        self._folder = folder
        self._lines: list[str] = []
        self.objects = 0
        self.bytes = 0
        self.errors: dict[str, str] = {}

    async def take(self, batch: list[Stored]) -> None:
        await each(batch, self._one, workers=AT_ONCE)
        lines, self._lines = "".join(self._lines), []
        await _run(self._folder, lambda: _append(self._folder / INDEX, lines))

    async def _one(self, stored: Stored) -> None:
        record = stored.record
        file, path = await _run(self._folder, lambda: _create(self._folder, record.key))
        done = False
        try:
            async with aclosing(self._vault.read(record)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    await _run(self._folder, lambda chunk=chunk: file.write(chunk))  # type: ignore[misc]
            done = True
        except VaultError as error:
            self.errors[record.key] = str(error)
        finally:
            _end(file, self._folder / path, record, whole=done)
        if done:
            self.objects += 1
            self.bytes += record.size
            line = {"key": record.key, "path": str(path), "operation": stored.operation_id}
            self._lines.append(canonical({**line, "backup": record_to_json(record)}) + "\n")


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=_fs.PRIVATE_FOLDER)
    # So whatever is in the way later is another object, and no link leads out of it.
    if any(folder.iterdir()):
        raise VaultError(f"{folder} is not empty: extract into a new folder")


def _create(folder: Path, key: str) -> tuple[BinaryIO, PurePosixPath]:
    for path in (path_of(key), other_path_of(key)):
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True, mode=_fs.PRIVATE_FOLDER)
            fd = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _fs.PRIVATE_FILE)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            continue
        return os.fdopen(fd, "wb"), path
    raise VaultError(f"there is no name left for {key!r}: was something else written into {folder}?")


def _end(file: BinaryIO, path: Path, record: BackupRecord, *, whole: bool) -> None:
    file.close()
    if whole:
        seconds = record.last_modified.timestamp()
        os.utime(path, (seconds, seconds))
    else:
        path.unlink()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        os.chmod(path, _fs.PRIVATE_FILE)
        file.write(text)


async def _run(folder: Path, function: Callable[[], T]) -> T:
    def explained() -> T:
        with _fs.explained(f"extract into {folder}"):
            return function()

    return await _threads.run(explained)
