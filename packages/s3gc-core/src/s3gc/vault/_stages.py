"""A large object through its stages: the part that runs in the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import anyio

from s3gc.vault._large import LargeFrame, Stretch
from s3gc.vault._layout import CHUNK_MAX_BYTES

T = TypeVar("T")

Pieces = Sequence[bytes]


class Run(Protocol):
    """Runs a piece of work in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def batches(chunks: AsyncIterable[bytes], size: int) -> AsyncGenerator[Pieces, None]:
    """The same bytes, about ``size`` of them at a time, in pieces of a MiB; only the very last may be shorter.

    What comes in pieces of a MiB isn't copied.
    """
    held: list[bytes] = []
    length = 0
    async for chunk in chunks:
        if chunk:
            held.append(chunk)
            length += len(chunk)
        if length >= size:
            pieces = _mebibytes(held)
            held = [pieces.pop()] if len(pieces[-1]) < CHUNK_MAX_BYTES else []
            length = sum(map(len, held))
            yield pieces
    if held:
        yield _mebibytes(held)


def _mebibytes(held: list[bytes]) -> list[bytes]:
    if all(len(piece) == CHUNK_MAX_BYTES for piece in held[:-1]) and len(held[-1]) <= CHUNK_MAX_BYTES:
        return held
    data = b"".join(held)
    return [data[begin : begin + CHUNK_MAX_BYTES] for begin in range(0, len(data), CHUNK_MAX_BYTES)]


async def through(frame: LargeFrame, pieces: AsyncIterator[Pieces], run: Run) -> None:
    """Take an object through all stages; on return it is durable and proven.

    A stage takes the next item when it has handed on what it made of the one before, so the slowest sets the
    pace and memory is bounded.

    Raises:
        BaseException: the first error of a stage or of ``pieces``, as it was. No thread is at work then.
    """
    to_hash, hashing = anyio.create_memory_object_stream[Pieces](0)
    to_encode, encoding = anyio.create_memory_object_stream[Pieces](0)
    to_write, writing = anyio.create_memory_object_stream[Stretch](0)
    to_prove, proving = anyio.create_memory_object_stream[Stretch](0)
    hashed = anyio.Event()

    # A stage ends the next one's work only when its own came to its end: after an error nothing is finished.
    async def hash_all() -> None:
        async for some in hashing:
            await run(lambda some=some: frame.hash(some))  # type: ignore[misc]
        hashed.set()

    async def encode_all() -> None:
        async for some in encoding:
            for stretch in await run(lambda some=some: frame.encode(some)):  # type: ignore[misc]
                await to_write.send(stretch)
        await hashed.wait()
        for stretch in await run(frame.finish):
            await to_write.send(stretch)
        to_write.close()

    async def write_all() -> None:
        async for stretch in writing:
            await run(lambda stretch=stretch: frame.write(stretch))  # type: ignore[misc]
            await to_prove.send(stretch)
        to_prove.close()

    async def prove_all() -> None:
        async for stretch in proving:
            await run(lambda stretch=stretch: frame.prove(stretch))  # type: ignore[misc]

    try:
        with to_hash, hashing, to_encode, encoding, to_write, writing, to_prove, proving:
            async with anyio.create_task_group() as stages:
                for stage in (hash_all, encode_all, write_all, prove_all):
                    stages.start_soon(stage)
                async for some in pieces:
                    await to_hash.send(some)
                    await to_encode.send(some)
                to_hash.close()
                to_encode.close()
    except ExceptionGroup as found:
        error = _first(found)
        raise error from error.__cause__


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
