"""The page of the configuration names every option, variable, key and safety number, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from s3gc.config import OPTIONS
from s3gc.safety import Safety

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_option_is_on_the_page(page: str) -> None:
    for option in OPTIONS:
        assert f"`{option.name}`" in page
        assert option.env is None or f"`{option.env}`" in page
    for name in ("S3GC_EXECUTE_MODE", "[tables]", "[safety]"):
        assert f"`{name}`" in page


def test_every_safety_number_is_on_the_page(page: str) -> None:
    for field in attrs.fields(Safety):
        assert f"`{field.name}`" in page


def test_no_variable_is_made_up(page: str) -> None:
    known = {option.env for option in OPTIONS} | {"S3GC_EXECUTE_MODE", "S3GC_CONFIG"}
    assert set(re.findall(r"\bS3GC_[A-Z_]*[A-Z]\b", page)) <= known
