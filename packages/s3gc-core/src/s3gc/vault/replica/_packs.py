"""The vault's own packs as a source: only whole frames leave, and only bytes that never change again."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from s3gc.errors import VaultError
from s3gc.vault import _fs
from s3gc.vault._frames import FrameReader, reader_of
from s3gc.vault.packs import PACK_SUFFIX
from s3gc.vault.replica._names import Span


@frozen
class Sound:
    """Up to where a pack's frames are whole."""

    end: int
    problem: str | None = None


class Packs:
    """Reads packs. Used in worker threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound: dict[str, Sound] = {}

    def path(self, pack: str) -> Path:
        return self._folder / (pack + PACK_SUFFIX)

    def size(self, pack: str) -> int | None:
        """Bytes of the file; None when there is none: the pack was pruned, or lost."""
        try:
            return self.path(pack).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, pack: str, span: Span) -> bytes | None:
        """A stretch; None when the pack is gone or ends before it."""
        with _fs.explained(f"read {self.path(pack)}"):
            try:
                fd = os.open(self.path(pack), os.O_RDONLY)
            except FileNotFoundError:
                return None
            try:
                data = _fs.read_at(fd, span[1] - span[0], span[0])
            finally:
                os.close(fd)
        return data if len(data) == span[1] - span[0] else None

    def sound(self, pack: str, start: int, end: int) -> Sound:
        """Read the frames between two places and check their digests, so that no damage is copied for ever.

        ``end`` is where a frame ends that the journal names. What lies before ``start`` was checked already.
        """
        known = self._sound.get(pack, Sound(0))
        if known.problem is None and known.end < end:
            known = self._sound[pack] = self._check(pack, known.end, max(start, known.end), end)
        return Sound(end) if known.end >= end else known

    def _check(self, pack: str, offset: int, start: int, end: int) -> Sound:
        with _fs.explained(f"read {self.path(pack)}"):
            try:
                fd = os.open(self.path(pack), os.O_RDONLY)
            except FileNotFoundError:
                return Sound(0, f"{pack}{PACK_SUFFIX} is gone")
            try:
                read = reader_of(fd)
                while offset < end:
                    behind = FrameReader(read, offset).skip()
                    if behind > start:
                        reader = FrameReader(read, offset)
                        for _ in reader.chunks():
                            pass
                    offset = behind
            except VaultError as error:
                return Sound(offset, f"{pack}{PACK_SUFFIX} is damaged: {error}")
            finally:
                os.close(fd)
        return Sound(offset)
