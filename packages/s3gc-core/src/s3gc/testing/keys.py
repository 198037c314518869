"""Legal S3 keys that clients, gateways and file systems are known to get wrong.

A key is any text of 1 to 1,024 bytes of UTF-8 (Amazon S3 user guide, "Naming Amazon S3 objects").
"""

from __future__ import annotations

from collections.abc import Iterable

PLAIN_KEYS: tuple[str, ...] = (
    "a",
    "plain.txt",
    "media/uploads/2026/11/photo.jpg",
    "UPPER/lower.TXT",
    "with space.txt",
    "under_score",
    "tilde~dash-dot.x",
    "0",
)
"""Keys that every store must be able to address."""

_SLASHES = (
    "dir",
    "dir/",
    "dir//",
    "dir/sub",
    "dir/sub/",
    "lead",
    "/lead",
    "//lead",
    "/",
    "//",
    "///",
    "a//b",
    "a/b",
    "a_b",
    "a///b",
    "mid//",
)

_DOTS = (
    ".",
    "..",
    "./",
    "../",
    "./x",
    "../up",
    "../../up",
    "a/./b",
    "a/../b",
    "a/..",
    "a/.",
    "trail.",
    "trail..",
    ".hidden",
    "...",
    "a/.../b",
    "/../x",
)

_URL = (
    "%",
    "%2F",
    "%2f",
    "%252F",
    "a%2Fb",
    "a%20b",
    "a b",
    "a+b",
    "a%2Bb",
    "100%",
    "%zz",
    "%00",
    "%2e%2e/x",
    "?",
    "a?b=c",
    "a?versionId=null",
    "#",
    "a#b",
    "a&b",
    "a=b",
    "a;b",
    "a:b",
    "a@b",
    "a,b",
    "$a",
    "!*'()",
    "http://host/a",
    "s3://bucket/a",
)

_MARKUP = (
    "<a>",
    "a<b",
    "&amp;",
    "&apos;",
    "&#x41;",
    "'single'",
    '"double"',
    "]]>",
    "back\\slash",
    "a|b",
    "`tick`",
    "{curly}",
    "[square]",
    "a^b",
)

_SPACES = (" ", " lead", "trail ", "two  spaces", "\t", "tab\tin", "\u00a0", "a\u3000b", "\u200b")

_CONTROLS = (
    "\x00nul",
    "a\x01b",
    "line\nfeed",
    "carriage\rreturn",
    "\r\n",
    "esc\x1b[0m",
    "del\x7f",
    "\x85",
)

_UNICODE = (
    "é",
    "e\u0301",
    "Å",
    "\u212b",
    "ﬁ",
    "ß",
    "İ",
    "日本語/ファイル.png",
    "عربي",
    "\u202eright-to-left",
    "😀",
    "👩\u200d👩\u200d👧",
    "\U0010ffff",
    "\ufffd",
    "\ufffe",
    "\uffff",
    "\ufeffbom",
    "\ue000private",
)

_WORDS = (
    "SlowDown",
    "InternalError",
    "NoSuchKey",
    "null",
    "None",
    "True",
    "uploads",
    "tagging",
    "stage#1",
    "con",
    "-rf",
    "x" * 200,
    "x" * 1024,
    "é" * 512,
    "/".join(["deep"] * 200),
    "y" * 255 + "/" + "z" * 255,
)

ODD_KEYS: tuple[str, ...] = tuple(
    dict.fromkeys((*PLAIN_KEYS, *_SLASHES, *_DOTS, *_URL, *_MARKUP, *_SPACES, *_CONTROLS, *_UNICODE, *_WORDS))
)
"""All of them, each once, in no order. Neighbours that a careless client confuses stand side by side."""


def without_nesting(keys: Iterable[str]) -> tuple[str, ...]:
    """``keys`` without those that another one would need as a folder, for stores that are file systems."""
    chosen = tuple(keys)
    split = [key.split("/") for key in chosen]
    folders = {"/".join(parts[:depth]) for parts in split for depth in range(1, len(parts))}
    return tuple(key for key in chosen if key not in folders)
