"""The documentation as a site: it builds strictly, loads nothing from elsewhere, has all hooks."""

from __future__ import annotations

import html
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.docs_blocks import ROOT
from s3gc import Collector
from s3gc.hooks import Hooks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert build.returncode == 0, build.stderr[-4_000:]
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file(), page.name
    for name in ("readme", "changelog", "contributing", "reference/api", "reference/hooks"):
        assert (site / f"{name}.html").is_file(), name
    assert (site / "files" / "alerts.yml").read_bytes()
    assert (site / "files" / "Dockerfile.txt").read_bytes()


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//", text), page
        links = re.findall(r"<link[^>]*>", text)
        assert not [link for link in links if re.search(r"href=[\"']?(?:https?:)?//", link)], page
    for asset in (*site.rglob("*.js"), *site.rglob("*.css")):
        text = asset.read_text(encoding="utf-8")
        assert "unpkg.com" not in text, asset
        assert not re.search(r"(?:@import|url\()\s*[\"']?https?://", text), asset


def test_the_hook_reference_is_the_code(site: Path) -> None:
    told = text_of(site / "reference" / "hooks.html")
    for name, hook in vars(Hooks).items():
        if name.startswith("s3gc_"):
            first = (inspect.getdoc(hook) or "").splitlines()[0].replace("`", "")
            assert name in told
            assert " ".join(first.split()) in " ".join(told.split()), name


def test_the_api_reference_has_every_method_of_the_collector(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in vars(Collector):
        if not name.startswith("_"):
            assert re.search(rf'id="s3gc\.(?:collector\.)?Collector\.{name}"', page), name


def test_links_out_of_docs_lead_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for target in re.findall(r'<a[^>]*\shref="([^"#?]+)', page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:|/", target):
                assert (page.parent / html.unescape(target)).exists(), f"{page.name}: {target}"
