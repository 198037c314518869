"""A text taken apart: JSON, array literals, lists, HTML, Markdown, down to tokens that may be references."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from s3gc.resolver._decode import Readings
from s3gc.resolver._urls import TokenReader
from s3gc.resolver._values import texts

# All patterns run in linear time: they begin at a fixed character and either can't fail or end at the
# next one of their own kind.
_SEPARATOR = re.compile(r"[\s,;|\"'`<>()\[\]{}=\0]")
_TOKENS = re.compile(r"[\s,;|\"'`<>()\[\]{}\0]+")
_LIST = re.compile(r"[\r\n\t,;|\0]+")
_SPACES = re.compile(r"\s+")
_BRACKETS = (re.compile(r"[()]"), re.compile(r"[\[\]]"), re.compile(r"[<>]"), re.compile(r"[{}]"))
_QUOTED = (
    re.compile(r'"((?:[^"\\]|\\.?+|"")*+)(?:"|\Z)', re.S),
    re.compile(r"'((?:[^'\\]|\\.?+|'')*+)(?:'|\Z)", re.S),
)
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.?+|"")*+)(?:"|\Z)|([^{}(),"]+)', re.S)
_ELEMENT_ESCAPE = re.compile(r'\\(.)|"(")', re.S)
_BACKSLASH = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.S)
_HEX_BYTEA = re.compile(r"\\x((?:[0-9A-Fa-f]{2})+)")
_SURROGATES = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_MARKUP = re.compile(
    r"<(?:!--|!doctype|/?(?:a|abbr|article|audio|b|blockquote|body|br|button|code|div|em|figcaption|figure|font|footer"
    r"|form|h[1-6]|head|header|hr|html|i|iframe|img|input|label|li|link|main|meta|nav|ol|option|p|picture|pre|s"
    r"|script|section|small|source|span|strong|style|sub|sup|svg|table|tbody|td|th|thead|tr|u|ul|video)"
    r"(?:\s[^<>]*)?>)|\[[^\[\]\n]*\]\([^()\s]+[)\s]",
    re.IGNORECASE,
)
# In markup a word of letters alone is prose. Anything with a digit, a slash or an inner dot may be a key.
_PATH_LIKE = re.compile(r"[\d_/\\%=]|\.\w")  # = for an attribute without quotes
_TAG_MARK = re.compile('[<>"]')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_TRIM = " \t\r\n\v\f\0\ufeff\u00a0\u200b\u200c\u200d\u2028\u2029\u3000\x85"
_PUNCTUATION = ".,;:!?"
_LEVELS = 4  # unescaping and quoting within one another; JSON within JSON has no such limit


@frozen
class _Text:
    """A text to take apart. ``where``: how it was found; ``level``: unescapings and quotes around it."""

    text: str
    where: str = ""
    level: int = 0
    markup: bool = False


class TextReader:
    """Reads texts for one bucket."""

    def __init__(self, tokens: TokenReader) -> None:
        self._tokens = tokens

    def read(self, text: str, into: Readings) -> None:
        """Add every key that the text could mean."""
        outer = into.context
        work = [_Text(text, outer)]
        seen: set[str] = set()
        while work:
            item = work.pop()
            if item.text and item.text not in seen:
                seen.add(item.text)
                into.context = item.where
                work.extend(self._one(item, into))
        into.context = outer

    def _one(self, item: _Text, into: Readings) -> Iterator[_Text]:
        text, level, markup = item.text, item.level, item.markup
        separated = _SEPARATOR.search(text) is not None
        if not separated and "\\" not in text and "&" not in text:
            self._whole(text, into)
            return
        parsed = _json_strings(text)
        if parsed is not None:
            into.take(text, "raw")
            into.take(text.strip(_TRIM), "trimmed")
            for part in parsed:
                yield _Text(part, "JSON", level)
            return
        self._whole(text, into)
        markup = markup or (separated and _MARKUP.search(text) is not None)
        if level < _LEVELS:
            for part in _unescaped(text):
                yield _Text(part, "unescaped", level + 1, markup)
            if not markup:
                for part in _elements(text):
                    yield _Text(part, "array element", level + 1)
            for part, attribute in _quoted(text):
                if attribute or not markup:
                    yield _Text(part, "quoted", level + 1)
                elif "<" not in part and ">" not in part:
                    yield _Text(part, "quoted", level + 1, markup)
        if separated:
            into.context = "markup" if markup else "part"
            for piece in _pieces(text):
                if not markup or (_PATH_LIKE.search(piece) and not _TAG_MARK.search(piece)):
                    self._piece(piece, into)

    def _whole(self, text: str, into: Readings) -> None:
        read = self._tokens.read
        read(text, into)
        trimmed = text.strip(_TRIM)
        if trimmed != text:
            read(trimmed, into)
            read(text.rstrip(_TRIM), into)
            read(text.lstrip(_TRIM), into)
            # One mark only: the rest may be the key's own.
            read(text.removeprefix("\ufeff").removesuffix("\0"), into)

    def _piece(self, piece: str, into: Readings) -> None:
        read = self._tokens.read
        read(piece, into)
        if piece[-1] in _PUNCTUATION:
            read(piece.rstrip(_PUNCTUATION), into)
        if "=" in piece:
            read(piece.partition("=")[2], into)
        if "&" in piece or "\\" in piece:
            for part in _unescaped(piece):
                self._whole(part, into)


def _pieces(text: str) -> set[str]:
    """The parts of a text by each separator alone and by all together, as they are and trimmed."""
    parts: set[str] = set()
    for separator in ("\n", "\r", ",", ";", "|", " ", "\0"):
        if separator in text:
            parts.update(text.split(separator))
    parts.update(_LIST.split(text))
    parts.update(_SPACES.split(text))
    for bracket in _BRACKETS:
        parts.update(bracket.split(text))
    parts.update(_balanced(text))
    parts |= {part.strip(_TRIM) for part in parts}
    parts |= {part.strip("\"'`") for part in parts}
    parts.update(_TOKENS.split(text))
    parts -= {"", text}
    return parts


def _balanced(text: str) -> Iterator[str]:
    """What stands between a Markdown link's parentheses when the target has parentheses of its own."""
    if "](" not in text:
        return
    start, depth = -1, 0
    for mark in re.finditer(r"\]\(|[()\n]", text):
        if mark[0] == "](" and start < 0:
            start, depth = mark.end(), 1
        elif mark[0] in ("(", "]("):
            depth += 1
        elif mark[0] == ")" and start >= 0:
            depth -= 1
            if depth == 0:
                target = text[start : mark.start()]
                yield target
                yield target.strip().partition(' "')[0]
                start = -1
        elif mark[0] == "\n":
            start = -1


