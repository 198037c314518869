"""Invariants of packs: any bytes come back, and no changed byte ever gives others."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from s3gc.abc import Compressor
from s3gc.clock import SystemClock
from s3gc.compressors import StoreCompressor, ZstdCompressor
from s3gc.errors import VaultCorrupt, VaultError
from s3gc.model import BackupRecord, ObjectAttributes, ObjectInfo
from s3gc.vault import LocalVault, PackDamage, read_frames, read_payload, record_from_json, record_to_json
from s3gc.vault._frames import reader_in, stream_record, whole_record
from s3gc.vault._layout import CHUNK_MAX_BYTES, FrameBuilder, header_text, parse_header
from s3gc.vault.packs import location_of, parse_location, torn_at
from s3gc.vault.records import canonical

BUCKET = "s3://b"
CODECS: Mapping[str, Compressor] = {"zstd": ZstdCompressor(), "store": StoreCompressor()}
PACK = "01K00000000000000000000000"

texts = st.text(st.characters(exclude_categories=["Cs"]))
times = st.datetimes(timezones=st.just(UTC))
attributes = st.builds(
    ObjectAttributes,
    content_type=st.none() | texts,
    content_encoding=st.none() | texts,
    content_language=st.none() | texts,
    content_disposition=st.none() | texts,
    cache_control=st.none() | texts,
    expires=st.none() | texts,
    website_redirect=st.none() | texts,
    storage_class=st.none() | texts,
    metadata=st.dictionaries(texts, texts, max_size=3),
    tags=st.dictionaries(texts, texts, max_size=3),
)
records = st.builds(
    BackupRecord,
    key=texts,
    etag=texts,
    size=st.integers(0, 2**60),
    sha256=texts,
    last_modified=times,
    version_id=st.none() | texts,
    attributes=attributes,
    codec=texts,
    stored_size=st.integers(0, 2**60),
    location=texts,
)


def framed(key: str, data: bytes, offset: int, codec: str) -> tuple[bytes, BackupRecord]:
    """A frame, and its record as the journal would have it."""

    info = ObjectInfo(key, len(data), "e", datetime(2026, 11, 23, tzinfo=UTC))
    header = header_text(info, ObjectAttributes(content_type="t"), BUCKET, "op").with_codec(codec)
    stream = CODECS[codec].compressor(len(data))
    stored = stream.compress(data) + stream.flush()
    frame = FrameBuilder(offset, header)
    sha256 = hashlib.sha256(data)
    made = b"".join([frame.start, *frame.chunks(stored), frame.end(len(data), sha256.digest())])
    assert len(made) == frame.length
    return made, evolve(
        parse_header(header).record,
        sha256=sha256.hexdigest(),
        stored_size=frame.length,
        location=location_of(PACK, offset, frame.length),
    )


def packed(objects: Mapping[str, bytes], codec: str) -> tuple[bytes, list[BackupRecord]]:
    pack = b""
    made: list[BackupRecord] = []
    for key, data in objects.items():
        frame, record = framed(key, data, len(pack), codec)
        pack += frame
        made.append(record)
    return pack, made


@contextlib.contextmanager
def pack_file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{PACK}.pack"
        path.write_bytes(data)
        yield path


@given(record=records)
def test_records_round_trip_through_json(record: BackupRecord) -> None:

    text = canonical(record_to_json(record))
    assert record_from_json(json.loads(text.encode())) == record


@given(record=records, operation=texts, bucket=texts)
def test_headers_round_trip(record: BackupRecord, operation: str, bucket: str) -> None:
    info = ObjectInfo(record.key, record.size, record.etag, record.last_modified, record.version_id)
    data = header_text(info, record.attributes, bucket, operation).with_codec(record.codec)
    header = parse_header(data)
    assert header.record == evolve(record, sha256="", stored_size=0, location="")
    assert (header.bucket, header.operation_id) == (bucket, operation)

    assert canonical(json.loads(data)).encode() == data  # canonical by construction


@given(st.text())
def test_no_location_leads_out_of_the_vault(location: str) -> None:
    with contextlib.suppress(VaultCorrupt):
        name, offset, length = parse_location(location)
        assert name.isalnum()
        assert location == location_of(name, offset, length)


objects_of_a_pack = st.dictionaries(
    st.text("abc", max_size=4), st.binary(max_size=200), min_size=1, max_size=4
)


@given(objects=objects_of_a_pack, codec=st.sampled_from(["zstd", "store"]))
def test_any_objects_come_back_from_the_pack_alone(objects: dict[str, bytes], codec: str) -> None:
    pack, made = packed(objects, codec)
    with pack_file(pack) as path:
        frames = list(read_frames(path))
        assert [frame.record for frame in frames] == made
        assert {f.record.key: b"".join(read_payload(path, f, CODECS)) for f in frames} == objects


def outcome(pack: bytes, record: BackupRecord, *, whole: bool) -> bytes | None:
    """The object's bytes, or None for VaultCorrupt; nothing else may happen."""
    _, offset, length = parse_location(record.location)
    read = reader_in(pack[offset : offset + length], offset)
    try:
        pieces = (whole_record if whole else stream_record)(read, offset, record, BUCKET, CODECS)
        return b"".join(pieces)
    except VaultCorrupt:
        return None


