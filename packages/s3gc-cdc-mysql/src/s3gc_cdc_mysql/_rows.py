"""Rows of a table, of which only some columns are wanted: the way through a row is laid once, then walked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from s3gc_cdc_mysql._columns import Add, Take, fixed_size, length_bytes, taker
from s3gc_cdc_mysql.events import ABSENT, Column, Image, Table, Value

ReadRow: TypeAlias = Callable[[bytes, int], tuple[Image, int]]
"""Reads the row at a position, and returns where it ends."""

_Step: TypeAlias = Callable[[bytes, int, Add], int]


def row_reader(table: Table, present: int, wanted: Sequence[int]) -> ReadRow:
    """What reads rows of a table.

    Args:
        present: a bitmap of the columns that the image has.
        wanted: indexes of the columns to read, rising. Those that aren't present are :data:`ABSENT`.

    Raises:
        ValueError: a present column can't be measured, or a wanted one can't be read.
    """
    chosen = frozenset(wanted)
    fast: list[_Step] = []
    slow: list[
        tuple[int, _Step, bool]
    ] = []  # its bit among the NULLs, how to get over it, whether it is wanted
    gap = bit = 0
    for column in table.columns:
        index = column.index
        if not present >> index & 1:
            if index in chosen:
                gap = _over(fast, gap)
                fast.append(_absent)
                slow.append((0, _absent, True))
            continue
        bit = bit << 1 or 1
        if index in chosen:
            gap = _over(fast, gap)
            step = _take(table, column)
            fast.append(step)
            slow.append((bit, step, True))
            continue
        size = fixed_size(column)
        step = _skip_fixed(size) if size is not None else _skip_prefixed(length_bytes(column))
        slow.append((bit, step, False))
        if size is not None:
            gap += size
        else:
            gap = _over(fast, gap)
            fast.append(step)
    _over(fast, gap)
    return _reader((bit.bit_length() + 7) // 8, tuple(fast), tuple(slow))


def _reader(null_bytes: int, fast: tuple[_Step, ...], slow: tuple[tuple[int, _Step, bool], ...]) -> ReadRow:
    def read(data: bytes, at: int) -> tuple[Image, int]:
        start = at + null_bytes
        nulls = int.from_bytes(data[at:start], "little")
        at = start
        row: list[Value] = []
        add = row.append
        if not nulls:
            for step in fast:
                at = step(data, at, add)
            return tuple(row), at
        for bit, step, is_wanted in slow:
            if not nulls & bit:
                at = step(data, at, add)
            elif is_wanted:
                add(None)
        return tuple(row), at

    return read


def _over(steps: list[_Step], gap: int) -> int:
    """One step over the columns of fixed size that nobody wants. Returns the new gap."""
    if gap:
        steps.append(_skip_fixed(gap))
    return 0


def _take(table: Table, column: Column) -> Take:
    try:
        return taker(column)
    except ValueError as error:
        raise ValueError(f"{_named(table, column)}: {error}") from error


def _named(table: Table, column: Column) -> str:
    return f"{table.database}.{table.name}, column {column.name or column.index + 1}"


def _absent(_data: bytes, at: int, add: Add) -> int:
    add(ABSENT)
    return at


def _skip_fixed(size: int) -> _Step:
    return lambda _data, at, _add: at + size


def _skip_prefixed(size: int) -> _Step:
    if size == 1:
        return lambda data, at, _add: at + 1 + data[at]
    return lambda data, at, _add: at + size + int.from_bytes(data[at : at + size], "little")
