"""The decoder of pgoutput: hand-made messages, and every cut, tail or unknown one is an error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.errors import SourceError
from s3gc_cdc_postgres.pgoutput import (
    UNCHANGED,
    AnyMessage,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    PgOutputError,
    Relation,
    RelationColumn,
    Truncate,
    Type,
    Update,
    Values,
    decode,
)

LSN = st.integers(0, 2**63 - 1)
TIME = st.integers(-(2**62), 2**62)
OID = st.integers(0, 2**32 - 1)
NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = st.lists(st.none() | st.just(UNCHANGED) | st.binary(max_size=40), max_size=6).map(tuple)
COLUMNS = st.lists(
    st.builds(RelationColumn, NAME, OID, st.integers(-1, 2**31 - 1), st.booleans()), max_size=5
)

MESSAGES = st.one_of(
    st.builds(Begin, LSN, TIME, OID),
    st.builds(Commit, LSN, LSN, TIME),
    st.builds(Origin, LSN, NAME),
    st.builds(Relation, OID, NAME, NAME, st.sampled_from("dnfi"), COLUMNS.map(tuple)),
    st.builds(Type, OID, NAME, NAME),
    st.builds(Insert, OID, VALUES),
    st.builds(Update, OID, st.none(), st.just(False), VALUES),
    st.builds(Update, OID, VALUES, st.booleans(), VALUES),
    st.builds(Delete, OID, VALUES, st.booleans()),
    st.builds(Truncate, st.lists(OID, max_size=4).map(tuple), st.integers(0, 3)),
    st.builds(Message, st.booleans(), LSN, NAME, st.binary(max_size=40)),
)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def row(values: Values) -> bytes:
    parts = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, bytes):
            parts.append(b"t" + struct.pack("!I", len(value)) + value)
        else:
            parts.append(b"u")
    return b"".join(parts)


def encode(message: AnyMessage) -> bytes:
    """By the documentation of the protocol, message by message."""
    match message:
        case Begin():
            return b"B" + struct.pack("!qqI", *message)
        case Commit(lsn, end, at):
            return b"C\0" + struct.pack("!qqq", lsn, end, at)
        case Origin(lsn, name):
            return b"O" + struct.pack("!q", lsn) + text(name)
        case Relation(oid, namespace, name, identity, columns):
            head = b"R" + struct.pack("!I", oid) + text(namespace) + text(name) + identity.encode()
            return (
                head
                + struct.pack("!H", len(columns))
                + b"".join(
                    bytes([c.is_key]) + text(c.name) + struct.pack("!Ii", c.type_oid, c.type_modifier)
                    for c in columns
                )
            )
        case Type(oid, namespace, name):
            return b"Y" + struct.pack("!I", oid) + text(namespace) + text(name)
        case Insert(oid, new):
            return b"I" + struct.pack("!I", oid) + b"N" + row(new)
        case Update(oid, old, whole, new):
            before = b"" if old is None else (b"O" if whole else b"K") + row(old)
            return b"U" + struct.pack("!I", oid) + before + b"N" + row(new)
        case Delete(oid, old, whole):
            return b"D" + struct.pack("!I", oid) + (b"O" if whole else b"K") + row(old)
        case Truncate(oids, flags):
            return b"T" + struct.pack("!IB", len(oids), flags) + struct.pack(f"!{len(oids)}I", *oids)
        case Message(transactional, lsn, prefix, content):
            return b"M" + struct.pack("!Bq", transactional, lsn) + text(prefix) + struct.pack(
                "!I", len(content)
            ) + content  # fmt: skip


@given(MESSAGES)
def test_every_message_comes_back(message: AnyMessage) -> None:
    assert decode(encode(message)) == message
    assert type(decode(encode(message))) is type(message)


@given(MESSAGES, st.data())
def test_a_message_cut_short_is_an_error(message: AnyMessage, data: st.DataObject) -> None:
    whole = encode(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(PgOutputError):
        decode(whole[:cut])


@given(MESSAGES, st.binary(min_size=1, max_size=8))
def test_a_message_with_a_tail_is_an_error(message: AnyMessage, tail: bytes) -> None:
    with pytest.raises(PgOutputError):
        decode(encode(message) + tail)


@given(st.binary(min_size=1, max_size=60))
def test_anything_is_understood_or_an_error_of_ours(data: bytes) -> None:
    try:
        message = decode(data)
    except SourceError:
        return
    # An origin's schema pg_catalog is the one thing that has two spellings.
    if not isinstance(message, Relation | Type):
        assert encode(message) == data


@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(b"BCORYIUDTM")))
def test_an_unknown_kind_is_an_error(kind: int) -> None:
    """Among them the messages of later protocols: streamed, prepared, two-phase."""
    with pytest.raises(PgOutputError, match="unknown kind"):
        decode(bytes([kind]) + b"\0" * 20)


@pytest.mark.parametrize(
    "data",
    [
        b"I\0\0\0\1K\0\0",  # an old row where a new one belongs
        b"U\0\0\0\1X\0\0",
        b"D\0\0\0\1N\0\0",
        b"I\0\0\0\1N\0\1b\0\0\0\1x",  # a binary value, which nobody asked for
        b"C\1" + b"\0" * 24,  # flags
        b"M\2" + b"\0" * 8 + b"p\0\0\0\0\0",
        b"R\0\0\0\1s\0t\0x\0\0",  # an unknown replica identity
    ],
)
def test_what_is_not_of_the_protocol_is_an_error(data: bytes) -> None:
    with pytest.raises(PgOutputError):
        decode(data)


def test_the_schema_pg_catalog_comes_without_its_name() -> None:
    found = decode(b"R\0\0\0\1\0pg_class\0d\0\0")
    assert found == Relation(1, "pg_catalog", "pg_class", "d", ())
