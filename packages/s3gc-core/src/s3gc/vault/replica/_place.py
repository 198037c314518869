"""One replica: what the remote lists, and how much of it was found right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from s3gc._log import get_logger
from s3gc.errors import VaultCorrupt, VaultError, VaultMismatch
from s3gc.vault._identity import IDENTITY_NAME
from s3gc.vault.records import canonical
from s3gc.vault.replica._box import Box
from s3gc.vault.replica._names import (
    IDENTITY,
    Span,
    missing,
    parse_piece,
    parse_segment,
    piece_name,
    reach,
    segment_name,
)
from s3gc.vault.replica._notes import Notes
from s3gc.vault.replica._seal import MAGIC

FORMAT = 1


def identity_of(folder: Path) -> bytes:
    """``replica.json`` of the vault in a folder: the text of its ``vault.json``, and a digest of that."""
    text = (folder / IDENTITY_NAME).read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (canonical({"format": FORMAT, "sha256": digest, "vault_json": text}) + "\n").encode()


def vault_json_in(data: bytes, url: str) -> str:
    """The text of ``vault.json`` that a ``replica.json`` holds.

    Raises:
        VaultError: it is sealed, or of a newer version.
        VaultCorrupt: it isn't what was written.
    """
    if data.startswith(MAGIC):
        raise VaultError(f"the replica in {url} is sealed: give its keys")
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise VaultCorrupt(f"{IDENTITY} in {url} is damaged: {error}") from error
    version = fields.get("format") if isinstance(fields, dict) else None
    if type(version) is int and version > FORMAT:
        raise VaultError(f"the replica in {url} is of format {version}, known is {FORMAT}: update s3gc")
    if version != FORMAT or fields.keys() != {"format", "sha256", "vault_json"}:
        raise VaultCorrupt(f"{IDENTITY} in {url} is damaged")
    text = fields["vault_json"]
    if (
        not isinstance(text, str)
        or hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() != fields["sha256"]
    ):
        raise VaultCorrupt(f"{IDENTITY} in {url} is damaged")
    return text


class Place:
    """The state of one remote. All methods but :meth:`holds` and :meth:`reached` block."""

    def __init__(self, box: Box, notes: Notes, folder: Path) -> None:
        self.box = box
        self.url = box.remote.url
        self.pieces: dict[str, dict[Span, bool]] = {}
        """Pack → stretch → whether it was read back and found right."""
        self.segments: dict[Span, bool] = {}
        self.problems: list[str] = []
        self.error: str | None = None
        """Why it could not be brought up to date last time."""
        self.retry_at = 0.0
        self.looked = False
        self.ready = False
        """Whether it was found to be this vault's, to keep what it has, and not to be ahead of it."""
        self._whole: dict[str, int] = {}  # pack → up to where it is right, from its first byte on
        self._notes = notes
        self._folder = folder

    # ------------------------------------------------------------------ looking

    def connect(self) -> None:
        """Find out whose replica it is, make it ours if it is nobody's, and list it.

        Raises:
            VaultMismatch: it is another vault's.
            VaultError: the store overwrites what it was told to keep; or as Box.read.
            StoreError: it can't be reached.
        """
        self.ready = False
        wanted = identity_of(self._folder)
        if not self._is_ours(wanted):
            self.box.create(IDENTITY, wanted)
        if not self.box.probe(IDENTITY):
            raise VaultError(
                f"{self.url} writes over objects that exist, though asked not to (If-None-Match): "
                "a replica could be lost there"
            )
        self.look()

    def look(self) -> None:
        """List it, changing nothing. Raises as connect does."""
        self.looked = False
        self._is_ours(identity_of(self._folder))
        noted = self._notes.verified(self.box.remote.id)
        pieces: dict[str, dict[Span, bool]] = {}
        segments: dict[Span, bool] = {}
        problems: list[str] = []
        for name, size in self.box.remote.names():
            known = name in noted
            noted.discard(name)
            if piece := parse_piece(name):
                pack, span = piece
                if self.box.fits(size, span[1] - span[0]):
                    pieces.setdefault(pack, {})[span] = known
                else:
                    problems.append(f"{name} has {size} bytes")
            elif whole := parse_segment(name):
                segments[whole] = known
            elif name != IDENTITY:
                problems.append(f"{name} isn't of a replica")
        if noted:
            problems += [f"{name} was there and is gone" for name in sorted(noted)[:10]]
            get_logger().error("replica_lost_objects", replica=self.url, count=len(noted), first=min(noted))
            self._notes.forget(self.box.remote.id, noted)
        self.pieces, self.segments, self.problems = pieces, segments, problems
        self._whole = {pack: reach(self.sound(pack)) for pack in pieces}
        self.looked = True

    def _is_ours(self, wanted: bytes) -> bool:
        try:
            stored = self.box.read(IDENTITY)
        except FileNotFoundError:
            return False
        if stored != wanted:
            theirs = vault_json_in(stored, self.url)
            raise VaultMismatch(
                f"{self.url} is the replica of another vault than {self._folder}: {theirs.strip()}"
            )
        return True

    # ------------------------------------------------------------------ what is there

    def sound(self, pack: str) -> list[Span]:
        """The stretches of a pack that were found right."""
        return [span for span, right in self.pieces.get(pack, {}).items() if right]

    def lacks(self, pack: str, end: int) -> list[Span]:
        """What is missing of a pack's first ``end`` bytes."""
        if self._whole.get(pack, 0) >= end:
            return []  # asked for every pack at every batch of a sweep
        return missing(self.sound(pack), (0, end))

    def holds(self, pack: str, offset: int, length: int) -> bool:
        """Whether a frame is there and was found right."""
        return self.ready and not missing(self.sound(pack), (offset, offset + length))

    def reached(self) -> int:
        """The number of the last entry that is there with all before it."""
        return reach(span for span, right in self.segments.items() if right)

    def unverified(self) -> int:
        """Objects that are there and were not read back yet."""
        everything = [self.segments, *self.pieces.values()]
        return sum(not right for some in everything for right in some.values())

    # ------------------------------------------------------------------ noting

    def note_piece(self, pack: str, span: Span) -> None:
        self.pieces.setdefault(pack, {})[span] = True
        self._whole[pack] = reach(self.sound(pack))
        self._notes.note(self.box.remote.id, [piece_name(pack, span)])

    def drop(self, pack: str) -> int:
        """Remove a pack's parts from the remote, and give how many there were.

        Raises:
            StoreError: one can't be removed.
        """
        spans = self.pieces.pop(pack, {})
        names = [piece_name(pack, span) for span in spans]
        self._whole.pop(pack, None)
        # First, so that a run that is stopped here doesn't call them lost.
        self._notes.forget(self.box.remote.id, names)
        for name in names:
            self.box.remote.remove(name)
        return len(names)

    def note_segment(self, span: Span) -> None:
        self.segments[span] = True
        self._notes.note(self.box.remote.id, [segment_name(span)])
