"""Finding out on sentinels what a server really does. Documentation is not evidence.

What the promises rest on must be seen, or the probe fails: that what was written is read and listed at once,
that what was deleted is gone at once, that listings are in order. What may differ between servers is told as
it was found; what can't be found out is unknown, and unknown counts as the less safe answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import anyio

from s3gc.clock import Clock
from s3gc.errors import StoreError
from s3gc.model import StoreCapabilities, Versioning
from s3gc.stores.s3._body import body_of
from s3gc.stores.s3._bulk import delete_document, parse_deleted
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import fault_of
from s3gc.stores.s3._headers import md5_of, quoted_etag, read_date
from s3gc.stores.s3._sentinels import FIRST, SECOND, Sentinels
from s3gc.stores.s3._traits import Condition, Traits
from s3gc.stores.s3._transport import Answer, Call
from s3gc.stores.s3._xml import Page, parse_answer, parse_page, parse_versioning

CLEANUP_SECONDS = 30.0
"""How long removing the sentinels may take."""

MAIN = "a +"
"""The space and the plus show how listings encode keys."""

ODD = ("A", "a", "a b", "a+b", "a-", "a/b", "e\u0301", "\u00e9", "\uff5e", "\U0001f600")
"""Keys whose order differs by case, by folder, by normal form and between UTF-8 and UTF-16."""

_REFUSES_KEY = (400, 409, 501)
"""How servers answer to keys that they can't hold, ``a/b`` beside ``a`` for one."""

_VERSIONING = {"Enabled": Versioning.ENABLED, "Suspended": Versioning.SUSPENDED, "": Versioning.NEVER}
_WRONG_ETAG = "00000000000000000000000000000000"
_HALF_A_SECOND = timedelta(seconds=0.5)


