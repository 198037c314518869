"""The one place that says which keys a value could mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from attrs import frozen

from s3gc.errors import ConfigError
from s3gc.resolver._decode import MAX_KEY, Readings
from s3gc.resolver._texts import TextReader
from s3gc.resolver._urls import PLAIN, Odd, TokenReader
from s3gc.resolver._values import texts

_ONE_TOKEN = re.compile(r"[A-Za-z0-9_./:~@-]+").fullmatch  # nothing to take apart, unescape or decode

_PLAIN_LINES = re.compile(r"[A-Za-z0-9_./\n-]+").fullmatch
_ODD = ("\n\n", "\n/", "\n.", "//", "./")  # an empty text, or what `keys` looks closer at
_DOT_IN_FIRST_SEGMENT = re.compile(r"\n[^./\n]*\.[^/\n]*/").search


@frozen
class Reading:
    """One key that a value could mean, and the rule that says so."""

    key: str
    rule: str


class Resolver:
    """Turns a value into *every* key that it could mean.

    One resolver serves all: scan, change capture, direct read. It over-approximates: a key too many is kept
    for nothing, a key too few is a live file deleted. What is read:

    * the value as it is, and trimmed of white space, BOM and NUL;
    * a path with a leading slash, also without it; ``./``, ``../``, ``//`` and backslashes also resolved;
    * ``s3://bucket/key``, ``arn:aws:s3:::bucket/key``, ``bucket/key``, S3 URLs of both styles;
    * a URL of any other host, with or without its scheme: its path, its path below a base URL, and what
      follows the first segment equal to the bucket's name;
    * each of these with and without query and fragment, percent- and plus-decoded up to twice, NFC, NFD;
    * the values of a query's parameters with a slash, a dot, or 8 characters or more;
    * each of these below each of ``key_prefixes``;
    * the parts of lists, JSON (names, strings, numbers), array literals, quotes, brackets, HTML, Markdown,
      containers, and the text of binary values.

    A URL that names another bucket for certain gives nothing but itself. A part of a name is no reference:
    ``b/a.jpg`` doesn't mean ``a.jpg``. In HTML and Markdown, words of letters alone outside of attributes
    and link targets are prose, not keys.

    Bounds: keys have at most 1,024 characters; nested unescaping ends after 4 levels, URLs within queries
    after 3. JSON nests without a bound. Work grows linearly with the value's length.

    Args:
        bucket: the bucket's bare name.
        endpoint_hosts: hosts (``host``, ``host:port`` or a URL) that serve S3 besides AWS's.
        base_urls: URLs or paths under which the application serves the bucket; their path is taken away.
        key_prefixes: beginnings of keys that values leave out; each key is also read with each of them.

    Raises:
        ConfigError: an argument is malformed.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_hosts: Sequence[str] = (),
        base_urls: Sequence[str] = (),
        key_prefixes: Sequence[str] = (),
    ) -> None:
        if not isinstance(bucket, str) or not bucket.strip("/ ") or "/" in bucket:
            raise ConfigError(f"bucket {bucket!r} must be a bare name such as 'my-bucket'")
        for name, value in (
            ("endpoint_hosts", endpoint_hosts),
            ("base_urls", base_urls),
            ("key_prefixes", key_prefixes),
        ):
            if isinstance(value, str):
                raise ConfigError(f"{name} must be a list of strings, not one string")
        self.bucket = bucket
        self._prefixes = tuple(key_prefixes)
        self._tokens = TokenReader(bucket, tuple(endpoint_hosts), tuple(base_urls))
        self._texts = TextReader(self._tokens)
        self._not_plain = self._tokens.not_plain
        self._odd_beginnings = tuple("\n" + beginning for beginning in self._not_plain)

    def keys(self, value: object) -> frozenset[str]:
        """Every key that the value could mean; empty for None, booleans and empty texts. Never raises."""
        if (
            type(value) is str
            and PLAIN(value) is not None
            # The same test as TokenReader.is_key_only, in line: this is the hot path of every scan.
            and value[0] not in "/."
            and "//" not in value
            and "./" not in value
            and "." not in value[: value.find("/") + 1]
            and not value.startswith(self._not_plain)
            and len(value) <= MAX_KEY
        ):
            if self._prefixes:
                below = [prefix + value for prefix in self._prefixes if len(prefix) + len(value) <= MAX_KEY]
                return frozenset((value, *below))
            return frozenset((value,))
        return frozenset(self._read(value))

    @property
    def odd(self) -> Odd:
        """Which texts may mean more than themselves."""
        return Odd(self._not_plain)

    def plain_values(self, keys: Collection[str]) -> list[str]:
        """Of the texts that aren't :attr:`odd`, those that mean one of these keys."""
        odd = self.odd
        below = (key[len(start) :] for start in self._prefixes for key in keys if key.startswith(start))
        return [value for value in dict.fromkeys((*keys, *below)) if not odd(value)]

    def only_keys(self, values: Sequence[str]) -> bool:
        """Whether each of these texts has one meaning alone: itself. Quick; a False says nothing.

        Ten times as quick as asking for each: the tests of :meth:`keys`, on all texts at once.
        """
        if self._prefixes or not values:
            return False
        lines = "\n".join(("", *values, ""))
        return (
            lines.count("\n") == len(values) + 1  # no text has a line's end of its own
            and _PLAIN_LINES(lines) is not None
            and not any(odd in lines for odd in _ODD)
            and not any(odd in lines for odd in self._odd_beginnings)
            and _DOT_IN_FIRST_SEGMENT(lines) is None
            and max(map(len, values)) <= MAX_KEY
        )

    def explain(self, value: object) -> tuple[Reading, ...]:
        """The same keys, each with the rule that found it first."""
        return tuple(Reading(key, rule) for key, rule in self._read(value).items())

    def _read(self, value: object) -> Readings:
        found = Readings()
        if type(value) is str and _ONE_TOKEN(value) is not None:
            self._tokens.read(value, found)
        else:
            for text, rule in texts(value):
                found.context = rule
                self._texts.read(text, found)
        if self._prefixes:
            self._below(found)
        return found

    def _below(self, found: Readings) -> None:
        found.context = ""
        for key, rule in list(found.items()):
            for prefix in self._prefixes:
                found.take(prefix + key.removeprefix("/"), f"{rule or 'as it is'}, below {prefix}")
