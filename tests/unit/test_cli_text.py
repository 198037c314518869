"""Numbers, documents and secrets as the command line writes them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc import Mode, ObjectInfo, create_config
from s3gc_cli import _documents
from s3gc_cli._output import Rows, Secrets, write_document
from s3gc_cli._settings import Settings
from s3gc_cli._text import count, size, span

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5 * 10**15, "5,000.0 TB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.44, "0.4 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7_800, "2 h 10 min"),
        (3 * 86_400, "3 days"),
        (9 * 86_400 + 7_200, "9 days 2 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def test_counts() -> None:
    assert [count(number, "object") for number in (0, 1, 2_000)] == ["0 objects", "1 object", "2,000 objects"]
    assert count(2, "entry", "entries") == "2 entries"


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5), st.lists(VALUES, max_size=4))
def test_a_document_is_one_piece_of_json_in_ascii(document: dict[str, Any], rows: list[Any]) -> None:
    stream = io.StringIO()
    write_document(stream, {**document, "rows": Rows(row for row in rows)})
    assert stream.getvalue().isascii()
    assert json.loads(stream.getvalue()) == {**document, "rows": rows}


def test_values_of_the_model_become_json() -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    found = _documents.value(ObjectInfo("a\ud800", 3, "e", moment))
    assert found["key"] == "a\ud800"
    assert found["last_modified"] == "2026-11-23T00:00:00+00:00"
    assert _documents.value({"a": (Mode.EXECUTE, timedelta(seconds=1.5))}) == {"a": ["execute", 1.5]}
    with pytest.raises(TypeError, match="object has no form in JSON"):
        _documents.value(object())


def test_secrets_are_hidden_once_the_configuration_is_known() -> None:
    secrets = Secrets()
    assert secrets.scrub("as it is") == "as it is"
    secrets.of(create_config("bucket", database_url="postgresql://app:hunter22@db/app"))
    assert secrets.scrub("could not log in with hunter22") == "could not log in with ***"
    assert secrets.scrub_all({"a": ["hunter22", 1, None]}) == {"a": ["***", 1, None]}


def test_options_after_the_command_add_to_those_before_it() -> None:
    before = Settings(json=True, verbose=1)
    assert before.merged(Settings(quiet=True)) == Settings(json=True, quiet=True, verbose=1)
    assert not before.debug
    assert before.merged(Settings(verbose=2)).debug