@pytest.mark.parametrize("codec", ["zstd", "store"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
def test_each_flipped_bit_of_a_frame_is_found(codec: str, whole: bool) -> None:
    """Exhaustive: every bit of the middle frame, and the neighbours stay readable."""
    objects = {"a": b"first " * 10, "b": b"second " * 12, "c": b"third " * 10}
    pack, made = packed(objects, codec)
    _, offset, length = parse_location(made[1].location)
    for place in range(offset, offset + length):
        for bit in range(8):
            changed = bytearray(pack)
            changed[place] ^= 1 << bit
            assert outcome(bytes(changed), made[1], whole=whole) is None, (place - offset, bit)
            if bit == 0:
                assert outcome(bytes(changed), made[0], whole=whole) == objects["a"]
                assert outcome(bytes(changed), made[2], whole=whole) == objects["c"]


@given(
    objects=objects_of_a_pack,
    codec=st.sampled_from(["zstd", "store"]),
    place=st.integers(0, 2**16),
    change=st.integers(1, 255),
    whole=st.booleans(),
)
def test_a_changed_byte_anywhere_never_gives_other_bytes(
    objects: dict[str, bytes], codec: str, place: int, change: int, whole: bool
) -> None:
    pack, made = packed(objects, codec)
    changed = bytearray(pack)
    place %= len(pack)
    changed[place] ^= change
    for record in made:
        _, offset, length = parse_location(record.location)
        found = outcome(bytes(changed), record, whole=whole)
        assert found == (None if offset <= place < offset + length else objects[record.key])


@given(
    objects=objects_of_a_pack,
    start=st.integers(0, 2**16),
    noise=st.binary(max_size=400),
)
def test_any_damage_leaves_the_other_frames_readable_from_the_pack_alone(
    objects: dict[str, bytes], start: int, noise: bytes
) -> None:
    """Bytes overwritten in place, as by a bad sector."""
    pack, made = packed(objects, "store")
    start %= len(pack)
    noise = noise[: len(pack) - start]
    changed = pack[:start] + noise + pack[start + len(noise) :]
    spans = {r.key: parse_location(r.location)[1:] for r in made}
    with pack_file(changed) as path:
        damaged: list[PackDamage] = []
        found = {
            f.record.key: b"".join(read_payload(path, f, CODECS))
            for f in read_frames(path, on_damage=damaged.append)
        }
    for key, data in objects.items():
        offset, size = spans[key]
        if changed[offset : offset + size] == pack[offset : offset + size]:
            assert found.get(key) == data
        else:
            assert key not in found
    assert all(d.offset + d.length <= len(pack) for d in damaged)
    assert bool(damaged) == (changed != pack)


@given(objects=objects_of_a_pack, cut=st.integers(0, 2**16))
def test_a_cut_pack_is_torn_exactly_where_its_last_frame_begins(objects: dict[str, bytes], cut: int) -> None:
    pack, made = packed(objects, "zstd")
    cut %= len(pack) + 1
    ends = [0] + [sum(parse_location(r.location)[1:]) for r in made]
    with pack_file(pack[:cut]) as path:
        fd = os.open(path, os.O_RDONLY)
        try:
            assert torn_at(fd) == (None if cut in ends else max(e for e in ends if e <= cut))
        finally:
            os.close(fd)


@example(noise=b"\x89S3GC\r\n\x1a" * 20)
@given(noise=st.binary(max_size=300))
def test_noise_is_never_a_frame(noise: bytes) -> None:
    with pack_file(noise) as path:
        damaged: list[PackDamage] = []
        assert list(read_frames(path, on_damage=damaged.append)) == []
        assert sum(d.length for d in damaged) == len(noise)


def sealed(frame: FrameBuilder, middle: bytes, end: bytes) -> bytes:
    """A frame whose parts contradict each other and whose digests are right."""
    made = frame.start + middle + end[:-32]
    return made + hashlib.sha256(made).digest()


def test_a_chunk_larger_than_allowed_is_not_even_read() -> None:
    """Else a damaged length would cost up to 4 GiB of memory."""
    data = bytes(CHUNK_MAX_BYTES + 1)
    info = ObjectInfo("k", len(data), "e", datetime(2026, 11, 23, tzinfo=UTC))
    frame = FrameBuilder(0, header_text(info, ObjectAttributes(), BUCKET, "op").with_codec("store"))
    chunk = len(data).to_bytes(4) + data
    frame.length, frame.stored = frame.length + len(chunk), len(data)
    pack = sealed(frame, chunk, frame.end(len(data), hashlib.sha256(data).digest()))
    with pack_file(pack) as path, pytest.raises(VaultCorrupt, match="has a chunk of 1048577 bytes"):
        list(read_frames(path))


def test_a_frame_that_contradicts_itself_about_the_size_is_refused() -> None:
    info = ObjectInfo("k", 3, "e", datetime(2026, 11, 23, tzinfo=UTC))
    frame = FrameBuilder(0, header_text(info, ObjectAttributes(), BUCKET, "op").with_codec("store"))
    chunks = b"".join(frame.chunks(b"abc"))
    pack = sealed(frame, chunks, frame.end(4, hashlib.sha256(b"abc").digest()))
    with pack_file(pack) as path, pytest.raises(VaultCorrupt, match="contradicts itself"):
        list(read_frames(path))


@given(noise=st.binary(min_size=1, max_size=2000), whole=st.booleans())
def test_a_frame_with_a_hostile_body_gives_nothing_but_vault_errors(noise: bytes, whole: bool) -> None:
    """All digests of the frame are right, and the body is not what zstd made."""
    info = ObjectInfo("k", 100, "e", datetime(2026, 11, 23, tzinfo=UTC))
    header = header_text(info, ObjectAttributes(), BUCKET, "op").with_codec("zstd")
    frame = FrameBuilder(0, header)
    pack = b"".join([frame.start, *frame.chunks(noise), frame.end(100, bytes(32))])
    record = evolve(
        parse_header(header).record,
        sha256=bytes(32).hex(),
        stored_size=frame.length,
        location=location_of(PACK, 0, frame.length),
    )
    assert outcome(pack, record, whole=whole) is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25, deadline=None)
@given(
    objects=st.lists(
        st.tuples(texts.filter(lambda t: len(t) < 50), st.binary(max_size=300), attributes), max_size=6
    ),
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    codec=st.sampled_from(["zstd", "store"]),
)
def test_any_objects_with_any_attributes_come_back(
    backend: str, objects: list[tuple[str, bytes, ObjectAttributes]], sizes: list[int], codec: str
) -> None:
    """Through the vault, in any chunking, repeated keys included."""

    async def chunks(data: bytes) -> AsyncIterator[bytes]:
        turn = 0
        while data:
            size = sizes[turn % len(sizes)]
            yield data[:size]
            data, turn = data[size:], turn + 1

    async def run(folder: str) -> None:
        vault = LocalVault(folder, compressors=list(CODECS.values()), clock=SystemClock(), codec=codec)
        await vault.open(BUCKET)
        when = datetime(2026, 11, 23, tzinfo=UTC)
        async with vault.session("op") as session:
            for n, (key, data, attached) in enumerate(objects):
                await session.add(ObjectInfo(key, len(data), str(n), when), attached, chunks(data))
            made = {record.etag: record for record in await session.commit()}
        assert len(made) == len(objects)
        for n, (key, data, attached) in enumerate(objects):
            record = made[str(n)]
            assert (record.key, record.attributes) == (key, attached)
            assert b"".join([piece async for piece in vault.read(record)]) == data
        await vault.aclose()

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, folder, backend=backend)


@given(
    data=st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists)
    | records.map(record_to_json),
    name=st.text().filter(lambda t: t not in {"size", "stored_size"}),
)
def test_what_is_no_record_is_refused(data: object, name: str) -> None:
    wrong = {**data, name: 1} if isinstance(data, dict) else data
    with pytest.raises(VaultError):
        record_from_json(wrong)  # type: ignore[arg-type]
