"""Which keys obstore passes on unchanged.

Its paths drop leading and trailing slashes silently and refuse empty and dot segments and control
characters; ``tests/property/test_s3_guard.py`` compares this rule with what obstore does.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STAGED = re.compile(r"#[0-9]+\Z")

MAX_NAME_BYTES = 255
"""Longest name of a file or folder, in bytes (NAME_MAX of Linux's and macOS's file systems)."""

MAX_STAGED_BYTES = MAX_NAME_BYTES - len("#") - 9
"""Longest name that still has room for the suffix of obstore's staging file."""


def round_trips(key: str) -> bool:
    """Whether obstore's path of ``key`` is ``key`` again."""
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not _CONTROL.search(key) and all(part not in ("", ".", "..") for part in key.split("/"))


def fits_a_folder(key: str) -> bool:
    """Whether ``key`` can be a file's path as well. ``#1`` at the end is obstore's mark of a staging file."""
    if not round_trips(key) or _STAGED.search(key):
        return False
    *folders, name = (part.encode("utf-8") for part in key.split("/"))
    return all(len(part) <= MAX_NAME_BYTES for part in folders) and len(name) <= MAX_STAGED_BYTES
