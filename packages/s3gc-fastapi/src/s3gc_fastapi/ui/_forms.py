"""What a page's form says: read in bounded size, and refused where it can't be meant."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from s3gc_fastapi._asked import key_of, moment_of, read_moment
from s3gc_fastapi._errors import Refusal

LARGEST_FORM = 65_536
"""Bytes."""


def chosen(what: str, value: str) -> dict[str, Any]:
    """The filters of a restore.

    Raises:
        Refusal: they can't be meant.
    """
    if what == "key" and value:
        return {"key": key_of(value)}
    if what == "prefix" and value:
        return {"prefix": key_of(value)}
    if what == "operation" and value:
        return {"operation_id": value.strip()[:64]}
    if what == "time":
        return {"at": moment_of(read_moment(value.strip()))}
    raise Refusal(422, "invalid", "say what to restore")


async def read_form(request: Request) -> FormData:
    """A form.

    Raises:
        Refusal: it is too large, or doesn't say how large it is.
    """
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 10) or int(length) > LARGEST_FORM:
        raise Refusal(413, "too_large", f"a form has at most {LARGEST_FORM:,} bytes")
    return await request.form(max_files=0, max_fields=20)


def field(form: FormData, name: str) -> str:
    """A text; empty when it isn't there."""
    value = form.get(name, "")
    return "" if isinstance(value, UploadFile) else value


def number(form: FormData, name: str, low: int, high: int) -> int:
    """A whole number.

    Raises:
        Refusal: it is none between the two.
    """
    text = field(form, name)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise Refusal(422, "invalid", f"{name} must be a number from {low} to {high}")
    return int(text)
