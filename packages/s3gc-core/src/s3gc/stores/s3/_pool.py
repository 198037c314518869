"""Connections to one bucket, straight or through the proxy that the environment names."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.utils
import urllib3
import urllib3.connection
import urllib3.util

from s3gc.errors import ConfigError
from s3gc.stores.s3._address import Address
from s3gc.stores.s3._options import S3Options


class _ByProxy(urllib3.connection.HTTPConnection):
    """Names the whole URL to a proxy (RFC 9112, 3.2.2). urllib3 would normalise the path, and so the key."""

    origin = ""

    def putrequest(self, method: str, url: str, *args: Any, **options: Any) -> None:
        super().putrequest(method, f"{self.origin}{url}", *args, **options)


def proxy_for(address: Address) -> str | None:
    """The proxy's URL by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as botocore reads them; None: straight.

    Raises:
        ConfigError: it isn't the URL of a proxy.
    """
    url = f"{address.scheme}://{address.host_header}/"
    found = botocore.utils.get_environ_proxies(url).get(address.scheme)
    if not found:
        return None
    proxy = str(found) if "://" in found else f"http://{found}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or (parts.scheme == "https" and address.scheme == "http"):
        name = f"{address.scheme.upper()}_PROXY"
        raise ConfigError(
            f"{name} must look like http://host:port for the endpoint {url}"
        )  # may hold a secret
    return proxy


def open_pool(
    address: Address, proxy: str | None, options: S3Options, max_connections: int, trusted: str
) -> urllib3.HTTPConnectionPool:
    """A pool of connections to the bucket's host.

    Args:
        proxy: from :func:`proxy_for`.
        trusted: the file with the certificates to trust.
    """
    common: dict[str, Any] = {
        "maxsize": max_connections,
        "block": False,
        "timeout": urllib3.Timeout(connect=options.connect_timeout, read=options.read_timeout),
    }
    trust: dict[str, Any] = {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": trusted,
    }
    if proxy is None:
        if address.scheme == "https":
            return urllib3.HTTPSConnectionPool(address.host, port=address.port, **common, **trust)
        return urllib3.HTTPConnectionPool(address.host, port=address.port, **common)
    parts = urlsplit(proxy)
    headers = _credentials(parts.username, parts.password)
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if address.scheme == "https":  # a tunnel: the proxy sees the host and no more
        manager = urllib3.ProxyManager(bare, proxy_headers=headers, **common, **trust)
        pool = manager.connection_from_host(address.host, address.port, "https")
        pool.s3gc_manager = manager  # type: ignore[attr-defined] # it closes the pool when it is collected
        return pool
    pool = urllib3.HTTPConnectionPool(str(parts.hostname), port=parts.port or 80, headers=headers, **common)
    origin = f"http://{address.host_header}"
    pool.ConnectionCls = type("_ByThisProxy", (_ByProxy,), {"origin": origin})
    return pool


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    return dict(urllib3.util.make_headers(proxy_basic_auth=f"{unquote(user)}:{unquote(password or '')}"))
