"""Types that the log doesn't tell apart from others, for those who know a table's definition."""

from __future__ import annotations

from uuid import UUID


def uuid_text(raw: bytes) -> str:
    """A UUID of MariaDB as the server prints it. In the log it is a BINARY(16), its bytes in that order.

    Raises:
        ValueError: there aren't sixteen bytes.
    """
    return str(UUID(bytes=raw))
