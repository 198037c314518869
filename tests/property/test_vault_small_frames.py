"""Small frames taken at once: what is believed is what the careful reader believes, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from property.test_vault_packs import BUCKET, CODECS, framed, records, texts
from s3gc.errors import VaultError
from s3gc.model import BackupRecord, ObjectInfo
from s3gc.vault._frames import FrameReader, reader_in
from s3gc.vault._layout import FrameBuilder, header_text, parse_header
from s3gc.vault._small_frames import build, is_header_of, sha256_of, small_frame, small_record

OPERATION = "01K00000000000000000000000"


@given(
    offset=st.integers(0, 2**64 - 1),
    header=st.binary(max_size=300),
    body=st.binary(max_size=300),
    size=st.integers(0, 2**64 - 1),
    sha256=st.binary(min_size=32, max_size=32),
    version=st.sampled_from([1, 2, 3]),
)
def test_a_frame_made_at_once_is_the_frame(
    offset: int, header: bytes, body: bytes, size: int, sha256: bytes, version: int
) -> None:
    frame = FrameBuilder(offset, header, version)
    made = b"".join([frame.start, *frame.chunks(body), frame.end(size, sha256)])
    assert build(offset, header, body, size, sha256, version) == made
    assert (len(made), made[-32:]) == (frame.length, frame.digest)


@given(
    offset=st.integers(0, 2**40),
    header=st.binary(max_size=300),
    body=st.binary(max_size=300),
    size=st.integers(0, 2**40),
    sha256=st.binary(min_size=32, max_size=32),
)
def test_a_frame_is_taken_apart_as_the_careful_reader_does(
    offset: int, header: bytes, body: bytes, size: int, sha256: bytes
) -> None:
    data = build(offset, header, body, size, sha256)
    found = small_frame(data, offset)
    reader = FrameReader(reader_in(data, offset), offset)
    chunks = b"".join(reader.chunks())
    assert found is not None
    assert (found.header, found.body) == (reader.header_bytes, chunks) == (header, body)
    assert (found.size, found.sha256, found.digest) == (reader.size, reader.sha256, reader.digest)
    assert small_frame(data, offset + 1) is None
    assert small_frame(data + b"\0", offset) is None
    assert small_frame(data[:-1], offset) is None


@pytest.mark.parametrize("version", [2, 3])
def test_other_versions_are_left_to_the_careful_reader(version: int) -> None:
    assert small_frame(build(0, b"{}", b"body", 4, bytes(32), version), 0) is None


def test_so_are_frames_of_several_chunks() -> None:
    data = bytes(2 * 1024 * 1024)
    frame, _ = framed("k", data, 0, "store")
    assert small_frame(frame, 0) is None


@pytest.mark.parametrize("body", [b"", b"some bytes"])
def test_each_flipped_bit_is_found(body: bytes) -> None:
    data = build(7, b'{"a":1}', body, len(body), hashlib.sha256(body).digest())
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert small_frame(bytes(changed), 7) is None, bit


@st.composite
def resealed(draw: st.DrawFn) -> bytes:
    """A frame with other bytes in it, whose own digest was computed anew."""
    data = bytearray(build(7, b'{"a":1}', draw(st.sampled_from([b"", b"body"])), 4, bytes(32)))
    at = draw(st.integers(0, len(data) - 33))
    data[at] ^= draw(st.integers(1, 255))
    return bytes(data[:-32]) + hashlib.sha256(data[:-32]).digest()


@given(data=resealed())
def test_what_is_believed_is_what_the_careful_reader_believes(data: bytes) -> None:
    found = small_frame(data, 7)
    if found is None:
        return
    reader = FrameReader(reader_in(data, 7), 7)
    assert b"".join(reader.chunks()) == found.body
    assert (found.header, found.size, found.sha256) == (reader.header_bytes, reader.size, reader.sha256)


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 4094, 4095, 4096, 16_384, 16_385, 100_000])
def test_a_digest_is_a_digest(size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    assert sha256_of(data) == hashlib.sha256(data).digest()


# --------------------------------------------------------------------------- headers


def header_of(record: BackupRecord, operation: str = OPERATION, bucket: str = BUCKET) -> bytes:
    info = ObjectInfo(record.key, record.size, record.etag, record.last_modified, record.version_id)
    return header_text(info, record.attributes, bucket, operation).with_codec(record.codec)


@given(record=records, bucket=texts)
def test_a_header_is_that_of_its_record(record: BackupRecord, bucket: str) -> None:
    assert is_header_of(header_of(record, bucket=bucket), record, bucket)


@given(one=records, two=records, operation=texts, bucket=texts)
def test_no_header_is_that_of_another_record(
    one: BackupRecord, two: BackupRecord, operation: str, bucket: str
) -> None:
    """What is taken for the header of a record says, when it is parsed, what the record says."""
    data = header_of(one, operation)
    for record in (two, evolve(two, key=one.key, etag=one.etag, attributes=one.attributes)):
        if is_header_of(data, record, bucket):
            header = parse_header(data)
            assert header.record == evolve(record, sha256="", stored_size=0, location="")
            assert header.bucket == bucket


@given(record=records, at=st.integers(0, 10_000), put=st.sampled_from([b'"', b"\\", b",", b"}", b"x", b"0"]))
def test_no_header_with_something_put_into_it(record: BackupRecord, at: int, put: bytes) -> None:
    whole = header_of(record)
    at %= len(whole) + 1
    data = whole[:at] + put + whole[at:]
    if is_header_of(data, record, BUCKET):
        assert parse_header(data).record == evolve(record, sha256="", stored_size=0, location="")


# --------------------------------------------------------------------------- objects


@given(key=texts, data=st.binary(max_size=500), codec=st.sampled_from(["zstd", "store"]))
def test_its_bytes_come_out(key: str, data: bytes, codec: str) -> None:
    frame, record = framed(key, data, 11, codec)
    assert small_record(frame, 11, record, BUCKET, CODECS) == data


@pytest.mark.parametrize("codec", ["zstd", "store"])
def test_a_record_that_says_anything_else_is_not_believed(codec: str) -> None:
    data = b"some bytes, some bytes"
    frame, record = framed("k", data, 11, codec)
    attributes = evolve(record.attributes, metadata={"a": "b"})
    for wrong in (
        evolve(record, key="x"),
        evolve(record, etag="x"),
        evolve(record, size=21),
        evolve(record, sha256="0" * 64),
        evolve(record, version_id="v"),
        evolve(record, attributes=attributes),
        evolve(record, codec="store" if codec == "zstd" else "zstd"),
        evolve(record, stored_size=record.stored_size + 1),
    ):
        assert small_record(frame, 11, wrong, BUCKET, CODECS) is None
    assert small_record(frame, 11, record, "s3://other", CODECS) is None
    assert small_record(frame, 11, record, BUCKET, {}) is None


@pytest.mark.parametrize("codec", ["zstd", "store"])
def test_other_bytes_than_the_trailer_says_are_not_believed(codec: str) -> None:
    """A frame whose digests are all right, made by somebody who had the wrong bytes."""
    data, other = b"some bytes, some bytes", b"some bytes, some bytez"
    _, record = framed("k", data, 0, codec)
    stream = CODECS[codec].compressor(len(other))
    body = stream.compress(other) + stream.flush()
    frame = build(0, header_of(record, "op"), body, len(data), hashlib.sha256(data).digest())
    record = evolve(record, stored_size=len(frame))
    with contextlib.suppress(VaultError):
        assert small_record(frame, 0, record, BUCKET, CODECS) is None
