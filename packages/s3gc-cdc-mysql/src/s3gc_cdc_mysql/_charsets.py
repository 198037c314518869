"""From the number of a collation to what decodes its texts, as the server would convert them to utf8mb4.

The direct read gets that conversion, so a value must be the same text here. Where Python's codec of a
character set differs from the server's, the difference is here; a test compares them with a server,
character by character. A character set that isn't here is an error, for columns that are asked for.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Final

BINARY: Final = 63
"""The collation of what is no text."""

_UNDEFINED = "?"
"""What the server makes of a character that Unicode hasn't."""

_COLLATIONS: Final[dict[str, tuple[int, ...]]] = {
    "big5": (1, 84),
    "latin2": (2, 9, 21, 27, 77),
    "cp850": (4, 80),
    "latin1": (5, 8, 15, 31, 47, 48, 49, 94),
    "hp8": (6, 72),
    "koi8r": (7, 74),
    "ascii": (11, 65),
    "ujis": (12, 91),
    "sjis": (13, 88),
    "cp1251": (14, 23, 50, 51, 52),
    "hebrew": (16, 71),
    "tis620": (18, 89),
    "euckr": (19, 85),
    "latin7": (20, 41, 42, 79),
    "koi8u": (22, 75),
    "gb2312": (24, 86),
    "greek": (25, 70),
    "cp1250": (26, 34, 44, 66, 99),
    "gbk": (28, 87),
    "cp1257": (29, 58, 59),
    "latin5": (30, 78),
    "utf8mb3": (33, 76, 83, *range(192, 224), *range(576, 579)),
    "ucs2": (35, 90, *range(128, 152), 159, *range(640, 643)),
    "cp866": (36, 68),
    "macce": (38, 43),
    "macroman": (39, 53),
    "cp852": (40, 81),
    "utf8mb4": (45, 46, *range(224, 248), *range(255, 324), *range(608, 611)),
    "utf16": (54, 55, *range(101, 125), *range(672, 675)),
    "utf16le": (56, 62),
    "cp1256": (57, 67),
    "utf32": (60, 61, *range(160, 184), *range(736, 739)),
    "cp932": (95, 96),
    "gb18030": (248, 249, 250),
}
_UCA_1400 = ("utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32")
_NUMBERS: Final = {number: name for name, numbers in _COLLATIONS.items() for number in numbers}

_SINGLE_BYTE: Final = {
    "latin2": "iso8859_2", "cp850": "cp850", "latin1": "cp1252", "hp8": "hp_roman8", "koi8r": "koi8_r",
    "ascii": "ascii", "cp1251": "cp1251", "hebrew": "iso8859_8", "tis620": "tis_620", "latin7": "iso8859_13",
    "koi8u": "koi8_u", "greek": "iso8859_7", "cp1250": "cp1250", "cp1257": "cp1257", "latin5": "iso8859_9",
    "cp866": "cp866", "macce": "mac_latin2", "macroman": "mac_roman", "cp852": "cp852", "cp1256": "cp1256",
}  # fmt: skip
_UNICODE: Final = {"ucs2": "utf_16_be", "utf16": "utf_16_be", "utf16le": "utf_16_le", "utf32": "utf_32_be"}
_PAIRS: Final = {
    "big5": "big5", "ujis": "euc_jp", "sjis": "shift_jis", "euckr": "cp949", "gb2312": "gb2312", "gbk": "gbk",
    "cp932": "cp932", "gb18030": "gb18030",
}  # fmt: skip
_DIFFERENT: Final[dict[str, dict[int, str]]] = {
    "latin1": {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)},
    "hp8": {0xFF: _UNDEFINED},
    "hebrew": {0xAF: "‾"},
    "tis620": dict.fromkeys((0xA0, 0xDB, 0xDC, 0xDD, 0xDE, 0xFC, 0xFD, 0xFE, 0xFF), "\ufffd"),
    "koi8u": {0x95: "•"},
    "greek": {0xA1: "ʽ", 0xA2: "ʼ", 0xA4: _UNDEFINED, 0xA5: _UNDEFINED, 0xAA: _UNDEFINED},
    "cp1250": dict.fromkeys((0x81, 0x83, 0x88, 0x90, 0x98), _UNDEFINED),
    "cp866": {0xFC: "ⁿ", 0xFD: "²"},
    "cp1256": dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), _UNDEFINED),
}


def charset_name(collation: int) -> str:
    """The character set of a collation.

    Raises:
        ValueError: it isn't known.
    """
    name = _NUMBERS.get(collation)
    if name is None and 1024 < collation < 2048:  # MariaDB's collations that don't pad
        name = _NUMBERS.get(collation - 1024)
    if name is None and 2048 <= collation < 2048 + 256 * len(_UCA_1400):  # of MariaDB 10.10 and later
        name = _UCA_1400[(collation - 2048) >> 8]
    if name is None:
        raise ValueError(f"a text has the collation {collation}, whose character set isn't read")
    return name


def decoder(collation: int) -> Callable[[bytes], str]:
    """What decodes texts of a collation. It raises UnicodeDecodeError where the server would have refused.

    Raises:
        ValueError: the character set isn't known.
    """
    name = charset_name(collation)
    if name in ("utf8mb4", "utf8mb3"):
        return bytes.decode
    if name in _SINGLE_BYTE:
        table = _table(name)
        return lambda raw: codecs.charmap_decode(raw, "strict", table)[0]
    if name in _UNICODE:
        codec = _UNICODE[name]
        return lambda raw: raw.decode(codec)
    codec = _PAIRS[name]
    if name in ("sjis", "ujis"):
        return lambda raw: raw.decode(codec, _HANDLER).replace("\uff3c", "\\")
    return lambda raw: raw.decode(codec, _HANDLER)


def _table(name: str) -> str:
    codec, different = _SINGLE_BYTE[name], _DIFFERENT.get(name, {})
    return "".join(
        different.get(byte) or bytes([byte]).decode(codec, "replace").replace("\ufffd", _UNDEFINED)
        for byte in range(256)
    )


_BIG5_ETEN = dict(zip(range(0xF9D6, 0xF9DD), "碁銹裏墻恒粧嫺", strict=True))


def _pair(error: UnicodeError) -> tuple[str, int]:
    """What Python's codec hasn't: the few that the server has, or what it puts for the others."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    at = error.start
    first, *rest = error.object[at : at + 3]
    if not rest:
        raise error
    pair = first << 8 | rest[0]
    if error.encoding == "big5" and pair in _BIG5_ETEN:
        return _BIG5_ETEN[pair], at + 2
    if error.encoding == "euc_jp" and 0xF5 <= first <= 0xFE and 0xA1 <= rest[0] <= 0xFE:
        return chr(0xE000 + (first - 0xF5) * 94 + rest[0] - 0xA1), at + 2
    if error.encoding == "euc_jp" and first == 0x8F and len(rest) == 2:
        own = 0xF5 <= rest[0] <= 0xFE and 0xA1 <= rest[1] <= 0xFE
        return chr(0xE3AC + (rest[0] - 0xF5) * 94 + rest[1] - 0xA1) if own else _UNDEFINED, at + 3
    return _UNDEFINED, at + 2


_HANDLER = "s3gc_cdc_mysql.pair"
codecs.register_error(_HANDLER, _pair)
