"""What a MySQL catalogue says that no server here can be made to say."""

from __future__ import annotations

from typing import Any

import pytest

from s3gc.errors import SourceError
from s3gc.sources import _survey_mysql
from s3gc.sources._dialect import LooseTable, TrackedTable

pytestmark = pytest.mark.anyio
TABLES = [
    ("app", "near", "BASE TABLE", "InnoDB"),
    ("app", "far", "BASE TABLE", "FEDERATED"),
    ("app", "cut", "BASE TABLE", "InnoDB"),
    ("app", "shut", "BASE TABLE", "InnoDB"),
    ("app", "seen", "VIEW", None),
]
COLUMNS = [
    ("app", "near", "id", "int", "int", "select,insert"),
    ("app", "near", "v", "varchar", "varchar(9)", "SELECT"),
    ("app", "far", "v", "text", "text", "select"),
    ("app", "cut", "v", "text", "text", "select"),
    ("app", "shut", "id", "int", "int", ""),
    ("app", "shut", "v", "blob", "blob", "select"),
    ("app", "shut", "w", "text", "text", "references,select_not"),
    ("app", "seen", "v", "text", "text", "select"),
]
KEYS = [("app", "near", "id", None), ("app", "cut", "v", 10), ("app", "shut", "id", None)]


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> Any:
    async def fetch(_: object, sql: str) -> list[Any]:
        if sql == "SELECT DATABASE()":
            return [("app",)]
        for name, rows in (("tables", TABLES), ("statistics", KEYS), ("columns", COLUMNS)):
            if f"information_schema.{name}" in sql:
                return rows
        raise AssertionError(sql)

    monkeypatch.setattr(_survey_mysql, "fetch", fetch)

    def quoted(*parts: str) -> str:
        return ".".join(f"`{part}`" for part in parts)

    async def look(*tables: TrackedTable) -> Any:
        return await _survey_mysql.survey(None, tables, quoted)  # type: ignore[arg-type]

    return look


async def test_keys_that_sort_and_keys_that_do_not(survey: Any) -> None:
    found = await survey(TrackedTable("seen", ("seen",), (("v", "v"),)))
    tables: dict[str, LooseTable] = {table.spec: table for table in found.tables}
    assert set(tables) == {"near", "cut", "shut"}, "rows of another server aren't looked at"
    assert (list(tables["near"].key), tables["near"].newest) == (["t.`id`"], "ORDER BY t.`id` DESC")
    assert tables["cut"].newest == "", "a key on the first characters would sort the whole table"
    assert (list(tables["shut"].key), tables["shut"].newest) == ([], ""), "its key may not be read"
    assert [column.name for column in tables["shut"].columns] == ["v"]
    assert found.hidden == ["shut.w"]


async def test_a_missing_table_is_an_error(survey: Any) -> None:
    with pytest.raises(SourceError, match="did you mean 'near'"):
        await survey(TrackedTable("neer", ("neer",), (("v", "v"),)))
