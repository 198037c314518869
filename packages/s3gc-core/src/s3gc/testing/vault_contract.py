"""What every vault must pass. Subclass it and give it three fixtures::

    class TestMine(VaultContract):
        @pytest.fixture
        def make_vault(self, tmp_path):          # each call: a new, unopened Vault of the same place
            return lambda: MyVault(tmp_path)

        @pytest.fixture
        def damage(self, tmp_path):              # change one stored byte of this backup's body
            return lambda record: ...

Every test runs on asyncio and on trio; override ``anyio_backend`` for a vault that needs one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from attrs import evolve

from s3gc.abc import BackupSession, Vault, WholeObject
from s3gc.errors import VaultCorrupt, VaultError, VaultMismatch
from s3gc.model import BackupRecord, JournalDraft, JournalEntry, ObjectAttributes, ObjectInfo
from s3gc.vault.records import record_from_json, record_to_json

STORE_URL = "s3://contract"
OPERATION = "01K00000000000000000000000"
WHEN = datetime(2026, 11, 23, 18, 42, 0, 123456, tzinfo=UTC)

ATTRIBUTES = ObjectAttributes(
    content_type="text/html; charset=utf-8",
    content_disposition='attachment; filename="naïve.txt"',
    cache_control="max-age=60",
    metadata={"owner": "Zoë", "empty": ""},
    tags={"state": "old", "a b": "c=d"},
)

ODD_KEYS = (
    "dir/",
    "/lead",
    "a//b",
    "a/../b",
    " ",
    "%2F+?#&",
    'quote"\\back',
    "line\nbreak\ttab\x00nul\x7f",
    "é",
    "é",
    "日本語/🎉",
    "\uffff",
    "\U0010ffff",
    "k" * 1024,
)


def object_info(key: str, size: int, *, etag: str = "e1", version_id: str | None = None) -> ObjectInfo:
    """An object of a listing."""
    return ObjectInfo(key, size, etag, WHEN, version_id=version_id)


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """``data`` as a store would send it."""
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def add(
    session: BackupSession, key: str, data: bytes, attributes: ObjectAttributes = ATTRIBUTES
) -> None:
    """Give one object to a session."""
    await session.add(object_info(key, len(data)), attributes, pieces(data))


async def read(vault: Vault, record: BackupRecord) -> bytes:
    """One backup, whole."""
    return b"".join([piece async for piece in vault.read(record)])


async def entries(vault: Vault, **filters: Any) -> list[JournalEntry]:
    """A journal's entries, whole."""
    return [entry async for entry in vault.journal.read(**filters)]


def backed_up(records: Sequence[BackupRecord]) -> list[JournalDraft]:
    """The journal entries that a sweep would write for these backups."""
    return [
        JournalDraft("backed_up", OPERATION, record.key, {"backup": record_to_json(record)})
        for record in records
    ]


async def store(vault: Vault, objects: dict[str, bytes]) -> dict[str, BackupRecord]:
    """Back objects up and note them in the journal."""
    async with vault.session(OPERATION) as session:
        for key, data in objects.items():
            await add(session, key, data)
        records = await session.commit()
    await vault.journal.append(backed_up(records))
    return {record.key: record for record in records}


