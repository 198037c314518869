"""Deleting one object, on condition, and saying what happened."""

from __future__ import annotations

from collections.abc import Mapping

from s3gc.errors import AccessDenied, StoreError
from s3gc.model import DeleteOutcome
from s3gc.stores.s3._body import body_of
from s3gc.stores.s3._bulk import delete_document, parse_deleted
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import Teller, was_rejected
from s3gc.stores.s3._headers import quoted_etag
from s3gc.stores.s3._lookup import Lookup
from s3gc.stores.s3._traits import Condition, Traits
from s3gc.stores.s3._transport import Call
from s3gc.stores.s3._versions import NULL, Versions
from s3gc.stores.s3._xml import bare_etag

_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"})
_NOT_DONE = frozenset({"NotImplemented", "SlowDown", "InvalidRequest", "MalformedXML"})
"""Codes that say for certain that a key was left alone; after any other it may be gone."""


class Deletion:
    """Deletes objects whose ETag is the one given.

    Unless a probe has proven that the server honours ``If-Match``, the ETag is compared first; what is
    written in between is lost on a server that ignores the header and keeps no versions; where it keeps
    them, a delete that hid another version than the one meant is undone. A server that was proven to honour
    it and then says that it doesn't know it is another one: nothing more is sent until it is probed again.

    A request whose answer is lost is never sent again: it may have been carried out, and the same bytes may
    have been uploaded since. The store looks instead. The object gone counts as DELETED, because a delete of
    ours was on its way; anything else is an unknown outcome, because that delete may still be carried out.
    """

    def __init__(self, client: Client, traits: Traits, lookup: Lookup, failed: Teller) -> None:
        self._client = client
        self._traits = traits
        self._lookup = lookup
        self._failed = failed
        self._versions = Versions(client, traits, failed)

    async def delete(self, key: str, if_match: str) -> DeleteOutcome:
        known = self._traits.conditional_delete
        if known is Condition.HONOURED and self._traits.contradiction:
            raise StoreError(f"{key!r} was not deleted, nothing was sent: {self._traits.contradiction}")
        if known is not Condition.HONOURED:
            now = await self._lookup.head(key)
            if now is None:
                return DeleteOutcome.MISSING
            if bare_etag(now.headers.get("etag", "")) != bare_etag(if_match):
                return DeleteOutcome.CHANGED
        refused = known is Condition.REFUSED
        call = Call("DELETE", key, headers={} if refused else {"if-match": quoted_etag(if_match)})
        try:
            answer = (await self._client.request(call, repeat=False)).answer
        except StoreError as error:
            if not error.outcome_unknown:
                raise
            return await self._settle(key, if_match, error)
        self._traits.weigh("If-Match on DELETE", known, answer.status)
        if answer.status in (200, 204):
            marker = answer.headers.get("x-amz-version-id")
            if known is Condition.HONOURED or marker in (None, NULL):
                return DeleteOutcome.DELETED
            rightly = await self._versions.hidden_rightly(key, if_match, marker)
            return DeleteOutcome.DELETED if rightly else DeleteOutcome.CHANGED
        if self._lookup.is_missing(answer):
            return DeleteOutcome.MISSING
        if answer.status in (409, 412):
            return DeleteOutcome.CHANGED
        told = self._failed(answer, f"delete {key!r}", "s3:DeleteObject (and s3:GetObject for the condition)")
        if answer.status >= 500 and answer.status != 501 and not was_rejected(answer):
            return await self._settle(key, if_match, told)
        raise told

    @property
    def proven_in_bulk(self) -> bool:
        """Whether one request may delete many: only where each key's own ETag is known to count."""
        return self._traits.conditional_bulk_delete is Condition.HONOURED and not self._traits.contradiction

    async def delete_many(self, wanted: Mapping[str, str]) -> dict[str, DeleteOutcome | StoreError]:
        """One request for keys that XML can hold. Call it only if :attr:`proven_in_bulk`.

        Nothing is looked up here: what isn't known afterwards is told so.
        """
        document = delete_document(wanted.items())
        call = Call("POST", query=(("delete", None),), body=body_of(document))
        try:
            answer = (await self._client.request(call, repeat=False)).answer
        except StoreError as error:
            return dict.fromkeys(wanted, error)
        if answer.status != 200:
            self._traits.weigh("an ETag for each key of DeleteObjects", Condition.HONOURED, answer.status)
            unknown = answer.status >= 500 and answer.status != 501 and not was_rejected(answer)
            told = self._failed(
                answer, f"delete {len(wanted)} objects", "s3:DeleteObject (and s3:GetObject)", unknown
            )
            return dict.fromkeys(wanted, told)
        try:
            ended = parse_deleted(answer.body, list(wanted))
        except StoreError as error:
            return dict.fromkeys(wanted, StoreError(str(error), outcome_unknown=True))
        found: dict[str, DeleteOutcome | StoreError] = dict.fromkeys(ended.deleted, DeleteOutcome.DELETED)
        return found | {key: self._refused(key, code) for key, code in ended.refused.items()}

    def _refused(self, key: str, code: str) -> DeleteOutcome | StoreError:
        """How the deletion of one key among many ended, by the error's code."""
        if code in _CHANGED:
            return DeleteOutcome.CHANGED
        if code == "NoSuchKey":
            return DeleteOutcome.MISSING
        if code == "NotImplemented":
            self._traits.weigh("an ETag for each key of DeleteObjects", Condition.HONOURED, 501)
        message = f"could not delete {key!r}: {code or 'no reason given'}"
        if code == "AccessDenied":
            return AccessDenied(f"{message}: grant s3:DeleteObject, and look for a lock or a bucket policy")
        return StoreError(message, outcome_unknown=code not in _NOT_DONE)

    async def _settle(self, key: str, if_match: str, error: StoreError) -> DeleteOutcome:
        """After a delete without a clear answer: is the object gone?"""
        try:
            gone = self._lookup.is_missing(await self._lookup.look(key))
        except StoreError:
            gone = False
        if gone and self._traits.conditional_delete is not Condition.HONOURED:
            gone = await self._versions.hidden_rightly(key, if_match, None)
        if gone:
            return DeleteOutcome.DELETED
        message = f"it is not known whether {key!r} was deleted: {error}"
        raise StoreError(message, outcome_unknown=True) from error
