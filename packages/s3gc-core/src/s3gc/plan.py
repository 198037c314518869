"""The plan: a file to read, keep and sign off. A sweep deletes nothing that isn't in it.

JSON Lines: a header, one line for each object, and a last line with counts and the SHA-256 of all lines
before it. It is read as a stream, so a plan of any size costs no memory.
"""

from __future__ import annotations

import hashlib
import json
import json.encoder
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from attrs import Factory, evolve, frozen

from s3gc._json import converter, dumps
from s3gc.errors import PlanError
from s3gc.model import KeptExample, Mode, ObjectInfo, PlanEntry, Position, TrippedBreaker

FORMAT = "s3gc-plan-1"

PLANS = "plans"
"""Where plans lie, beside the vault's lock."""

_quote = json.encoder.encode_basestring  # as json.dumps quotes with ensure_ascii=False


@frozen
class PlanHeader:
    """Where a plan comes from."""

    operation_id: str
    store_url: str
    config_digest: str  # SHA-256 of all options that decide what is deleted
    mode: Mode
    created_at: datetime
    positions: Sequence[Position]  # each source's fence
    gates: Sequence[str]  # codes of the gates in force


@frozen
class PlanFooter:
    """What a plan amounts to. Sizes in bytes."""

    scanned: int
    candidates: int
    objects: int
    bytes: int
    kept: Mapping[str, int] = Factory(dict)  # objects kept, by reason code
    kept_examples: Mapping[str, Sequence[KeptExample]] = Factory(dict)  # a few by reason code
    held_by: Sequence[TrippedBreaker] = ()
    missing: Mapping[str, int] = Factory(dict)  # by source:table.column, mentions that name no object
    duration: timedelta = timedelta()


@frozen
class Plan:
    """What a cycle would do. Iterate it for the objects that it would delete, in key order."""

    path: Path
    header: PlanHeader
    footer: PlanFooter
    digest: str  # SHA-256 of the file's lines, hex

    @property
    def operation_id(self) -> str:
        """The operation that made the plan."""
        return self.header.operation_id

    @property
    def scanned(self) -> int:
        """Objects listed."""
        return self.footer.scanned

    @property
    def candidates(self) -> int:
        """Listed objects that no reference in the registry names."""
        return self.footer.candidates

    @property
    def kept(self) -> Mapping[str, int]:
        """Objects kept, by reason code."""
        return self.footer.kept

    @property
    def bytes(self) -> int:
        """Bytes that the plan would free in the bucket."""
        return self.footer.bytes

    @property
    def held_by(self) -> Sequence[TrippedBreaker]:
        """The breakers that forbid to execute it."""
        return self.footer.held_by

    def __len__(self) -> int:
        return self.footer.objects

    def __iter__(self) -> Iterator[PlanEntry]:
        return self.entries()

    def keys(self) -> Iterator[str]:
        """The keys that it would delete, in key order."""
        return (entry.object.key for entry in self)

    def entries(self) -> Iterator[PlanEntry]:
        """The objects that it would delete, read from the file. Raises PlanError if it changed."""
        return (_entry_of(document) for document in _lines(self.path, self.digest))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Open a plan file and check that it is whole and unchanged.

        Raises:
            PlanError: it can't be read, isn't a plan, or was damaged or edited.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline())
                if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
                    raise PlanError(f"{path} is not a plan of this version ({FORMAT}): make a new one")
                last = b""
                for line in file:
                    last = line
                footer = json.loads(last)
                digest = footer.pop("sha256")
                plan = cls(
                    path,
                    converter.structure(header, PlanHeader),
                    converter.structure(footer, PlanFooter),
                    digest,
                )
        except OSError as error:
            raise PlanError(f"plan {path} can't be read: {error.strerror}") from None
        except PlanError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a file, it is not a plan
            raise PlanError(f"{path} is not a whole plan ({type(error).__name__}): make a new one") from None
        for _ in _lines(path, digest):
            pass
        return plan


def _lines(path: Path, digest: str) -> Iterator[dict[str, Any]]:
    """The entry lines; raises PlanError at the end when they are not those that were written."""
    running = hashlib.sha256()
    try:
        with path.open("rb") as file:
            running.update(file.readline())
            pending = file.readline()
            for line in file:
                running.update(pending)
                yield json.loads(pending)
                pending = line
            footer = json.loads(pending)
            footer.pop("sha256", None)
            running.update(dumps(footer).encode())
    except (OSError, ValueError) as error:
        raise PlanError(f"plan {path} can't be read: {error}") from None
    if running.hexdigest() != digest:
        raise PlanError(f"plan {path} was changed after it was made: make a new one")


def newest_plan(folder: Path) -> Path | None:
    """The newest of the plans below ``folder``; None if there is none."""
    found = (folder / PLANS).glob("*.jsonl")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


class PlanWriter:
    """Writes a plan file; nothing stands under its name before it is whole and on the disk."""

    def __init__(self, path: Path, header: PlanHeader) -> None:
        self._path = path
        self._header = header
        self._temporary = path.with_name(path.name + ".part")
        self._running = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.objects = 0
        self.bytes = 0

    def __enter__(self) -> PlanWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("wb", buffering=1 << 20)
        self._write(dumps({"format": FORMAT, **converter.unstructure(self._header)}))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:  # left before finish: no plan
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        assert self._file is not None
        line = text.encode() + b"\n"
        self._running.update(line)
        self._file.write(line)

    def add(self, entries: Sequence[PlanEntry]) -> None:
        """Append objects, in key order."""
        for entry in entries:
            self._write(_entry_line(entry))
            self.objects += 1
            self.bytes += entry.object.size

    def finish(self, footer: PlanFooter) -> Plan:
        """Close the file, make it durable, and give it its name."""
        assert self._file is not None
        footer = evolve(footer, objects=self.objects, bytes=self.bytes)
        document = converter.unstructure(footer)
        self._running.update(dumps(document).encode())
        digest = self._running.hexdigest()
        self._file.write(dumps({**document, "sha256": digest}).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._temporary.replace(self._path)
        return Plan(self._path, self._header, footer, digest)


def _entry_line(entry: PlanEntry) -> str:
    """As the converter and ``dumps`` would make it (a test holds it to that), at a fifth of the time."""
    found = entry.object
    return (
        f'{{"object":{{"ambiguous":{"true" if found.ambiguous else "false"},"etag":{_quote(found.etag)},'
        f'"key":{_quote(found.key)},"last_modified":"{found.last_modified.isoformat()}",'
        f'"locked":{_optional(found.locked)},"size":{found.size},'
        f'"storage_class":{_optional(found.storage_class)},"version_id":{_optional(found.version_id)}}},'
        f'"observations":{entry.observations},"reason":{_quote(entry.reason)},'
        f'"unreferenced_since":"{entry.unreferenced_since.isoformat()}"}}'
    )


def _entry_of(document: dict[str, Any]) -> PlanEntry:
    """As the converter would structure it, at a third of the time. Raises PlanError for anything else."""
    try:
        found = document["object"]
        return PlanEntry(
            ObjectInfo(
                found["key"],
                found["size"],
                found["etag"],
                datetime.fromisoformat(found["last_modified"]),
                found["version_id"],
                found["storage_class"],
                found["ambiguous"],
                found["locked"],
            ),
            datetime.fromisoformat(document["unreferenced_since"]),
            document["observations"],
            document["reason"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"a line of the plan is no object ({error}): make a new plan") from None


def _optional(text: str | None) -> str:
    return "null" if text is None else _quote(text)
