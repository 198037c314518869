"""Signed reads that differ in nothing but key and ETag: what they have in common is made once a second.

The bytes are those that :meth:`~s3gc.stores.s3._transport.Transport.signed` leads to, at a third of the time;
``tests/property/test_s3_lane.py`` holds the two against each other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime

from attrs import frozen

from s3gc.stores.s3._signing import EMPTY_SHA256, Credentials, Signer, encode_key

_PLAIN_KEY = re.compile(r"[A-Za-z0-9/._~-]+")  # stands in a path as it is
_PLAIN_ETAG = re.compile(r'(?:W/)?"[!#-~]+"')  # RFC 9110, 8.8.3, without the rare bytes beyond ASCII


@frozen
class _Common:
    """What all requests of one second have in common."""

    second: int
    credentials: Credentials
    before: str  # of the signed headers, those before if-match
    after: str  # and those after it, to the end of the canonical request
    start: str  # of the text that is signed
    signing_key: bytes
    head: str  # the headers without if-match, and the beginning of the authorization


class QuickReads:
    """Makes them, for one bucket.

    Args:
        base: the path before the keys.
        headers: those of every request, ``host`` among them; without ``if-match``.
    """

    def __init__(
        self,
        base: str,
        signer: Signer,
        headers: Mapping[str, str],
        credentials: Callable[[], Credentials],
        now: Callable[[], datetime],
    ) -> None:
        self._base = base
        self._signer = signer
        self._headers = dict(headers)
        self._credentials = credentials
        self._now = now
        self._common: _Common | None = None

    def request(self, key: str, etag: str) -> bytes | None:
        """A GET of ``key`` if its ETag is ``etag`` (as If-Match wants it); None if that has odd characters.

        Raises:
            AccessDenied: there are no credentials.
        """
        if not _PLAIN_ETAG.fullmatch(etag):
            return None
        now, credentials = self._now(), self._credentials()
        common = self._common
        if common is None or common.second != int(now.timestamp()) or common.credentials != credentials:
            common = self._common = self._made(now, credentials)
        path = f"{self._base}/{key if _PLAIN_KEY.fullmatch(key) else encode_key(key)}"
        canonical = f"GET\n{path}\n\n{common.before}if-match:{etag}\n{common.after}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(common.signing_key, f"{common.start}{digest}".encode(), "sha256").hex()
        return f"GET {path} HTTP/1.1\r\nif-match: {etag}\r\n{common.head}{signature}\r\n\r\n".encode()

    def _made(self, now: datetime, credentials: Credentials) -> _Common:
        parts = self._signer.parts({**self._headers, "if-match": "*"}, EMPTY_SHA256, credentials, now)
        before, _, after = parts.lines.partition("if-match:*\n")
        headers = {name: value for name, value in parts.headers.items() if name != "if-match"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return _Common(
            int(now.timestamp()),
            credentials,
            before,
            f"{after}\n{parts.listed}\n{EMPTY_SHA256}",
            f"AWS4-HMAC-SHA256\n{parts.stamp}\n{parts.scope}\n",
            parts.signing_key,
            f"{lines}authorization: {parts.authorization}",
        )
