"""What the guard needs of a store. All of it blocks and is called in worker threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Protocol

from attrs import frozen

from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo


@frozen
class Opened:
    """An object opened for reading."""

    head: ObjectHead
    chunks: Iterator[bytes]


class Backend(Protocol):
    """A store by obstore's blocking API. The guard has checked each key with :meth:`addresses`."""

    url: str
    bucket: str
    conditional_delete: bool

    def addresses(self, key: str) -> bool:
        """Whether exactly this key can be reached; a rule, without looking."""

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """All objects in key order, those that can't be addressed among them and marked."""

    def head(self, key: str) -> ObjectHead | None: ...

    def open(self, key: str, if_match: str | None) -> Opened:
        """Raises:
        FileNotFoundError: there is no such object, or it is another one.
        """

    def put(self, key: str, body: IO[bytes], attributes: ObjectAttributes, create: bool) -> ObjectInfo:
        """Raises:
        FileExistsError: ``create`` and the key exists.
        """

    def delete(self, key: str, if_match: str) -> DeleteOutcome: ...

    def check(self) -> None:
        """Raises:
        NoSuchBucket: the store isn't there.
        """

    def probe(self, name: str) -> dict[str, str]:
        """Learn the store's ways below ``name``; what was learnt, for people."""
