"""Buckets and objects in memory, and the listing made of prebuilt entries."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from attrs import Factory, define, field, frozen

from benchmarks.responder.content import SHAPES, Filler, key

_FEW = 64  # so many changed keys are moved one by one; more rebuild the sorted lists


@define(eq=False)
class StoredObject:
    """One object. A filled one makes its bytes when it is read."""

    size: int
    etag: str
    modified: int  # seconds since the epoch; S3 lists whole seconds
    content: bytes | tuple[Filler, int]
    headers: Mapping[str, str] = Factory(dict)
    tags: str = ""  # as in x-amz-tagging

    def body(self) -> bytes:
        """All bytes of the object."""
        if isinstance(self.content, bytes):
            return self.content
        filler, index = self.content
        return filler.body(index)

    @property
    def http_date(self) -> str:
        """Last-Modified as a header."""
        return formatdate(self.modified, usegmt=True)


def stored(body: bytes, headers: Mapping[str, str], tags: str = "", etag: str | None = None) -> StoredObject:
    """An object put now."""
    return StoredObject(
        len(body), etag or hashlib.md5(body).hexdigest(), int(time.time()), body, headers, tags
    )


@frozen
class Page:
    """Part of a listing: ``entries`` are finished XML."""

    entries: bytes
    count: int
    last: str  # the last key (or common prefix) of this page
    truncated: bool


def encode_key(name: str, url: bool) -> str:
    """A key as it stands in a listing; like AWS, a space becomes a plus."""
    return quote_plus(name, safe="/") if url else escape(name)


@define(eq=False)
class Bucket:
    """Objects by key, and their sorted listing, brought up to date when it is asked for."""

    objects: dict[str, StoredObject] = Factory(dict)
    _keys: list[str] = field(factory=list, init=False)
    _entries: dict[bool, list[bytes]] = field(factory=dict, init=False)  # by url encoding, parallel to _keys
    _changed: set[str] = field(factory=set, init=False)

    def put(self, name: str, item: StoredObject) -> None:
        """Add or replace an object."""
        self.objects[name] = item
        self._changed.add(name)

    def remove(self, name: str) -> None:
        """Delete an object; no error when there is none."""
        if self.objects.pop(name, None) is not None:
            self._changed.add(name)

    def fill(self, indices: Iterable[int], size: int, modified: int, shape: str = "spread") -> None:
        """Put the objects of these numbers, all of one size; ``shape`` is one of ``content.SHAPES``."""
        name = SHAPES[shape]
        filler = Filler(size)
        headers = {"content-type": "application/octet-stream"}
        for index in indices:
            self.put(name(index), StoredObject(size, filler.etag(index), modified, (filler, index), headers))
        self.refresh()
        self._entries_for(url=True)

    def census(self, count: int, size: int) -> tuple[int, Sequence[str]]:
        """Which of the objects 0..count-1 exist unchanged (a number's bits), and the keys of all others."""
        filler, known = Filler(size), set()
        bits = bytearray(b"0" * max(count, 1))
        for index in range(count):
            name = key(index)
            item = self.objects.get(name)
            if item is not None and item.size == size and item.etag == filler.etag(index):
                known.add(name)
                bits[-1 - index] = ord("1")
        return int(bits, 2), sorted(self.objects.keys() - known)

    def page(self, *, prefix: str, after: str, limit: int, url: bool) -> Page:
        """At most ``limit`` objects below ``prefix`` that come after the key ``after``."""
        self.refresh()
        start = max(bisect_right(self._keys, after) if after else 0, bisect_left(self._keys, prefix))
        stop = min(start + limit, len(self._keys))
        if prefix:
            stop = min(stop, self._end_of(prefix, start))
        more = stop < len(self._keys) and self._keys[stop].startswith(prefix)
        last = self._keys[stop - 1] if stop > start else ""
        return Page(b"".join(self._entries_for(url)[start:stop]), stop - start, last, more and stop > start)

    def grouped_page(self, *, prefix: str, after: str, limit: int, url: bool, delimiter: str) -> Page:
        """As :meth:`page`, with keys that share a beginning up to ``delimiter`` rolled into one."""
        self.refresh()
        entries = self._entries_for(url)
        at = max(bisect_right(self._keys, after) if after else 0, bisect_left(self._keys, prefix))
        found: list[bytes] = []
        last = ""
        while at < len(self._keys) and self._keys[at].startswith(prefix):
            cut = self._keys[at].find(delimiter, len(prefix))
            group = self._keys[at][: cut + len(delimiter)] if cut >= 0 else ""
            if group and group == after:  # the page before ended with this very group
                at = self._end_of(group, at)
                continue
            if len(found) == limit:
                return Page(b"".join(found), limit, last, truncated=limit > 0)
            if group:
                shown = encode_key(group, url)
                found.append(f"<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>".encode())
                last, at = group, self._end_of(group, at)
            else:
                found.append(entries[at])
                last, at = self._keys[at], at + 1
        return Page(b"".join(found), len(found), last, truncated=False)

    def _end_of(self, prefix: str, start: int) -> int:
        return bisect_right(self._keys, prefix, lo=start, key=lambda name: name[: len(prefix)])

    def refresh(self) -> None:
        """Bring the sorted keys and their entries up to date."""
        if not self._changed:
            return
        if len(self._changed) <= _FEW:
            for name in self._changed:
                self._move(name)
        else:
            self._rebuild()
        self._changed = set()

    def _move(self, name: str) -> None:
        at = bisect_left(self._keys, name)
        if at < len(self._keys) and self._keys[at] == name:
            del self._keys[at]
            for entries in self._entries.values():
                del entries[at]
        if (item := self.objects.get(name)) is not None:
            self._keys.insert(at, name)
            for url, entries in self._entries.items():
                entries.insert(at, _entry(name, item, url))

    def _rebuild(self) -> None:
        old = {url: dict(zip(self._keys, entries, strict=True)) for url, entries in self._entries.items()}
        self._keys = [name for name in self._keys if name not in self._changed]
        self._keys += [name for name in self._changed if name in self.objects]
        self._keys.sort()
        for url, known in old.items():
            for name in self._changed:
                known.pop(name, None)
            self._entries[url] = [
                known.get(name) or _entry(name, self.objects[name], url) for name in self._keys
            ]

    def _entries_for(self, url: bool) -> list[bytes]:
        if url not in self._entries:
            self._entries[url] = [_entry(name, self.objects[name], url) for name in self._keys]
        return self._entries[url]


def _entry(name: str, item: StoredObject, url: bool) -> bytes:
    shown = encode_key(name, url)
    storage = item.headers.get("x-amz-storage-class", "STANDARD")
    return (
        f"<Contents><Key>{shown}</Key><LastModified>{_iso(item.modified)}</LastModified>"
        f"<ETag>&quot;{item.etag}&quot;</ETag><Size>{item.size}</Size>"
        f"<StorageClass>{storage}</StorageClass></Contents>"
    ).encode()


@lru_cache(maxsize=256)  # a fill gives a million objects the same time
def _iso(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.000Z"
