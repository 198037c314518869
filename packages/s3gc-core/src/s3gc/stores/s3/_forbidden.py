"""Documents that hold characters which XML 1.0 forbids, read to the letter.

Keys and tags may hold control characters, U+FFFE and U+FFFF. A gateway writes them into its answers all the
same (RGW: ``<NextContinuationToken>a&#x01;b</NextContinuationToken>``), and no XML parser takes that.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

_FORBIDDEN = "".join(map(chr, (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF)))
_PRIVATE = range(0xF0000, 0x10FF00, 0x100)  # where each stretch may stand in for them while we parse
_REFERENCE = re.compile(r"&#(?:x([0-9A-Fa-f]{1,8})|([0-9]{1,8}));")


def character(reference: re.Match[str]) -> str:
    """The character that ``&#x41;`` or ``&#65;`` stands for, whichever it is; the digits are groups 1 and 2.

    ``html.unescape`` follows HTML, where ``&#x80;`` is a euro sign and ``&#x01;`` nothing.

    Raises:
        ValueError: it stands for none.
    """
    number = int(reference[1], 16) if reference[1] else int(reference[2])
    if 0xD800 <= number < 0xE000:
        raise ValueError(f"{reference[0]} is half a character")
    return chr(number)


def parse_forbidden(document: bytes) -> ElementTree.Element | None:
    """Parse UTF-8 that a parser refused; None if it holds no forbidden character.

    Raises:
        ValueError: it isn't UTF-8, a reference stands for no character, or nothing is left to stand in.
        xml.etree.ElementTree.ParseError: it isn't XML for another reason too.
    """
    text = document.decode("utf-8")
    there = {character(reference) for reference in _REFERENCE.finditer(text)}.union(text)
    if there.isdisjoint(_FORBIDDEN):
        return None
    taken = {ord(char) - ord(char) % 0x100 for char in there}
    base = next((base for base in _PRIVATE if base not in taken), None)
    if base is None:
        raise ValueError("it holds a character of every private stretch")
    there_and = {ord(char): chr(base + number) for number, char in enumerate(_FORBIDDEN)}
    and_back = {base + number: char for number, char in enumerate(_FORBIDDEN)}

    def stand_in(reference: re.Match[str]) -> str:
        return there_and.get(ord(character(reference)), reference[0])

    root = ElementTree.fromstring(_REFERENCE.sub(stand_in, text).translate(there_and))
    for element in root.iter():
        element.text = element.text and element.text.translate(and_back)
    return root
