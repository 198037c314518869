"""Places of frames in packs, as text."""

from __future__ import annotations

import re

from s3gc.errors import VaultCorrupt
from s3gc.model import BackupRecord

_LOCATION = re.compile(
    r"([0-9A-HJKMNP-TV-Z]{26}):(0|[1-9][0-9]{0,18}):([1-9][0-9]{0,18})(?::(0|[1-9][0-9]?))?", re.ASCII
)


def location_of(pack: str, offset: int, length: int, index: int | None = None) -> str:
    """A backup's place: pack, offset and length of its frame in bytes; in a block, which of its objects."""
    return f"{pack}:{offset}:{length}" + ("" if index is None else f":{index}")


def parse_location(location: str) -> tuple[str, int, int]:
    """The place of the frame: pack, offset, length. Only names of packs get through, so none leads elsewhere.

    Raises:
        VaultCorrupt: it isn't a location.
    """
    found = _LOCATION.fullmatch(location)
    if not found:
        raise VaultCorrupt(f"{location!r} is not a place in a local vault")
    return found[1], int(found[2]), int(found[3])


def index_of(location: str) -> int | None:
    """Which object of a block is meant; None when the frame is that of one object.

    Raises:
        VaultCorrupt: it isn't a location.
    """
    found = _LOCATION.fullmatch(location)
    if not found:
        raise VaultCorrupt(f"{location!r} is not a place in a local vault")
    return None if found[4] is None else int(found[4])


def places_of(record: BackupRecord) -> list[tuple[str, int, int]]:
    """All that a backup needs to be read: its own place, and that of the bytes which it shares.

    Raises:
        VaultCorrupt: one isn't a location.
    """
    found = [parse_location(record.location)]
    if record.same_as is not None:
        found.append(parse_location(record.same_as.location))
    return found
