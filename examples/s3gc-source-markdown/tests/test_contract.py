"""What every source must do, on this one. The suites come with s3gc."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from s3gc_source_markdown import MarkdownSource

from s3gc import Resolver
from s3gc.abc import ReferenceSource
from s3gc.testing.source_contract import CoverageContract, CoveredPlace


class Site(CoveredPlace):
    """A folder of pages. The suites write, change and break it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pages = 0

    async def add(self, value: str) -> str:
        self._pages += 1
        row = f"posts/{self._pages}.md"
        await self.change(row, value)
        return row

    async def change(self, row: str, value: str) -> None:
        path = self.folder / row
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value, encoding="utf-8")  # nothing else in it: the suites count what is found

    async def remove(self, row: str) -> None:
        (self.folder / row).unlink()

    async def add_loose(self, value: str) -> tuple[str, str]:
        self._pages += 1
        (self.folder / f"{self._pages}.txt").write_text(value, encoding="utf-8")
        return str(self.folder), "*.txt"

    async def break_down(self) -> None:
        shutil.rmtree(self.folder)


class TestMarkdownSource(CoverageContract):
    @pytest.fixture
    async def place(self, tmp_path: Path) -> Site:
        folder = tmp_path / "content"
        folder.mkdir()
        return Site(folder)

    @pytest.fixture
    async def source(self, place: Site) -> AsyncIterator[ReferenceSource]:
        source = MarkdownSource(
            place.folder, Resolver("my-bucket", base_urls=["https://cdn.example.com/media/"])
        )
        yield source
        await source.aclose()
