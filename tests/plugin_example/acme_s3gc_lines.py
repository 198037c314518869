"""A plugin of a third party: a place of references, a gate and a veto."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from urllib.parse import unquote, urlsplit

import anyio

from s3gc import Candidate, Config, Gate, Moment, Reference, ReferenceSource, hookimpl
from s3gc.errors import SourceError


class LinesSource(ReferenceSource):
    """A text file with one key on each line."""

    def __init__(self, path: str) -> None:
        self.name = f"lines:{path}"
        self._path = path

    async def references(self) -> AsyncIterator[Reference]:
        try:
            async with await anyio.open_file(self._path, encoding="utf-8", newline="\n") as lines:
                number = 0
                async for line in lines:
                    number += 1
                    if key := line.removesuffix("\n"):
                        yield Reference(key=key, table=self._path, row_id=str(number))
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{self._path} can't be read: {error}") from error


class KeepMarked(Gate):
    """Keys that end in ``.keep`` stay."""

    code = "acme_marked"

    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        return "marked with .keep" if candidate.object.key.endswith(".keep") else None


@hookimpl
def s3gc_open_source(url: str) -> ReferenceSource | None:
    parts = urlsplit(url)
    return LinesSource(unquote(parts.path)) if parts.scheme == "lines" else None


@hookimpl
def s3gc_gates(config: Config) -> Sequence[Gate]:
    return [KeepMarked()]


@hookimpl
def s3gc_veto(candidate: Candidate) -> str | None:
    return "on legal hold" if "/legal-hold/" in f"/{candidate.object.key}" else None
