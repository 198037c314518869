"""Small objects in blocks: each can be read, restored, rebuilt and forgotten by itself."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.abc import Vault
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.errors import BackupGone, ConfigError, VaultCorrupt, VaultError
from s3gc.model import BackupRecord, JournalDraft
from s3gc.testing.fakes import FakeClock
from s3gc.testing.vault_contract import (
    ATTRIBUTES,
    OPERATION,
    STORE_URL,
    VaultContract,
    add,
    entries,
    object_info,
    pieces,
    read,
    store,
)
from s3gc.vault import LocalVault, record_from_json, record_to_json
from s3gc.vault import _solid as solid
from s3gc.vault._encode import Arrived, Blocks
from s3gc.vault._frames import FrameReader, reader_in
from s3gc.vault._layout import SOLID_VERSION, FrameBuilder, header_text
from s3gc.vault._locations import index_of
from s3gc.vault.browse import Wanted, latest
from s3gc.vault.extract import extract
from s3gc.vault.packs import parse_location, read_frames, read_payload
from s3gc.vault.prune import forget
from unit.test_vault_contract import flip_middle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def document(n: int) -> bytes:
    return json.dumps(
        {"id": n * 7919, "user": f"user{n * 31}", "mail": f"u{n}@example.com", "roles": ["a"] * 9}
    ).encode()


DOCUMENTS = {f"users/{n:03d}/profile.json": document(n) for n in range(150)}
OTHERS = {"big": os.urandom(8_192), "empty": b"", "alone.txt": b"the only one of its kind"}
ALL = DOCUMENTS | OTHERS


def vault_in(folder: Path) -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=FakeClock(), solid=ZstdCompressor(6))


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[LocalVault]:
    made = vault_in(tmp_path / "vault")
    await made.open(STORE_URL)
    yield made
    await made.aclose()


class TestSolidVault(VaultContract):
    """All that a vault must do; only what one flipped bit may take is more: its block."""

    @pytest.fixture
    def make_vault(self, tmp_path: Path) -> Callable[[], Vault]:
        return lambda: LocalVault(
            tmp_path / "vault",
            compressors=[ZstdCompressor(), StoreCompressor()],
            clock=SystemClock(),
            solid=ZstdCompressor(),
        )

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Callable[[BackupRecord], None]:
        return lambda record: flip_middle(tmp_path / "vault", record)

    @pytest.mark.parametrize("size", [10, 5000, 9 * 1024 * 1024])
    async def test_damage_is_never_answered_with_wrong_bytes(
        self, vault: Vault, damage: Callable[[BackupRecord], None], size: int
    ) -> None:
        records = await store(vault, {"good.a": b"good" * 100, "more.a": b"more" * 100})
        records |= await store(vault, {"bad": b"b" * size, "fine": b"fine" * 100})
        damage(records["bad"])
        block = {"bad", "fine"} if size < 8_192 else {"bad"}
        for key in block:
            with pytest.raises(VaultCorrupt):
                await read(vault, records[key])
        assert await read(vault, records["good.a"]) == b"good" * 100
        found = await vault.verify()
        assert (found.ok, found.backups, len(found.problems)) == (False, 4, len(block))


def block_of(record: BackupRecord) -> str:
    return record.location.rpartition(":")[0] if index_of(record.location) is not None else ""


async def test_small_objects_of_a_kind_share_blocks(vault: LocalVault) -> None:
    records = await store(vault, ALL)
    blocks: dict[str, set[str]] = {}
    for key in DOCUMENTS:
        blocks.setdefault(block_of(records[key]), set()).add(key)
    assert sorted(len(keys) for keys in blocks.values()) == [22, 64, 64]
    assert "" not in blocks
    assert {block_of(records[key]) for key in OTHERS} == {""}
    neighbours = [sorted(keys) for keys in blocks.values()]
    assert sorted(keys[0] for keys in neighbours) == [sorted(DOCUMENTS)[at] for at in (0, 64, 128)]
    for key, data in ALL.items():
        assert await read(vault, records[key]) == data
    check = await vault.verify()
    assert (check.problems, check.backups) == ((), len(ALL))
    stats = await vault.stats()
    assert sum(record.stored_size for record in records.values()) == stats.stored_bytes
    found = await vault.read_small(list(records.values()))
    assert {key: found[key] for key in DOCUMENTS} == DOCUMENTS
    assert (await store(vault, {"x": b"1"}))["x"].stored_size < 1_000


async def test_it_is_worth_it(vault: LocalVault, tmp_path: Path) -> None:
    plain = LocalVault(tmp_path / "plain", compressors=[ZstdCompressor()], clock=FakeClock())
    await plain.open(STORE_URL)
    await store(plain, DOCUMENTS)
    await store(vault, DOCUMENTS)
    assert (await plain.stats()).stored_bytes > 1.7 * (await vault.stats()).stored_bytes
    await plain.aclose()


async def test_packs_tell_of_each_and_a_rebuild_finds_each(vault: LocalVault, tmp_path: Path) -> None:
    records = await store(vault, ALL)
    await vault.aclose()
    codecs = {"zstd": ZstdCompressor(), "store": StoreCompressor()}
    for path in vault.packs_folder.iterdir():
        for frame in read_frames(path):
            assert frame.record == records[frame.record.key]
            assert frame.operation_id == OPERATION
            assert b"".join(read_payload(path, frame, codecs)) == ALL[frame.record.key]
    for path in vault.folder.iterdir():
        if path.is_file():
            path.unlink()
    again = vault_in(vault.folder)
    assert (await again.rebuild(STORE_URL, OPERATION)).backups == len(ALL)
    await again.open(STORE_URL)
    found = {e.key: record_from_json(e.data["backup"]) for e in await entries(again, events={"backup_found"})}
    assert found == records
    done = await extract(again, latest(again, Wanted()), tmp_path / "out")
    assert (done.objects, done.errors) == (len(ALL), {})
    assert (tmp_path / "out/users/007/profile.json").read_bytes() == document(7)
    await again.aclose()


async def test_one_of_a_block_is_forgotten_and_the_others_stay(vault: LocalVault) -> None:
    records = await store(vault, ALL)
    await vault.aclose()
    again = vault_in(vault.folder)
    await again.open(STORE_URL)
    gone = "users/007/profile.json"
    report = await forget(again, OPERATION, gone, reason="law", dry_run=False)
    assert (report.removed, report.moved, report.problems) == (1, len(ALL) - 1, ())
    with pytest.raises(BackupGone):
        await read(again, records[gone])
    for key in ALL.keys() - {gone}:
        assert await read(again, records[key]) == ALL[key]
    frames = [f for path in again.packs_folder.iterdir() for f in read_frames(path)]
    assert {frame.record.key for frame in frames} == ALL.keys() - {gone}
    assert (await again.verify()).backups == len(ALL) - 1
    await again.aclose()


async def test_every_flipped_bit_takes_its_block_and_no_more(vault: LocalVault) -> None:
    some = {key: DOCUMENTS[key] for key in sorted(DOCUMENTS)[:4]}
    records = await store(vault, some)
    records |= await store(vault, {"a.txt": b"a" * 99, "b.txt": b"b" * 99})
    (path,) = vault.packs_folder.iterdir()
    whole = path.read_bytes()
    _, offset, length = parse_location(records[sorted(some)[0]].location)
    for bit in range(0, length * 8, 11):
        data = bytearray(whole)
        data[offset + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        check = await vault.verify()
        assert len(check.problems) == len(some)
        assert all("profile.json" in problem for problem in check.problems)
    path.write_bytes(whole)
    assert (await vault.verify()).ok


async def test_a_block_that_changed_on_its_way_does_not_count(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:-200] + b"?" + bytes(data)[-199:], at)
    )
    async with vault.session(OPERATION) as session:
        for key in ("a.json", "b.json"):
            await add(session, key, b"{}" * 300)
        with pytest.raises(VaultCorrupt, match="does not read back as written"):
            await session.commit()


async def test_a_record_of_another_object_of_the_block_is_refused(vault: LocalVault) -> None:
    records = await store(vault, DOCUMENTS)
    one, two = (records[key] for key in sorted(DOCUMENTS)[:2])
    for wrong in (
        evolve(one, location=two.location, stored_size=two.stored_size),
        evolve(one, location=block_of(one) + ":99"),
        evolve(one, location=block_of(one)),
        evolve(one, sha256="0" * 64),
        evolve(one, key="x"),
        evolve(one, etag="x"),
        evolve(one, size=one.size + 1),
        evolve(one, version_id="v"),
        evolve(one, attributes=evolve(one.attributes, tags={"a": "b"})),
        evolve(one, codec="store"),
        evolve(one, stored_size=one.stored_size + 1),
        evolve(one, location=two.location),
    ):
        with pytest.raises(VaultError):
            await read(vault, wrong)
        assert await vault.read_small([wrong]) == {}
    await vault.journal.append(
        [JournalDraft("backed_up", OPERATION, one.key, {"backup": record_to_json(evolve(one, etag="x"))})]
    )
    assert len((await vault.verify()).problems) == 1


async def test_what_does_not_fit_has_a_frame_of_its_own(vault: LocalVault) -> None:
    long = evolve(ATTRIBUTES, metadata={"note": "x" * 5_000})
    async with vault.session(OPERATION) as session:
        for n in range(2):
            await session.add(object_info(f"{n}.json", 9), long, pieces(b"{} {} {} "))
            await session.add(object_info(f"{n}.txt", 8_192), ATTRIBUTES, pieces(bytes(8_192)))
        made = await session.commit()
    assert {index_of(record.location) for record in made} == {None}


def test_blocks_are_by_zstd(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by zstd"):
        LocalVault(tmp_path, compressors=[], clock=FakeClock(), codec="store", solid=StoreCompressor())


# --------------------------------------------------------------------------- bytes that nobody wrote

PACK = "01K00000000000000000000000"


def frame_of(
    body: bytes, *, objects: int = 2, bucket: str = STORE_URL, extra: str = "", size: int | None = None
) -> bytes:
    header = solid.solid_header(bucket, "zstd", OPERATION, objects)
    header = header.replace(b"}", extra.encode() + b"}")
    stream = ZstdCompressor().compressor(len(body))
    made = stream.compress(body)
    made += stream.flush()
    frame = FrameBuilder(0, header, SOLID_VERSION)
    return b"".join(
        [
            frame.start,
            *frame.chunks(made),
            frame.end(len(body) if size is None else size, hashlib.sha256(body).digest()),
        ]
    )


def body_of(count: int = 2) -> bytes:
    objects = []
    for n in range(count):
        data = b"%d" % n * 50
        header = header_text(object_info(f"k{n}", 50), ATTRIBUTES, STORE_URL, OPERATION).with_codec("zstd")
        objects.append((header, hashlib.sha256(data).digest(), data))
    return solid.join(objects)


def parsed(data: bytes) -> solid.Block:
    reader = FrameReader(reader_in(data), 0)
    return solid.block_of(reader, PACK, {"zstd": ZstdCompressor()})


def test_a_block_by_hand_is_read() -> None:
    block = parsed(frame_of(body_of()))
    assert [one.record.key for one in block.objects] == ["k0", "k1"]
    assert [one.checked() for one in block.objects] == [b"0" * 50, b"1" * 50]


@pytest.mark.parametrize(
    "data",
    [
        frame_of(body_of(), objects=3),
        frame_of(body_of(), bucket="s3://other"),
        frame_of(body_of(), extra=',"x":1'),
        frame_of(body_of() + b"x"),
        frame_of(body_of()[:-1]),
        frame_of(body_of()[:30]),
        frame_of(b""),
        frame_of(struct.pack(">I", 65) + body_of()[4:], objects=65),
        frame_of(bytes(2_000_000)),
        frame_of(os.urandom(2_200_000)),
        frame_of(body_of(), size=5),
    ],
)
def test_blocks_that_contradict_themselves_are_refused(data: bytes) -> None:
    with pytest.raises(VaultCorrupt):
        assert parsed(data).objects


def test_bytes_with_another_hash_are_refused() -> None:
    body = bytearray(body_of())
    body[-1] ^= 1
    block = parsed(frame_of(bytes(body)))
    assert block.objects[0].checked() == b"0" * 50
    with pytest.raises(VaultCorrupt, match="other bytes"):
        block.objects[1].checked()


@given(body=st.binary(max_size=300))
@settings(deadline=None)
def test_noise_raises_nothing_but_vault_errors(body: bytes) -> None:
    with pytest.raises(VaultError):
        assert parsed(frame_of(body)).objects


@given(sizes=st.lists(st.integers(1, 8_191), min_size=1, max_size=64), length=st.integers(1, 10**6))
def test_shares_are_all_of_the_frame(sizes: list[int], length: int) -> None:
    shares = solid.shares_of(length, sizes)
    assert sum(shares) == length
    assert min(shares) >= 0


@given(
    objects=st.lists(
        st.tuples(st.sampled_from(["a/1.json", "a/2.json", "b/3.JSON", "c.txt", "d"]), st.integers(0, 9_000)),
        max_size=200,
    )
)
@settings(deadline=None)
def test_groups_keep_within_their_limits(objects: list[tuple[str, int]]) -> None:
    arrived = [
        Arrived(
            object_info(key, size),
            ATTRIBUTES,
            header_text(object_info(key, size), ATTRIBUTES, "b", "o"),
            bytes(size),
        )
        for key, size in objects
    ]
    made = Blocks(ZstdCompressor(1), "b", "o").of(arrived, set())
    taken = [at for group, _ in made for at in group]
    assert len(taken) == len(set(taken))
    for group, block in made:
        assert 2 <= len(group) <= 64
        assert block.size <= 1024 * 1024
        assert len({objects[at][0].lower().rpartition(".")[2] for at in group}) == 1 or all(
            "." not in objects[at][0] for at in group
        )
