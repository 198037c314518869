"""What an answer that isn't a good one means."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from attrs import frozen

from s3gc.errors import AccessDenied, NoSuchBucket, PreconditionFailed, StoreError, UnreadableObject
from s3gc.stores.s3._transport import Answer
from s3gc.stores.s3._xml import parse

_REJECTED_CODES = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
    }
)
_REPEAT_CODES = _REJECTED_CODES | {"InternalError", "RequestTimeout", "OperationAborted"}
_REPEAT_STATUS = frozenset({429, 500, 502, 503, 504})
_CREDENTIAL_CODES = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "NotSignedUp",
        "AccountProblem",
    }
)


_FIRST_CODE = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*<Error>\s*<Code>([A-Za-z.]{1,64})</Code>")
"""Anchored at the document's start, where no part of a key can stand."""


@frozen
class Fault:
    """The error that an answer tells of; empty texts where it told none (HEAD has no body)."""

    status: int
    code: str
    message: str
    region: str


def fault_of(answer: Answer) -> Fault:
    """Read an error's XML. Only its code, message and region are taken: nothing that could hold a secret."""
    region = answer.headers.get("x-amz-bucket-region", "")
    code = message = ""
    try:
        root = parse(answer.body) if answer.body.lstrip().startswith(b"<") else None
    except (ElementTree.ParseError, ValueError):
        root = None
    if root is None and (first := _FIRST_CODE.match(answer.body)):
        # Some servers (moto) write the key into the error raw: control characters make that no XML.
        code = first[1].decode()
    if root is not None and root.tag == "Error":
        code = root.findtext("Code", "")
        message = root.findtext("Message", "")
        region = region or root.findtext("Region", "")
    return Fault(answer.status, code, _one_line(message), region)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300]


def may_repeat(answer: Answer) -> bool:
    """Whether the server says, or its state suggests, that the same request may succeed later."""
    return answer.status in _REPEAT_STATUS or (
        answer.status >= 400 and fault_of(answer).code in _REPEAT_CODES
    )


def was_rejected(answer: Answer) -> bool:
    """Whether the server says that it didn't process the request at all."""
    return answer.status in (429, 503) and fault_of(answer).code in _REJECTED_CODES


@frozen
class Teller:
    """Makes the error to raise for an answer that isn't a good one."""

    bucket: str
    region: str
    owner: str | None = None  # the account that the bucket must belong to

    def __call__(
        self, answer: Answer, doing: str, permission: str, outcome_unknown: bool = False
    ) -> StoreError:
        """The error.

        Args:
            doing: what was tried, as in "read 'a/b'".
            permission: the IAM action that it takes.
        """
        fault = fault_of(answer)
        what = f"could not {doing} in bucket {self.bucket!r}"
        told = " ".join(part for part in (fault.code, fault.message) if part) or "no reason given"
        if fault.code == "NoSuchBucket":
            return NoSuchBucket(f"{what}: there is no such bucket at this endpoint")
        if fault.status in (301, 302, 307, 308) or fault.code in (
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ):
            where = f"it is in region {fault.region!r}" if fault.region else "the endpoint redirects"
            return StoreError(
                f"{what}: {where}, and the client is set to {self.region!r}: "
                f"set the bucket's own region ({fault.status} {told})"
            )
        if fault.code == "RequestTimeTooSkewed":
            return StoreError(f"{what}: this machine's clock is too far from the store's: set it ({told})")
        if fault.code in _CREDENTIAL_CODES:
            return AccessDenied(f"{what}: the credentials are not accepted ({told})")
        if fault.code == "InvalidObjectState":
            return UnreadableObject(f"{what}: it is archived; restore it from the archive first ({told})")
        if fault.code.startswith("KMS."):
            return UnreadableObject(f"{what}: its KMS key can't be used ({told})")
        if fault.status in (401, 403):
            permission += " (and see that the bucket is its expected_bucket_owner's)" if self.owner else ""
            return AccessDenied(
                f"{what}: grant {permission}, and look for a lock or a bucket policy ({fault.status} {told})"
            )
        if fault.status == 412:
            return PreconditionFailed(f"{what}: it is not, or no longer, the object that was asked for")
        return StoreError(f"{what}: {fault.status} {told}", outcome_unknown=outcome_unknown)
