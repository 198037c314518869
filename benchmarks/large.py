"""One large object into a vault, beside ``zstd -3 -T0`` of the same bytes: ``python -m benchmarks.large``.

The bytes come from a file that was just written, so from memory. zstd writes a file, which is synced; the
vault compresses at the same level, hashes twice, writes, syncs, reads all back from the disk and compares
it. Both take turns. Told are MiB/s of the original, processor seconds for a GiB, and the ratio of the rates.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import anyio

from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.vault import LocalVault

_MIB = 1 << 20
OPERATION = "01K00000000000000000000000"
KINDS = ("log", "noise")


def line(number: int, draw: random.Random) -> bytes:
    """Of a web server's log."""
    address = f"10.{draw.randrange(9)}.{draw.randrange(256)}.{draw.randrange(256)}"
    return b'%s - - [%d] "GET /media/%d HTTP/1.1" 200 %d\n' % (
        address.encode(),
        1_700_000_000 + number // 50,
        draw.randrange(10**6),
        draw.randrange(90_000),
    )


def make(path: Path, kind: str, mib: int) -> None:
    """A file of about so many MiB."""
    draw = random.Random(3)
    with path.open("wb") as out:
        for part in range(mib):
            if kind == "noise":
                out.write(draw.randbytes(_MIB))
                continue
            lines = b"".join(line(part * 20_000 + n, draw) for n in range(4_000))
            out.write((lines * (1 + _MIB // len(lines)))[:_MIB] if part % 8 else lines)


def by_zstd(source: Path, folder: Path) -> None:
    """A file, synced."""
    target = folder / "out.zst"
    subprocess.run(["zstd", "-3", "-T0", "-q", "-f", str(source), "-o", str(target)], check=True)
    fd = os.open(target, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    target.unlink()


async def by_vault(source: Path, size: int, folder: Path) -> None:
    """A backup that counts."""
    vault = LocalVault(folder / "vault", compressors=[ZstdCompressor(3)], clock=SystemClock())
    await vault.open("memory://bench")

    async def chunks() -> AsyncIterator[bytes]:
        with source.open("rb") as data:  # from memory: it waits for nothing
            while piece := data.read(_MIB):
                yield piece

    info = ObjectInfo("large", size, "etag", datetime(2026, 1, 1, tzinfo=UTC))
    async with vault.session(OPERATION) as session:
        await session.add(info, ObjectAttributes(), chunks())
        (record,) = await session.commit()
    assert record.size == size
    await vault.aclose()


def spent() -> tuple[float, float]:
    """Wall and processor seconds, those of children included."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.perf_counter(), own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the object")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| object | zstd -3 -T0, MiB/s | the vault, MiB/s | × zstd | zstd, CPU s/GiB | the vault |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="s3gc-benchmark-") as name:
        folder = Path(name)
        for kind in KINDS:
            source = folder / kind
            make(source, kind, options.mib)
            size = source.stat().st_size / _MIB
            took: dict[str, list[tuple[float, float]]] = {"zstd": [], "vault": []}
            for turn in range(options.rounds):
                for way in ("zstd", "vault") if turn % 2 else ("vault", "zstd"):
                    with tempfile.TemporaryDirectory(dir=folder) as scratch:
                        wall, cpu = spent()
                        if way == "zstd":
                            by_zstd(source, Path(scratch))
                        else:
                            anyio.run(partial(by_vault, source, source.stat().st_size, Path(scratch)))
                        end, cpu_end = spent()
                    took[way].append((size / (end - wall), (cpu_end - cpu) * 1024 / size))
            rate = {way: median(one for one, _ in some) for way, some in took.items()}
            cpu_of = {way: median(one for _, one in some) for way, some in took.items()}
            ratio = median(v[0] / z[0] for v, z in zip(took["vault"], took["zstd"], strict=True))
            print(
                f"| {kind}, {size:,.0f} MiB | {rate['zstd']:,.0f} | {rate['vault']:,.0f} | {ratio:.2f} "
                f"| {cpu_of['zstd']:.1f} | {cpu_of['vault']:.1f} |",
                flush=True,
            )
            source.unlink()
    print(f"\n{options.rounds} round(s), load {os.getloadavg()[0]:.1f} at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
