"""Which codecs are tried on what. The class of an object comes from its first bytes, never from its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class Rule(NamedTuple):
    """One codec and what it is tried on."""

    codec: str
    classes: tuple[str, ...]
    unless: tuple[str, ...] = ()
    """Not tried where one of these took the object: it would only cost time."""


class Policy(NamedTuple):
    """Codecs by class, in the order in which they are tried; the smallest body is taken."""

    name: str
    rules: tuple[Rule, ...]
    zstd_level: int
    """For all that no codec takes."""

    def codecs_for(self, kind: str) -> tuple[Rule, ...]:
        """The rules for a class."""
        return tuple(rule for rule in self.rules if kind in rule.classes)


_JPEG = Rule("jpeg-lepton-1", ("jpeg",))
_DOCUMENTS = ("pdf", "zip", "gzip", "tiff")

POLICIES: Final[Mapping[str, Policy]] = {
    policy.name: policy
    for policy in (
        Policy("plain", (), 3),
        Policy("fast", (_JPEG,), 10),
        Policy(
            "full",
            (
                _JPEG,
                Rule("png-webp-1", ("png",)),
                Rule("raster-webp-1", ("bmp", "tiff", "pnm")),
                Rule("deflate-images-1", _DOCUMENTS, unless=("raster-webp-1",)),
                Rule(
                    "deflate-1",
                    (*_DOCUMENTS, "png"),
                    unless=("raster-webp-1", "deflate-images-1", "png-webp-1"),
                ),
                Rule(
                    "xz-1",
                    ("text", "other", "pdf", "zip", "bmp", "tiff", "pnm"),
                    unless=("raster-webp-1", "deflate-images-1", "deflate-1"),
                ),
            ),
            19,
        ),
    )
}
"""``plain``: zstd only. ``fast``: Lepton, else zstd. ``full``: whatever is smallest."""

_MAGIC: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "packed"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "packed"),  # zstd
    (b"\xfd7zXZ\0", "packed"),
    (b"BZh", "packed"),
    (b"7z\xbc\xaf\x27\x1c", "packed"),
    (b"\x1aE\xdf\xa3", "packed"),  # Matroska, WebM
    (b"OggS", "packed"),
    (b"ID3", "packed"),
    (b"fLaC", "packed"),
    (b"wOF2", "packed"),
)
_BY_LOOKING: Final = frozenset({"pnm", "pdf", "text", "other"})
"""Classes that more than a fixed beginning tells."""

_PNM: Final = re.compile(rb"P[56][\s#]")
_PDF: Final = re.compile(rb"%PDF-\d")
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_LOOK: Final = 4096

CLASSES: Final = frozenset(
    {"jpeg", "png", "bmp", "tiff", "pnm", "zip", "gzip", "pdf", "text", "packed", "other"}
)


def classify(data: bytes) -> str:
    """One of CLASSES. ``packed`` is what no codec helps: GIF, WebP, sound, video, archives."""
    start = data[:_LOOK]
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[4:8] == b"ftyp":
        return "packed"
    if _PNM.match(start):
        return "pnm"
    if _PDF.search(start[:1024]):
        return "pdf"
    return "text" if start and len(start.translate(None, _CONTROLS)) == len(start) else "other"


def starts_of(policy: Policy) -> tuple[bytes, ...] | None:
    """What every object begins with that the policy has a codec for; None when that can't be told so."""
    classes = {kind for rule in policy.rules for kind in rule.classes}
    if classes & _BY_LOOKING:
        return None
    return tuple(magic for magic, kind in _MAGIC if kind in classes)
