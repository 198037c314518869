"""The API against its own OpenAPI: whatever is sent, no answer is a 500, and each is one that it promises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fixtures_admin import AS_OPERATOR, Site, serve
from s3gc import create_config
from s3gc_fastapi import setup_s3gc_plugin

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))
"""Requests to each endpoint; more of them in an hour of one's own."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = Site(tmp_path_factory.mktemp("site"))
    with serve(site.app(config=site.config(mode="dry_run"))) as address:
        yield address


def operations() -> list[Any]:
    """Every operation but the streams, which don't end by themselves."""
    described = FastAPI()
    setup_s3gc_plugin(described, create_config("b-1", admin_api_key="k" * 20))
    found = schemathesis.openapi.from_dict(described.openapi()).get_all_operations()
    every = [each.ok() for each in found]
    assert len(every) > 15
    return [each for each in every if not each.path.endswith("/events")]


@pytest.mark.slow
@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.label)
def test_whatever_is_sent_the_answer_is_one_that_is_promised(operation: Any, address: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=address, headers=AS_OPERATOR, checks=CHECKS)

    ask()
