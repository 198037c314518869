"""Keys on a terminal: shown so that no two look the same, and read back exactly.

A key of plain, visible text is shown as it is. Any other is shown as a JSON string in ASCII, which always
begins with a quote and is what ``--key-json`` takes.
"""

from __future__ import annotations

import json
import shlex
import unicodedata

# Printable by Unicode's general category, and yet invisible or blank: CGJ, Hangul and Khmer fillers, Braille
# blank, variation selectors (Unicode's Default_Ignorable_Code_Point; U+2800 looks like a space).
_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)]
) | frozenset(range(0xE0100, 0xE01F0))


def is_plain(key: str) -> bool:
    """Whether the key can be read off a terminal and typed again without doubt."""
    return (
        bool(key)
        and key.isprintable()
        and not key.startswith(('"', " "))
        and not key.endswith(" ")
        and "  " not in key
        and not unicodedata.combining(key[0])
        and unicodedata.is_normalized("NFC", key)
        and _INVISIBLE.isdisjoint(map(ord, key))
    )


def show_key(key: str) -> str:
    """The key for people: as it is when that is unambiguous, else as a JSON string in ASCII."""
    return key if is_plain(key) else json.dumps(key)


def show_text(text: str) -> str:
    """A line of text that may hold keys: control and invisible characters are escaped."""
    return "".join(
        character
        if character.isprintable() and ord(character) not in _INVISIBLE
        else json.dumps(character)[1:-1]
        for character in text
    )


def shell_word(text: str) -> str:
    """The text as one word of a command line: quoted where it must be, escaped where it can't be read."""
    if show_text(text) == text:
        return shlex.quote(text)
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
    return f"$'{escaped}'"


def read_key(key: str | None, key_json: str | None) -> str | None:
    """The key that the command line gives, in one of its two forms; None when it gives none.

    Raises:
        ValueError: both are given, ``key_json`` isn't a JSON string, or the key can't be one of S3's.
    """
    if key is not None and key_json is not None:
        raise ValueError("give the key once: as it is, or as JSON")
    if key_json is not None:
        try:
            value = json.loads(key_json)
        except ValueError as error:
            raise ValueError(
                f"not JSON ({error}): write the quotes too, e.g. --key-json '\"a\\u0000b\"'"
            ) from None
        if not isinstance(value, str):
            raise ValueError("must be one JSON string, e.g. --key-json '\"a\\u0000b\"'")
        key = value
    if key is None:
        return None
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError("the key is not UTF-8 text: write it with --key-json") from None
    return key
