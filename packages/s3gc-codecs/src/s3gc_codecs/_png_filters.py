"""PNG's row filters, forward: pixels to what was deflated (PNG specification, section 9).

There is no numpy here: whole runs of rows are one large integer, and each of its bytes a lane. ``H`` has
the high bit of each lane set; carries are kept from crossing lanes (Warren, Hacker's Delight, 2-18).
"""

from __future__ import annotations

from itertools import groupby

_RUN_BYTES = 128 * 1024  # rows at a time; the integers stay in the processor's cache


class _Lanes:
    """Arithmetic on integers of ``n`` bytes, byte by byte."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.high = int.from_bytes(b"\x80" * n, "little")
        self.low = int.from_bytes(b"\x7f" * n, "little")
        self.even = int.from_bytes(b"\xfe" * n, "little")
        self.all = int.from_bytes(b"\xff" * n, "little")

    def sub(self, x: int, y: int) -> int:
        """x - y modulo 256."""
        return ((x | self.high) - (y & self.low)) ^ ((x ^ y ^ self.all) & self.high)

    def average(self, x: int, y: int) -> int:
        """(x + y) // 2."""
        return (x & y) + (((x ^ y) & self.even) >> 1)

    def at_least(self, x: int, y: int) -> int:
        """255 where x >= y, else 0."""
        low = (x | self.high) - (y & self.low)
        yes = ((x & (y ^ self.all)) | ((x ^ y ^ self.all) & low)) & self.high
        return (yes >> 7) * 255

    def paeth(self, a: int, b: int, c: int) -> int:
        """Of left, up and up-left the one nearest to a + b - c.

        With pa = |b - c| and pb = |a - c|: if both differences have one sign, pc = pa + pb, which is never
        the least; else pc = |pa - pb|. So nothing needs a ninth bit.
        """
        b_above, a_above = self.at_least(b, c), self.at_least(a, c)
        pa = (self.sub(b, c) & b_above) | (self.sub(c, b) & (b_above ^ self.all))
        pb = (self.sub(a, c) & a_above) | (self.sub(c, a) & (a_above ^ self.all))
        one_sign = b_above ^ a_above ^ self.all
        a_first = self.at_least(pb, pa)
        pc = (self.sub(pb, pa) & a_first) | (self.sub(pa, pb) & (a_first ^ self.all))
        take_a = a_first & (one_sign | self.at_least(pc, pa))
        take_b = (one_sign | self.at_least(pc, pb)) & (take_a ^ self.all)
        return (a & take_a) | (b & take_b) | (c & ((take_a | take_b) ^ self.all))


def _left(rows: bytes, stride: int, bpp: int) -> int:
    """Each row moved right by a pixel, zeros come in."""
    moved = bytearray(bytes(bpp) + rows[:-bpp])
    for lane in range(min(bpp, stride)):
        moved[lane::stride] = bytes(len(range(lane, len(moved), stride)))
    return int.from_bytes(moved, "little")


def refilter(types: bytes, pixels: bytes, stride: int, bpp: int) -> bytes:
    """``pixels`` in rows of ``stride`` bytes, each filtered by its type and with the type before it.

    Raises:
        ValueError: there is no such type.
    """
    out: list[bytes] = []
    most = max(1, _RUN_BYTES // stride)
    lanes: dict[int, _Lanes] = {}
    row = 0
    for kind, run in groupby(types):
        end = row + len(list(run))
        if kind > 4:
            raise ValueError(f"PNG has no filter {kind}")
        mark = bytes([kind])
        while row < end:
            last = min(end, row + most)
            now = pixels[row * stride : last * stride]
            if kind:
                lane = lanes.get(len(now)) or lanes.setdefault(len(now), _Lanes(len(now)))
                before = pixels[(row - 1) * stride : row * stride] if row else bytes(stride)
                above = before + now[:-stride]
                now = _filtered(kind, now, above, stride, bpp, lane)
            out.extend(mark + now[at : at + stride] for at in range(0, len(now), stride))
            row = last
    return b"".join(out)


def _filtered(kind: int, now: bytes, above: bytes, stride: int, bpp: int, lanes: _Lanes) -> bytes:
    x = int.from_bytes(now, "little")
    if kind == 1:
        guess = _left(now, stride, bpp)
    elif kind == 2:
        guess = int.from_bytes(above, "little")
    elif kind == 3:
        guess = lanes.average(_left(now, stride, bpp), int.from_bytes(above, "little"))
    else:
        guess = lanes.paeth(
            _left(now, stride, bpp), int.from_bytes(above, "little"), _left(above, stride, bpp)
        )
    return lanes.sub(x, guess).to_bytes(len(now), "little")
