"""The contracts: what a store, a source, a vault and a compressor must promise.

Each has a contract suite in :mod:`s3gc.testing`; an implementation is right when it passes its suite.
A back end knows these contracts and :mod:`s3gc.model`, and nothing else of s3gc.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Protocol

from attrs import frozen

from s3gc.errors import StoreError, VaultError
from s3gc.model import (
    AuditResult,
    BackupRecord,
    Candidate,
    ChangeBatch,
    Column,
    DeleteOutcome,
    JournalDraft,
    JournalEntry,
    Moment,
    ObjectAttributes,
    ObjectHead,
    ObjectInfo,
    Position,
    RebuildReport,
    Reference,
    ScanBatch,
    Share,
    SourceIdentity,
    StoreCapabilities,
    UntrackedColumn,
    VaultCheck,
    VaultStats,
    Verdict,
)

RESERVED_PREFIX = ".s3gc/"
"""Objects of s3gc's own in the bucket (probe sentinels) live here and are never collected."""


# --------------------------------------------------------------------------- store


class ObjectReader(Protocol):
    """An object being read: what it is, then its bytes, once."""

    @property
    def info(self) -> ObjectInfo: ...

    @property
    def attributes(self) -> ObjectAttributes: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order, in pieces of at most a few MiB.

        Raises:
            StoreError: the body ended early or isn't what the headers promised.
        """


@frozen
class WholeObject:
    """A small object that was read to its end and verified."""

    listed: ObjectInfo  # as it was asked for
    info: ObjectInfo  # as it was found
    attributes: ObjectAttributes
    data: bytes


class ObjectStore(abc.ABC):
    """One bucket. Keys are opaque strings: what ``list`` yields can be read and deleted exactly.

    Every method raises a :class:`~s3gc.errors.StoreError` for what it can't do, and never guesses.
    """

    url: str
    """Identifies the bucket for ever, without secrets (the vault is pinned to it)."""

    bucket: str
    """The bucket's bare name, as it appears in URLs."""

    @abc.abstractmethod
    def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Pages of objects, keys strictly increasing by code point (= UTF-8 byte order).

        Objects that are known to exist and can't be addressed exactly are yielded with
        ``ambiguous=True``. A listing that repeats, goes back, or ends without saying that it is
        complete raises StoreError.
        """

    @abc.abstractmethod
    async def head(self, key: str) -> ObjectHead | None:
        """The object and its attributes (tags included), or None when there is none."""

    @abc.abstractmethod
    def get(self, key: str, *, if_match: str | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object for reading; attributes include tags.

        Raises:
            PreconditionFailed: there is none, or its ETag isn't ``if_match``.
            UnreadableObject: it exists and can't be read (archived, customer-held key).
        """

    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        """Read many small objects with less ado than by :meth:`get`, as far as that goes without a hitch.

        Each that comes has the ETag that it was listed with. They come in any order, each at most once. What
        doesn't come is read by :meth:`get`, which tries again and says what is wrong; by default that is all.
        """
        return
        yield

    @abc.abstractmethod
    async def put(
        self,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        attributes: ObjectAttributes,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        """Write an object with its attributes, in bounded memory.

        Args:
            size: bytes in ``body``; another number of bytes is an error and leaves no object.
            if_none_match: write only if the key doesn't exist (as exactly as the store can).

        Raises:
            PreconditionFailed: ``if_none_match`` and the key exists.
        """

    @abc.abstractmethod
    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        """Delete the object if its ETag is ``if_match``; say what happened.

        Raises:
            StoreError: with ``outcome_unknown=True`` when the object may be gone or not.
        """

    @property
    def delete_most(self) -> int:
        """How many objects :meth:`delete_many` takes in one request; 1 where it has no such request."""
        return 1

    async def delete_many(self, wanted: Mapping[str, str]) -> Mapping[str, DeleteOutcome | StoreError]:
        """As :meth:`delete`, for some objects at once.

        Args:
            wanted: ETags by key, about :attr:`delete_most` of them.

        Returns:
            What happened, for each key; for one that could not be deleted, or of which that isn't known, the
            error.
        """
        ended: dict[str, DeleteOutcome | StoreError] = {}
        for key, etag in wanted.items():
            try:
                ended[key] = await self.delete(key, if_match=etag)
            except StoreError as error:
                ended[key] = error
        return ended

    @abc.abstractmethod
    async def probe(self) -> StoreCapabilities:
        """Find out on sentinels below RESERVED_PREFIX what the store really does. Cleans up after itself.

        Raises:
            StoreError: it can't be found out, or the store isn't read-after-write consistent.
        """

    def adopt(self, capabilities: StoreCapabilities) -> bool:
        """Go on with what an earlier :meth:`probe` found, instead of a new one. Sends nothing.

        Returns whether it can; if not, it must be probed again. A store of which little is to be found out
        needs no more than this default.
        """
        return False

    def contradiction(self) -> str | None:
        """An answer, in words, that what the last probe found or :meth:`adopt` took over rules out."""
        return None

    @abc.abstractmethod
    async def now(self) -> datetime:
        """The store's own clock. Also proof that the bucket exists and answers."""

    def scan(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        """All objects of the bucket, each key exactly once, in pages that may come in any order.

        For a caller who needs everything and no order: a store may then list several parts of the bucket
        at once. Within a page keys strictly increase, and pages don't overlap: between the first and the
        last key of one lies no key of another. Ambiguous objects are yielded as by :meth:`list`, and may
        stand out of order. An object written or deleted meanwhile may be in it or not. Close the iterator
        (``contextlib.aclosing``) when leaving early.

        Raises:
            StoreError: while iterating, for every reason that :meth:`list` has. What was yielded before is
                then no complete listing.
        """
        return self.list()

    async def stat(self, key: str) -> ObjectInfo | None:
        """As ``head``, without attributes; cheaper where the store allows it."""
        found = await self.head(key)
        return found.info if found else None

    def can_address(self, key: str) -> bool:
        """Whether this store can reach exactly this key."""
        return True

    async def aclose(self) -> None:  # noqa: B027 - nothing to release is a fine default
        """Release connections. May be called twice."""


# --------------------------------------------------------------------------- source


class ReferenceSource(abc.ABC):
    """A place of references. Only :meth:`references` must be written; everything else has a default.

    The defaults suit a source that can only be read as a whole: a scan is ``references()``, and a
    direct read is a scan that looks for certain keys.

    A source that follows changes sets ``follows_changes`` and writes :meth:`begin` and :meth:`changes`.
    It is then scanned once (``begin``, ``scan``, ``changes`` from there on) and the registry is kept by
    its changes. Repeating a scan or a change does no harm: rows are told, never counts.
    """

    name: str = ""
    """Unique among the sources of a bucket; empty means the class's name."""

    follows_changes: bool = False
    """Whether :meth:`changes` works."""

    resumes_scans: bool = False
    """Whether :meth:`scan_on` works. Only of a source that follows changes."""

    @abc.abstractmethod
    def references(self) -> AsyncIterator[Reference | Sequence[Reference]]:
        """Every reference that this place holds at this moment, one by one or in batches.

        Raise on anything that can't be read: a short answer would delete live files.
        """

    async def check(self) -> SourceIdentity:
        """Prove that the source can be read completely, and say which one it is.

        Raises:
            SourceError: unreachable, a replica, a tracked table or column missing.
        """
        return SourceIdentity(name=self.name or type(self).__name__, kind=type(self).__name__)

    def columns(self) -> Sequence[Column]:
        """The columns that a scan must have seen with values in them; empty if the source has none."""
        return ()

    async def fence(self, timeout: timedelta) -> Position:
        """Wait until every transaction that runs now has ended; reads begun later see all of them.

        The position is one that all of them lie at or before.

        Raises:
            SourceError: they did not end within ``timeout``.
        """
        return Position(self.name or type(self).__name__, datetime.now(UTC).isoformat())

    async def scan(self) -> AsyncIterator[ScanBatch]:
        """All references in one consistent view, in constant memory, with rows counted by column.

        A source that follows changes need not have one view: what a row becomes after :meth:`begin` is
        told by :meth:`changes` again.
        """
        pending: list[Reference] = []
        async for item in self.references():
            if isinstance(item, Reference):
                pending.append(item)
            else:
                pending.extend(item)
            if len(pending) >= 10_000:
                yield ScanBatch(pending)
                pending = []
        if pending:
            yield ScanBatch(pending)

    def scan_on(self, begun: Position, mark: str) -> AsyncIterator[ScanBatch]:
        """What a scan that was cut off still has to tell, behind the batch with this mark.

        Args:
            begun: the position that the scan was begun at; the changes from there on are told afterwards.

        Raises:
            PositionLost: those can't be told any more, or the tables aren't what they were: scan anew.
            SourceError: as for :meth:`scan`.
        """
        raise NotImplementedError(f"{type(self).__name__} says resumes_scans and has no scan_on()")

    async def find(self, keys: Collection[str]) -> AsyncIterator[Reference]:
        """The direct read: references to any of ``keys`` as the source stands now, past any cache.

        A reference to a folder (``prefix=True``) counts for every key below it.
        """
        wanted = Wanted(keys)
        async for batch in self.scan():
            for reference in batch.references:
                if wanted.by(reference):
                    yield reference

    async def begin(self) -> Position:
        """A position from which :meth:`changes` tells all that a scan begun now may miss.

        Raises:
            SourceError: changes can't be followed (a setting, a privilege); it says what to do.
        """
        raise NotImplementedError(f"{type(self).__name__} says follows_changes and has no begin()")

    def changes(self, after: Position, until: Position) -> AsyncIterator[ChangeBatch]:
        """Committed changes after one position, in commit order, up to a fence's.

        The last batch has a position at or past ``until``, also when nothing changed. Every position has an
        ordinal, and every transaction a greater one. Rows come as they are after each change. The first
        batches may tell what is known already; they say so (``again``), or the keys in them count as spoken
        of anew. A batch that ends within a transaction has the position before it. A change of a row's id
        tells all of its columns where it may be told again, or may be known to the scan.

        Raises:
            PositionLost: the changes after ``after`` are not all to be had any more (slot lost, log
                purged, another history).
            SourceError: anything else that keeps it from telling all changes.
        """
        raise NotImplementedError(f"{type(self).__name__} says follows_changes and has no changes()")

    async def applied(self, position: Position) -> None:  # noqa: B027 - most keep nothing for us
        """The registry has applied, durably, all up to ``position``: the source may release it."""

    async def tip(self, after: Position, timeout: timedelta) -> Position | None:
        """A position taken now that :meth:`changes` can be told up to, for the follower between two cycles.

        It needs no transaction's end: what commits later is told later. None: nothing was written since
        ``after``. By default a fence, which is right and may take its time.

        Args:
            timeout: for what it waits for, if it has to.

        Raises:
            PositionLost, SourceError: as for :meth:`changes`.
        """
        position = await self.fence(timeout)
        return None if position.value == after.value else position

    async def let_go(self) -> None:  # noqa: B027 - most keep nothing from others
        """Give back what only one process can have at a time (a slot's stream, a replica's number).

        The next call of any method takes it again.
        """

    async def untracked(self, sample: int) -> AsyncIterator[UntrackedColumn]:
        """Columns that could hold references and aren't configured, each with a sample of its values.

        Args:
            sample: values to look at in each column, about.

        Raises:
            SourceError: the schema can't be read.
        """
        return
        yield

    async def aclose(self) -> None:  # noqa: B027 - nothing to release is a fine default
        """Release connections. May be called twice."""


class Wanted:
    """Keys that are looked for, asked reference by reference."""

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = frozenset(keys)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that one of the keys lies in. Most sources never ask."""
        return frozenset(folder for key in self.keys for folder in folders_of(key))

    def by(self, reference: Reference) -> bool:
        """Whether the reference names one of the keys, or a folder that one lies in."""
        return reference.key in (self.folders if reference.prefix else self.keys)


def folders_of(key: str) -> list[str]:
    """The folders that a key lies in: the bucket (``""``), ``a/`` and ``a/b/`` for ``a/b/c``.

    A folder's marker ``a/`` lies in itself.
    """
    return ["", *(key[: at + 1] for at, char in enumerate(key) if char == "/")]


# --------------------------------------------------------------------------- vault


class Compressor(abc.ABC):
    """A bit-exact, streaming codec. ``decompress(compress(x)) == x`` for every x, on every machine."""

    name: str
    """Stands in every frame made with it, for ever: lower case, unique."""

    @abc.abstractmethod
    def compressor(self, size: int) -> CompressStream:
        """A new stream for an object of ``size`` bytes."""

    @abc.abstractmethod
    def decompressor(self) -> DecompressStream:
        """A new stream that undoes :meth:`compressor`'s."""

    def compress_all(self, contents: Sequence[bytes]) -> Sequence[bytes]:
        """What a stream of its own makes of each; many small ones together may be had for less."""
        made: list[bytes] = []
        for content in contents:
            stream = self.compressor(len(content))
            body = stream.compress(content)
            made.append(body + stream.flush())
        return made

    def decompress_all(self, bodies: Sequence[bytes], sizes: Sequence[int]) -> Sequence[bytes]:
        """The contents of whole bodies; ``sizes``: how many bytes should come out of each.

        Raises:
            VaultCorrupt: one of them is not what ``compress`` made. Which one isn't told.
        """
        return [self.decompressor().decompress(body) for body in bodies]


class CompressStream(Protocol):
    """One object on its way into the vault."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class DecompressStream(Protocol):
    """One object on its way back."""

    def decompress(self, data: bytes, /) -> bytes:
        """Raises:
        VaultCorrupt: the data is not what ``compress`` made.
        """


class ObjectCodec(abc.ABC):
    """A codec of whole objects of one kind, in memory: bit-exact, or it refuses.

    Both methods are pure functions and may be called in any process; what they are given may be hostile.
    """

    name: str
    """Stands in every frame made with it, for ever, with its version (``jpeg-lepton-1``)."""

    requires: Mapping[str, str]
    """What must be there to decode: distribution or library -> the version that encodes here."""

    @abc.abstractmethod
    def encode(self, data: bytes) -> bytes | None:
        """The body, or None: not of its kind, not smaller, or it would not come back exactly.

        All parameters stand inside the body.
        """

    @abc.abstractmethod
    def decode(self, body: bytes, size: int) -> bytes:
        """The ``size`` bytes that ``body`` was made from; never more of them.

        Raises:
            VaultCorrupt: the body is damaged, or this machine can't give back the very bytes.
        """


@frozen
class EncodedObject:
    """A whole object as one codec stores it."""

    codec: str
    body: bytes
    requires: Mapping[str, str]
    """What must be there to decode it: distribution or library -> the version that encoded."""


class ObjectCoder(abc.ABC):
    """Codecs of whole objects at work, off the event loop: what a vault asks to encode and to decode.

    Files may be hostile. One that breaks a decoder must harm neither this process nor another file.
    """

    @abc.abstractmethod
    def takes(self, data: bytes) -> bool:
        """Whether :meth:`encode` may be worth its time. Cheap: it is asked of every small object."""

    @abc.abstractmethod
    async def encode(self, data: bytes) -> EncodedObject | None:
        """``data`` smaller than zstd makes it; None when no codec does, or it broke the codec."""

    @abc.abstractmethod
    async def decodes(self) -> Collection[str]:
        """The names of the codecs that :meth:`decode` knows here."""

    @abc.abstractmethod
    async def decode(self, codec: str, body: bytes, size: int) -> bytes:
        """The ``size`` bytes that ``body`` was made from. The caller compares their hash.

        Raises:
            VaultCorrupt: the body is damaged, or this machine can't give back the very bytes.
            VaultError: nothing can be decoded now.
        """

    async def aclose(self) -> None:  # noqa: B027 - nothing to release is a fine default
        """End the workers. May be called twice; the next call of another method starts new ones."""


class Journal(abc.ABC):
    """The append-only, hash-chained record of all that was done."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be appended, as far as that is known without trying; or None."""
        return None

    @abc.abstractmethod
    async def append(self, drafts: Sequence[JournalDraft]) -> None:
        """Write entries, all or none; on return they are durable."""

    @abc.abstractmethod
    def read(
        self,
        *,
        key: str | None = None,
        prefix: str | None = None,
        operation_id: str | None = None,
        events: Collection[str] | None = None,
        after_seq: int = 0,
    ) -> AsyncIterator[JournalEntry]:
        """Entries that match all of the given filters, oldest first, in constant memory."""

    @abc.abstractmethod
    async def verify(self) -> AuditResult:
        """Check every link of the chain; find any change, drop, reorder or truncation."""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


class BackupSession(abc.ABC):
    """Backups on their way into packs. ``add`` may be called by several tasks at once."""

    @abc.abstractmethod
    async def add(self, info: ObjectInfo, attributes: ObjectAttributes, chunks: AsyncIterator[bytes]) -> None:
        """Take one object. Not durable before :meth:`commit`.

        Raises:
            VaultError: not writable, full; the object's bytes are not ``info.size`` many.
        """

    async def add_all(self, objects: Sequence[WholeObject]) -> None:
        """Take several objects that are in memory: as :meth:`add` for each of them.

        Raises:
            VaultError: as :meth:`add`; then it may have taken some.
        """
        for one in objects:
            await self.add(one.listed, one.attributes, _once(one.data))

    @abc.abstractmethod
    async def commit(self) -> Sequence[BackupRecord]:
        """Make all objects added since the last commit durable, read each back, compare its hash.

        Raises:
            VaultCorrupt: a backup doesn't give back the very bytes; none of this commit counts.
        """


class Vault(abc.ABC):
    """Where backups and the journal live. Opened for one bucket and pinned to it."""

    url: str
    id: str
    """Names this vault for ever, wherever it is moved to; set once it is open."""
    journal: Journal

    @abc.abstractmethod
    async def open(self, store_url: str, *, create: bool = True) -> None:
        """Open (or make) the vault of this bucket; cut torn tails of packs that a crash left.

        Raises:
            VaultMismatch: it is the vault of another bucket.
            VaultError: it can't be used.
        """

    @abc.abstractmethod
    async def check(self, *, max_fill: float) -> None:
        """Prove that the vault can be written to and has room.

        Raises:
            VaultError: it is read-only or filled beyond the share ``max_fill``.
        """

    @abc.abstractmethod
    def session(self, operation_id: str) -> AbstractAsyncContextManager[BackupSession]:
        """Begin to back up."""

    async def locate(self, record: BackupRecord) -> BackupRecord:
        """The record with the place where its backup is now; for a vault that moves none, as it is.

        Raises:
            BackupGone: it was removed on purpose.
        """
        return record

    @abc.abstractmethod
    def read(self, record: BackupRecord) -> AsyncIterator[bytes]:
        """The object's bytes, wherever the backup was moved to since the record was made.

        Raises:
            BackupGone: it was removed on purpose.
            VaultCorrupt: at the latest at the end, when they aren't the very bytes.
        """

    async def read_small(self, records: Sequence[BackupRecord]) -> Mapping[str, bytes]:
        """Read many small backups with less ado than by :meth:`read`, as far as that goes without a hitch.

        By key, all bytes checked as :meth:`read` checks them. What isn't in it is read by :meth:`read`, which
        says what is wrong; by default that is all.

        Args:
            records: of different keys. Their objects fit into memory together.
        """
        return {}

    @abc.abstractmethod
    async def stats(self) -> VaultStats:
        """Sizes and counts."""

    @abc.abstractmethod
    async def verify(self, share: Share | None = None) -> VaultCheck:
        """Read and decode every backup that the journal knows, or those of a share."""

    async def rebuild(self, store_url: str, operation_id: str, *, set_aside: bool = False) -> RebuildReport:
        """Make a journal anew from the backups alone, for one that is lost. The vault must not be open.

        Args:
            set_aside: do so though there is a journal; it is kept beside the new one.

        Raises:
            VaultMismatch: the backups are another bucket's.
            VaultError: there is a journal, or nothing to rebuild from; this kind of vault can't do it.
        """
        raise VaultError(f"{type(self).__name__} can't be rebuilt from its backups")

    async def aclose(self) -> None:  # noqa: B027 - nothing to release is a fine default
        """Release files. May be called twice."""


# --------------------------------------------------------------------------- gates


class Gate(abc.ABC):
    """One reason to keep an object: a pure function of a candidate and the moment."""

    code: str
    """The reason code in plans, reports and the journal: lower case with underscores."""

    @abc.abstractmethod
    def keeps(self, candidate: Candidate, moment: Moment) -> str | None:
        """Why this object stays, as one sentence with the numbers; None when this gate has no objection."""

    def verdict(self, candidate: Candidate, moment: Moment) -> Verdict:
        """The same as a value."""
        why = self.keeps(candidate, moment)
        return Verdict(self.code, why is not None, why or "passed")
