"""Codecs in processes of their own: as many as there are cores, started afresh, replaced when a file
breaks one.

::

    async with WorkerPool() as pool:
        encoded = await pool.encode(data)          # None: no codec makes it smaller and exact
        back = await pool.decode(encoded.name, encoded.body, len(data))

Who keeps a body hashes what comes back: the pool believes its workers no more than a disk.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
from attrs import frozen

from s3gc._log import get_logger
from s3gc.errors import VaultCorrupt, VaultError
from s3gc_codecs import _protocol as protocol
from s3gc_codecs._limits import JOB_SECONDS, JOB_SECONDS_PER_MIB, MAX_OBJECT_BYTES, WORKER_MEMORY_BYTES
from s3gc_codecs.policies import POLICIES, Policy, classify

_log = get_logger(__name__)

_START_SECONDS = 60.0  # a cold disk and a busy machine; it takes about one
_CHUNK = 1 << 20


@frozen
class Encoded:
    """A body, and the codec that decodes it."""

    name: str
    body: bytes


class _Broken(Exception):
    """The worker is gone, late, or talks nonsense."""


class _Worker:
    """One process and its pipes."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        self._pending = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, memory: int, factory: str) -> _Worker:
        process = await anyio.open_process(
            [sys.executable, "-P", "-m", "s3gc_codecs._worker", str(memory), factory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        worker = cls(process)
        try:
            with anyio.fail_after(_START_SECONDS):
                status, _, _ = await worker._answer(0)
            if status != protocol.READY:
                raise _Broken("it doesn't say that it is ready")
        except BaseException as error:
            await worker.end()
            if isinstance(error, _Broken | TimeoutError | anyio.EndOfStream | anyio.BrokenResourceError):
                raise VaultError(f"a codec worker doesn't start: {error!r}") from error
            raise
        return worker

    async def ask(
        self, op: int, names: str, data: bytes, size: int, most: int, seconds: float
    ) -> tuple[int, str, bytes]:
        """One job and its answer, whose body has at most ``most`` bytes.

        Raises:
            _Broken: there is none; the worker must be ended.
        """
        assert self._process.stdin is not None
        # The worker's own clock is for the time when nobody is left to end it.
        head, rest = protocol.job(op, math.ceil(2 * seconds) + 5, size, names, data)
        try:
            with anyio.fail_after(seconds):
                await self._process.stdin.send(head)
                for at in range(0, len(rest), _CHUNK):
                    await self._process.stdin.send(rest[at : at + _CHUNK])
                return await self._answer(most)
        except TimeoutError:
            raise _Broken(f"no answer after {seconds:g} seconds") from None
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise _Broken(f"it ended in mid-job ({type(error).__name__})") from error

    async def _answer(self, most: int) -> tuple[int, str, bytes]:
        status, name, body = protocol.ANSWER.unpack(await self._take(protocol.ANSWER.size))
        if name > protocol.MAX_NAME or body > most:
            raise _Broken(f"it answers with {body} bytes where {most} are the most")
        text = (await self._take(name)).decode("utf-8", "replace")
        return status, text, await self._take(body)

    async def _take(self, count: int) -> bytes:
        assert self._process.stdout is not None
        while len(self._pending) < count:
            self._pending += await self._process.stdout.receive(_CHUNK)
        taken = bytes(self._pending[:count])
        del self._pending[:count]
        return taken

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                self._process.kill()
            await self._process.aclose()


class WorkerPool:
    """Workers that encode and decode. Use it as an async context manager, on asyncio or trio.

    Args:
        policy: what :meth:`encode` tries.
        workers: processes at most; by default one for each core. They start when they are needed.
        memory_bytes: address space of each (RLIMIT_AS).
        job_seconds: wall time of a job; JOB_SECONDS_PER_MIB are added for its size.
        codecs: ``module:function`` that gives the codecs, called in the worker.
    """

    def __init__(
        self,
        policy: Policy = POLICIES["full"],
        *,
        workers: int | None = None,
        memory_bytes: int = WORKER_MEMORY_BYTES,
        job_seconds: float = JOB_SECONDS,
        codecs: str = "s3gc_codecs.codecs:codecs",
    ) -> None:
        self.policy = policy
        self._count = workers or len(os.sched_getaffinity(0))
        self._memory, self._seconds, self._codecs = memory_bytes, job_seconds, codecs
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._slots: anyio.Semaphore | None = None

    async def __aenter__(self) -> Self:
        self._slots = anyio.Semaphore(self._count)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots = None
        while self._idle or self._busy:
            await (self._idle.pop() if self._idle else self._busy.pop()).end()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes there are now."""
        return tuple(worker.pid for worker in (*self._idle, *self._busy))

    async def encode(self, data: bytes) -> Encoded | None:
        """The smallest body that the policy's codecs make of ``data``, decoded and compared in the worker.

        None: no codec is for its class, none makes it smaller than zstd does, or it broke the worker.

        Raises:
            VaultError: no worker can be started.
        """
        if not 0 < len(data) <= MAX_OBJECT_BYTES:
            return None
        kind = classify(data)
        rules = self.policy.codecs_for(kind)
        if not rules:
            return None
        names = "\n".join(f"{rule.codec}<{','.join(rule.unless)}" for rule in rules)
        try:
            status, name, body = await self._ask(protocol.ENCODE, names, data, 0, len(data))
        except _Broken as error:
            _log.warning(
                "codec_worker_replaced", job="encode", object_class=kind, size=len(data), why=str(error)
            )
            return None
        if status != protocol.DONE or not body or name not in {rule.codec for rule in rules}:
            return None
        return Encoded(name, body)

    async def decode(self, name: str, body: bytes, size: int) -> bytes:
        """The ``size`` bytes that ``body`` was made from; the caller compares their hash.

        A worker that ends in mid-job is replaced and asked once more: something else may have ended it.

        Raises:
            VaultCorrupt: the body is damaged, or can't be decoded on this machine.
            VaultError: no worker can be started.
        """
        if not 0 <= size <= MAX_OBJECT_BYTES:
            raise VaultCorrupt(f"{name}: no body is of an object of {size} bytes")
        for attempt in (1, 2):
            try:
                status, said, data = await self._ask(protocol.DECODE, name, body, size, size)
            except _Broken as error:
                _log.warning("codec_worker_replaced", job="decode", codec=name, size=size, why=str(error))
                if attempt == 2:
                    raise VaultCorrupt(
                        f"{name} can't decode this: its worker broke twice, {error}"
                    ) from error
            else:
                break
        if status != protocol.DONE or len(data) != size:
            raise VaultCorrupt(said if status == protocol.CORRUPT else f"{name}: the worker gives no bytes")
        return data

    async def _ask(self, op: int, names: str, data: bytes, size: int, most: int) -> tuple[int, str, bytes]:
        if self._slots is None:
            raise VaultError("the codec workers aren't running: use `async with`")
        seconds = self._seconds + JOB_SECONDS_PER_MIB * max(len(data), size) / 2**20
        async with self._slots:
            worker = self._idle.pop() if self._idle else await _Worker.start(self._memory, self._codecs)
            self._busy.add(worker)
            try:
                answer = await worker.ask(op, names, data, size, most, seconds)
            except BaseException:
                # Its answer may still come, and would be taken for that of another job.
                self._busy.discard(worker)
                await worker.end()
                raise
            self._busy.discard(worker)
            self._idle.append(worker)
            return answer
