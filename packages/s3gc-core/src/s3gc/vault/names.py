"""Keys as names of files: readable where that is safe, no two alike, none that leads anywhere else.

A key's parts between slashes become folders and a file. Of each part these characters stay: letters and
digits (of any script, if the part is in Unicode's form NFC), ``-``, ``_``, ``.``, and spaces inside. All
others are written as ``%XX``, byte by byte of UTF-8, ``%`` itself too, so no two parts share a name. What
has no character to write is marked by a ``%`` that no ``XX`` follows: an empty part is ``%_``.
"""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import PurePosixPath

EMPTY = "%_"
"""An empty part: ``a//b``, ``/a`` and the folder's marker ``a/``."""

OTHER = "%other"
"""The folder of objects that can't be called after their key; their names there are SHA-256 of the key."""

INDEX = "%index.jsonl"
"""The list of what lies where."""

PART_BYTES = 255
"""The longest name of a file that common file systems take."""

PATH_BYTES = 900
"""The longest path below the folder; deeper ones go below OTHER. macOS ends at 1,024, the folder included."""

_KEPT = frozenset("-_.")
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))]
)
"""Names that Windows takes for devices, whatever stands behind a dot."""


def path_of(key: str) -> PurePosixPath:
    """Where the object of this key goes, below the folder: injective, and never outside of it."""
    parts = [_name_of(part) for part in key.split("/")]
    whole = "/".join(parts)
    if any(len(part.encode()) > PART_BYTES for part in parts) or len(whole.encode()) > PATH_BYTES:
        return other_path_of(key)
    return PurePosixPath(whole)


def other_path_of(key: str) -> PurePosixPath:
    """Its place if the first is taken: where case doesn't count, or a key is the folder of another one."""
    return PurePosixPath(OTHER, hashlib.sha256(key.encode()).hexdigest())


def _name_of(part: str) -> str:
    if not part:
        return EMPTY
    exact = unicodedata.is_normalized("NFC", part)
    last = len(part) - 1
    made = []
    for at, character in enumerate(part):
        plain = (
            character in _KEPT
            or (character == " " and 0 < at < last)
            or (character.isalnum() and (character.isascii() or (exact and character.isprintable())))
        )
        # A dot or blank at the end is dropped on Windows; "." and ".." are ways elsewhere.
        if plain and not (character == "." and at == last):
            made.append(character)
        else:
            made.append(_escaped(character))
    if part.partition(".")[0].upper() in _DEVICES:
        made[0] = _escaped(part[0])
    return "".join(made)


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
