"""Numbers for people."""

from __future__ import annotations

from datetime import timedelta


def size(number: int) -> str:
    """Bytes, with decimal units as object stores bill them: ``1.5 MB``."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 999.95 or unit == "TB":
            return f"{number:,} bytes" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 object``, ``2,000 objects``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def span(time: timedelta) -> str:
    """A span of time: ``0.4 s``, ``3 min 5 s``, ``2 h 10 min``, ``9 days``."""
    seconds = time.total_seconds()
    if 0 < seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        parts = ((minutes, "min"), (rest, "s"))
    elif minutes < 48 * 60:
        parts = ((minutes // 60, "h"), (minutes % 60, "min"))
    else:
        parts = ((minutes // 1440, "days"), (minutes % 1440 // 60, "h"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
