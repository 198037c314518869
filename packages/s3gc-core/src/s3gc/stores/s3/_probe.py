"""Finding out on a sentinel what a server really does. Documentation is not evidence."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import StoreError
from s3gc.model import StoreCapabilities
from s3gc.stores.s3._body import body_of
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import fault_of
from s3gc.stores.s3._headers import md5_of, quoted_etag
from s3gc.stores.s3._traits import Condition, Traits
from s3gc.stores.s3._transport import Answer, Call
from s3gc.stores.s3._xml import bare_etag, parse_page, parse_versioning

CLEANUP_SECONDS = 30.0
"""How long removing the sentinel may take."""

_FIRST = b"s3gc probe: may be deleted at any time\n"
_SECOND = b"s3gc probe: this must not replace an object that exists\n"
_WRONG_ETAG = "00000000000000000000000000000000"

log = structlog.get_logger(__name__)


class Probe:
    """One probe, with one sentinel of a random name."""

    def __init__(
        self, client: Client, failed: Callable[[Answer, str, str], StoreError], traits: Traits, name: str
    ) -> None:
        self._client = client
        self._failed = failed
        self._traits = traits
        self._prefix = f"{RESERVED_PREFIX}probe/{name}"
        self._key = f"{self._prefix} +"  # the space and the plus show how listings encode keys
        self._versions: set[str] = set()
        self._details: dict[str, str] = {}

    async def run(self) -> StoreCapabilities:
        """Probe, and write what was learnt into the traits.

        Raises:
            StoreError: the sentinel can't be written, read, listed or deleted.
        """
        try:
            etag = await self._write()
            await self._tag_counts()
            await self._listing()
            self._traits.conditional_put = await self._conditional_put(etag)
            self._traits.conditional_delete = await self._conditional_delete(etag)
            versioned = await self._versioning()
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await self._cleanup()
        self._details["conditional_put"] = self._traits.conditional_put.value
        self._details["conditional_delete"] = self._traits.conditional_delete.value
        return StoreCapabilities(
            conditional_delete=self._traits.conditional_delete is Condition.HONOURED,
            conditional_put=self._traits.conditional_put is Condition.HONOURED,
            versioned=versioned,
            details=dict(self._details),
        )

    async def _send(self, call: Call, *, repeat: bool = True) -> Answer:
        answer = (await self._client.request(call, repeat=repeat)).answer
        if (version := answer.headers.get("x-amz-version-id")) and call.method in ("PUT", "DELETE"):
            self._versions.add(version)
        return answer

    async def _etag(self) -> str | None:
        answer = await self._send(Call("HEAD", self._key))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._failed(answer, f"read the probe's object {self._key!r}", "s3:GetObject")
        return bare_etag(answer.headers.get("etag", ""))

    async def _write(self) -> str:
        body = body_of(_FIRST)
        answer = await self._send(Call("PUT", self._key, headers={"x-amz-tagging": "s3gc=probe"}, body=body))
        self._details["tags"] = "kept"
        if answer.status in (400, 403, 501):  # perhaps only the tag is refused
            self._details["tags"] = f"can't be written ({answer.status} {fault_of(answer).code})"
            answer = await self._send(Call("PUT", self._key, body=body))
        if answer.status != 200:
            raise self._failed(answer, f"write the probe's object {self._key!r}", "s3:PutObject")
        etag = await self._etag()
        if not etag:
            raise StoreError(
                "an object that was just written can't be found: "
                "this store is not read-after-write consistent"
            )
        self._traits.md5_etags = md5_of({**answer.headers, "etag": etag}) in (None, body.md5_hex)
        self._details["etag_is_md5"] = "yes" if etag == body.md5_hex else "no"
        return etag

    async def _tag_counts(self) -> None:
        get, head = await self._send(Call("GET", self._key)), await self._send(Call("HEAD", self._key))
        if get.status != 200 or get.body != _FIRST:
            raise self._failed(get, f"read the probe's object {self._key!r}", "s3:GetObject")
        self._traits.counts_tags_on_get = get.headers.get("x-amz-tagging-count") == "1"
        self._traits.counts_tags_on_head = head.headers.get("x-amz-tagging-count") == "1"
        self._details["tag_count_on_get"] = "reported" if self._traits.counts_tags_on_get else "not reported"
        self._details["tag_count_on_head"] = (
            "reported" if self._traits.counts_tags_on_head else "not reported"
        )

    async def _listing(self) -> None:
        query = (("encoding-type", "url"), ("list-type", "2"), ("prefix", self._prefix))
        answer = await self._send(Call("GET", query=query))
        if answer.status != 200:
            raise self._failed(answer, "list", "s3:ListBucket")
        for plus_is_space in (True, False):
            page = parse_page(answer.body, "", plus_is_space=plus_is_space)
            if [o.key for o in page.objects if not o.ambiguous] == [self._key]:
                self._traits.plus_is_space = plus_is_space
                self._details["plus_in_listings"] = "a space" if plus_is_space else "a plus"
                return
        raise StoreError("the listing doesn't show, or doesn't show exactly, an object that was just written")

    async def _conditional_put(self, etag: str) -> Condition:
        call = Call("PUT", self._key, headers={"if-none-match": "*"}, body=body_of(_SECOND))
        answer = await self._send(call, repeat=False)
        now = await self._etag()
        if answer.status == 412 and now == etag:
            return Condition.HONOURED
        if answer.status in (400, 501) and now == etag:
            return Condition.REFUSED
        if answer.status == 200:
            restored = await self._send(Call("PUT", self._key, body=body_of(_FIRST)))
            if restored.status == 200 and await self._etag() == etag:
                return Condition.IGNORED
        raise self._failed(answer, f"write the probe's object {self._key!r} on a condition", "s3:PutObject")

    async def _conditional_delete(self, etag: str) -> Condition:
        answer = await self._delete(_WRONG_ETAG)
        now = await self._etag()
        if answer.status in (400, 501) and now == etag:
            return Condition.REFUSED
        if answer.status in (200, 204):
            return Condition.IGNORED
        if answer.status != 412 or now != etag:
            raise self._failed(
                answer, f"delete the probe's object {self._key!r} on a condition", "s3:DeleteObject"
            )
        answer = await self._delete(etag)
        if answer.status not in (200, 204) or await self._etag() is not None:
            raise self._failed(answer, f"delete the probe's object {self._key!r}", "s3:DeleteObject")
        return Condition.HONOURED

    async def _delete(self, etag: str) -> Answer:
        return await self._send(
            Call("DELETE", self._key, headers={"if-match": quoted_etag(etag)}), repeat=False
        )

    async def _versioning(self) -> bool:
        answer = await self._send(Call("GET", query=(("versioning", None),)))
        if answer.status != 200:
            self._details["versioning"] = f"unknown ({answer.status} {fault_of(answer).code})"
            return False
        status = parse_versioning(answer.body)
        self._details["versioning"] = status or "never enabled"
        return status in ("Enabled", "Suspended")

    async def _cleanup(self) -> None:
        """Remove the sentinel and, where there are versions, each one that the probe made."""
        try:
            answers = [(await self._client.request(Call("DELETE", self._key))).answer]
            if marker := answers[0].headers.get("x-amz-version-id"):
                self._versions.add(marker)
            for version in sorted(self._versions):
                call = Call("DELETE", self._key, query=(("versionId", version),))
                answers.append((await self._client.request(call)).answer)
            bad = [a for a in answers if a.status not in (200, 204, 404)]
            why = f"{bad[0].status} {fault_of(bad[0]).code}" if bad else ""
        except StoreError as error:
            why = str(error)
        self._details["cleanup"] = why or "done"
        if why:
            log.warning("probe_left_something_behind", key=self._key, why=why)
