"""The settings of the S3 client: what ``[s3]`` may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from s3gc.config._checks import Derived, show
from s3gc.config._options import refuse_unknown
from s3gc.errors import ConfigError


@frozen
class Setting:
    """One setting."""

    help: str
    """One line."""
    values: tuple[str, ...] = ()
    """What it may be; none: any text that fits ``form``."""
    form: str = r"\S(.*\S)?"
    """A pattern for the whole text."""
    between: tuple[int, int] | None = None
    """For a number: the least and the most that it may be. It is kept as a text like all others."""


SETTINGS: Mapping[str, Setting] = {
    "profile": Setting("A profile of AWS's configuration files: credentials, SSO, a role to assume."),
    "addressing": Setting(
        "The bucket as part of the host or of the path; by default what suits the server.",
        ("path", "virtual"),
    ),
    "ca_bundle": Setting(
        "A file with the certificates to trust; by default AWS_CA_BUNDLE, or botocore's own."
    ),
    "request_payer": Setting("You pay for requests to a bucket of others.", ("requester",)),
    "expected_bucket_owner": Setting(
        "The account (12 digits) that must own the bucket; else S3 refuses every request.", form=r"[0-9]{12}"
    ),
    "encryption": Setting(
        "How a restored object is encrypted: as it was, with its KMS key, or by the bucket's default.",
        ("keep", "bucket"),
    ),
    "acl": Setting("Back up and put back ACLs too: one more request for each object.", ("keep",)),
    "listers": Setting(
        "Parts of the bucket that are listed at the same time; 1 for a server that lists out of order.",
        between=(1, 256),
    ),
}
"""By name, which is also that of an argument of :class:`~s3gc.stores.s3.S3Store`."""


def s3(value: object) -> Derived:
    """Settings by name.

    Raises:
        ConfigError: an unknown name, or a value that means nothing.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"s3 must map settings to their values, got {type(value).__name__}: "
            'write s3={"request_payer": "requester"}'
        )
    refuse_unknown(value, SETTINGS, "setting of s3")
    found: dict[str, str] = {}
    for name, text in value.items():
        known = SETTINGS[name]
        if known.between is not None:
            found[name] = _number(name, text, *known.between)
            continue
        if not isinstance(text, str) or not re.fullmatch(known.form, text):
            wanted = "12 digits in quotes" if name == "expected_bucket_owner" else "a text that isn't empty"
            raise ConfigError(f"s3: {name} must be {wanted}, got {show(text)}")
        if known.values and text not in known.values:
            raise ConfigError(f"s3: {name} must be {' or '.join(map(repr, known.values))}, got {show(text)}")
        found[name] = text
    return Derived(found)


def _number(name: str, value: object, least: int, most: int) -> str:
    """A number, or a text that is one: variables of the environment have no others."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) else value
    if type(number) is not int or not least <= number <= most:
        raise ConfigError(f"s3: {name} must be a number from {least} to {most}, got {show(value)}")
    return str(number)
