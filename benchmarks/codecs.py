"""Bit-exact compression beside zstd-19, class by class, on files of installed packages.

    python -m benchmarks.codecs [--root FOLDER]... [--class-mb N] [--list FILE] [--write]

The corpus is gathered from the folders of this Python and of Debian's packages (photos: ``apt-get install
mate-backgrounds``; PDFs: ``gnuplot-doc graphviz-doc``; ``--root`` adds others). BMP, TIFF, thumbnails and
logs are made from it, since packages hold none. Times are CPU seconds of one process; every body is
decoded and compared.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import zstandard
from attrs import define, frozen
from PIL import Image

from s3gc.compressors import ZstdCompressor
from s3gc.compressors.policies import POLICIES as LEVELS
from s3gc_codecs import POLICIES, Policy, classify, codecs
from s3gc_codecs._exact import ExactCodec

ROOTS = (sys.prefix, sys.base_prefix, "/usr/share", "/usr/lib/python3")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
STORED_ABOVE = 0.985
_LARGEST = 12 * 1024 * 1024

KINDS = {
    "JPEG photo": r"\.jpe?g$",
    "JPEG small": r"\.jpe?g$",
    "PNG large": r"\.png$",
    "PNG small": r"\.png$",
    "GIF": r"\.gif$",
    "WebP": r"\.webp$",
    "SVG": r"\.svg$",
    "PDF": r"\.pdf(\.gz)?$",
    "office": r"\.(docx|xlsx|pptx|odt|ods|odp)$",
    "archives": r"(?<!\.pdf)\.(zip|whl|jar|gz|tgz)$",
    "JSON": r"\.json$",
    "CSV": r"\.(csv|tsv)$",
    "logs": r"\.log(\.\d+)?$",
    "HTML": r"\.html?$",
}
MADE = ("JPEG thumbnail (made)", "BMP (made)", "TIFF (made)", "logs (made)")
SIZES = {
    "JPEG photo": (150_000, _LARGEST),
    "JPEG small": (8_000, 150_000),
    "PNG large": (40_000, _LARGEST),
    "PNG small": (2_000, 40_000),
}
GROUPS = {"JPEG": ("JPEG",), "PNG": ("PNG",), "BMP/TIFF": ("BMP", "TIFF")}
USERS = {
    "JPEG photo": 0.46,
    "JPEG small": 0.06,
    "JPEG thumbnail (made)": 0.02,
    "PNG large": 0.17,
    "PNG small": 0.02,
    "PDF": 0.08,
    "office": 0.05,
    "archives": 0.05,
    "GIF": 0.02,
    "WebP": 0.02,
    "JSON": 0.02,
    "CSV": 0.01,
    "HTML": 0.01,
    "BMP (made)": 0.005,
    "TIFF (made)": 0.005,
}
"""Shares of bytes in a mix as users upload: FACTS 5, 54% JPEG and 19% PNG; the rest by judgement."""


@frozen
class File:
    name: str
    data: bytes


@define
class Total:
    """Bytes and CPU seconds of one way on one class."""

    original: int = 0
    stored: int = 0
    seconds: float = 0.0
    proof: float = 0.0  # decoding and comparing

    @property
    def ratio(self) -> float:
        return self.original / self.stored

    @property
    def speed(self) -> float:
        return self.original / 1e6 / self.seconds

    @property
    def proven(self) -> float:
        """MB/s with the proof."""
        return self.original / 1e6 / (self.seconds + self.proof)


def walk(roots: Sequence[str]) -> Iterator[Path]:
    """Regular files, each once, in an order that their names alone decide."""
    found: dict[str, Path] = {}
    for root in dict.fromkeys(map(os.path.realpath, roots)):
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                path = Path(folder, name)
                found.setdefault(str(path), path)
    return iter(
        sorted(
            found.values(), key=lambda path: hashlib.sha1(path.name.encode() + str(path).encode()).digest()
        )
    )


def gather(roots: Sequence[str], most: int) -> dict[str, list[File]]:
    """Files by class, about ``most`` bytes of each; equal content counts once."""
    patterns = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in KINDS.items()}
    corpus: dict[str, list[File]] = {kind: [] for kind in (*KINDS, *MADE)}
    total = dict.fromkeys(corpus, 0)
    seen: set[bytes] = set()
    for path in walk(roots):
        for kind, pattern in patterns.items():
            low, high = SIZES.get(kind, (400, _LARGEST))
            if total[kind] >= most or not pattern.search(path.name) or path.is_symlink():
                continue
            try:
                if not low <= path.stat().st_size < high:
                    continue
                data = path.read_bytes()
            except OSError:
                continue
            if kind == "PDF" and path.suffix == ".gz":  # Debian packs its documents
                data = gzip.decompress(data)
            digest = hashlib.sha256(data).digest()
            if digest not in seen and total[kind] + len(data) <= 1.5 * most:
                seen.add(digest)
                corpus[kind].append(File(str(path), data))
                total[kind] += len(data)
    make(corpus, most)
    return {kind: some for kind, some in corpus.items() if some}


def make(corpus: dict[str, list[File]], most: int) -> None:
    """What packages don't hold: thumbnails of the photos, BMP and TIFF of the PNGs and photos, a web
    server's log.
    """
    for file in [*corpus["JPEG photo"], *corpus["PNG large"]]:
        with Image.open(io.BytesIO(file.data)) as image:
            image.load()
            rgb = image.convert("RGB")
        if file in corpus["JPEG photo"]:
            small = rgb.copy()
            for side in (96, 160, 256, 320):
                small = rgb.resize((side, max(1, side * rgb.height // rgb.width)))
                corpus["JPEG thumbnail (made)"].append(_saved(small, f"{file.name} {side}", "JPEG"))
        rgb.thumbnail((900, 900))
        for kind in ("BMP", "TIFF"):
            made = corpus[f"{kind} (made)"]
            if sum(len(one.data) for one in made) < most:
                made.append(_saved(rgb, file.name, kind))
    draw = random.Random(1)
    paths = [file.name.rsplit("/", 1)[-1] for some in corpus.values() for file in some][:300] or [
        "index.html"
    ]
    for number in range(4):
        lines = []
        for line in range(6000):
            address = f"10.{draw.randrange(9)}.{draw.randrange(256)}.{draw.randrange(256)}"
            when = f"{7 + line // 3600:02d}:{line // 60 % 60:02d}:{line % 60:02d}"
            what = f"{draw.choice((200, 200, 200, 304, 404))} {draw.randrange(90_000)}"
            agent = '"-" "Mozilla/5.0 (X11; Linux x86_64)"'
            request = f'"GET /media/{draw.choice(paths)} HTTP/1.1"'
            lines.append(f"{address} - - [1{number}/Nov/2026:{when} +0000] {request} {what} {agent}")
        corpus["logs (made)"].append(File(f"access-{number}.log", "\n".join(lines).encode()))


def _saved(image: Image.Image, name: str, kind: str) -> File:
    made = io.BytesIO()
    image.save(made, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return File(f"{name} as {kind}", made.getvalue())


# --------------------------------------------------------------------------- measuring


def by_zstd(total: Total, data: bytes, level: int) -> int:
    """Stored bytes by zstd at this level, or as it is."""
    start = time.process_time()
    stored = zstandard.ZstdCompressor(level=level, write_checksum=True).compress(data)
    made = time.process_time()
    back = zstandard.ZstdDecompressor().decompress(stored)
    total.seconds += made - start
    total.proof += time.process_time() - made
    assert back == data
    return len(stored) if len(stored) < STORED_ABOVE * len(data) else len(data)


def by_policy(total: Total, data: bytes, policy: Policy, unexact: list[str]) -> int:
    """As a vault does: the smallest exact body, else zstd at the level that the vault has for this size."""
    offered = {codec.name: codec for codec in codecs()}
    best: int | None = None
    took: set[str] = set()
    for rule in policy.codecs_for(classify(data)):
        codec = offered.get(rule.codec)
        if codec is None or took & set(rule.unless):
            continue
        assert isinstance(codec, ExactCodec)
        start = time.process_time()
        try:
            body = codec.make(data)
        except Exception:  # noqa: BLE001 - a refusal, as in ExactCodec.encode
            body = None
        made = time.process_time()
        total.seconds += made - start
        if body is None or len(body) >= len(data):
            continue
        try:
            exact = codec.restore(body, len(data)) == data
        except Exception:  # noqa: BLE001 - as above
            exact = False
        total.proof += time.process_time() - made
        if not exact:
            unexact.append(codec.name)
            continue
        took.add(rule.codec)
        best = len(body) if best is None else min(best, len(body))
    if best is not None:
        return best
    level, up_to = LEVELS[policy.name]
    return by_zstd(total, data, ZstdCompressor(level, up_to=up_to).level_for(len(data)))


WAYS = ("zstd-19", "fast", "full")


def measure(corpus: dict[str, list[File]]) -> tuple[dict[str, dict[str, Total]], list[str]]:
    """By class and way; and the codecs that refused a file because it did not come back."""
    results: dict[str, dict[str, Total]] = {}
    unexact: list[str] = []
    for kind, some in corpus.items():
        totals = results[kind] = {way: Total() for way in WAYS}
        for file in some:
            for way, total in totals.items():
                total.original += len(file.data)
                total.stored += (
                    by_zstd(total, file.data, 19)
                    if way == "zstd-19"
                    else by_policy(total, file.data, POLICIES[way], unexact)
                )
        print(row(kind, totals), flush=True)
    return results, unexact


def added(results: dict[str, dict[str, Total]], shares: dict[str, float]) -> dict[str, Total]:
    """Classes together, each weighted to its share of the bytes."""
    whole = {way: Total() for way in WAYS}
    for kind, share in shares.items():
        for way in WAYS:
            one, factor = results[kind][way], share * 1e9 / results[kind]["zstd-19"].original
            whole[way].original += round(one.original * factor)
            whole[way].stored += round(one.stored * factor)
            whole[way].seconds += one.seconds * factor
            whole[way].proof += one.proof * factor
    return whole


HEAD = (
    "| class | MB | zstd-19 | fast | full | fast : zstd-19 | full : zstd-19 | zstd-19 MB/s | fast | full |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(title: str, totals: dict[str, Total]) -> str:
    base, fast, full = (totals[way] for way in WAYS)
    speeds = " | ".join(f"{one.speed:.1f} ({one.proven:.1f})" for one in (base, fast, full))
    return (
        f"| {title} | {base.original / 1e6:.1f} | {base.ratio:.2f} | {fast.ratio:.2f} | {full.ratio:.2f} "
        f"| {fast.ratio / base.ratio:.2f} | {full.ratio / base.ratio:.2f} | {speeds} |"
    )


def table(results: dict[str, dict[str, Total]]) -> str:
    rows = [row(kind, totals) for kind, totals in results.items()]
    for title, starts in GROUPS.items():
        kinds = [kind for kind in results if kind.startswith(starts)]
        if kinds:
            size = sum(results[kind]["zstd-19"].original for kind in kinds)
            shares = {kind: results[kind]["zstd-19"].original / 1e9 for kind in kinds}
            assert size
            rows.append(row(f"**{title}**", added(results, shares)))
    everything = {kind: totals["zstd-19"].original / 1e9 for kind, totals in results.items()}
    rows.append(row("**the whole corpus**", added(results, everything)))
    present = {kind: share for kind, share in USERS.items() if kind in results}
    scale = 0.05 / sum(present.values())
    rows.append(
        row("**as users upload**", added(results, {kind: share * scale for kind, share in present.items()}))
    )
    return "\n".join([HEAD, *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", action="append", default=[], help="a folder to gather files from, besides")
    parser.add_argument("--class-mb", type=float, default=4, help="megabytes of each class, about")
    parser.add_argument("--list", type=Path, help="write the corpus's files and sizes here")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    corpus = gather([*ROOTS, *options.root], int(options.class_mb * 1e6))
    if options.list:
        lines = [f"{kind}\t{len(file.data)}\t{file.name}" for kind, some in corpus.items() for file in some]
        options.list.write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = sum(map(len, corpus.values()))
    print(f"{files} files, {sum(len(file.data) for some in corpus.values() for file in some) / 1e6:.0f} MB")
    print(HEAD)
    results, unexact = measure(corpus)
    made = table(results)
    print("\n" + made)
    print(f"\n{len(unexact)} bodies did not come back exactly and were refused: {sorted(set(unexact))}")
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        begin, end = "<!-- codecs: begin -->\n", "<!-- codecs: end -->"
        start = page.index(begin) + len(begin)
        PAGE.write_text(page[:start] + made + "\n" + page[page.index(end) :], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
