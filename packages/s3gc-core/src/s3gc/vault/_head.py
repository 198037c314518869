"""``journal.head``: the journal's last entry, noted a second time, so that a cut-off end is found.

Two slots, each in a disk block of its own, are written in turn: a crash in the middle of a write
damages the older one at most. The file may be behind the journal (a crash came between the two), and
never ahead of it.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from attrs import frozen

from s3gc.vault import _fs

SLOT_OFFSETS = (0, 4096)
_LINE = re.compile(rb"([0-9]{20}) ([0-9a-f]{64}) ([0-9a-f]{64})\n")
_LINE_BYTES = 20 + 1 + 64 + 1 + 64 + 1


@frozen
class Head:
    """The last entry: its number (0 before the first) and its hash (then the genesis hash)."""

    seq: int
    hash: str


def _line(head: Head) -> bytes:
    start = f"{head.seq:020d} {head.hash}"
    return f"{start} {hashlib.sha256(start.encode()).hexdigest()}\n".encode()


def _parse(slot: bytes) -> Head | None:
    found = _LINE.fullmatch(slot)
    if not found:
        return None
    head = Head(int(found[1]), found[2].decode())
    return head if _line(head) == slot else None


class HeadFile:
    """The file. Used in worker threads only; raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._slots: list[Head | None] = [None, None]

    def create(self, head: Head) -> None:
        """Make it anew, with one entry."""
        line = _line(head)
        empty = b" " * (_LINE_BYTES - 1) + b"\n"
        _fs.replace_file(self.path, line + b" " * (SLOT_OFFSETS[1] - len(line) - 1) + b"\n" + empty)

    def read(self) -> Head | None:
        """The newest entry; None when there is no file or neither slot is whole."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        self._slots = [_parse(data[offset : offset + _LINE_BYTES]) for offset in SLOT_OFFSETS]
        return max((s for s in self._slots if s), key=lambda s: s.seq, default=None)

    def write(self, head: Head) -> None:
        """Note the last entry, durably, over the older one of the two."""
        if self._fd < 0:
            self.read()
            self._fd = os.open(self.path, os.O_WRONLY)
        ages = [slot.seq if slot else -1 for slot in self._slots]
        older = ages.index(min(ages))
        _fs.write_at(self._fd, _line(head), SLOT_OFFSETS[older])
        _fs.sync_data(self._fd)
        self._slots[older] = head

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
