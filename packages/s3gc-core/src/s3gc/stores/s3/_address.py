"""Where a bucket is: scheme, host, and the path before its keys."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from attrs import frozen

from s3gc.errors import ConfigError

Addressing = Literal["auto", "path", "virtual"]

_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@frozen
class Address:
    """A bucket's place on the network. ``base`` ends without a slash: a key's path is ``base/key``."""

    scheme: str
    host: str
    port: int
    base: str
    identity: str  # the store's url: the same for every way to write the endpoint

    @property
    def host_header(self) -> str:
        """As clients write it: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def locate(bucket: str, *, region: str, endpoint_url: str | None, addressing: Addressing) -> Address:
    """Find the address of ``bucket``.

    On AWS a bucket is a host name of its own where its name allows (no dots: a certificate covers one
    label; Amazon S3 user guide, "Virtual hosting of buckets"). Behind an endpoint it is a path.

    Raises:
        ConfigError: the bucket's name, the endpoint or the addressing can't be used.
    """
    if not _BUCKET.fullmatch(bucket) or bucket in (".", ".."):
        raise ConfigError(f"{bucket!r} is not a bucket name: use letters, digits, '.', '-' and '_' only")
    if addressing not in ("auto", "path", "virtual"):
        raise ConfigError(f"addressing must be 'auto', 'path' or 'virtual', not {addressing!r}")
    if addressing == "virtual" and not _DNS_BUCKET.fullmatch(bucket):
        raise ConfigError(f"the bucket name {bucket!r} can't be part of a host name: use addressing='path'")
    if endpoint_url is None:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        host, virtual = f"s3.{region}.{suffix}", addressing != "path" and bool(_DNS_BUCKET.fullmatch(bucket))
        where = Address("https", host, 443, "", f"s3://{bucket}")
    else:
        where, virtual = _endpoint(bucket, endpoint_url), addressing == "virtual"
    if virtual:
        return Address(where.scheme, f"{bucket}.{where.host}", where.port, where.base, where.identity)
    return Address(where.scheme, where.host, where.port, f"{where.base}/{bucket}", where.identity)


def _endpoint(bucket: str, endpoint_url: str) -> Address:
    try:
        parts = urlsplit(endpoint_url)
        port = parts.port
    except ValueError:
        raise ConfigError("endpoint_url can't be read: write it as https://host:port") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("endpoint_url must not hold credentials: pass access_key and secret_key")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"endpoint_url must look like https://host:port, got {endpoint_url!r}")
    base = parts.path.rstrip("/")
    if base and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", base):
        raise ConfigError(
            f"the path of endpoint_url {endpoint_url!r} holds characters that can't be signed safely"
        )
    port = port or _DEFAULT_PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(parts.scheme, parts.hostname, port, base, f"s3://{bucket}?endpoint={host}:{port}{base}")
