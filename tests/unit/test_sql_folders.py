"""Which folders a value could mean, and where a binary log's position stands in its history."""

from __future__ import annotations

from typing import Any

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from s3gc.resolver import Resolver
from s3gc.sources._mysql import MysqlDialect, binlog_ordinal
from s3gc.sources.folders import FolderReader
from s3gc.sources.sql import SqlSource

RESOLVER = Resolver("my-bucket", endpoint_hosts=["minio.local"], base_urls=["https://cdn.example.com/media/"])


def folders(value: object, resolver: Resolver = RESOLVER) -> frozenset[str]:
    return FolderReader(resolver).folders(resolver.keys(value))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("photos/7", {"photos/7/"}),
        ("photos/7/", {"photos/7/"}),
        ("photos/7//", {"photos/7/"}),
        ("/photos/7", {"/photos/7/", "photos/7/"}),
        ("./photos/7", {"./photos/7/", "photos/7/"}),
        ("photos/7/.", {"photos/7/./", "photos/7/"}),
        ("photos/8/../7", {"photos/8/../7/", "photos/7/"}),
        ("photos/7/8/..", {"photos/7/8/../", "photos/7/"}),
        ("photos%20of/7", {"photos%20of/7/", "photos of/7/"}),
        ("photos of 7", {"photos of 7/"}),
        ("s3://my-bucket/photos/7/", {"photos/7/"}),
        ("https://cdn.example.com/media/photos/7?v=1", {"photos/7/"}),
        ("https://my-bucket.s3.amazonaws.com/photos/7", {"photos/7/"}),
        ('["photos/7", "photos/8/"]', {"photos/7/", "photos/8/"}),
        ("photos/7, photos/8", {"photos/7/", "photos/8/"}),
        (b"photos/7", {"photos/7/"}),
        ("example.com", {"example.com/"}),
        ("release.v2/", {"release.v2/"}),
    ],
)
def test_a_folder(value: object, wanted: set[str]) -> None:
    found = folders(value)
    assert wanted <= found
    assert "" not in found, "the whole bucket"


@pytest.mark.parametrize(
    "value",
    [
        "/",
        "//",
        ".",
        "./",
        "..",
        "../",
        "/./",
        "...",
        "a/..",
        "my-bucket",
        "my-bucket/",
        "/my-bucket/",
        "s3://my-bucket",
        "s3://my-bucket/",
        " s3://my-bucket/ ",
        '{"root": "s3://my-bucket/"}',
        "arn:aws:s3:::my-bucket/",
        "https://my-bucket.s3.amazonaws.com",
        "https://my-bucket.s3.amazonaws.com/",
        "my-bucket.s3.eu-west-1.amazonaws.com",
        "https://minio.local/my-bucket/",
        "minio.local/my-bucket",
        "https://cdn.example.com/media/",
        "https://cdn.example.com/media",
        "/media/",
        "media",
        "https://cdn.example.com",
        "//cdn.example.com",
        "https://cdn.example.com/?v=1",
    ],
)
def test_the_whole_bucket(value: str) -> None:
    assert "" in folders(value)


@pytest.mark.parametrize("value", ["", None, True, "s3://other-bucket", "s3://other-bucket/a/"])
def test_no_folder_of_this_bucket(value: object) -> None:
    assert folders(value) <= {"s3://other-bucket/", "s3://other-bucket/a/"}


@given(st.one_of(st.text(), st.binary(), st.lists(st.text(alphabet="a./:-%?# ,\\\"'"))))
def test_every_key_of_a_value_has_its_folder(value: Any) -> None:
    found = folders(value)
    assert all(folder == "" or folder.endswith("/") for folder in found)
    assert {key.rstrip("/") + "/" for key in RESOLVER.keys(value)} <= found


@given(st.text(alphabet="ab./-_ %", min_size=1, max_size=12), st.text(alphabet="ab./-", max_size=6))
def test_what_an_object_below_the_value_is_called_lies_in_one_of_its_folders(value: str, name: str) -> None:
    """An application joins the folder and a name; whatever the resolver reads in the whole is protected."""
    found = folders(value)
    key = f"{value.rstrip('/')}/{name}"
    assert any(key.startswith(folder) for folder in found)


@pytest.mark.parametrize(
    ("file", "position", "ordinal"),
    [
        ("binlog.000001", "4", (1 << 32) + 4),
        ("mysql-bin.1234567", "4294967295", (1234567 << 32) + 0xFFFFFFFF),
        ("mysql-bin.000001", "5000000000", (1 << 32) + 0xFFFFFFFF),
        ("a.b.000010", "1", (10 << 32) + 1),
        ("", "0", None),
        (None, None, None),
        ("binlog", "4", None),
        ("binlog.000001", "", None),
    ],
)
def test_places_in_a_binary_log(file: str | None, position: str | None, ordinal: int | None) -> None:
    assert binlog_ordinal(file, position) == ordinal


def test_places_in_a_binary_log_grow() -> None:
    places = [("x.000001", "4"), ("x.000001", "9999999999"), ("x.000002", "4"), ("x.1000000", "4")]
    ordinals = [binlog_ordinal(*place) or 0 for place in places]
    assert ordinals == sorted(set(ordinals))
    assert ordinals[-1] < 1 << 63  # the registry keeps it as a signed number


def refused(code: int) -> DBAPIError:
    return DBAPIError("SHOW", None, pymysql.err.OperationalError(code, "no"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answers", "ordinal"),
    [
        ({"SHOW BINARY LOG STATUS": [("b.000003", 7, "", "", "")]}, (3 << 32) + 7),  # MySQL 8.4
        ({"SHOW BINARY LOG STATUS": refused(1064), "SHOW MASTER STATUS": [("b.000002", 7)]}, (2 << 32) + 7),
        ({"SHOW BINARY LOG STATUS": refused(1064), "SHOW MASTER STATUS": refused(1227)}, None),
        ({"SHOW BINARY LOG STATUS": refused(1227), "SHOW MASTER STATUS": refused(1064)}, None),
        ({"SHOW BINARY LOG STATUS": [], "SHOW MASTER STATUS": refused(1064)}, None),
    ],
)
async def test_mysql_tells_its_binary_log_or_nothing(
    answers: dict[str, Any], ordinal: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(_: object, sql: str, *parameters: object) -> Any:
        if "binlog_snapshot" in sql:
            return []
        answer = answers[sql]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("s3gc.sources._mysql.fetch", fetch)
    dialect = SqlSource("mysql://h/d", {"t": ["c"]}, RESOLVER)._dialect
    assert isinstance(dialect, MysqlDialect)
    assert await dialect._ordinal(None) == ordinal  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_another_error_is_not_taken_for_a_missing_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(_: object, sql: str, *parameters: object) -> Any:
        if "binlog_snapshot" in sql:
            return []
        raise refused(2013)

    monkeypatch.setattr("s3gc.sources._mysql.fetch", fetch)
    dialect = SqlSource("mysql://h/d", {"t": ["c"]}, RESOLVER)._dialect
    assert isinstance(dialect, MysqlDialect)
    with pytest.raises(DBAPIError):
        await dialect._ordinal(None)  # type: ignore[arg-type]
