"""What a crash left in packs: incomplete frames at their ends."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from s3gc.errors import VaultError
from s3gc.vault import _fs
from s3gc.vault.packs import PACK_SUFFIX, torn_at


@frozen
class TornTail:
    """A pack that ends in the middle of a frame."""

    path: Path
    offset: int  # where the incomplete frame begins


def torn_tails(folder: Path) -> list[TornTail]:
    """The torn packs that nobody writes to at this moment.

    The end of every pack is looked at; only torn ones are read further. Raises OSError.
    """
    found: list[TornTail] = []
    for path in sorted(folder.glob("*" + PACK_SUFFIX)):
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process that opens this vault has just cut it away
        try:
            offset = torn_at(fd)
            if offset is not None and _fs.try_lock(fd):
                # Whoever wrote may have come to an end between the look and the lock.
                offset = torn_at(fd)
                if offset is not None:
                    found.append(TornTail(path, offset))
        except VaultError:
            continue  # a frame of a newer version: not ours to judge
        finally:
            os.close(fd)
    return found


def known_behind(tail: TornTail, mentions: Sequence[str]) -> bool:
    """Whether the journal names a frame that reaches behind the tear. What can't be read counts as yes."""
    pack = tail.path.name.removesuffix(PACK_SUFFIX)
    for text in mentions:
        places = re.findall(re.escape(pack) + r"(?::([0-9]+):([0-9]+))?", text)
        if any(not offset or int(offset) + int(length) > tail.offset for offset, length in places):
            return True
    return False


def cut(tail: TornTail) -> bool:
    """Remove an incomplete frame, durably; False when somebody writes to the pack again. Raises OSError."""
    try:
        fd = os.open(tail.path, os.O_RDWR)
    except FileNotFoundError:
        return False  # another process has cut it
    try:
        if not _fs.try_lock(fd):
            return False
        os.ftruncate(fd, tail.offset)
        _fs.sync_data(fd)
        if tail.offset == 0:
            tail.path.unlink()
            _fs.sync_folder(tail.path.parent)
    finally:
        os.close(fd)
    return True