@pytest.mark.anyio
class VaultContract:
    """Byte-exact, durable, pinned to a bucket, and never an answer with wrong bytes."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def make_vault(self) -> Callable[[], Vault]:
        raise NotImplementedError("give the fixture `make_vault`")

    @pytest.fixture
    def damage(self) -> Callable[[BackupRecord], None]:
        raise NotImplementedError("give the fixture `damage`")

    @pytest.fixture
    async def vault(self, make_vault: Callable[[], Vault]) -> AsyncIterator[Vault]:
        made = make_vault()
        await made.open(STORE_URL)
        yield made
        await made.aclose()

    # ------------------------------------------------------------------ backups

    @pytest.mark.parametrize("size", [0, 1, 4096, 1024 * 1024, 1024 * 1024 + 1, 9 * 1024 * 1024])
    @pytest.mark.parametrize("kind", ["text", "noise"])
    async def test_the_very_bytes_come_back(self, vault: Vault, size: int, kind: str) -> None:
        seed = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256))
        repeated = b"a line of text\n" if kind == "text" else seed
        data = (repeated * (size // len(repeated) + 1))[:size]
        record = (await store(vault, {"k": data}))["k"]
        assert record.size == size
        assert record.sha256 == hashlib.sha256(data).hexdigest()
        assert await read(vault, record) == data

    async def test_objects_in_memory_are_taken_together(self, vault: Vault) -> None:
        bodies = {f"k{size}": bytes([size % 251]) * size for size in (0, 1, 4096, 9 * 1024 * 1024)}
        whole = [
            WholeObject(object_info(key, len(data)), object_info(key, len(data)), ATTRIBUTES, data)
            for key, data in bodies.items()
        ]
        short = WholeObject(object_info("short", 5), object_info("short", 5), ATTRIBUTES, b"four")
        async with vault.session(OPERATION) as session:
            await session.add_all([])
            with pytest.raises(VaultError, match="short"):
                await session.add_all([short])
            await session.add_all(whole)
            records = {record.key: record for record in await session.commit()}
        assert records.keys() == bodies.keys()
        for key, record in records.items():
            assert (record.size, record.attributes) == (len(bodies[key]), ATTRIBUTES)
            assert await read(vault, record) == bodies[key]

    async def test_a_record_says_all_of_its_object(self, vault: Vault) -> None:
        info = object_info("k", 3, etag="abc-2", version_id="v7")
        async with vault.session(OPERATION) as session:
            await session.add(info, ATTRIBUTES, pieces(b"abc"))
            (record,) = await session.commit()
        assert (record.key, record.etag, record.size, record.last_modified, record.version_id) == (
            "k",
            "abc-2",
            3,
            WHEN,
            "v7",
        )
        assert record.attributes == ATTRIBUTES
        assert record.stored_size > 0
        assert record.location

    async def test_records_outlive_the_process(self, make_vault: Callable[[], Vault]) -> None:
        first = make_vault()
        await first.open(STORE_URL)
        record = (await store(first, {"k": b"abc" * 100}))["k"]
        await first.aclose()
        second = make_vault()
        await second.open(STORE_URL, create=False)
        (entry,) = await entries(second, key="k")
        assert record_from_json(entry.data["backup"]) == record
        assert await read(second, record) == b"abc" * 100
        await second.aclose()

    async def test_any_key(self, vault: Vault) -> None:
        objects = {key: key.encode() * 3 for key in ODD_KEYS}
        records = await store(vault, objects)
        assert records.keys() == objects.keys()
        for key, record in records.items():
            assert await read(vault, record) == objects[key]
            assert [entry.key for entry in await entries(vault, key=key)] == [key]
        assert (await vault.verify()).ok

    async def test_many_tasks_add_at_once(self, vault: Vault) -> None:
        objects = {f"{n:04d}": f"object {n} ".encode() * (n % 300) for n in range(640)}
        async with vault.session(OPERATION) as session:

            async def adds(part: int) -> None:
                for n in range(part, 640, 64):
                    await add(session, f"{n:04d}", objects[f"{n:04d}"])

            async with anyio.create_task_group() as group:
                for part in range(64):
                    group.start_soon(adds, part)
            records = await session.commit()
        assert sorted(record.key for record in records) == sorted(objects)
        for record in records:
            assert await read(vault, record) == objects[record.key]

    async def test_a_commit_counts_what_came_since_the_last_one(self, vault: Vault) -> None:
        async with vault.session(OPERATION) as session:
            assert list(await session.commit()) == []
            await add(session, "a", b"1")
            assert [r.key for r in await session.commit()] == ["a"]
            await add(session, "b", b"2")
            assert [r.key for r in await session.commit()] == ["b"]
            assert list(await session.commit()) == []

    async def test_two_versions_of_a_key(self, vault: Vault) -> None:
        async with vault.session(OPERATION) as session:
            await session.add(object_info("k", 3, etag="1"), ATTRIBUTES, pieces(b"old"))
            await session.add(object_info("k", 3, etag="2"), ATTRIBUTES, pieces(b"new"))
            records = await session.commit()
        assert {r.etag: await read(vault, r) for r in records} == {"1": b"old", "2": b"new"}

    @pytest.mark.parametrize("listed", [2, 4, 0, 9 * 1024 * 1024])
    async def test_another_number_of_bytes_is_refused(self, vault: Vault, listed: int) -> None:
        async with vault.session(OPERATION) as session:
            await add(session, "before", b"1")
            with pytest.raises(VaultError, match="bytes"):
                await session.add(object_info("k", listed), ATTRIBUTES, pieces(b"abc"))
            await add(session, "after", b"2")
            assert sorted(r.key for r in await session.commit()) == ["after", "before"]

    @pytest.mark.parametrize("size", [100, 9 * 1024 * 1024])
    async def test_a_body_that_breaks_off_leaves_the_rest(self, vault: Vault, size: int) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 50
            raise ConnectionError("reset")

        async with vault.session(OPERATION) as session:
            await add(session, "before", b"1")
            with pytest.raises(ConnectionError):
                await session.add(object_info("k", size), ATTRIBUTES, broken())
            await add(session, "after", b"2")
            assert sorted(r.key for r in await session.commit()) == ["after", "before"]

    async def test_without_a_commit_nothing_counts(self, vault: Vault) -> None:
        async with vault.session(OPERATION) as session:
            await add(session, "k", b"abc")
        records = await store(vault, {"other": b"def"})
        assert await read(vault, records["other"]) == b"def"
        assert (await vault.verify()).backups == 1
        assert (await vault.verify()).ok

    # ------------------------------------------------------------------ damage

    @pytest.mark.parametrize("size", [10, 5000, 9 * 1024 * 1024])
    async def test_damage_is_never_answered_with_wrong_bytes(
        self, vault: Vault, damage: Callable[[BackupRecord], None], size: int
    ) -> None:
        records = await store(vault, {"good": b"good" * 100, "bad": b"b" * size, "fine": b"fine" * 100})
        assert (await vault.verify()).ok
        damage(records["bad"])
        with pytest.raises(VaultCorrupt):
            await read(vault, records["bad"])
        assert await read(vault, records["good"]) == b"good" * 100
        assert await read(vault, records["fine"]) == b"fine" * 100
        found = await vault.verify()
        assert not found.ok
        assert found.backups == 3
        assert len(found.problems) == 1
        assert "bad" in found.problems[0]

    async def test_a_small_damaged_object_gives_not_one_byte(
        self, vault: Vault, damage: Callable[[BackupRecord], None]
    ) -> None:
        record = (await store(vault, {"k": bytes(range(256)) * 8000}))["k"]
        damage(record)
        got: list[bytes] = []

        async def take() -> None:
            async for piece in vault.read(record):
                got.append(piece)

        with pytest.raises(VaultCorrupt):
            await take()
        assert got == []

    @pytest.mark.parametrize(
        "change",
        [
            {"key": "b"},
            {"etag": "x"},
            {"size": 4},
            {"sha256": "0" * 64},
            {"version_id": "v"},
            {"codec": "store?"},
        ],
    )
    async def test_a_record_that_does_not_fit_is_refused(self, vault: Vault, change: dict[str, Any]) -> None:
        record = (await store(vault, {"a": b"abc"}))["a"]
        with pytest.raises(VaultError):
            await read(vault, evolve(record, **change))

    async def test_a_record_with_the_place_of_another_is_refused(self, vault: Vault) -> None:
        records = await store(vault, {"a": b"abc", "b": b"abd"})
        moved = evolve(records["a"], location=records["b"].location, stored_size=records["b"].stored_size)
        with pytest.raises(VaultCorrupt):
            await read(vault, moved)

    async def test_what_is_read_together_is_what_is_read_alone(
        self, vault: Vault, damage: Callable[[BackupRecord], None]
    ) -> None:
        """Of many small backups only right bytes come; what is damaged, or of another object, doesn't."""
        content = {f"k{n}": bytes([n]) * (n * 999) for n in range(12)}
        records = await store(vault, content)
        found = await vault.read_small(list(records.values()))
        assert found.items() <= content.items()
        damage(records["k7"])
        odd = [
            evolve(records["k1"], location=records["k2"].location, stored_size=records["k2"].stored_size),
            evolve(records["k3"], sha256="0" * 64),
            evolve(records["k4"], location="nonsense"),
            evolve(records["k5"], codec="no such codec"),
        ]
        right = [record for key, record in records.items() if key not in ("k1", "k3", "k4", "k5")]
        again = await vault.read_small([*odd, *right])
        assert again.items() <= content.items()
        assert not again.keys() & {"k1", "k3", "k4", "k5", "k7"}

    @pytest.mark.parametrize("location", ["", "nonsense", "../../etc/passwd:0:10", ":0:1"])
    async def test_a_made_up_place_is_refused(self, vault: Vault, location: str) -> None:
        record = (await store(vault, {"a": b"abc"}))["a"]
        with pytest.raises(VaultError):
            await read(vault, evolve(record, location=location))

    # ------------------------------------------------------------------ the vault itself

    async def test_it_belongs_to_one_bucket(self, make_vault: Callable[[], Vault]) -> None:
        first = make_vault()
        await first.open(STORE_URL)
        await first.aclose()
        with pytest.raises(VaultMismatch) as caught:
            await make_vault().open("s3://another")
        assert STORE_URL in str(caught.value)
        assert "s3://another" in str(caught.value)

    async def test_it_is_not_made_unless_asked(self, make_vault: Callable[[], Vault]) -> None:
        with pytest.raises(VaultError):
            await make_vault().open(STORE_URL, create=False)
        made = make_vault()
        await made.open(STORE_URL)
        await made.aclose()

    async def test_check(self, vault: Vault) -> None:
        await vault.check(max_fill=1.0)
        with pytest.raises(VaultError):
            await vault.check(max_fill=0.0)

    async def test_stats(self, vault: Vault) -> None:
        assert (await vault.stats()).backups == 0
        await store(vault, {"a": b"x" * 1000, "b": b"y" * 500})
        stats = await vault.stats()
        assert (stats.backups, stats.original_bytes, stats.journal_entries) == (2, 1500, 2)
        assert stats.packs >= 1
        assert stats.stored_bytes > 0

    async def test_closing_twice_and_using_it_after(self, make_vault: Callable[[], Vault]) -> None:
        vault = make_vault()
        await vault.open(STORE_URL)
        record = (await store(vault, {"a": b"abc"}))["a"]
        await vault.aclose()
        await vault.aclose()
        with pytest.raises(VaultError):
            await read(vault, record)
        with pytest.raises(VaultError):
            await vault.check(max_fill=1.0)

    # ------------------------------------------------------------------ the journal

    async def test_the_journal_keeps_entries_in_order(self, vault: Vault) -> None:
        assert await entries(vault) == []
        await vault.journal.append([])
        drafts = [
            JournalDraft("e", "op", f"k{n}", {"n": n, "x": [None, True, 1.5, {"é": ""}]}) for n in range(5)
        ]
        await vault.journal.append(drafts[:3])
        await vault.journal.append(drafts[3:])
        found = await entries(vault)
        assert [(e.event, e.operation_id, e.key, e.data) for e in found] == [
            (d.event, d.operation_id, d.key, d.data) for d in drafts
        ]
        assert [e.seq for e in found] == [1, 2, 3, 4, 5]
        assert [e.previous for e in found[1:]] == [e.hash for e in found[:-1]]
        assert all(e.bucket == STORE_URL and e.at.utcoffset() is not None for e in found)
        audited = await vault.journal.verify()
        assert (audited.ok, audited.entries, audited.head) == (True, 5, found[-1].hash)

    @pytest.mark.parametrize("bad", [{"n": object()}, {"n": float("nan")}, {"n": "\ud800"}])
    async def test_an_append_is_all_or_none(self, vault: Vault, bad: dict[str, Any]) -> None:
        await vault.journal.append([JournalDraft("e", "op")])
        with pytest.raises(VaultError):
            await vault.journal.append([JournalDraft("e", "op"), JournalDraft("e", "op", None, bad)])
        assert len(await entries(vault)) == 1
        await vault.journal.append([JournalDraft("e", "op")])
        assert (await vault.journal.verify()).ok

    async def test_the_journal_filters(self, vault: Vault) -> None:
        keys = [
            "a",
            "a/",
            "a/1",
            "a/\x00",
            "a/\U0010ffff",
            "a/\U0010ffff2",
            "a0",
            "b",
            "\ud7ff",
            "\ue000",
            None,
        ]
        drafts = [
            JournalDraft(event, operation, key) for operation in ("1", "2") for event in "xyz" for key in keys
        ]
        await vault.journal.append(drafts)
        for key in [None, *keys, "absent"]:
            for prefix in [None, "", "a", "a/", "a/\U0010ffff", "\U0010ffff", "\ud7ff", "c"]:
                for operation in [None, "1", "3"]:
                    for events in [None, [], ["x"], ["x", "z"], ["nothing"]]:
                        expected = [
                            n
                            for n, d in enumerate(drafts, 1)
                            if (key is None or d.key == key)
                            and (prefix is None or (d.key is not None and d.key.startswith(prefix)))
                            and (operation is None or d.operation_id == operation)
                            and (events is None or d.event in events)
                        ]
                        found = await entries(
                            vault, key=key, prefix=prefix, operation_id=operation, events=events
                        )
                        assert [e.seq for e in found] == expected, (key, prefix, operation, events)
        assert [e.seq for e in await entries(vault, after_seq=60)] == [61, 62, 63, 64, 65, 66]

    async def test_reading_while_appending_ends(self, vault: Vault) -> None:
        await vault.journal.append([JournalDraft("e", "op", str(n)) for n in range(2_500)])
        seen = 0
        async for entry in vault.journal.read(events={"e"}):
            seen += 1
            if entry.seq % 500 == 0:
                await vault.journal.append([JournalDraft("e", "op", "late")])
        assert seen == 2_500

    async def test_tasks_append_at_once(self, vault: Vault) -> None:
        async def append(n: int) -> None:
            await vault.journal.append([JournalDraft("e", str(n), str(m)) for m in range(10)])

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(append, n)
        assert len(await entries(vault)) == 200
        for n in range(20):
            numbers = [e.seq for e in await entries(vault, operation_id=str(n))]
            assert numbers == list(range(numbers[0], numbers[0] + 10))
        assert (await vault.journal.verify()).ok
