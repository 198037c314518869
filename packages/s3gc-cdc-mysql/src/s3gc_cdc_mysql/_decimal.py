"""DECIMAL in its packed form: nine digits in four bytes, the rest on both sides of the point in fewer."""

from __future__ import annotations

from decimal import Decimal

_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def _groups(precision: int, scale: int) -> list[int]:
    """How many digits each group of bytes has."""
    if not 0 <= scale <= precision or not precision:
        raise ValueError(f"a DECIMAL({precision}, {scale})")
    whole, fraction = divmod(precision - scale, 9), divmod(scale, 9)
    return [whole[1], *[9] * (whole[0] + fraction[0]), fraction[1]]


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a value.

    Raises:
        ValueError: there is no such type.
    """
    return sum(_DIGIT_BYTES[count] for count in _groups(precision, scale))


def decimal_value(raw: bytes, precision: int, scale: int) -> Decimal:
    """A value with all its digits. The highest bit is the sign; of a negative one all bits are turned.

    Raises:
        ValueError: it isn't one of that type.
    """
    size = len(raw)
    if size != decimal_size(precision, scale):
        raise ValueError(f"a DECIMAL({precision}, {scale}) of {size} bytes")
    top = 1 << 8 * size - 1
    number = int.from_bytes(raw, "big") ^ top
    if negative := bool(number & top):
        number ^= (top << 1) - 1
    raw = number.to_bytes(size, "big")
    digits, at = "", 0
    for count in _groups(precision, scale):
        end = at + _DIGIT_BYTES[count]
        if count:
            digits += f"{int.from_bytes(raw[at:end], 'big'):0{count}}"
        at = end
    if len(digits) != precision:
        raise ValueError(f"a DECIMAL({precision}, {scale}) with too many digits")
    point = precision - scale
    return Decimal(
        f"{'-' if negative else ''}{digits[:point] or '0'}.{digits[point:] or '0'}"
        if scale
        else f"{'-' if negative else ''}{digits}"
    )
