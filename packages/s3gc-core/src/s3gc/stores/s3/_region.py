"""The region of a bucket whose region nobody told us: what an answer says of it is believed once."""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import define

from s3gc._log import get_logger
from s3gc.stores.s3._address import Address
from s3gc.stores.s3._errors import fault_of
from s3gc.stores.s3._transport import MOVED, Answer

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""What may become part of a host name."""

_ELSEWHERE = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", ""})
"""Codes of an answer that names the right region (S3 API reference, "Error responses"); HEAD has none."""


@define
class Region:
    """The region that requests are signed for, and its address.

    Only the first answers may change it: a bucket that worked and is then elsewhere is another bucket.
    """

    name: str
    locate: Callable[[str], Address]
    bucket: str
    may_change: bool  # it was not given explicitly

    def address(self) -> Address:
        return self.locate(self.name)

    def learn(self, answer: Answer) -> bool:
        """Whether ``answer`` names another region, which is the one from now on. Call it under a lock."""
        if answer.status not in MOVED:
            if answer.status < 300:
                self.may_change = False
            return False
        if not self.may_change:
            return False
        fault = fault_of(answer)
        told = fault.region
        if fault.code not in _ELSEWHERE or told == self.name or not _NAME.fullmatch(told) or len(told) > 63:
            return False
        log = get_logger(__name__)
        log.warning("bucket_region_learnt", bucket=self.bucket, region=told, instead_of=self.name)
        self.name = told
        self.may_change = False
        return True
