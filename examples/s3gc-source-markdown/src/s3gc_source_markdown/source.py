"""References in the files of a folder."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio.to_thread

from s3gc import Reference, ReferenceSource, Resolver
from s3gc.errors import SourceError
from s3gc.model import Column, ColumnCount, ScanBatch, SourceIdentity, UntrackedColumn

SUFFIXES = (".md", ".markdown", ".mdx", ".html", ".htm", ".yml", ".yaml", ".json")
"""What is read. Everything else is only looked through for keys: see ``untracked``."""

MOST_BYTES = 32 * 1024 * 1024
"""A larger file is no page. It can't be left out either, for it may name keys: it is an error."""

WALKS = 3
"""The folder may change while it is read. So many times it is read anew before that is an error."""

COLUMN = "text"
_FRONT = re.compile(r"\s*(?:-\s+)?(?:[\w.-]+\s*:\s+)?(.+?)\s*,?\s*")  # `- item`, `name: value`


class MarkdownSource(ReferenceSource):
    """A row for each file; its id is the path below the folder.

    Args:
        folder: absolute. Links to folders aren't followed.
        resolver: s3gc's: which keys a text could mean.
    """

    def __init__(self, folder: Path, resolver: Resolver) -> None:
        self.name = f"markdown:{folder}"  # unique among the sources of a bucket
        self._folder = folder
        self._resolver = resolver

    # `columns` and the counts of `scan` let s3gc notice that a folder is suddenly empty.
    def columns(self) -> list[Column]:
        return [Column(str(self._folder), COLUMN)]

    async def check(self) -> SourceIdentity:
        """Readable, and which folder it is. A checkout may move, so its path is all that tells it."""
        await anyio.to_thread.run_sync(self._files)
        return SourceIdentity(self.name, "markdown", {"folder": str(self._folder)})

    async def scan(self) -> AsyncIterator[ScanBatch]:
        """All files as one state: what changed meanwhile is read anew, and what can't be read is an error.

        A file that moves from a folder not read yet to one read already would be in neither. So the folder is
        listed before and after; only when nothing moved is the reading worth anything.
        """
        for _ in range(WALKS):
            before = await anyio.to_thread.run_sync(self._files)
            read = [await anyio.to_thread.run_sync(self._read, path) for path in before]
            if await anyio.to_thread.run_sync(self._files) == before and None not in read:
                break
        else:
            raise SourceError(f"{self._folder} changes all the time: try again when nobody writes there")
        texts = {path: text for path, text in zip(before, read, strict=True) if text is not None}
        counts = {self.columns()[0]: ColumnCount(len(texts), sum(map(bool, texts.values())))}
        references = [reference for path, text in texts.items() for reference in self._references(path, text)]
        yield ScanBatch(references, counts)

    async def references(self) -> AsyncIterator[Reference]:
        async for batch in self.scan():
            for reference in batch.references:
                yield reference

    # `find` is the default: a scan that looks for certain keys. There is no index to ask.

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        """Files of other kinds: if their text names objects, s3gc asks a person before it deletes."""
        found = await anyio.to_thread.run_sync(self._loose, sample)
        for suffix, (keys, sampled) in sorted(found.items()):
            yield UntrackedColumn(str(self._folder), f"*{suffix}", "file", keys, sampled)

    # ------------------------------------------------------------------ in worker threads

    def _walk(self) -> Iterator[Path]:
        def failed(error: OSError) -> None:
            raise SourceError(f"{error.filename} can't be read: {error.strerror}") from error

        # Without `onerror` os.walk leaves out what it can't read: the files below would look like none.
        for folder, _, names in os.walk(self._folder, onerror=failed):
            yield from (Path(folder, name) for name in names)

    def _files(self) -> dict[Path, tuple[int, int]]:
        """Every file that counts, with what shows that it was changed."""
        if not self._folder.is_dir():
            raise SourceError(f"there is no folder {self._folder}")
        found = {}
        for path in self._walk():
            if path.suffix.lower() in SUFFIXES:
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # it went: the second listing will differ
                except OSError as error:
                    raise SourceError(f"{path} can't be read: {error.strerror}") from error
                found[path] = (status.st_size, status.st_mtime_ns)
        return dict(sorted(found.items()))

    def _read(self, path: Path) -> str | None:
        """A file's text; None when it went meanwhile."""
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"{path} can't be read: {error.strerror}") from error
        if len(data) > MOST_BYTES:
            raise SourceError(f"{path} has more than {MOST_BYTES} bytes: is it a page? Move it away")
        return data.decode("utf-8", "replace")  # a byte that is no text can't hide the keys around it

    def _references(self, path: Path, text: str) -> list[Reference]:
        row = path.relative_to(self._folder).as_posix()
        return [Reference(key, str(self._folder), row, COLUMN) for key in sorted(self._keys(text))]

    def _keys(self, text: str) -> set[str]:
        """Rather one too many than one too few: all of the text, and each value of front matter."""
        keys = set(self._resolver.keys(text))
        for line in text.splitlines():
            if value := _FRONT.fullmatch(line):
                keys |= self._resolver.keys(value[1].strip("\"'"))
        return keys

    def _loose(self, sample: int) -> dict[str, tuple[set[str], int]]:
        if not self._folder.is_dir():
            raise SourceError(f"there is no folder {self._folder}")
        found: dict[str, tuple[set[str], int]] = {}
        for path in sorted(self._walk()):
            suffix = path.suffix.lower()
            keys, sampled = found.get(suffix, (set(), 0))
            if suffix in SUFFIXES or sampled >= sample:
                continue
            text = self._read(path)
            if text and text.strip():
                found[suffix] = (keys | self._keys(text), sampled + 1)
        return found
