"""A worker process: reads jobs from its standard input, answers on its standard output, ends when its
input ends.

    python -P -m s3gc_codecs._worker MEMORY module:function

It is started afresh, never forked. A file may make it crash, eat memory or hang; then it ends, by itself
or by its pool.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import zstandard

from s3gc.abc import ObjectCodec
from s3gc.errors import VaultCorrupt
from s3gc_codecs import _protocol as protocol
from s3gc_codecs._exact import ExactCodec, refused


def _read(fd: int, count: int) -> bytes:
    """Exactly so many bytes; the process ends if the other side is gone."""
    out = bytearray()
    while len(out) < count:
        piece = os.read(fd, min(count - len(out), 1 << 20))
        if not piece:
            os._exit(0)  # even in mid-job: nobody waits for it any more
        out += piece
    return bytes(out)


def _jobs(fd: int, into: queue.SimpleQueue[tuple[int, int, int, str, bytes]]) -> None:
    """The reading thread. It always reads, so the end of the pipe ends the process while a job runs."""
    while True:
        op, seconds, size, names, length = protocol.JOB.unpack(_read(fd, protocol.JOB.size))
        text = _read(fd, names).decode()
        into.put((op, seconds, size, text, _read(fd, length)))


def encode(codecs: Mapping[str, ObjectCodec], names: str, data: bytes) -> tuple[str, bytes] | None:
    """The smallest exact body by the named codecs, ``name`` or ``name<unless,unless``, one a line."""
    best: tuple[str, bytes] | None = None
    took: set[str] = set()
    for line in names.splitlines():
        name, _, unless = line.partition("<")
        codec = codecs.get(name)
        if codec is None or took & set(unless.split(",")):
            continue
        body = codec.encode(data)
        if body is None or len(body) >= len(data):
            continue
        if not isinstance(codec, ExactCodec) and codec.decode(body, len(data)) != data:
            continue
        took.add(name)
        if best is None or len(body) < len(best[1]):
            best = (name, body)
    if best is not None and len(zstandard.ZstdCompressor(level=3).compress(data)) <= len(best[1]):
        return None
    return best


def _work(codecs: Mapping[str, ObjectCodec], op: int, size: int, names: str, data: bytes) -> bytes:
    try:
        if op == protocol.ENCODE:
            found = encode(codecs, names, data)
            return (
                protocol.answer(protocol.DONE, *found)
                if found
                else protocol.answer(protocol.NOTHING, "", b"")
            )
        codec = codecs.get(names)
        if codec is None:
            raise VaultCorrupt(f"the codec {names} isn't installed here")
        return protocol.answer(protocol.DONE, names, codec.decode(data, size))
    except BaseException as error:  # noqa: BLE001 - whatever a file did: it is told, and refused
        why = str(error) if isinstance(error, VaultCorrupt) else refused(error)
        return protocol.answer(protocol.CORRUPT if op == protocol.DECODE else protocol.NOTHING, why, b"")


def main(memory: int, factory: str) -> None:
    """Serve until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's to handle
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever a library prints must not get between our answers.
    source, sink = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    module, _, function = factory.partition(":")
    offered: Sequence[ObjectCodec] = getattr(importlib.import_module(module), function)()
    codecs: dict[str, Any] = {codec.name: codec for codec in offered}
    jobs: queue.SimpleQueue[tuple[int, int, int, str, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_jobs, args=(source, jobs), daemon=True).start()
    with open(sink, "wb") as out:
        out.write(protocol.answer(protocol.READY, "\n".join(codecs), b""))
        out.flush()
        while True:
            op, seconds, size, names, data = jobs.get()
            # The kernel ends us if native code holds the interpreter past the limit and the pool is gone.
            signal.setitimer(signal.ITIMER_REAL, seconds)
            made = _work(codecs, op, size, names, data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            out.write(made)
            out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
