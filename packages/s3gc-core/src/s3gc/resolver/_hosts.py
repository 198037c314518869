"""Whose bucket a host name speaks of: ours, certainly another one's, or nobody knows."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from urllib.parse import unquote

from attrs import frozen

from s3gc.errors import ConfigError

_REGION = r"[a-z]{2,4}(?:-[a-z]{1,12}){1,3}-\d{1,2}"
# Forms of https://docs.aws.amazon.com/general/latest/gr/s3.html: global, regional, dual-stack, FIPS,
# accelerate, website. Access points, Object Lambda, Outposts, Express and VPC endpoints aren't here on
# purpose: their names don't tell the bucket, so they count as unknown hosts and protect.
_AWS = re.compile(
    rf"(?:(?P<bucket>.+?)\.)?s3(?:[.-](?:fips|accelerate|website|dualstack|external-1|{_REGION}))*"
    r"\.amazonaws\.com(?:\.cn)?"
)
_LONGEST_HOST = 253  # RFC 1035
_CACHED_HOSTS = 4096


class Owner(enum.Enum):
    """What a host says about the bucket."""

    OURS = "virtual-host-style URL"
    PATH_STYLE = "path-style URL"
    OTHER = "another bucket"
    UNKNOWN = "path of a URL"


@frozen
class _Endpoint:
    host: str
    port: str


class Hosts:
    """Classifies host names for one bucket."""

    def __init__(self, bucket: str, endpoint_hosts: Sequence[str]) -> None:
        self.bucket = bucket
        self._lower = bucket.lower()
        self.endpoints = tuple(e for e in map(_endpoint, endpoint_hosts) if e is not None)
        self._known: dict[str, Owner] = {}

    def owner(self, netloc: str) -> Owner:
        """What ``netloc`` (with or without user and port) says about the bucket."""
        known = self._known.get(netloc)
        if known is None:
            known = self._classify(netloc)
            if len(self._known) < _CACHED_HOSTS and len(netloc) <= 2 * _LONGEST_HOST:
                self._known[netloc] = known
        return known

    def is_ours(self, segment: str) -> bool:
        """Whether a path segment or an s3:// authority is this bucket (a Ceph tenant may stand before it)."""
        if len(segment) > 3 * len(self.bucket) + 1024:
            return False
        return any(name.rpartition(":")[2].lower() == self._lower for name in (segment, unquote(segment)))

    def _classify(self, netloc: str) -> Owner:
        host, port = split_netloc(netloc)
        if len(host) > _LONGEST_HOST:
            return Owner.UNKNOWN
        aws = _AWS.fullmatch(host)
        if aws is not None:
            own = self._lower + "."
            endpoint_only = _AWS.fullmatch(host, len(own)) if host.startswith(own) else None
            if endpoint_only is not None and endpoint_only["bucket"] is None:
                return Owner.OURS
            return Owner.PATH_STYLE if aws["bucket"] is None else Owner.OTHER
        for endpoint in self.endpoints:
            if port != endpoint.port:
                continue
            if host == endpoint.host:
                return Owner.PATH_STYLE
            if host.endswith("." + endpoint.host):
                name = host[: -len(endpoint.host) - 1]
                return Owner.OURS if name == self._lower else Owner.OTHER
        return Owner.UNKNOWN


def split_netloc(netloc: str) -> tuple[str, str]:
    """Host in lower case and port; the default ports and none count as the same, the empty one."""
    host = netloc.rpartition("@")[2].lower()
    port = ""
    if host.startswith("["):
        host, _, port = host.partition("]")
        host, port = host + "]", port.lstrip(":")
    elif ":" in host:
        host, _, port = host.rpartition(":")
    return host.rstrip("."), "" if port in ("80", "443") else port


def _endpoint(text: str) -> _Endpoint | None:
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(
            f"endpoint host {text!r} must be a host name such as 's3.example.com' or 'host:9000'"
        )
    netloc, _, path = text.strip().rpartition("://")[2].lstrip("/").partition("/")
    host, port = split_netloc(netloc)
    if not host or any(c in host for c in " \t?#"):
        raise ConfigError(f"endpoint host {netloc.rpartition('@')[2]!r} isn't a host name")
    # Behind a path the host serves more than S3, so none of its URLs names another bucket for certain.
    return None if path.strip("/") else _Endpoint(host, port)
