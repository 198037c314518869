"""Writing an object: one PUT while it is small, in parts beyond that; all or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping

import anyio
import structlog

from s3gc.errors import PreconditionFailed, StoreError
from s3gc.stores.s3._body import Intake, Spool, body_of
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import fault_of
from s3gc.stores.s3._options import MAX_PARTS, MIB
from s3gc.stores.s3._transport import Answer, Body, Call
from s3gc.stores.s3._xml import bare_etag, complete_document, parse_answer, parse_upload_id

ABORT_SECONDS = 30.0
"""How long an abandoned multipart upload's parts may take to be removed."""

log = structlog.get_logger(__name__)


def part_size(size: int, least: int) -> int:
    """Bytes of each part: ``least``, or as many whole MiB as keep an object of ``size`` within MAX_PARTS."""
    needed = -(-size // MAX_PARTS)
    return max(least, -(-needed // MIB) * MIB)


class Upload:
    """One object on its way into the bucket."""

    def __init__(
        self,
        client: Client,
        failed: Callable[[Answer, bool], StoreError],
        key: str,
        attributes: Mapping[str, str],
        condition: Mapping[str, str],
    ) -> None:
        self._client = client
        self._failed = failed
        self._key = key
        self._attributes = attributes
        self._condition = condition

    async def send(self, body: bytes | AsyncIterable[bytes], size: int) -> Answer | None:
        """Write ``size`` bytes; the answer to a single PUT, or None after a multipart upload.

        Raises:
            StoreError: another number of bytes; nothing was written.
            PreconditionFailed: the condition doesn't hold.
        """
        if isinstance(body, bytes) and len(body) != size:
            raise StoreError(f"the body has {len(body)} bytes and {size} were announced; nothing was written")
        options = self._client.options
        if size > options.single_put_most:
            await self._in_parts(Intake(body, size, self._client), size)
            return None
        if isinstance(body, bytes):
            return await self._whole(body_of(body))
        with Spool(options.spool_memory) as spool:
            intake = Intake(body, size, self._client)
            await intake.fill(spool, size)
            await intake.finish()
            return await self._whole(spool.body())

    async def _whole(self, body: Body) -> Answer:
        call = Call("PUT", self._key, headers={**self._attributes, **self._condition}, body=body)
        reply = await self._client.request(call)
        answer = reply.answer
        if answer.status == 200:
            return answer
        if answer.status == 412:
            self._exists(reply.doubtful)
        raise self._failed(answer, reply.doubtful or answer.status >= 500)

    def _exists(self, doubtful: bool) -> None:
        if doubtful:
            raise StoreError(
                f"{self._key!r} exists, and a lost attempt of ours may have written it: look",
                outcome_unknown=True,
            )
        raise PreconditionFailed(f"{self._key!r} exists already; nothing was written")

    async def _in_parts(self, intake: Intake, size: int) -> None:
        begin = Call("POST", self._key, query=(("uploads", None),), headers=self._attributes)
        answer = (await self._client.request(begin, repeat=False)).answer
        if answer.status != 200:
            raise self._failed(answer, False)
        upload = parse_upload_id(answer.body)
        complete = False
        try:
            etags = await self._parts(upload, intake, size)
            await intake.finish()
            await self._complete(upload, etags)
            complete = True
        finally:
            if not complete:
                await self._abort(upload)

    async def _parts(self, upload: str, intake: Intake, size: int) -> dict[int, str]:
        each = part_size(size, self._client.options.part_bytes)
        etags: dict[int, str] = {}
        for number in range(1, -(-size // each) + 1):
            with Spool(self._client.options.spool_memory) as spool:
                await intake.fill(spool, each)
                query = (("partNumber", str(number)), ("uploadId", upload))
                answer = (
                    await self._client.request(Call("PUT", self._key, query=query, body=spool.body()))
                ).answer
            etag = bare_etag(answer.headers.get("etag", ""))
            if answer.status != 200 or not etag:
                raise self._failed(answer, False)
            etags[number] = etag
        return etags

    async def _complete(self, upload: str, etags: Mapping[int, str]) -> None:
        call = Call(
            "POST",
            self._key,
            query=(("uploadId", upload),),
            headers={"content-type": "application/xml", **self._condition},
            body=body_of(complete_document(etags)),
        )
        answer = (await self._client.request(call, repeat=False)).answer
        if answer.status == 412:
            self._exists(False)
        if answer.status != 200:
            raise self._failed(answer, answer.status >= 500)
        # S3 may begin a good answer, and then report an error in it (API reference, CompleteMultipartUpload).
        if fault_of(answer).code:
            raise self._failed(answer, True)
        parse_answer(answer.body, ("CompleteMultipartUploadResult",), "complete a multipart upload")

    async def _abort(self, upload: str) -> None:
        call = Call("DELETE", self._key, query=(("uploadId", upload),))
        with anyio.move_on_after(ABORT_SECONDS, shield=True):
            try:
                status = (await self._client.request(call)).answer.status
                if status in (200, 204, 404):
                    return
                why = f"status {status}"
            except StoreError as error:
                why = str(error)
            log.warning("multipart_upload_left_behind", key=self._key, why=why)
