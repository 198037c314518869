"""One token, read as a reference: a key, a path, a URL of any form, an ARN."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from urllib.parse import unquote_plus

from attrs import frozen

from s3gc.errors import ConfigError
from s3gc.resolver._decode import MAX_KEY, Readings, cuts, decodings
from s3gc.resolver._hosts import Hosts, Owner

PLAIN = re.compile(r"[A-Za-z0-9_./-]+").fullmatch
_NO_MARKS = re.compile(r"[%+?#]").search
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_NETLOC_END = re.compile(r"[/?#\\]")
_ARN = re.compile(r"arn:[a-z0-9-]{1,30}:s3[a-z0-9-]{0,30}:([a-z0-9-]{0,30}):(\d{0,14}):", re.IGNORECASE)
_INNER_URL = re.compile(r"(?:https?|s3[an]?)://", re.IGNORECASE)
# A host without a scheme: dotted labels with a letters-only last one, an IPv4 address, or localhost.
_BARE_HOST = re.compile(
    r"(?:(?:[a-z0-9_-]{1,63}\.){1,20}(?:[a-z]{2,24}|xn--[a-z0-9-]{1,59})|(?:\d{1,3}\.){3}\d{1,3}|localhost)"
    r"(?::\d{1,5})?(?=/)",
    re.IGNORECASE,
)
_S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
_URL_SCHEMES = _S3_SCHEMES | {"http", "https", "ftp", "ftps", "file", "gs", "gcs"}
_NESTING = 3  # a URL in a query in a query in a query: deeper ones stay unread


@frozen
class _Place:
    """A string that stands where a key stands.

    ``exact``: all of it is the key. ``url``: a server's path, so a mount point may stand in front of the key.
    """

    path: str
    rule: str
    exact: bool = False
    url: bool = False


@frozen
class Odd:
    """Whether a text may mean more than itself, as Python and a database can both tell.

    A text that isn't odd means itself, and itself below each of ``key_prefixes``. That is all.
    """

    beginnings: tuple[str, ...]
    regex: str = "[^A-Za-z0-9_./-]|//|[.].*/|^[./]|^$"
    """To be searched for in the text; Python and SQL read it alike."""

    def __call__(self, text: str) -> bool:
        return re.search(self.regex, text) is not None or text.startswith(self.beginnings)


class TokenReader:
    """Reads tokens for one bucket."""

    def __init__(self, bucket: str, endpoint_hosts: Sequence[str], base_urls: Sequence[str]) -> None:
        self.hosts = Hosts(bucket, endpoint_hosts)
        self.bases = tuple(dict.fromkeys(p for p in map(_base_path, base_urls) if p))
        self._bucket_slash = bucket + "/"
        self._slash_bucket_slash = "/" + bucket + "/"
        hosts = (e.host for e in self.hosts.endpoints if "." not in e.host)
        self.not_plain = (self._bucket_slash, *self.bases, *(h + "/" for h in hosts))

    def is_key_only(self, token: str) -> bool:
        """Whether the token has one reading only: itself. Cheap; a False says nothing."""
        return (
            PLAIN(token) is not None
            and token[0] not in "/."
            and "//" not in token
            and "./" not in token
            and ("." not in token or "." not in token[: token.find("/") + 1])
            and not token.startswith(self.not_plain)
        )

    def read(self, token: str, into: Readings, depth: int = 0) -> None:
        """Add every key that the token could mean."""
        if self.is_key_only(token):
            into.take(token, "raw")
            return
        into.take(token, "raw")
        certain = self._read_form(token, "", into, depth)
        if not certain and ("%" in token or "+" in token):
            for form, rule in decodings(token)[1:]:
                # Encoded as a whole (https%3A%2F%2F…). What the raw form settled needs no second opinion.
                if ":" in form[:64] or form[:2] == "//":
                    self._read_form(form, rule, into, depth)
        if "\\" in token and not certain:
            self._read_form(token.replace("\\", "/"), "backslashes as slashes", into, depth)
        inner = [m.start() for m in _INNER_URL.finditer(token) if m.start() > 0] if "://" in token else []
        if inner and not certain and depth < _NESTING:
            for start in {inner[0], inner[-1]}:
                self.read(token[start:], into, depth + 1)

    def _read_form(self, text: str, why: str, into: Readings, depth: int) -> bool:
        """Read one spelling; True if it is certainly of an S3 bucket, ours or another one."""
        places, certain = self._locate(text)
        for place in places:
            rule = f"{place.rule}, {why}" if why else place.rule
            if _NO_MARKS(place.path) is None:
                self._shapes(place.path, rule, place, into)
                continue
            for cut, cut_rule in cuts(place.path):
                for form, form_rule in decodings(cut):
                    into_rule = ", ".join(filter(None, (rule, cut_rule, form_rule)))
                    self._shapes(form, into_rule, place, into)
        if places and not certain and "?" in text and depth < _NESTING:
            self._parameters(text, into, depth)
        return certain

    def _locate(self, text: str) -> tuple[list[_Place], bool]:
        if text[:4].lower() == "arn:":
            return self._arn(text)
        scheme = _SCHEME.match(text)
        if scheme is not None:
            return self._scheme(text, scheme[1].lower(), text[scheme.end() :])
        if text.startswith("//"):
            places, certain = self._authority("", text[2:])
            return ([], True) if certain and not places else ([*places, _Place(text, "path")], certain)
        bare = _BARE_HOST.match(text)
        if bare is not None or self._starts_with_endpoint(text):
            places, certain = self._authority("", text)
            return ([], True) if certain and not places else ([*places, _Place(text, "raw")], certain)
        return [_Place(text, "path" if text.startswith("/") else "raw")], False

    def _scheme(self, text: str, scheme: str, rest: str) -> tuple[list[_Place], bool]:
        if rest[:2] in ("//", "\\\\"):
            places, certain = self._authority(scheme, rest[2:])
        elif rest[:1] in ("/", "\\"):  # file:/a/b, C:/a/b
            places, certain = [_Place(rest, "path of a URL", url=True)], False
        elif rest.startswith(self._bucket_slash):  # remote:bucket/key, as rclone writes it
            places, certain = [_Place(rest, "bucket and key")], False
        else:
            places, certain = [], False
        if scheme not in _URL_SCHEMES and not certain:
            places = [*places, _Place(text, "raw")]  # a key may contain a colon
        return places, certain

    def _authority(self, scheme: str, rest: str) -> tuple[list[_Place], bool]:
        end = _NETLOC_END.search(rest)
        netloc, path = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
        tail = path[1:] if path[:1] in ("/", "\\") else path
        if scheme in _S3_SCHEMES:
            name = netloc.rpartition("@")[2]
            if self.hosts.is_ours(name):
                return [_Place(tail, "s3 URL", exact=True)], True
            if name.lower().startswith("arn:"):
                return self._arn(rest)
            return [], bool(name)
        owner = self.hosts.owner(netloc)
        if owner is Owner.OURS:
            return [_Place(tail, owner.value, exact=True)], True
        if owner is Owner.OTHER:
            return [], True
        if owner is Owner.PATH_STYLE:
            return self._path_style(tail), True
        return [_Place(tail, owner.value, url=True)], False

    def _path_style(self, path: str) -> list[_Place]:
        segment, _, key = path.lstrip("/").partition("/")
        if self.hosts.is_ours(segment):
            return [_Place(key, "path-style URL", exact=True)]
        # A gateway may serve its buckets below a path of its own.
        found = path.find(self._slash_bucket_slash)
        after = path[found + len(self._slash_bucket_slash) :]
        return [] if found < 0 else [_Place(after, "after the bucket's name", exact=True)]

    def _arn(self, text: str) -> tuple[list[_Place], bool]:
        arn = _ARN.match(text)
        if arn is None:
            return [_Place(text, "raw")], False
        resource = text[arn.end() :]
        if not arn[1] and not arn[2]:
            name, _, key = resource.partition("/")
            return ([_Place(key, "ARN", exact=True)] if self.hosts.is_ours(name) else []), True
        # accesspoint/NAME/object/KEY or accesspoint/NAME/KEY: which bucket is behind it can't be seen.
        parts = resource.replace(":", "/", 1).split("/", 2)
        key = parts[2] if len(parts) == 3 else ""
        places = [_Place(key, "access point ARN", exact=True)]
        if key.startswith("object/"):
            places.append(_Place(key[len("object/") :], "access point ARN", exact=True))
        return places, True

    def _starts_with_endpoint(self, text: str) -> bool:
        if not self.hosts.endpoints:
            return False
        host = text[:512].partition("/")[0]
        return self.hosts.owner(host) is not Owner.UNKNOWN

    def _shapes(self, path: str, rule: str, place: _Place, into: Readings) -> None:
        """Add a path and what remains when a mount point in front of it is taken away."""
        into.take(path, rule)
        if path.startswith("/"):
            into.take(path[1:], rule + ", without leading slash")
            into.take(path.lstrip("/"), rule + ", without leading slashes")
        if place.exact:
            return
        if path.startswith(("./", "../", ".\\", "..\\")) or "/./" in path or "/../" in path or "//" in path:
            into.take(posixpath.normpath("/" + path.lstrip("/"))[1:], rule + ", dots and slashes resolved")
        relative = path.lstrip("/")
        if "\\" in relative and len(relative) <= 4 * MAX_KEY:
            into.take(relative.replace("\\", "/").lstrip("/"), rule + ", backslashes as slashes")
        for base in self.bases:
            if relative.startswith(base):
                into.take(relative[len(base) :], rule + ", below a base URL")
        if relative.startswith(self._bucket_slash):
            into.take(relative[len(self._bucket_slash) :], rule + ", after the bucket's name")
        elif place.url or path.startswith("/"):
            found = path.find(self._slash_bucket_slash)
            if found >= 0:
                into.take(path[found + len(self._slash_bucket_slash) :], rule + ", after the bucket's name")

    def _parameters(self, text: str, into: Readings, depth: int) -> None:
        query = text.partition("?")[2].partition("#")[0]
        for parameter in re.split("[&;]", query):
            value = unquote_plus(parameter.partition("=")[2])
            if len(value) >= 8 or "/" in value or "." in value:
                self.read(value, into, depth + 1)


def _base_path(url: str) -> str:
    if not isinstance(url, str) or not url.strip():
        raise ConfigError(f"base URL {url!r} must be like 'https://cdn.example.com/media/'")
    rest = url.strip().partition("?")[0].partition("#")[0]
    if "//" in rest:
        rest = rest.partition("//")[2].partition("/")[2]
    elif not rest.startswith("/"):
        rest = rest.partition("/")[2]
    path = rest.strip("/")
    return path + "/" if path else ""
