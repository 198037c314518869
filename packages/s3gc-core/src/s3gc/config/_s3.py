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
    for name, text in value.items():
        known = SETTINGS[name]
        if not isinstance(text, str) or not re.fullmatch(known.form, text):
            wanted = "12 digits in quotes" if name == "expected_bucket_owner" else "a text that isn't empty"
            raise ConfigError(f"s3: {name} must be {wanted}, got {show(text)}")
        if known.values and text not in known.values:
            raise ConfigError(f"s3: {name} must be {' or '.join(map(repr, known.values))}, got {show(text)}")
    return Derived(value)
