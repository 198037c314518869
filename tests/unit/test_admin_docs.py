"""The admin's page, alert rules and dashboard name what exists, and all of it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import s3gc_fastapi
from acceptance.docs_blocks import ROOT
from s3gc import create_config
from s3gc_fastapi._prometheus import METRICS

PAGE = (ROOT / "docs" / "admin.md").read_text(encoding="utf-8")
SOURCE = ROOT / "packages" / "s3gc-fastapi" / "src" / "s3gc_fastapi"


def table(name: str) -> str:
    (found,) = re.findall(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", PAGE, re.DOTALL)
    return str(found)


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def endpoints() -> Iterator[tuple[str, dict[str, Any]]]:
    from fastapi import FastAPI

    app = FastAPI()
    s3gc_fastapi.setup_s3gc_plugin(app, create_config("b-1", admin_api_key="k" * 20))
    for path, methods in app.openapi()["paths"].items():
        for method, told in methods.items():
            yield f"{method.upper()} {path.removeprefix('/admin/s3gc')}", told


def test_every_endpoint_is_documented_word_by_word() -> None:
    rows = [f"| `{name}` | {told['summary']} |" for name, told in endpoints()]
    assert sorted(table("endpoints").splitlines()[2:]) == sorted(rows)


def test_every_metric_is_documented_word_by_word() -> None:
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |"
        for name, (kind, text, labels) in METRICS.items()
    ]
    assert table("metrics").splitlines()[2:] == rows


def test_every_public_name_is_documented_with_its_arguments() -> None:
    told = dict(re.findall(r"^\| `(\w+)(\([^`]*\))?` \|", table("admin names"), re.MULTILINE))
    assert set(told) == set(s3gc_fastapi.__all__)
    for name, arguments in told.items():
        if arguments:
            parameters = list(inspect.signature(getattr(s3gc_fastapi, name)).parameters)
            assert arguments == f"({', '.join(parameters)})", name


def test_every_line_of_the_log_is_documented() -> None:
    said = {
        node.args[0].value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("info", "warning", "error", "exception", "critical")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert sorted(first_cells(table("admin log"))) == sorted(said)


def test_no_line_of_the_log_has_a_name_that_logging_keeps_for_itself() -> None:
    """The standard library refuses such a line: it would be an error instead."""
    import logging

    kept = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("info", "warning", "error")
            ):
                assert not kept & {str(keyword.arg) for keyword in node.keywords}, path.name


def test_the_events_that_people_watch_for_exist() -> None:
    events = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    for line in (
        "| `gc_cycle_started` | A plan or a collect begins: operation_id, kind, mode. |",
        "| `object_backed_up_and_deleted` | One object was deleted: operation_id, s3_key, size. |",
        "| `gc_cycle_completed` | A collect ended well: operation_id, mode, deleted, duration. |",
    ):
        assert line in events
