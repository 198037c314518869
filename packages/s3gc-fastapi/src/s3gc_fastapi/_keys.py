"""Who may come in: keys with names and roles, compared in constant time, and a limit for guessing."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import StrEnum

from attrs import define, field, frozen

from s3gc import Config
from s3gc.clock import Clock
from s3gc.errors import ConfigError

SHORT = 16
"""Characters; a shorter key is told at the start: it can be guessed."""

FAILURES = 10
"""Failed attempts that an address has in hand."""

REFILL = 6.0
"""Seconds until an address has one more."""

ADDRESSES = 10_000
"""Addresses remembered at most; the oldest is forgotten first."""


class Role(StrEnum):
    """What a caller may do."""

    VIEWER = "viewer"  # look
    OPERATOR = "operator"  # also run, restore, acknowledge

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what ``needed`` may."""
        return self is Role.OPERATOR or needed is Role.VIEWER


@frozen
class AdminKey:
    """A key: who has it, what it may do, and its text, which is never shown."""

    name: str
    role: Role = field(converter=Role)
    secret: str = field(repr=False)

    @secret.validator
    def _not_empty(self, _: object, value: object) -> None:
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"the admin's key {self.name!r} must be a text that isn't empty")


@frozen
class Caller:
    """Who asks."""

    name: str  # a key's name, or the host application's
    role: Role
    session: str | None = None  # the CSRF value of its dashboard session; None: it sent a key


def keys_of(config: Config) -> Sequence[AdminKey]:
    """The keys that a configuration names: ``admin_api_key`` is an operator's."""
    keys = [AdminKey("admin", Role.OPERATOR, config.admin_api_key)] if config.admin_api_key else []
    for text in config.admin_keys:
        name, role, secret = text.split(":", 2)
        keys.append(AdminKey(name, Role(role), secret))
    return keys


class Keyring:
    """The keys, by the hashes of their texts.

    Raises:
        ConfigError: two keys have the same name or the same text.
    """

    def __init__(self, keys: Iterable[AdminKey]) -> None:
        self._keys = [(key, _digest(key.secret)) for key in keys]
        if len({key.name for key, _ in self._keys}) < len(self._keys):
            raise ConfigError("two of the admin's keys have the same name")
        if len({digest for _, digest in self._keys}) < len(self._keys):
            raise ConfigError("two of the admin's keys are the same text: which role would it have?")

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def short(self) -> Sequence[str]:
        """Names of keys that are short enough to be guessed."""
        return [key.name for key, _ in self._keys if len(key.secret) < SHORT]

    def find(self, secret: str) -> AdminKey | None:
        """The key with this text. Takes the same time whichever it is, and if it is none."""
        asked = _digest(secret)
        found: AdminKey | None = None
        for key, digest in self._keys:
            if hmac.compare_digest(digest, asked):
                found = key
        return found

    def named(self, name: str) -> AdminKey | None:
        """The key of this name, if it still exists."""
        return next((key for key, _ in self._keys if key.name == name), None)

    def signing_secret(self) -> bytes:
        """What sessions are signed with: the same in every worker, another one when any key changes."""
        mixed = hmac.new(b"s3gc admin session", digestmod="sha256")
        for key, digest in sorted(self._keys, key=lambda each: each[0].name):
            mixed.update(f"{key.name}\0{key.role}\0".encode() + digest)
        return mixed.digest()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@define
class _Bucket:
    left: float
    at: float


class Throttle:
    """A bucket of failed attempts for each address; an empty one is not even looked at."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.failures = 0
        """Since the start, over all addresses."""

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0: now."""
        bucket = self._buckets.get(_network(address))
        if bucket is None:
            return 0.0
        self._refill(bucket)
        return 0.0 if bucket.left >= 1 else (1 - bucket.left) * REFILL

    def failed(self, address: str) -> None:
        """One more failed attempt from there."""
        self.failures += 1
        network = _network(address)
        bucket = self._buckets.setdefault(network, _Bucket(float(FAILURES), self._clock.monotonic()))
        self._buckets.move_to_end(network)
        self._refill(bucket)
        bucket.left = max(bucket.left - 1, 0.0)
        while len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)

    def _refill(self, bucket: _Bucket) -> None:
        now = self._clock.monotonic()
        bucket.left = min(bucket.left + (now - bucket.at) / REFILL, float(FAILURES))
        bucket.at = now


def _network(address: str) -> str:
    """Who has one IPv6 address has 2^64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
