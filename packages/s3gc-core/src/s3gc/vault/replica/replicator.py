"""Replication of a local vault: packs and journal as objects that are written once and read back.

The remote is at every moment a prefix of the vault's history that verifies: a stretch of the journal goes out
after all the packs that it names. Nothing is ever overwritten or deleted there. What was done is known from
what the remote lists, so a run can be stopped anywhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TypeVar

import anyio

from s3gc import _threads
from s3gc._log import get_logger
from s3gc._pool import each
from s3gc.clock import Clock
from s3gc.errors import ConfigError, S3GCError, TooFewCopies, VaultCorrupt, VaultError
from s3gc.model import BackupRecord
from s3gc.vault import _fs
from s3gc.vault.local import PACKS_NAME, LocalVault
from s3gc.vault.packs import places_of
from s3gc.vault.replica._box import Box
from s3gc.vault.replica._named import Named
from s3gc.vault.replica._names import Span, cut, missing, piece_name, segment_name
from s3gc.vault.replica._notes import NOTES_NAME, Notes
from s3gc.vault.replica._packs import Packs
from s3gc.vault.replica._place import Place
from s3gc.vault.replica._remote import PIECE_BYTES, Remote
from s3gc.vault.replica._seal import ReplicaKeys
from s3gc.vault.replica._segments import (
    SEGMENT_ENTRIES,
    Segment,
    closing,
    pack_lines,
    segments,
    unpack_lines,
)
from s3gc.vault.replica._status import ReplicaStatus

UPLOADS_AT_ONCE = 2
"""Packs, for each remote; each upload holds a few times PIECE_BYTES in memory."""

RETRY_SECONDS = 60.0
"""A remote that failed is left alone for so long where enough others do."""

NEAR_BYTES = 256 * 1024 * 1024
NEAR_ENTRIES = 2 * SEGMENT_ENTRIES
"""A replica that lacks no more than these is brought up to date whole while a sweep waits for it."""

T = TypeVar("T")


class Replicator:
    """Keeps replicas of one open vault.

    Args:
        vault: open, and writable.
        remotes: where the replicas are.
        keys: to seal with; one set for all. Without keys nothing is sealed.
        clock: for the age of what is behind.
        piece_bytes: the most bytes of a pack in one object.
        segment_entries: the most entries of the journal in one object.

    Raises:
        ConfigError: two remotes are one.
    """

    def __init__(
        self,
        vault: LocalVault,
        remotes: Sequence[Remote],
        *,
        clock: Clock,
        keys: ReplicaKeys | None = None,
        piece_bytes: int = PIECE_BYTES,
        segment_entries: int = SEGMENT_ENTRIES,
    ) -> None:
        if len({remote.id for remote in remotes}) != len(remotes):
            raise ConfigError("two replicas are in one place: a copy of a copy there is worth nothing")
        self._vault = vault
        self._remotes = remotes
        self._keys = keys
        self._clock = clock
        self._piece_bytes = piece_bytes
        self._segment_entries = segment_entries
        self._packs = Packs(vault.folder / PACKS_NAME)
        self._places: list[Place] = []
        self._notes: Notes | None = None
        self._named: Named | None = None
        self.problems: dict[str, str] = {}
        """Pack → why not all of it can be copied: found in the vault, not in a replica."""
        self._lock = anyio.Lock()  # one run at a time

    async def open(self) -> None:
        """Read the notes. No remote is asked yet.

        Raises:
            VaultError: the notes can't be used.
        """
        self._notes = notes = await self._run(lambda: Notes(self._vault.folder / NOTES_NAME))
        self._places = [Place(Box(remote, self._keys), notes, self._vault.folder) for remote in self._remotes]
        self._named = Named(self._vault.journal, notes)
        await self._named.remember()

    async def aclose(self) -> None:
        """May be called twice."""
        notes, self._notes = self._notes, None
        if notes is not None:
            with anyio.CancelScope(shield=True):
                await self._run(notes.close)

    # ------------------------------------------------------------------ asking

    def copies(self, record: BackupRecord) -> int:
        """In how many places a backup is durable and was read back: this vault and each replica that has it.

        Only what this replicator has seen since it was opened counts.

        Raises:
            VaultCorrupt: the record is of another kind of vault.
        """
        needed = places_of(record)
        return 1 + sum(all(place.holds(*one) for one in needed) for place in self._places)

    def holders(self, records: Collection[BackupRecord]) -> dict[str, int]:
        """URL of each replica → how many of these backups it has, as :meth:`copies` counts them."""
        needed = [places_of(record) for record in records]
        return {
            place.url: sum(all(place.holds(*one) for one in some) for some in needed)
            for place in self._places
        }

    def replicated_up_to(self) -> int:
        """The last journal entry that every replica has, with all before it and the packs that they name."""
        return min((place.reached() if place.ready else 0 for place in self._places), default=0)

    async def status(self) -> tuple[ReplicaStatus, ...]:
        """Look at every replica, changing nothing; one that can't be looked at says why."""
        async with self._lock:
            await self._learn()

            async def look(place: Place) -> None:
                try:
                    await self._run(place.look)
                    place.error = None
                except S3GCError as error:
                    place.error = str(error)

            await each(self._places, look)
            return await self._statuses()

    # ------------------------------------------------------------------ doing

    async def sync(self) -> tuple[ReplicaStatus, ...]:
        """Bring every replica up to the vault's present; one that fails says why and doesn't stop the others.

        Raises:
            VaultCorrupt: the journal isn't what was written; nothing of it goes out.
        """
        async with self._lock:
            await self._learn()
            await self._sync_all(self._places)
            return await self._statuses()

    async def drop_retired(self) -> tuple[int, tuple[ReplicaStatus, ...]]:
        """Bring every replica up to date, then remove from it the packs that the vault no longer has.

        What was pruned or forgotten in the vault stays in its replicas until this is asked for: it is the
        only thing here that removes anything. A replica that isn't up to date keeps all.

        Returns:
            how many parts were removed, and how the replicas are.

        Raises:
            VaultCorrupt: the journal isn't what was written.
        """
        removed = 0
        async with self._lock:
            await self._learn()
            await self._sync_all(self._places)
            for place in self._places:
                behind = any(place.lacks(pack, end) for pack, end in self._known.bounds.items())
                if not place.ready or place.reached() < self._known.seq or behind:
                    continue
                try:
                    for pack in sorted(self._known.retired & place.pieces.keys()):
                        removed += await self._run(partial(place.drop, pack))
                except S3GCError as error:
                    self._failed(place, error)
            return removed, await self._statuses()

    async def ensure(self, records: Iterable[BackupRecord], copies: int) -> None:
        """Return when each of these backups is durable in ``copies`` places, the vault being one of them.

        The records are those that a commit returned; whether the journal knows them already doesn't matter.
        A replica that is far behind (NEAR_BYTES, NEAR_ENTRIES) gets their packs only; the rest waits for
        :meth:`sync`. Until then its journal is older than its packs.

        Raises:
            ConfigError: there are fewer places than that.
            TooFewCopies: it could not be reached; the message says which replica failed, and how.
        """
        if copies > 1 + len(self._remotes):
            raise ConfigError(
                f"{copies} copies are asked for, and vault and replicas are {1 + len(self._remotes)} places"
            )
        async with self._lock:
            wanted = [record for record in records if self.copies(record) < copies]
            if not wanted:
                return
            await self._learn()
            for record in wanted:
                for pack, offset, length in places_of(record):
                    if pack in self._known.retired:
                        raise VaultError(
                            f"the backup of {record.key!r} was moved or removed: ask for its new record"
                        )
                    self._known.also(pack, offset + length)
            urgent = {pack for record in wanted for pack, _, _ in places_of(record)}
            now = self._clock.monotonic()
            healthy = [place for place in self._places if place.retry_at <= now]
            await self._sync_all(healthy, urgent)
            short = [record for record in wanted if self.copies(record) < copies]
            if short and len(healthy) < len(self._places):
                await self._sync_all([place for place in self._places if place not in healthy], urgent)
                short = [record for record in wanted if self.copies(record) < copies]
            if short:
                told = [f"{place.url}: {place.error}" for place in self._places if place.error]
                told += self.problems.values()
                why = "; ".join(told) or "no replica took them"
                raise TooFewCopies(
                    f"{len(short)} backups ({short[0].key!r} first) are in fewer than {copies} places: {why}"
                )

    async def _sync_all(self, places: Sequence[Place], urgent: Collection[str] | None = None) -> None:
        async def sync(place: Place) -> None:
            try:
                await self._sync(place, urgent)
                place.error = None
            except S3GCError as error:
                self._failed(place, error)

        await each(places, sync)

    def _failed(self, place: Place, error: S3GCError) -> None:
        """What it has is found out anew next time: an answer may have been lost."""
        place.ready = False
        place.error = str(error)
        place.retry_at = self._clock.monotonic() + RETRY_SECONDS
        get_logger().error("replica_failed", replica=place.url, problem=str(error))

    async def _sync(self, place: Place, urgent: Collection[str] | None) -> None:
        """Bring a replica up to date; with ``urgent``, if it is far behind, only these packs."""
        if not place.ready:
            await self._run(place.connect)
            # Always: a vault put back from an older copy that went on since is another one.
            last = max(place.segments, key=lambda span: span[1], default=None)
            if last is not None:
                await self._confirm_segment(place, last)
            place.ready = True
        if urgent is not None and not self._nearly(place):
            await self._confirm_pieces(place, urgent)
            await self._send_packs(place, urgent)
            return
        for span in sorted(span for span, known in place.segments.items() if not known):
            await self._confirm_segment(place, span)
        await self._confirm_pieces(place, list(place.pieces))
        right = [span for span, known in place.segments.items() if known]
        for gap in missing(right, (0, self._known.seq)):
            async with closing(self._segments(gap)) as cuts:
                async for segment in cuts:
                    await self._send_packs(place, segment.places)
                    await self._run(partial(self._send_segment, place, segment.span, segment.lines))
        await self._send_packs(place, self._known.bounds)

    def _segments(self, span: Span) -> AsyncIterator[Segment]:
        journal = self._vault.journal
        return segments(journal, span, journal.bucket, entries=self._segment_entries)

    def _send_segment(self, place: Place, span: Span, lines: bytes) -> None:
        place.box.create(segment_name(span), pack_lines(lines), same_lines)
        place.note_segment(span)

    async def _send_packs(self, place: Place, packs: Iterable[str]) -> None:
        lacking: list[tuple[str, list[Span]]] = []
        for pack in list(packs):
            lacks = place.lacks(pack, self._known.bounds.get(pack, 0))  # 0: retired
            if not lacks:
                continue
            start, end = lacks[0][0], lacks[-1][1]
            sound = await self._run(partial(self._packs.sound, pack, start, end))
            if sound.problem:
                self.problems[pack] = sound.problem
            spans = [(begin, min(stop, sound.end)) for begin, stop in lacks]  # none behind the damage
            lacking.append((pack, spans))

        async def send(lack: tuple[str, list[Span]]) -> None:
            # One after the other, so that what a stopped run leaves is a pack's beginning, without holes.
            for span in cut(lack[1], self._piece_bytes):
                await self._run(partial(self._send_piece, place, lack[0], span))

        await each(lacking, send, workers=UPLOADS_AT_ONCE)

    def _send_piece(self, place: Place, pack: str, span: Span) -> None:
        data = self._packs.read(pack, span)
        if data is None:
            raise VaultError(f"{self._packs.path(pack)} became shorter while it was copied")
        place.box.create(piece_name(pack, span), data)
        place.note_piece(pack, span)

    def _nearly(self, place: Place) -> bool:
        """Whether the rest can be sent along while somebody waits."""
        if self._known.seq - place.reached() > NEAR_ENTRIES:
            return False
        stretches = (
            stretch for pack, end in self._known.bounds.items() for stretch in place.lacks(pack, end)
        )
        return sum(end - begin for begin, end in stretches) <= NEAR_BYTES

    async def _confirm_pieces(self, place: Place, packs: Iterable[str]) -> None:
        """Compare what is there of these packs, and was never read back from here, with the vault."""

        async def confirm(piece: tuple[str, Span]) -> None:
            await self._run(partial(self._confirm_piece, place, *piece))

        unknown = [
            (pack, span) for pack in packs for span, known in place.pieces.get(pack, {}).items() if not known
        ]
        await each(sorted(unknown), confirm, workers=UPLOADS_AT_ONCE)

    async def _confirm_segment(self, place: Place, span: Span) -> None:
        if span[1] > self._known.seq:
            await self._learn()
        if span[1] > self._known.seq:
            raise VaultCorrupt(
                f"{place.url} has the journal up to entry {span[1]}, and this vault's ends at "
                f"{self._known.seq}: it was put back from an older copy. Fetch the replica into another "
                "folder and go on there"
            )
        lines: list[bytes] = []
        async with closing(self._segments(span)) as cuts:
            async for segment in cuts:
                lines.append(segment.lines)
        await self._run(
            lambda: place.box.compare(segment_name(span), pack_lines(b"".join(lines)), same_lines)
        )
        await self._run(lambda: place.note_segment(span))

    def _confirm_piece(self, place: Place, pack: str, span: Span) -> None:
        data = self._packs.read(pack, span)
        if data is None:
            # Pruned here; or the vault's own pack was cut. The remote's bytes stay, and count for nothing.
            if self._packs.size(pack) is not None:
                place.problems.append(f"{piece_name(pack, span)} is longer than the vault's pack")
            return
        place.box.compare(piece_name(pack, span), data)
        place.note_piece(pack, span)

    # ------------------------------------------------------------------ the vault's side

    async def _statuses(self) -> tuple[ReplicaStatus, ...]:
        made: list[ReplicaStatus] = []
        sizes = await self._run(lambda: {pack: self._packs.size(pack) for pack in self._known.bounds})
        gone = [
            f"{pack} is in the journal and not in the vault" for pack, size in sizes.items() if size is None
        ]
        for place in self._places:
            seq = min(place.reached(), self._known.seq)
            oldest = await self._known.time_behind(seq)
            lacks = (
                stretch
                for pack, end in self._known.bounds.items()
                if sizes[pack] is not None
                for stretch in place.lacks(pack, end)
            )
            made.append(
                ReplicaStatus(
                    url=place.url,
                    seq=seq,
                    entries_behind=self._known.seq - seq,
                    bytes_behind=sum(end - begin for begin, end in lacks),
                    oldest=oldest,
                    lag=None if oldest is None else self._clock.now() - oldest,
                    unverified=place.unverified(),
                    error=place.error,
                    problems=(*place.problems, *self.problems.values(), *gone[:10]),
                )
            )
        return tuple(made)

    @property
    def _known(self) -> Named:
        if self._named is None or self._notes is None:
            raise VaultError("the replicator is not open")
        return self._named

    async def _learn(self) -> None:
        """Read what is new in the journal."""
        await self._known.catch_up()
        for pack in self.problems.keys() & self._known.retired:
            del self.problems[pack]

    async def _run(self, function: Callable[[], T]) -> T:
        def explained() -> T:
            with _fs.explained(f"replicate the vault in {self._vault.folder}"):
                return function()

        return await _threads.run(explained)


def same_lines(stored: bytes, wanted: bytes) -> bool:
    """Whether two segments hold the same entries, however they were compressed."""
    return stored == wanted or unpack_lines(stored) == unpack_lines(wanted)
