"""What an object is: HEAD, the reason of a failure, and tags."""

from __future__ import annotations

from collections.abc import Mapping

from s3gc.errors import PreconditionFailed, StoreError, UnreadableObject
from s3gc.model import ObjectAttributes
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import Teller, fault_of
from s3gc.stores.s3._traits import Traits
from s3gc.stores.s3._transport import Answer, Call
from s3gc.stores.s3._xml import parse_tags

LOOKS = 3
"""How often HEAD and GET may contradict each other in a row before that is an error."""


class Lookup:
    """Reads all but the bytes of objects."""

    def __init__(self, client: Client, traits: Traits, failed: Teller) -> None:
        self._client = client
        self._traits = traits
        self._failed = failed
        self._trust = client.options.trust_tag_count

    async def head(self, key: str) -> Answer | None:
        """The answer to HEAD, or None when there is no such object."""
        for _ in range(LOOKS):
            answer = (await self._client.request(Call("HEAD", key))).answer
            if answer.status == 200:
                return answer
            # HEAD has no body to tell why. A bucket that is gone must not look like an object that is gone.
            why = await self.look(key)
            if self.is_missing(why):
                return None
            if why.status not in (200, 206, 416):
                raise self.unreadable(why, key)
            # It exists: it may have come between the two requests.
        raise StoreError(
            f"could not read what {key!r} is: HEAD says {answer.status} where GET says that it exists"
        )

    async def look(self, key: str) -> Answer:
        """One byte of the object, for the sake of the error's text."""
        return (await self._client.request(Call("GET", key, headers={"range": "bytes=0-0"}, most=1))).answer

    @staticmethod
    def is_missing(answer: Answer) -> bool:
        return answer.status == 404 and fault_of(answer).code in ("NoSuchKey", "NoSuchVersion")

    def unreadable(self, answer: Answer, key: str) -> StoreError:
        fault = fault_of(answer)
        if fault.status == 400 and "encryption" in fault.message.lower():
            return UnreadableObject(
                f"could not read {key!r}: it is encrypted with a key that only its owner has "
                f"({fault.code} {fault.message})"
            )
        return self._failed(
            answer, f"read {key!r}", "s3:GetObject (and kms:Decrypt if it is encrypted with KMS)"
        )

    def unwritable(self, answer: Answer, key: str, attributes: ObjectAttributes, unknown: bool) -> StoreError:
        """The error for a write that was refused."""
        fault = fault_of(answer)
        kms = (attributes.encryption or "").startswith("aws:kms")
        if kms and (
            fault.code.startswith("KMS.") or (fault.status in (400, 403) and "kms" in fault.message.lower())
        ):
            return StoreError(
                f"could not write {key!r}: its KMS key {attributes.kms_key_id or '(unnamed)'} can't be used "
                f"({fault.status} {fault.code} {fault.message}): enable it and grant kms:GenerateDataKey and "
                'kms:Decrypt, or set encryption="bucket" to restore with the bucket\'s default encryption',
                outcome_unknown=unknown,
            )
        permission = "s3:PutObject (and s3:PutObjectTagging for tags)"
        if kms:
            permission += f" and kms:GenerateDataKey on {attributes.kms_key_id or 'its key'}"
        return self._failed(answer, f"write {key!r}", permission, unknown)

    def tells_no_tags(self, headers: Mapping[str, str], counts: bool) -> bool:
        """Whether the answer itself says that there are no tags."""
        told = headers.get("x-amz-tagging-count")
        # "0" with an upload in parts: Ceph 16 lost the tags and has no XML about them
        return not self._traits.has_tags or told == "0" or (told is None and counts and self._trust)

    async def tags(self, key: str, headers: Mapping[str, str], counts: bool) -> dict[str, str]:
        if self.tells_no_tags(headers, counts):
            return {}
        told = headers.get("x-amz-tagging-count")
        answer = (await self._client.request(Call("GET", key, query=(("tagging", None),)))).answer
        if answer.status == 200:
            tags = parse_tags(answer.body)
        elif self.is_missing(answer):
            raise PreconditionFailed(f"{key!r} vanished while its tags were read")
        elif answer.status == 404 and fault_of(answer).code.startswith("NoSuchTagSet"):
            tags = {}
        elif answer.status == 501 and told is None:
            self._traits.has_tags = False
            tags = {}
        else:
            raise self._failed(answer, f"read the tags of {key!r}", "s3:GetObjectTagging")
        if told is not None and told != str(len(tags)):
            raise StoreError(
                f"{key!r} has {told} tags and then {len(tags)}: they changed while they were read"
            )
        return tags
