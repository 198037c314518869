"""Deleting where the server ignores If-Match and keeps versions: a delete that hit another version is undone.

Such a delete only writes a marker on top of the versions. So what lies beneath it tells afterwards what the
condition should have told before, and removing the marker brings it back to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import unquote, unquote_plus

from attrs import frozen

from s3gc.errors import StoreError
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import Teller
from s3gc.stores.s3._traits import Traits
from s3gc.stores.s3._transport import Call
from s3gc.stores.s3._xml import bare_etag, parse_answer, parse_time

NULL = "null"
"""A version that the next one replaces, as in a bucket without versions: nothing is kept beneath it."""

MAX_VERSIONS = 100
"""Newest versions of a key among which our marker is looked for."""


@frozen
class Version:
    """A version of one key."""

    id: str
    etag: str | None  # None: a delete marker


def parse_versions(document: bytes, key: str, *, plus_is_space: bool) -> list[Version]:
    """The versions of ``key``, newest first, of an answer to ListObjectVersions with the key as prefix.

    Raises:
        StoreError: it is something else, or it isn't in order (moto lists all markers after all versions).
    """
    doing = f"list the versions of {key!a}"
    root = parse_answer(document, ("ListVersionsResult",), doing)
    decode = unquote_plus if plus_is_space else unquote
    encoded = root.findtext("EncodingType", "") == "url"
    found: list[Version] = []
    last = datetime.max.replace(tzinfo=UTC)
    for entry in root:
        if entry.tag not in ("Version", "DeleteMarker"):
            continue
        raw = entry.findtext("Key", "")
        if (decode(raw) if encoded else raw) != key:
            continue
        number, etag = entry.findtext("VersionId", ""), bare_etag(entry.findtext("ETag", ""))
        if not number or (entry.tag == "Version" and not etag):
            raise StoreError(f"could not {doing}: an entry has no id or no ETag")
        try:
            modified = parse_time(entry.findtext("LastModified", ""))
        except ValueError as error:
            raise StoreError(f"could not {doing}: an entry has no time ({error})") from error
        if found and (modified > last or entry.findtext("IsLatest", "") == "true"):
            raise StoreError(f"could not {doing}: they are not listed from the newest to the oldest")
        last = modified
        found.append(Version(number, etag if entry.tag == "Version" else None))
    return found


class Versions:
    """Looks beneath delete markers."""

    def __init__(self, client: Client, traits: Traits, failed: Teller) -> None:
        self._client = client
        self._traits = traits
        self._failed = failed

    async def hidden_rightly(self, key: str, etag: str, marker: str | None) -> bool:
        """Whether the version under a delete marker is the one that was meant; if not, it is back.

        Args:
            etag: of the version that was meant.
            marker: the marker's version id; None: the newest version, if that is a marker.

        Raises:
            StoreError: nobody can say, so the marker is removed; ``outcome_unknown`` if it could not be.
        """
        try:
            versions = await self._of(key)
            at = self._at(versions, marker)
            if at is None and marker is None:
                return True  # no marker is on top: the bucket keeps no versions, or there is an object
            if at is None:
                raise StoreError(f"could not find the delete marker of {key!r} among its versions")
            beneath = versions[at + 1] if at + 1 < len(versions) else None
        except StoreError as error:
            if marker is None:
                raise StoreError(f"{error}; {key!r} may be hidden", outcome_unknown=True) from error
            await self._remove(key, marker)
            raise StoreError(
                f"{key!r} was not deleted: what its marker hid can't be told, so that was removed ({error})"
            ) from error
        if beneath is None or beneath.etag is None or beneath.etag == bare_etag(etag):
            return True
        await self._remove(key, versions[at].id)
        return False

    @staticmethod
    def _at(versions: Sequence[Version], marker: str | None) -> int | None:
        for at, version in enumerate(versions):
            if version.etag is None and (version.id != NULL if marker is None else version.id == marker):
                return at
            if marker is None:
                return None
        return None

    async def _of(self, key: str) -> list[Version]:
        query = (
            ("encoding-type", "url"),
            ("max-keys", str(MAX_VERSIONS)),
            ("prefix", key),
            ("versions", None),
        )
        answer = (await self._client.request(Call("GET", query=query))).answer
        if answer.status in (405, 501):
            return []  # a server that knows no versions
        if answer.status != 200:
            raise self._failed(answer, f"list the versions of {key!r}", "s3:ListBucketVersions")
        return parse_versions(answer.body, key, plus_is_space=self._traits.plus_is_space)

    async def _remove(self, key: str, marker: str) -> None:
        doing = f"take back the delete of {key!r}"
        call = Call("DELETE", key, query=(("versionId", marker),))
        try:
            answer = (await self._client.request(call)).answer
        except StoreError as error:
            raise StoreError(f"could not {doing}: {error}", outcome_unknown=True) from error
        if answer.status not in (200, 204, 404):
            told = self._failed(answer, doing, "s3:DeleteObjectVersion")
            raise StoreError(str(told), outcome_unknown=True)
