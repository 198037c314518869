"""Who may do what with an object: read (GetObjectAcl) and put back (PutObjectAcl) where that is asked for."""

from __future__ import annotations

import re

from attrs import frozen

from s3gc._log import get_logger
from s3gc.errors import PreconditionFailed, StoreError
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import Teller, fault_of
from s3gc.stores.s3._lookup import Lookup
from s3gc.stores.s3._transport import Call
from s3gc.stores.s3._xml import parse_answer

_QUERY = (("acl", None),)
_NO_ACLS = "AccessControlListNotSupported"
"""The bucket's owner owns everything in it, and there are no ACLs (user guide, "Controlling ownership")."""

_KINDS = {"ID": "id", "URI": "uri"}
_PERMISSIONS = {
    name: f"x-amz-grant-{name.lower().replace('_', '-')}"
    for name in ("FULL_CONTROL", "READ", "READ_ACP", "WRITE", "WRITE_ACP")
}
_NAME = re.compile(r"[A-Za-z0-9:/._-]{1,256}")


@frozen
class Policy:
    """An ACL. Each grant is ``PERMISSION id=ACCOUNT`` or ``PERMISSION uri=GROUP``."""

    owner: str
    grants: frozenset[str]

    @property
    def text(self) -> str | None:
        """The grants, one a line in order; None if the owner has all, as without any ACL."""
        if not self.grants - {f"FULL_CONTROL id={self.owner}"}:
            return None
        return "\n".join(sorted(self.grants))


def parse_policy(document: bytes) -> Policy:
    """An answer to GetObjectAcl.

    Raises:
        StoreError: it is something else, or grants in a way that couldn't be put back.
    """
    doing = "read the ACL"
    root = parse_answer(document, ("AccessControlPolicy",), doing)
    owner = root.findtext("Owner/ID", "")
    grants: set[str] = set()
    for grant in root.iterfind("AccessControlList/Grant"):
        permission, grantee = grant.findtext("Permission", ""), grant.find("Grantee")
        who = (
            [f"{short}={grantee.findtext(tag)}" for tag, short in _KINDS.items() if grantee.findtext(tag)]
            if grantee is not None
            else []
        )
        if not permission.replace("_", "").isalpha() or len(who) != 1:
            raise StoreError(
                f"could not {doing}: it grants {permission!r} to somebody who isn't named by id or group"
            )
        grants.add(f"{permission} {who[0]}")
    if not owner:
        raise StoreError(f"could not {doing}: the answer names no owner")
    return Policy(owner, frozenset(grants))


def grant_headers(grants: frozenset[str]) -> dict[str, str]:
    """The headers of a PutObjectAcl that gives an object these grants and no others.

    Raises:
        StoreError: a grant isn't one, or can't stand in a header.
    """
    headers: dict[str, list[str]] = {}
    for line in sorted(grants):
        permission, _, who = line.partition(" ")
        short, _, name = who.partition("=")
        if permission not in _PERMISSIONS or short not in _KINDS.values() or not _NAME.fullmatch(name):
            raise StoreError(f"{line!r} is no grant that can be put back")
        headers.setdefault(_PERMISSIONS[permission], []).append(f'{short}="{name}"')
    return {name: ", ".join(who) for name, who in headers.items()}


class Acls:
    """ACLs of objects; of none, unless ``keep``."""

    def __init__(self, client: Client, lookup: Lookup, failed: Teller, *, keep: bool) -> None:
        self._client = client
        self._lookup = lookup
        self._failed = failed
        self.kept = keep

    async def read(self, key: str) -> str | None:
        """The grants beyond the owner's own, or None (also where nobody asked for them).

        Raises:
            PreconditionFailed: the object is gone.
            StoreError: they can't be read.
        """
        return (await self._policy(key)).text if self.kept else None

    async def _policy(self, key: str) -> Policy:
        answer = (await self._client.request(Call("GET", key, query=_QUERY))).answer
        if answer.status == 200:
            return parse_policy(answer.body)
        if self._lookup.is_missing(answer):
            raise PreconditionFailed(f"{key!r} vanished while its ACL was read")
        raise self._failed(answer, f"read the ACL of {key!r}", "s3:GetObjectAcl")

    async def ensure(self, key: str, grants: str) -> None:
        """Return when the object that was written just now has these grants, or none can have any.

        Raises:
            StoreError: it can't be given them; it is written, without.
        """
        if not self.kept:
            get_logger(__name__).warning(
                "acl_not_put_back", key=key, why='the store was opened without acl="keep"'
            )
            return
        wanted = frozenset(grants.splitlines())
        if (await self._policy(key)).grants == wanted:
            return
        call = Call("PUT", key, query=_QUERY, headers=grant_headers(wanted))
        answer = (await self._client.request(call)).answer
        if answer.status == 400 and fault_of(answer).code == _NO_ACLS:
            get_logger(__name__).warning("acl_not_put_back", key=key, why="the bucket has no ACLs any more")
            return
        if answer.status not in (200, 204):
            raise self._failed(answer, f"write the ACL of {key!r}", "s3:PutObjectAcl", True)
        if (await self._policy(key)).grants != wanted:
            raise StoreError(f"{key!r} was written, and the store doesn't keep its ACL", outcome_unknown=True)
