"""Secrets stay inside: URLs for showing, URLs for hashing, and texts with every secret taken out.

Two readings of a URL, on purpose. For showing (:func:`redact`) anything that could be part of a secret is
hidden, also in a URL that is written wrongly (a password with a raw ``@``, ``/``, ``?`` or ``#`` in it). For
hashing (:func:`identity`) the URL is read as its driver reads it, so that host and database stay visible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_plus

if TYPE_CHECKING:
    from s3gc.config._config import Draft

HIDDEN = "***"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|signature|api[-_]?key|access[-_]?key|private[-_]?key|^key$|^sig$|^auth$|authorization",
    re.IGNORECASE,
)
_SECRET_INSIDE = re.compile(r"(pass\w*|pwd|secret|token)\s*=|://[^\s/]*@", re.IGNORECASE)
_SHORT = 4  # characters; a shorter secret is only searched for as a whole word


def redact(url: str) -> str:
    """The URL for showing: no password, no secret query parameter, whatever way it is written.

    Everything between the first ``:`` and the last ``@`` is hidden. Text that isn't a URL is hidden whole.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return HIDDEN if url else ""
    head, at, tail = url[scheme.end() :].rpartition("@")
    if at:
        user, colon, _ = head.partition(":")
        if colon:
            head = f"{user}:{HIDDEN}"
        elif scheme.group().lower() in ("http://", "https://"):
            head = HIDDEN  # a name alone is a token there
    path, mark, query = f"{head}{at}{tail}".partition("?")
    return f"{scheme.group()}{path}{mark}{'&'.join(_shown_parameters(query))}"


def _shown_parameters(query: str) -> Iterator[str]:
    after_secret = False
    for piece in query.split("&"):
        name, equals, value = piece.partition("=")
        if _is_secret(name, value):
            after_secret = True
            yield f"{name}={HIDDEN}"
        elif after_secret and not equals:
            yield HIDDEN  # the rest of a secret with a raw & in it
        else:
            yield piece


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(unquote_plus(name)) or _SECRET_INSIDE.search(unquote_plus(value)))


def identity(url: str) -> str:
    """The URL for hashing: no password and no secret parameter at all, everything else as it is."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return url
    user, _, rest = _userinfo(url[scheme.end() :])
    path, _, query = rest.partition("?")
    kept = []
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        if piece and not _is_secret(name, value):
            kept.append(piece)
    return f"{scheme.group().lower()}{user}@{path}?{'&'.join(sorted(kept))}"


def _userinfo(text: str) -> tuple[str, str, str]:
    """(user, password, rest) as RFC 3986 reads them, else as SQLAlchemy does (raw ``/?#`` in a password)."""
    authority = re.split(r"[/?#]", text, maxsplit=1)[0]
    if "@" in authority:
        userinfo, _, _ = authority.rpartition("@")
        user, _, password = userinfo.partition(":")
        return user, password, text[len(userinfo) + 1 :]
    lenient = re.match(r"([^:/]*):([^@]*)@", text)
    host_and_port = re.fullmatch(r"[^:]*:\d*", authority)
    if lenient and not host_and_port:
        return lenient.group(1), lenient.group(2), text[lenient.end() :]
    return "", "", text


def urls_of(config: Draft) -> Iterator[str]:
    """Every URL of a configuration, as it was given."""
    for url in (
        getattr(config, "bucket", None),
        config.endpoint_url,
        config.database_url,
        config.cdc_connection_url,
        config.registry_url,
        config.vault_path,
        *config.sources,
        *config.base_urls,
        *config.replicas,
        *config.restore_targets,
    ):
        if url and "://" in url:
            yield url


def _secrets(url: str) -> Iterator[str]:
    scheme = _SCHEME.match(url)
    if scheme is None:
        return
    text = url[scheme.end() :]
    head, at, _ = text.rpartition("@")
    user, colon, widest = head.partition(":")
    if colon:
        yield widest
    elif at and scheme.group().lower() in ("http://", "https://"):
        yield user
    yield _userinfo(text)[1]
    _, _, query = text.partition("?")
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        if _is_secret(name, value):
            yield value


def _spellings(secret: str) -> Iterator[str]:
    """The secret as drivers and loggers write it."""
    for plain in {secret, unquote(secret), unquote_plus(secret)}:
        for spelling in (plain, quote(plain), quote(plain, safe=""), quote_plus(plain)):
            yield spelling
            yield repr(spelling)[1:-1]


def scrub(text: str, config: Draft) -> str:
    """``text`` with every secret of ``config`` taken out: use it on any error or log line from a driver.

    A secret of less than four characters is only replaced where it stands alone.
    """
    replacements: dict[str, str] = {}
    secrets: set[str] = set()
    for url in urls_of(config):
        shown = redact(url)
        if shown != url:
            replacements[url] = shown
        for secret in _secrets(url):
            secrets.update(_spellings(secret))
    if config.admin_api_key:
        secrets.update(_spellings(config.admin_api_key))
    for named in config.admin_keys:
        secrets.update(_spellings(named.split(":", 2)[2]))
    secrets.discard("")
    for secret in secrets:
        replacements.setdefault(secret, HIDDEN)
    if not replacements:
        return text
    patterns = [
        re.escape(found) if len(found) >= _SHORT else rf"(?<![A-Za-z0-9]){re.escape(found)}(?![A-Za-z0-9])"
        for found in sorted(replacements, key=len, reverse=True)
    ]
    return re.sub("|".join(patterns), lambda match: replacements[match.group()], text)
