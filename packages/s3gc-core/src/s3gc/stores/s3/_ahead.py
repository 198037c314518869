"""A body read ahead of the caller: one thread reads, one hashes, and neither waits for the other."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Executor, Future

from s3gc._processor import TURN
from s3gc.errors import StoreError
from s3gc.stores.s3._checksums import Checks
from s3gc.stores.s3._transport import Rest

AHEAD_BYTES = 4 * 1024 * 1024
"""Bytes of one body that may wait for the caller; at least one piece is read ahead."""


class ReadAhead:
    """The pieces of one body, in order, each hashed before it is given out.

    A thread is given back when there is nothing to do for it, so a caller that pauses holds none; and as long
    as the caller is the slower one, it finds its next piece without waiting for a thread.

    Args:
        first: the beginning, which is there already.
        rest: what is to be read; None: nothing.
        most: bytes of a piece.
        executor: where the two threads come from.
    """

    def __init__(
        self, first: bytes, rest: Rest | None, checks: Checks, most: int, executor: Executor
    ) -> None:
        self._rest = rest
        self._left = rest.left if rest is not None else 0
        self._checks = checks
        self._most = most
        self._executor = executor
        self._news = threading.Condition()  # and the lock of all that follows
        self._raw: deque[bytes] = deque()  # read, not hashed
        self._ready: deque[bytes] = deque()
        if first:
            (self._raw if checks else self._ready).append(first)
        self._held = len(first)  # bytes in both
        self._reading: Future[None] | None = None
        self._hashing: Future[None] | None = None
        self._failed: Exception | None = None
        self._stopped = False

    def take_now(self) -> bytes | None:
        """The next piece if it is there, b"" at the end, else None.

        Raises:
            Lost: the body can't be read to its end.
            StoreError: the store is closed.
        """
        with self._news:
            self._go_on()
            if self._ready:
                piece = self._ready.popleft()
                self._held -= len(piece)
                self._go_on()
                return piece
            if self._raw or self._hashing is not None or (self._reading is not None and self._failed is None):
                return None
            if self._failed is not None:
                raise self._failed
            return None if self._left else b""

    def take(self) -> bytes:
        """The same, once it is there. Blocks."""
        with self._news:
            while (piece := self.take_now()) is None:
                self._news.wait()
            return piece

    def stop(self) -> bool:
        """Read no further. Whether a thread is still at work: then :meth:`wait` for it."""
        with self._news:
            self._stopped = True
            if self._reading is not None and self._reading.cancel():
                self._reading = None
            if self._hashing is not None and self._hashing.cancel():
                self._hashing = None
            return self._reading is not None or self._hashing is not None

    def wait(self) -> None:
        """Wait for the threads of a body that is stopped. Blocks."""
        with self._news:
            self._news.wait_for(lambda: self._reading is None and self._hashing is None)

    def _go_on(self) -> None:
        """Begin what there is to do. Under the lock."""
        if self._stopped:
            return
        try:
            if self._reading is None and self._may_read():
                self._reading = self._executor.submit(self._read)
            if self._raw and self._hashing is None:
                self._hashing = self._executor.submit(self._hash)
        except RuntimeError:  # it is shut down
            if self._hashing is None:
                self._raw.clear()
            self._failed = StoreError("the store is closed: open a new one")

    def _may_read(self) -> bool:
        if self._stopped or self._failed is not None or not self._left:
            return False
        return not self._held or self._held + self._most <= AHEAD_BYTES

    # ------------------------------------------------------------- in the threads

    def _read(self) -> None:
        rest = self._rest
        assert rest is not None
        while True:
            data, failed = b"", None
            try:
                data = rest.read(self._most)
            except Exception as error:  # noqa: BLE001 - raised by take
                failed = error
            with self._news:
                self._failed, self._left = failed or self._failed, rest.left
                self._held += len(data)
                if data:
                    (self._raw if self._checks else self._ready).append(data)
                goes_on = self._may_read()
                if not goes_on:
                    self._reading = None
                self._go_on()
                self._news.notify_all()
            if not goes_on:
                return

    def _hash(self) -> None:
        while True:
            with self._news:
                data = self._raw[0] if self._raw and not self._stopped else None
                if data is None:
                    self._hashing = None
                    self._news.notify_all()
                    return
            with TURN:
                self._checks.update(data)
            with self._news:
                self._ready.append(self._raw.popleft())
                self._news.notify_all()
