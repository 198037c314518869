"""Keys into request targets, and AWS Signature Version 4 over exactly these targets.

The rules are those of "Authenticating Requests: Using the Authorization Header" in the S3 API reference:
for S3 the path is encoded once and never normalised. ``tests/property/test_s3_signing.py`` holds this
against botocore's signer.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from attrs import field, frozen

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_SIGNED = ("host", "content-md5", "content-type", "range")
_SIGNED_PREFIXES = ("x-amz-", "if-")


def encode_key(key: str) -> str:
    """Percent-encode all bytes of ``key`` but unreserved ones and ``/``. Nothing is normalised.

    Raises:
        UnicodeEncodeError: the key isn't Unicode text (a lone surrogate).
    """
    return quote(key.encode("utf-8"), safe="/-._~")


def _encode(text: str) -> str:
    return quote(text.encode("utf-8"), safe="-._~")


def encode_query(query: Iterable[tuple[str, str | None]]) -> tuple[str, str]:
    """The query for the wire and for the signature; they differ for names without a value."""
    pairs = sorted((_encode(name), None if value is None else _encode(value)) for name, value in query)
    wire = "&".join(name if value is None else f"{name}={value}" for name, value in pairs)
    return wire, "&".join(f"{name}={value or ''}" for name, value in pairs)


@frozen
class Credentials:
    """What a signature needs. The secrets are in no repr."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode("utf-8"), "sha256")


@frozen
class Parts:
    """A signature in the making."""

    headers: Mapping[str, str]  # all that are sent, but for the authorization
    stamp: str
    scope: str
    listed: str  # the names of the signed headers
    lines: str  # these headers in canonical form
    signing_key: bytes = field(repr=False)
    authorization: str  # the header's value, up to the signature's hex


class Signer:
    """Signs requests of one region. Safe to use in several threads."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._cached: tuple[str, str, bytes] | None = None  # day, secret, signing key

    def _signing_key(self, secret: str, day: str) -> bytes:
        cached = self._cached
        if cached is not None and cached[0] == day and cached[1] == secret:
            return cached[2]
        key = _hmac(_hmac(_hmac(_hmac(f"AWS4{secret}".encode(), day), self._region), "s3"), "aws4_request")
        self._cached = (day, secret, key)
        return key

    def sign(
        self,
        method: str,
        path: str,
        canonical_query: str,
        headers: Mapping[str, str],
        *,
        payload_sha256: str,
        credentials: Credentials,
        now: datetime,
    ) -> dict[str, str]:
        """``headers`` (lower-case names, ``host`` among them) with the signature added.

        Args:
            path: the encoded path as it goes over the wire.
            now: aware; stands in the signature to the second.
        """
        parts = self.parts(headers, payload_sha256, credentials, now)
        canonical = f"{method}\n{path}\n{canonical_query}\n{parts.lines}\n{parts.listed}\n{payload_sha256}"
        digest = hashlib.sha256(canonical.encode("utf-8")).hexdigest()
        signature = _hmac(parts.signing_key, f"AWS4-HMAC-SHA256\n{parts.stamp}\n{parts.scope}\n{digest}")
        return {**parts.headers, "authorization": f"{parts.authorization}{signature.hex()}"}

    def parts(
        self, headers: Mapping[str, str], payload_sha256: str, credentials: Credentials, now: datetime
    ) -> Parts:
        """All of a signature that path and query have no part in."""
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = dict(headers)
        signed["x-amz-date"] = stamp
        signed["x-amz-content-sha256"] = payload_sha256
        if credentials.token is not None:
            signed["x-amz-security-token"] = credentials.token
        names = sorted(n for n in signed if n in _SIGNED or n.startswith(_SIGNED_PREFIXES))
        listed = ";".join(names)
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        return Parts(
            signed,
            stamp,
            scope,
            listed,
            "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names),
            self._signing_key(credentials.secret_key, stamp[:8]),
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={listed}, Signature=",
        )
