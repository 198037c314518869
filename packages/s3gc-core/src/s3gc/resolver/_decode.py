"""Spellings of one string: percent, plus, Unicode forms, cut-off queries."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

MAX_KEY = 1024
"""Longest key in characters. S3 allows 1,024 bytes of UTF-8, Azure 1,024 characters: no key is longer."""


class Readings(dict[str, str]):
    """Keys found so far, each with the first rule that gave it. ``context`` says where the reader stands."""

    context = ""

    def take(self, key: str, rule: str) -> None:
        """Note a key and, when it isn't ASCII, its composed and decomposed forms. No key is longer."""
        size = len(key)
        if 0 < size <= MAX_KEY and key not in self:
            self[key] = f"{self.context}: {rule}" if self.context else rule
            if not key.isascii():
                self._forms(key, rule)
        elif MAX_KEY < size <= 4 * MAX_KEY and not key.isascii():
            self._forms(key, rule)  # decomposed it may be too long, composed a key

    def _forms(self, key: str, rule: str) -> None:
        if self.context:
            rule = f"{self.context}: {rule}"
        for form in ("NFC", "NFD"):
            other = unicodedata.normalize(form, key)
            if 0 < len(other) <= MAX_KEY:
                self.setdefault(other, f"{rule}, {form}")


def decodings(text: str) -> list[tuple[str, str]]:
    """The text as it is, decoded once, decoded once with plus as space, and each of these decoded again.

    Bytes that aren't UTF-8 are read as Latin-1 too.
    """
    found = {text: ""}
    if "%" in text or "+" in text:
        _decode(text, found, "percent-decoded")
        for once in [form for form in found if form != text]:
            _decode(once, found, "percent-decoded twice")
    return list(found.items())


def _decode(text: str, found: dict[str, str], rule: str) -> None:
    if "%" in text:
        once = unquote(text)
        found.setdefault(once, rule)
        if "\ufffd" in once:
            found.setdefault(unquote(text, encoding="latin-1"), rule + " as Latin-1")
    if "+" in text:
        spaced = text.replace("+", " ")
        plus = unquote(spaced)
        found.setdefault(plus, rule + ", plus as space")
        if "\ufffd" in plus:
            found.setdefault(unquote(spaced, encoding="latin-1"), rule + " as Latin-1, plus as space")


def cuts(text: str) -> list[tuple[str, str]]:
    """The text as it is and without query or fragment, taken from the first and from the last mark.

    Keys may contain ``?`` and ``#``, so the mark that begins the query isn't known.
    """
    found = {text: ""}
    if "?" in text or "#" in text:
        no_fragment = text.rpartition("#")[0] if "#" in text else text
        found.setdefault(text.partition("?")[0], "without query")
        found.setdefault(text.partition("#")[0], "without fragment")
        found.setdefault(text.partition("#")[0].partition("?")[0], "without query and fragment")
        found.setdefault(no_fragment, "without fragment")
        for part in (text, no_fragment):
            if "?" in part:
                found.setdefault(part.rpartition("?")[0], "without query")
    return list(found.items())