def _quoted(text: str) -> Iterator[tuple[str, bool]]:
    """What stands between two quotes, and whether it is an attribute's value.

    Every stretch between neighbouring quotes counts: which of them opens can't be known in a fragment.
    """
    for quote in ('"', "'", "`"):
        if quote in text:
            parts = text.split(quote)
            for before, part in zip(["", *parts], parts, strict=False):
                yield part, before.rstrip().endswith("=")
    for pattern in _QUOTED:
        for match in pattern.finditer(text):
            if "\\" in match[1] or match[0][0] * 2 in match[1]:
                yield match[1].replace(match[0][0] * 2, match[0][0]), False


def _elements(text: str) -> Iterator[str]:
    """The elements of a PostgreSQL array or row literal, of any nesting."""
    if len(text) > 2 and (text[0], text[-1]) in (("{", "}"), ("(", ")")):
        for match in _ELEMENT.finditer(text, 1, len(text) - 1):
            quoted = match[1]
            yield match[2] if quoted is None else _ELEMENT_ESCAPE.sub(lambda m: m[1] or m[2], quoted)


def _unescaped(text: str) -> Iterator[str]:
    """The text without HTML entities, without backslash escapes, and as the bytes that it spells in hex."""
    if "&" in text:
        plain = html.unescape(text)
        if plain != text:
            yield plain
    if "\\" in text:
        yield _SURROGATES.sub(_join, _BACKSLASH.sub(_character, text))
        bytea = _HEX_BYTEA.fullmatch(text)
        if bytea is not None:
            yield from (part for part, _ in texts(bytes.fromhex(bytea[1])))


def _character(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPES.get(match[3], match[3])


def _join(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _json_strings(text: str) -> list[str] | None:
    """Every string, number and object key of a JSON document, or None if the text isn't one."""
    start = text.lstrip(_TRIM)[:1]
    if start not in ("{", "[", '"'):
        return None
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> list[Any]:
        # Pairs, not a dict: the last of two equal names would hide the first.
        return [part for pair in pairs for part in pair]

    try:
        parsed = json.loads(text.strip(_TRIM), object_pairs_hook=note, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None  # a fragment, or nested too deep for the parser: read by its quotes
    stack = [parsed]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            stack.extend(item)
    return found
