"""Objects that codecs of whole objects take: proved before they are written, and readable as all others."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coder_doubles import NAME, REQUIRES, SeedCoder, picture
from s3gc.abc import EncodedObject, ObjectCodec, ObjectCoder, WholeObject
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, JournalDraft
from s3gc.testing.fakes import FakeClock
from s3gc.testing.vault_contract import (
    ATTRIBUTES,
    OPERATION,
    STORE_URL,
    add,
    entries,
    object_info,
    read,
    store,
)
from s3gc.vault import LocalVault, record_to_json
from s3gc.vault._frames import FrameReader, reader_of
from s3gc.vault._layout import FrameBuilder, header_text
from s3gc.vault.browse import Wanted, latest
from s3gc.vault.extract import extract
from s3gc.vault.packs import location_of, parse_location, read_frames, read_payload
from s3gc.vault.prune import forget

pytestmark = pytest.mark.anyio

OTHERS = {"text": b"some text, " * 50, "noise": os.urandom(3_000), "empty": b""}
PICTURES = {f"p/{n}": picture(f"seed {n}") for n in range(3)}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vault_in(folder: Path, coder: ObjectCoder | None) -> LocalVault:
    return LocalVault(folder, compressors=[ZstdCompressor()], clock=FakeClock(), coder=coder)


@pytest.fixture
def coder() -> SeedCoder:
    return SeedCoder()


@pytest.fixture
async def vault(tmp_path: Path, coder: SeedCoder) -> AsyncIterator[LocalVault]:
    made = vault_in(tmp_path / "vault", coder)
    await made.open(STORE_URL)
    yield made
    await made.aclose()


def pack_of(vault: LocalVault, record: BackupRecord) -> Path:
    return vault.packs_folder / f"{parse_location(record.location)[0]}.pack"


def header_of(vault: LocalVault, record: BackupRecord) -> FrameReader:
    fd = os.open(pack_of(vault, record), os.O_RDONLY)
    try:
        return FrameReader(reader_of(fd), parse_location(record.location)[1])
    finally:
        os.close(fd)


async def test_the_very_bytes_come_back_and_the_frame_says_what_it_needs(
    vault: LocalVault, coder: SeedCoder
) -> None:
    records = await store(vault, PICTURES | OTHERS)
    for key, data in (PICTURES | OTHERS).items():
        assert await read(vault, records[key]) == data
        assert records[key].codec == (NAME if key in PICTURES else "zstd" if key == "text" else "store")
    frame = header_of(vault, records["p/1"])
    assert (frame.version, frame.header.record.codec, frame.header.requires) == (2, NAME, REQUIRES)
    assert header_of(vault, records["text"]).version == 1
    assert records["p/1"].stored_size < len(PICTURES["p/1"]) / 5
    check = await vault.verify()
    assert (check.ok, check.backups) == (True, 6)
    await vault.aclose()
    assert coder.closed == 1


async def test_what_no_codec_takes_is_never_given_to_one(vault: LocalVault, coder: SeedCoder) -> None:
    records = await store(vault, OTHERS)
    for key, data in OTHERS.items():
        assert await read(vault, records[key]) == data
    assert (await vault.verify()).ok
    assert coder.asked == []


async def test_objects_taken_together_are_coded_too(vault: LocalVault) -> None:
    whole = [
        WholeObject(object_info(k, len(d)), object_info(k, len(d)), ATTRIBUTES, d)
        for k, d in (PICTURES | OTHERS).items()
    ]
    async with vault.session(OPERATION) as session:
        await session.add_all(whole)
        records = {record.key: record for record in await session.commit()}
    assert {key for key, record in records.items() if record.codec == NAME} == set(PICTURES)
    for one in whole:
        assert await read(vault, records[one.listed.key]) == one.data


def longer(data: bytes) -> bytes:
    return data + b"x"


def other(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("spoil", [longer, other, lambda data: b""])
async def test_a_body_that_does_not_give_back_the_very_bytes_is_never_written(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    vault = vault_in(tmp_path / "vault", SeedCoder(spoil=spoil))
    await vault.open(STORE_URL)
    records = await store(vault, PICTURES | OTHERS)
    for key, data in (PICTURES | OTHERS).items():
        assert records[key].codec != NAME
        assert await read(vault, records[key]) == data
    await vault.aclose()


class Broken(SeedCoder):
    async def encode(self, data: bytes) -> EncodedObject | None:
        raise VaultError("no worker starts")


async def test_a_codec_that_fails_is_no_reason_not_to_back_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vault = vault_in(tmp_path / "vault", Broken())
    await vault.open(STORE_URL)
    records = await store(vault, PICTURES)
    assert await read(vault, records["p/0"]) == PICTURES["p/0"]
    assert records["p/0"].codec == "store"
    assert "codec_failed" in caplog.text
    await vault.aclose()


async def test_what_saves_next_to_nothing_is_not_worth_a_codec(tmp_path: Path) -> None:
    def padded(body: bytes) -> bytes:
        return body[:4] + body[4:-40] + b"." * (4_950 - len(body)) + body[-40:]

    vault = vault_in(tmp_path / "vault", SeedCoder(mend=padded))
    await vault.open(STORE_URL)
    records = await store(vault, PICTURES)
    assert {record.codec for record in records.values()} == {"store"}
    await vault.aclose()


async def test_a_vault_without_the_codec_says_what_to_install(vault: LocalVault) -> None:
    records = await store(vault, PICTURES | OTHERS)
    await vault.aclose()
    for coder in (None, WithoutIt()):
        without = vault_in(vault.folder, coder)
        await without.open(STORE_URL)
        with pytest.raises(
            VaultError, match=r"needs the codec 'seed-1' with libseed 2\.7, and .*zstd.*install"
        ):
            await read(without, records["p/0"])
        for key, data in OTHERS.items():
            assert await read(without, records[key]) == data
        check = await without.verify()
        assert len(check.problems) == 3
        assert "install" in check.problems[0]
        await without.aclose()
    with pytest.raises(VaultError, match="install"):
        list(read_payload(pack_of(vault, records["p/0"]), first_frame(vault, records["p/0"]), {}))


class WithoutIt(SeedCoder):
    async def decodes(self) -> set[str]:
        return {"another-1"}


def first_frame(vault: LocalVault, record: BackupRecord):  # type: ignore[no-untyped-def]
    return next(f for f in read_frames(pack_of(vault, record)) if f.record.key == record.key)


@pytest.mark.parametrize("spoil", [longer, other, lambda data: b""])
async def test_other_bytes_are_never_given_out(
    vault: LocalVault, coder: SeedCoder, spoil: Callable[[bytes], bytes]
) -> None:
    records = await store(vault, PICTURES | OTHERS)
    coder.spoil = spoil
    got: list[bytes] = []

    async def take() -> None:
        async for piece in vault.read(records["p/0"]):
            got.append(piece)

    with pytest.raises(VaultCorrupt, match="other bytes"):
        await take()
    assert got == []
    check = await vault.verify()
    assert len(check.problems) == 3
    assert check.backups == 6


async def test_every_flipped_bit_is_found(vault: LocalVault) -> None:
    records = await store(vault, {"before": b"b" * 90, "p/0": PICTURES["p/0"], "after": b"a" * 90})
    path = pack_of(vault, records["p/0"])
    whole = path.read_bytes()
    _, offset, length = parse_location(records["p/0"].location)
    for bit in range(0, length * 8, 7):  # 7 and 8 have no common factor: every place in a byte comes
        data = bytearray(whole)
        data[offset + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(VaultError):
            await read(vault, records["p/0"])
        assert await read(vault, records["after"]) == b"a" * 90
    path.write_bytes(whole)
    assert await read(vault, records["p/0"]) == PICTURES["p/0"]


async def test_a_body_that_changed_on_its_way_to_the_disk_does_not_count(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def wrong(fd: int, data: bytes, offset: int) -> int:
        changed = bytearray(data)
        at = changed.find(b"." * 40)
        if at >= 0:
            changed[at] ^= 1
        return real(fd, changed, offset)

    async with vault.session(OPERATION) as session:
        monkeypatch.setattr(os, "pwrite", wrong)
        await add(session, "p/0", PICTURES["p/0"])
        with pytest.raises(VaultCorrupt, match="does not read back as written"):
            await session.commit()


async def test_a_body_longer_than_its_object_is_not_read_on(vault: LocalVault) -> None:
    """Made by nobody, with all digests right: it must not take more memory than its object."""
    info = object_info("huge", 10)
    header = header_text(info, ATTRIBUTES, STORE_URL, OPERATION).with_codec(NAME, {})
    frame = FrameBuilder(0, header, 2)
    data = b"".join([frame.start, *frame.chunks(bytes(3_000_000)), frame.end(10, bytes(32))])
    name = "01K00000000000000000000000"
    (vault.packs_folder / f"{name}.pack").write_bytes(data)
    record = BackupRecord(
        key="huge",
        etag=info.etag,
        size=10,
        sha256=bytes(32).hex(),
        last_modified=info.last_modified,
        version_id=None,
        attributes=ATTRIBUTES,
        codec=NAME,
        stored_size=frame.length,
        location=location_of(name, 0, frame.length),
    )
    with pytest.raises(VaultCorrupt, match="longer than the object"):
        await read(vault, record)


@pytest.mark.parametrize(("version", "requires"), [(1, {}), (2, None), (2, {"a": 1}), (2, [])])
async def test_a_header_of_another_version_is_refused(
    vault: LocalVault, version: int, requires: dict[str, str] | None
) -> None:
    text = header_text(object_info("k", 3), ATTRIBUTES, STORE_URL, OPERATION)
    if isinstance(requires, list):
        header = text.with_codec("store", {}).replace(b'"requires":{}', b'"requires":[]')
    else:
        header = text.with_codec("store", requires)
    frame = FrameBuilder(0, header, version)
    path = vault.packs_folder / "01K00000000000000000000000.pack"
    path.write_bytes(b"".join([frame.start, *frame.chunks(b"abc"), frame.end(3, bytes(32))]))
    with pytest.raises(VaultError, match="header"):
        list(read_frames(path))


async def test_a_lost_journal_is_rebuilt(vault: LocalVault) -> None:
    records = await store(vault, PICTURES | OTHERS)
    await vault.aclose()
    for path in vault.folder.iterdir():
        if path.is_file():
            path.unlink()
    again = vault_in(vault.folder, SeedCoder())
    await again.rebuild(STORE_URL, OPERATION)
    await again.open(STORE_URL)
    found = [stored.record async for stored in latest(again, Wanted())]
    assert {record.key: record for record in found} == records
    assert (await again.verify()).ok
    await again.aclose()


async def test_what_stays_when_others_are_forgotten_is_moved(vault: LocalVault, tmp_path: Path) -> None:
    records = await store(vault, PICTURES | OTHERS)
    await vault.journal.append(
        [JournalDraft("deleted", OPERATION, k, {"backup": record_to_json(r)}) for k, r in records.items()]
    )
    await vault.aclose()
    again = vault_in(vault.folder, SeedCoder())
    await again.open(STORE_URL)
    report = await forget(again, OPERATION, "p/1", reason="law", dry_run=False)
    assert (report.removed, report.moved, report.problems) == (1, 5, ())
    assert PICTURES["p/1"][5:40] not in b"".join(p.read_bytes() for p in again.packs_folder.iterdir())
    kept = (PICTURES | OTHERS).keys() - {"p/1"}
    for key in kept:
        assert await read(again, records[key]) == (PICTURES | OTHERS)[key]
    done = await extract(again, latest(again, Wanted(prefix="p/")), tmp_path / "out")
    assert (done.objects, done.errors) == (2, {})
    assert (tmp_path / "out" / "p" / "2").read_bytes() == PICTURES["p/2"]
    moved = [e.data["backup"]["codec"] for e in await entries(again, events={"repacked"})]
    assert moved.count(NAME) == 2
    await again.aclose()


class SeedCodec(ObjectCodec):
    name = NAME
    requires = REQUIRES
    wrong = False

    def encode(self, data: bytes) -> bytes | None:
        raise NotImplementedError

    def decode(self, body: bytes, size: int) -> bytes:
        data = picture(body[4:-40].decode(), int.from_bytes(body[:4]))
        return other(data) if self.wrong else data


async def test_packs_are_read_without_a_vault(vault: LocalVault) -> None:
    records = await store(vault, PICTURES | OTHERS)
    path = pack_of(vault, records["p/0"])
    codec = SeedCodec()
    codecs = {"zstd": ZstdCompressor(), "store": StoreCompressor(), NAME: codec}
    found = {f.record.key: b"".join(read_payload(path, f, codecs)) for f in read_frames(path)}
    assert found == PICTURES | OTHERS
    codec.wrong = True
    with pytest.raises(VaultCorrupt, match="other bytes"):
        list(read_payload(path, first_frame(vault, records["p/0"]), codecs))


async def test_a_wrong_record_in_the_journal_is_refused(vault: LocalVault) -> None:
    """The codec's frame is held against its record as every other one."""
    records = await store(vault, PICTURES)
    swapped = {**record_to_json(records["p/0"]), "location": records["p/1"].location}
    swapped["stored_size"] = records["p/1"].stored_size
    await vault.journal.append([JournalDraft("backed_up", OPERATION, "p/0", {"backup": swapped})])
    check = await vault.verify()
    assert len(check.problems) == 1
    assert "is not that of 'p/0'" in check.problems[0]
