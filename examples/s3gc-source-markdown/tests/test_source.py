"""What is special about files: they are written in many ways, and they move while one reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from s3gc_source_markdown import MarkdownSource, s3gc_open_source
from s3gc_source_markdown import source as module

from s3gc import Resolver
from s3gc.errors import ConfigError, SourceError

pytestmark = pytest.mark.anyio

PAGE = """---
cover: /media/covers/a b.jpg
gallery:
  - one.png
  - "two.png"
download: {file: files/three.pdf, size: 12}
---

![A picture](https://cdn.example.com/media/four.jpg "with a title"), and
[a file](<five six.pdf>), and <img src='/media/seven.webp'>.

[eight]: https://my-bucket.s3.amazonaws.com/eight.zip
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


def source_of(folder: Path) -> MarkdownSource:
    return MarkdownSource(folder, Resolver("my-bucket", base_urls=["https://cdn.example.com/media/"]))


async def keys(folder: Path) -> set[str]:
    return {reference.key async for reference in source_of(folder).references()}


async def test_every_way_of_writing_a_key_is_read(folder: Path) -> None:
    (folder / "page.md").write_text(PAGE, encoding="utf-8")
    assert {
        "covers/a b.jpg",
        "one.png",
        "two.png",
        "files/three.pdf",
        "four.jpg",
        "five six.pdf",
        "seven.webp",
        "eight.zip",
    } <= await keys(folder)


async def test_a_key_may_have_a_colon(folder: Path) -> None:
    (folder / "page.md").write_text("Note: a.jpg\nDraft: b.jpg\n")
    assert {"a.jpg", "Note: a.jpg", "b.jpg", "Draft: b.jpg"} <= await keys(folder)


async def test_a_file_that_moves_while_it_is_read_is_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder that comes late to one that was read already."""
    for name in ("a", "z"):
        (folder / name).mkdir()
    (folder / "a" / "first.md").write_text("cover: first.jpg")
    (folder / "z" / "page.md").write_text("cover: moved.jpg")
    read = MarkdownSource._read
    moved: list[Path] = []

    def moving(self: MarkdownSource, path: Path) -> str | None:
        text = read(self, path)
        if not moved:
            moved.append((folder / "z" / "page.md").rename(folder / "a" / "page.md"))
        return text

    monkeypatch.setattr(MarkdownSource, "_read", moving)
    assert "moved.jpg" in await keys(folder)


async def test_a_folder_that_never_stands_still_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "page.md").write_text("cover: a.jpg")
    read = MarkdownSource._read

    def busy(self: MarkdownSource, path: Path) -> str | None:
        with (folder / "page.md").open("a") as file:
            file.write("\nmore: b.jpg")
        return read(self, path)

    monkeypatch.setattr(MarkdownSource, "_read", busy)
    with pytest.raises(SourceError, match="changes all the time"):
        await keys(folder)


async def test_what_cannot_be_read_is_an_error_and_not_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "page.md").symlink_to(folder / "page.md")  # a circle
    with pytest.raises(SourceError, match=r"page\.md can't be read"):
        await keys(folder)
    (folder / "page.md").unlink()
    (folder / "page.md").write_text("cover: a.jpg")
    monkeypatch.setattr(module, "MOST_BYTES", 5)
    with pytest.raises(SourceError, match="more than 5 bytes"):
        await keys(folder)


async def test_a_folder_that_cannot_be_listed_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's; root may list everything, so it is played here."""
    (folder / "private").mkdir()
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(SourceError, match="private can't be read"):
        await keys(folder)


async def test_bytes_that_are_no_text_do_not_hide_a_key(folder: Path) -> None:
    (folder / "page.md").write_bytes(b"cover: a.jpg\n\xff\xfe\nthumb: b.jpg\n")
    assert {"a.jpg", "b.jpg"} <= await keys(folder)


def test_the_hook_takes_its_own_urls_only(folder: Path) -> None:
    resolver = Resolver("my-bucket")
    opened = s3gc_open_source(url=f"markdown://{folder}", resolver=resolver)
    assert isinstance(opened, MarkdownSource)
    assert s3gc_open_source(url="postgresql://db/app", resolver=resolver) is None
    with pytest.raises(ConfigError, match="ABSOLUTE"):
        s3gc_open_source(url="markdown://site/content", resolver=resolver)
