"""The objects that a probe makes: written, looked at, and removed with all of their versions."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, unquote_plus

import structlog

from s3gc.abc import RESERVED_PREFIX
from s3gc.errors import StoreError
from s3gc.stores.s3._body import body_of
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import fault_of
from s3gc.stores.s3._transport import Answer, Call
from s3gc.stores.s3._xml import bare_etag, parse_answer

FIRST = b"s3gc probe: may be deleted at any time\n"
SECOND = b"s3gc probe: this must not replace an object that exists\n"

log = structlog.get_logger(__name__)


class Sentinels:
    """One probe's objects, all below a folder of a random name."""

    def __init__(self, client: Client, failed: Callable[[Answer, str, str], StoreError], name: str) -> None:
        self._client = client
        self._failed = failed
        self.prefix = f"{RESERVED_PREFIX}probe/{name}/"
        self._versions: dict[str, set[str]] = {}  # by key: of all that was made

    async def send(self, call: Call, *, repeat: bool = True) -> Answer:
        if call.key is not None and call.method == "PUT":
            self._versions.setdefault(call.key, set())  # before: the answer may be lost
        answer = (await self._client.request(call, repeat=repeat)).answer
        version = answer.headers.get("x-amz-version-id")
        if call.key is not None and call.method in ("PUT", "DELETE") and version:
            self.made(call.key, version)
        return answer

    def made(self, key: str, version: str) -> None:
        """A request made this version of a sentinel, perhaps a delete marker."""
        self._versions.setdefault(key, set()).add(version)

    async def etag(self, key: str) -> str | None:
        """The sentinel's ETag, or None when it isn't there."""
        answer = await self.send(Call("HEAD", key))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._failed(answer, f"read the probe's object {key!r}", "s3:GetObject")
        return bare_etag(answer.headers.get("etag", ""))

    async def write(self, key: str, *, tagged: bool = False) -> Answer:
        headers = {"x-amz-tagging": "s3gc=probe"} if tagged else {}
        return await self.send(Call("PUT", key, headers=headers, body=body_of(FIRST)))

    async def remove(self) -> str:
        """Remove every sentinel and, where there are versions, each one that the probe made.

        Returns why something is left, or an empty text.
        """
        answers: list[Answer] = []
        try:
            for key in sorted(self._versions):
                answers.append(await self.send(Call("DELETE", key)))
            if any(self._versions.values()):
                await self._find_versions()
            for key, versions in sorted(self._versions.items()):
                for version in sorted(versions):
                    call = Call("DELETE", key, query=(("versionId", version),))
                    answers.append((await self._client.request(call)).answer)
            bad = [answer for answer in answers if answer.status not in (200, 204, 404)]
            why = f"{bad[0].status} {fault_of(bad[0]).code}" if bad else ""
        except StoreError as error:
            why = str(error)
        if why:
            log.warning("probe_left_something_behind", prefix=self.prefix, why=why)
        return why

    async def _find_versions(self) -> None:
        """Those whose answers were lost, too; without the right to list them, the known ones must do."""
        query = (("encoding-type", "url"), ("prefix", self.prefix), ("versions", None))
        answer = (await self._client.request(Call("GET", query=query))).answer
        if answer.status != 200:
            return
        root = parse_answer(answer.body, ("ListVersionsResult", "ListBucketResult"), "list the versions")
        for entry in root:
            if entry.tag in ("Version", "DeleteMarker"):
                raw, version = entry.findtext("Key", ""), entry.findtext("VersionId", "")
                for key in {raw, unquote(raw), unquote_plus(raw)} & self._versions.keys():
                    self.made(key, version)