class Probe:
    """One probe, with sentinels below a random name."""

    def __init__(
        self,
        client: Client,
        failed: Callable[[Answer, str, str], StoreError],
        traits: Traits,
        clock: Clock,
        name: str,
    ) -> None:
        self._failed = failed
        self._traits = traits
        self._clock = clock
        self._sentinels = Sentinels(client, failed, name)
        self._key = self._sentinels.prefix + MAIN
        self._details: dict[str, str] = {}

    async def run(self) -> StoreCapabilities:
        """Probe, and write what was learnt into the traits.

        Raises:
            StoreError: the sentinels can't be written, read, listed or deleted, or not at once, or listings
                are out of order. The traits don't know then whether conditions are honoured.
        """
        traits, details = self._traits, self._details
        # A probe that fails half way must not leave what an earlier one found.
        traits.conditional_put = traits.conditional_delete = Condition.UNKNOWN
        traits.conditional_bulk_delete = Condition.UNKNOWN
        try:
            etag, difference = await self._write()
            await self._tag_counts()
            await self._listing(await self._write_odd())
            put = await self._conditional_put(etag)
            bulk = await self._conditional_bulk_delete()
            delete = await self._conditional_delete(etag)
            versioning = await self._versioning()
            object_lock = await self._object_lock()
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                details["cleanup"] = await self._sentinels.remove() or "done"
        traits.conditional_put, traits.conditional_delete = put, delete
        traits.conditional_bulk_delete = bulk
        traits.contradiction = None
        details["conditional_put"] = put.value
        details["conditional_delete"] = delete.value
        details.setdefault("conditional_bulk_delete", bulk.value)
        return StoreCapabilities(
            conditional_delete=delete is Condition.HONOURED,
            conditional_put=put is Condition.HONOURED,
            conditional_bulk_delete=bulk is Condition.HONOURED,
            read_after_write=True,
            list_order=True,
            versioning=versioning,
            object_lock=object_lock,
            clock_difference=difference,
            details=dict(details),
            notes=traits.notes(),
        )

    # ------------------------------------------------------------------ write, read, list

    async def _write(self) -> tuple[str, timedelta | None]:
        """Write the main sentinel; its ETag, and how far the store's clock is from ours."""
        before = self._clock.now()
        answer = await self._sentinels.write(self._key, tagged=True)
        self._details["tags"] = "kept"
        if answer.status in (400, 403, 501):  # perhaps only the tag is refused
            self._details["tags"] = f"can't be written ({answer.status} {fault_of(answer).code})"
            before = self._clock.now()
            answer = await self._sentinels.write(self._key)
        if answer.status != 200:
            raise self._failed(answer, f"write the probe's object {self._key!r}", "s3:PutObject")
        difference = self._difference(answer, before)
        etag = await self._sentinels.etag(self._key)
        if not etag:
            raise StoreError(
                "an object that was just written can't be found: "
                "this store is not read-after-write consistent"
            )
        md5 = body_of(FIRST).md5_hex
        self._traits.md5_etags = md5_of({**answer.headers, "etag": etag}) in (None, md5)
        self._details["etag_is_md5"] = "yes" if etag == md5 else "no"
        return etag, difference

    def _difference(self, answer: Answer, before: datetime) -> timedelta | None:
        """The store's clock minus ours. Its date is cut to seconds: half a second is added back."""
        after = self._clock.now()
        try:
            store = read_date(answer.headers, "date", "tell the store's time")
        except StoreError as error:
            self._details["clock"] = str(error)
            return None
        return store + _HALF_A_SECOND - (before + (after - before) / 2)

    async def _tag_counts(self) -> None:
        get = await self._sentinels.send(Call("GET", self._key))
        head = await self._sentinels.send(Call("HEAD", self._key))
        if get.status != 200 or get.body != FIRST:
            raise self._failed(get, f"read the probe's object {self._key!r}", "s3:GetObject")
        self._traits.counts_tags_on_get = get.headers.get("x-amz-tagging-count") == "1"
        self._traits.counts_tags_on_head = head.headers.get("x-amz-tagging-count") == "1"
        self._details["tag_count_on_get"] = "reported" if self._traits.counts_tags_on_get else "not reported"
        self._details["tag_count_on_head"] = (
            "reported" if self._traits.counts_tags_on_head else "not reported"
        )

    async def _write_odd(self) -> list[str]:
        """Sentinels with odd keys; returns those that the server takes, the main one among them."""
        written = [self._key]
        for odd in ODD:
            key = self._sentinels.prefix + odd
            answer = await self._sentinels.write(key)
            if answer.status == 200:
                written.append(key)
            elif answer.status not in _REFUSES_KEY:
                raise self._failed(answer, f"write the probe's object {key!r}", "s3:PutObject")
        refused = len(ODD) + 1 - len(written)
        self._details["odd_keys"] = f"{refused} of {len(ODD)} refused" if refused else "accepted"
        return written

    async def _listing(self, written: list[str]) -> None:
        """All that was just written must be listed, in order, and nothing else."""
        query = (("encoding-type", "url"), ("list-type", "2"), ("prefix", self._sentinels.prefix))
        answer = await self._sentinels.send(Call("GET", query=query))
        if answer.status != 200:
            raise self._failed(answer, "list", "s3:ListBucket")
        for plus_is_space in (True, False):
            page = self._page(answer, plus_is_space)
            if page and [one.key for one in page.objects if not one.ambiguous] == sorted(written):
                self._traits.plus_is_space = plus_is_space
                self._details["plus_in_listings"] = "a space" if plus_is_space else "a plus"
                return
        parse_page(answer.body, "", plus_is_space=b"%2B" in answer.body)  # it may say what is wrong
        raise StoreError(
            "the listing doesn't show, or doesn't show exactly, objects that were just written: "
            "this store is not read-after-write consistent"
        )

    @staticmethod
    def _page(answer: Answer, plus_is_space: bool) -> Page | None:
        try:
            return parse_page(answer.body, "", plus_is_space=plus_is_space)
        except StoreError:
            return None  # read the wrong way, two keys can look like one

    # ------------------------------------------------------------------ conditions

    async def _conditional_put(self, etag: str) -> Condition:
        call = Call("PUT", self._key, headers={"if-none-match": "*"}, body=body_of(SECOND))
        answer = await self._sentinels.send(call, repeat=False)
        now = await self._sentinels.etag(self._key)
        if answer.status == 412 and now == etag:
            return Condition.HONOURED
        if answer.status in (400, 501) and now == etag:
            return Condition.REFUSED
        if answer.status == 200:
            restored = await self._sentinels.write(self._key)
            if restored.status == 200 and await self._sentinels.etag(self._key) == etag:
                return Condition.IGNORED
        raise self._failed(answer, f"write the probe's object {self._key!r} on a condition", "s3:PutObject")

    async def _conditional_bulk_delete(self) -> Condition:
        """A wrong ETag must keep its object and be told, while a right one beside it deletes."""
        keep, drop = (self._sentinels.prefix + name for name in ("A", "a"))
        etags = {key: await self._sentinels.etag(key) for key in (keep, drop)}
        if None in etags.values():
            return self._bulk_unknown("its sentinels could not be written")
        document = delete_document([(keep, _WRONG_ETAG), (drop, etags[drop] or "")])
        call = Call("POST", query=(("delete", None),), body=body_of(document))
        try:
            answer = await self._sentinels.send(call, repeat=False)
            now = {key: await self._sentinels.etag(key) for key in (keep, drop)}
            if now[keep] != etags[keep]:
                return Condition.IGNORED  # whatever it says
            if answer.status in (400, 405, 501) and now == etags:
                return Condition.REFUSED
            if answer.status != 200:
                return self._bulk_unknown(f"{answer.status} {fault_of(answer).code}")
            told = parse_deleted(answer.body, (keep, drop))
        except StoreError as error:
            return self._bulk_unknown(str(error))
        for key, version in told.deleted.items():
            if version:
                self._sentinels.made(key, version)
        if told.refused == {keep: "PreconditionFailed"} and now[drop] is None:
            return Condition.HONOURED
        if set(told.refused.values()) == {"NotImplemented"} and now == etags:
            return Condition.REFUSED
        return self._bulk_unknown(f"it answered {told.refused or 'that both are deleted'}")

    def _bulk_unknown(self, why: str) -> Condition:
        self._details["conditional_bulk_delete"] = f"unknown ({why})"
        return Condition.UNKNOWN

    async def _conditional_delete(self, etag: str) -> Condition:
        answer = await self._delete(_WRONG_ETAG)
        now = await self._sentinels.etag(self._key)
        if answer.status in (200, 204):
            found = Condition.IGNORED
        elif answer.status in (400, 501) and now == etag:
            found = Condition.REFUSED
        elif answer.status == 412 and now == etag:
            found = Condition.HONOURED
        else:
            raise self._failed(
                answer, f"delete the probe's object {self._key!r} on a condition", "s3:DeleteObject"
            )
        if found is not Condition.IGNORED:
            answer = await self._delete(etag if found is Condition.HONOURED else None)
        if answer.status not in (200, 204):
            raise self._failed(answer, f"delete the probe's object {self._key!r}", "s3:DeleteObject")
        if await self._sentinels.etag(self._key) is not None:
            raise StoreError(
                "an object that was just deleted is still there: "
                "this store is not read-after-write consistent"
            )
        return found

    async def _delete(self, etag: str | None) -> Answer:
        headers = {} if etag is None else {"if-match": quoted_etag(etag)}
        return await self._sentinels.send(Call("DELETE", self._key, headers=headers), repeat=False)

    # ------------------------------------------------------------------ the bucket's settings

    async def _versioning(self) -> Versioning:
        try:
            answer = await self._sentinels.send(Call("GET", query=(("versioning", None),)))
            if answer.status == 200:
                found = _VERSIONING[parse_versioning(answer.body)]
                self._details["versioning"] = found.value
                return found
            why = f"{answer.status} {fault_of(answer).code}"
        except StoreError as error:
            why = str(error)
        self._details["versioning"] = f"unknown ({why})"
        return Versioning.UNKNOWN

    async def _object_lock(self) -> bool | None:
        try:
            answer = await self._sentinels.send(Call("GET", query=(("object-lock", None),)))
            code = fault_of(answer).code
            if answer.status == 404 and code == "ObjectLockConfigurationNotFoundError":
                self._details["object_lock"] = "off"
                return False
            if answer.status == 200:
                root = parse_answer(answer.body, ("ObjectLockConfiguration",), "read the lock configuration")
                on = root.findtext("ObjectLockEnabled", "") == "Enabled"
                default = root.findtext("Rule/DefaultRetention/Mode", "")
                self._details["object_lock"] = "on" if on else "off"
                if default:
                    self._details["object_lock"] += f", new objects are kept ({default})"
                return on
            why = f"{answer.status} {code}"
        except StoreError as error:
            why = str(error)
        self._details["object_lock"] = f"unknown ({why})"
        return None
