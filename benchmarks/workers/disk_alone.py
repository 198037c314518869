"""What the disk takes for one object: as many bytes written past the page cache, made durable, read back.

Nothing is fetched, hashed or compared: no back-up that is durable and proven can be faster on this disk.
"""

from __future__ import annotations

import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmarks.workers import arguments, report, timed

_STRETCH = 4 * 1024 * 1024  # as the vault writes


def main() -> None:
    """Write and read at once, the reading one stretch behind."""
    options = arguments("vault", "bytes")
    size = int(options.bytes)
    path = Path(options.vault) / "disk"
    out = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    data, back = mmap.mmap(-1, _STRETCH), mmap.mmap(-1, _STRETCH)
    data.write(os.urandom(_STRETCH))

    def read(offset: int) -> int:
        return os.preadv(out, [back], offset)

    done = 0
    with ThreadPoolExecutor(1) as reader, timed() as timer:
        reading: Future[int] | None = None
        for offset in range(0, size, _STRETCH):
            os.pwritev(out, [data], offset)
            os.fdatasync(out)
            if reading is not None:
                done += reading.result()
            reading = reader.submit(read, offset)
        if reading is not None:
            done += reading.result()
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, bytes=done)


if __name__ == "__main__":
    main()
