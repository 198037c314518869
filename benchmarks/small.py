"""Small objects into a vault: one frame each, and in solid blocks, in one run.

    python -m benchmarks.small [--objects 20000] [--levels 3 19]

Documents are made, not collected: JSON of records with ids, names, dates, numbers, no two alike. Each way is
measured with the read-back and the journal, as a sweep does it, then all is verified.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio

from s3gc.abc import WholeObject
from s3gc.clock import SystemClock
from s3gc.compressors import ZstdCompressor
from s3gc.compressors.policies import FAST, by_policy
from s3gc.model import JournalDraft, ObjectAttributes, ObjectInfo
from s3gc.vault import LocalVault, record_to_json

OPERATION = "01K00000000000000000000000"
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
BATCH, GROUP = 1_000, 250


def document(draw: random.Random, size: int) -> bytes:
    """About so many bytes of JSON."""
    made: dict[str, object] = {
        "id": draw.randrange(10**9),
        "user": f"user{draw.randrange(10**5)}",
        "email": f"u{draw.randrange(10**6)}@example.com",
        "created": f"2025-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}T10:00:00Z",
    }
    items: list[dict[str, object]] = []
    made["items"] = items
    while len(json.dumps(made)) < size:
        price = round(draw.random() * 100, 2)
        items.append({"sku": f"SKU-{draw.randrange(10**5):05d}", "qty": draw.randrange(9), "price": price})
    return json.dumps(made).encode()


def objects(count: int, sizes: tuple[int, int]) -> list[WholeObject]:
    """As a store would give them; ``sizes``: the least and the most bytes, about."""
    draw = random.Random(2)
    attributes = ObjectAttributes(content_type="application/json")
    made = []
    for n in range(count):
        data = document(draw, draw.randint(*sizes))
        info = ObjectInfo(f"users/{n:07d}/data.json", len(data), f'"{draw.getrandbits(128):032x}"', WHEN)
        made.append(WholeObject(info, info, attributes, data))
    return made


async def measure(
    some: Sequence[WholeObject], solid: int | None, folder: Path
) -> tuple[float, float, float, float]:
    """(objects/s, CPU µs an object, bytes stored an object, verified objects/s).

    ``solid``: zstd's level for blocks; None: a frame each.
    """
    codecs, codec = by_policy([ZstdCompressor()], FAST)
    vault = LocalVault(
        folder,
        compressors=codecs,
        clock=SystemClock(),
        codec=codec,
        solid=None if solid is None else ZstdCompressor(solid),
    )
    await vault.open("memory://bench")
    wall, cpu = time.perf_counter(), time.process_time()
    async with vault.session(OPERATION) as session:
        for begin in range(0, len(some), BATCH):
            async with anyio.create_task_group() as tasks:
                for at in range(begin, min(begin + BATCH, len(some)), GROUP):
                    tasks.start_soon(session.add_all, some[at : at + GROUP])
            records = await session.commit()
            await vault.journal.append(
                [
                    JournalDraft("backed_up", OPERATION, record.key, {"backup": record_to_json(record)})
                    for record in records
                ]
            )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stats = await vault.stats()
    began = time.perf_counter()
    check = await vault.verify()
    verified = len(some) / (time.perf_counter() - began)
    await vault.aclose()
    if check.problems or check.backups != len(some):
        raise SystemExit(f"the vault isn't as it was written: {check.problems[:3]}")
    return len(some) / wall, cpu / len(some) * 1e6, stats.stored_bytes / len(some), verified


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 19], help="zstd's, of blocks")
    options = parser.parse_args()
    count = options.objects
    print("| objects | way | objects/s | CPU µs | bytes stored | smaller | verified/s |")
    print("|---|---|---|---|---|---|---|")
    for name, sizes in (("JSON of 0.3 to 1 KB", (300, 1_000)), ("JSON of 4 KB", (4_060, 4_060))):
        some = objects(count, sizes)
        alone = 0.0
        for solid in (None, *options.levels):
            with tempfile.TemporaryDirectory() as folder:
                found = anyio.run(partial(measure, some, solid, Path(folder) / "vault"))
            alone = alone or found[2]
            way = "a frame each" if solid is None else f"blocks, level {solid}"
            rate, cpu, stored, verified = found
            numbers = f"{rate:,.0f} | {cpu:.0f} | {stored:.0f} | {alone / stored:.2f} | {verified:,.0f}"
            print(f"| {name} | {way} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
