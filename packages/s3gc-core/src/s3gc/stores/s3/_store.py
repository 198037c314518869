"""The store: one bucket behind the S3 API."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Literal

from attrs import evolve

from s3gc.abc import ObjectReader, ObjectStore, WholeObject
from s3gc.clock import Clock, SystemClock
from s3gc.errors import (
    AmbiguousKey,
    ConfigError,
    NoSuchBucket,
    PreconditionFailed,
    StoreError,
)
from s3gc.model import DeleteOutcome, ObjectAttributes, ObjectHead, ObjectInfo, StoreCapabilities
from s3gc.stores.s3._acl import Acls
from s3gc.stores.s3._address import Address, Addressing, locate
from s3gc.stores.s3._bulk import in_bulk
from s3gc.stores.s3._checksums import CHECKSUM_MODE, Checks
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._credentials import (
    BotocoreCredentials,
    CredentialSource,
    StaticCredentials,
    open_session,
    session_setting,
)
from s3gc.stores.s3._delete import Deletion
from s3gc.stores.s3._errors import Teller, fault_of
from s3gc.stores.s3._headers import (
    every_header,
    md5_of,
    quoted_etag,
    read_attributes,
    read_date,
    read_info,
    writable,
    write_attributes,
)
from s3gc.stores.s3._lane import MOST_BYTES
from s3gc.stores.s3._listing import Lister
from s3gc.stores.s3._lookup import Lookup
from s3gc.stores.s3._options import MAX_KEY_BYTES, S3Options
from s3gc.stores.s3._probe import Probe
from s3gc.stores.s3._ranges import Ranges
from s3gc.stores.s3._reader import S3Reader
from s3gc.stores.s3._region import Region
from s3gc.stores.s3._scan import Scanner
from s3gc.stores.s3._signing import Credentials, Signer
from s3gc.stores.s3._small import SmallReads
from s3gc.stores.s3._tagging import Tagging
from s3gc.stores.s3._traits import Condition, Traits
from s3gc.stores.s3._transport import Answer, Call, Transport
from s3gc.stores.s3._upload import Upload
from s3gc.stores.s3._xml import bare_etag


class S3Store(ObjectStore):
    """One bucket behind the S3 API. Works on asyncio and trio, one event loop per store.

    Keys are opaque: they are percent-encoded into the path and never normalised.
    Run :meth:`probe` first. Until then nothing is taken for granted: deletes and conditional writes look
    at the object first, and tags are always asked for.

    Args:
        bucket: its bare name.
        region: the bucket's region; by default what the environment or the profile says, else ``us-east-1``.
        adopt_region: believe the store once if its first answers name another region; by default only where
            ``region`` isn't passed.
        endpoint_url: ``https://host:port`` of a store that isn't AWS.
        access_key, secret_key, session_token: fixed credentials, instead of botocore's provider chain.
        profile: a profile of the AWS configuration files.
        addressing: the bucket as part of the host (``virtual``) or of the path; ``auto`` is virtual on AWS
            where the name allows it, and path behind an ``endpoint_url``.
        max_connections: requests at the same time.
        ca_bundle: a file with the certificates to trust; by default AWS_CA_BUNDLE, or botocore's.
        encryption: ``keep`` encrypts what is put back as it was, with the same KMS key; ``bucket`` leaves
            that to the bucket's default, for when a key can't be used any more.
        request_payer: ``requester`` says that we pay for requests to a bucket of others.
        expected_bucket_owner: the account (12 digits) that the bucket must belong to, or all is refused.
        acl: ``keep`` makes ACLs a part of what is backed up and put back; one more request for each object.
        listers: instead of ``S3Options.listers``.
        rng: for pauses between attempts and names of sentinels.

    A proxy is taken from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

    Raises:
        ConfigError: the bucket, region, endpoint, credentials or proxy can't be used.
    """

    def __init__(
        self,
        bucket: str,
        *,
        region: str | None = None,
        adopt_region: bool | None = None,
        endpoint_url: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        profile: str | None = None,
        addressing: Addressing = "auto",
        clock: Clock | None = None,
        max_connections: int = 64,
        options: S3Options | None = None,
        ca_bundle: str | None = None,
        encryption: Literal["keep", "bucket"] = "keep",
        request_payer: Literal["requester"] | None = None,
        expected_bucket_owner: str | None = None,
        acl: Literal["keep"] | None = None,
        listers: int | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if (access_key is None) != (secret_key is None):
            raise ConfigError("pass access_key and secret_key together, or neither")
        if access_key is not None and profile is not None:
            raise ConfigError("pass either access_key and secret_key or a profile, not both")
        if max_connections < 1:
            raise ConfigError(f"max_connections must be at least 1, got {max_connections}")
        credentials: CredentialSource
        if access_key is not None and secret_key is not None:
            credentials = StaticCredentials(Credentials(access_key, secret_key, session_token))
            session = open_session(None)
        else:
            session = open_session(profile)
            credentials = BotocoreCredentials(session)
        if encryption not in ("keep", "bucket"):
            raise ConfigError(f"encryption must be 'keep' or 'bucket', not {encryption!r}")
        if acl not in ("keep", None):
            raise ConfigError(f"acl must be 'keep' or left out, not {acl!r}")
        # us-east-1 is what gateways that have no regions expect, and where AWS knows all buckets' regions.
        self._region = Region(
            region or session_setting(session, "region") or "us-east-1",
            partial(self._locate, bucket, endpoint_url, addressing),
            bucket,
            may_change=region is None if adopt_region is None else adopt_region,
        )
        self._clock = clock or SystemClock()
        self._options = options or S3Options()
        if listers is not None:
            self._options = evolve(self._options, listers=listers)
        self._rng = rng or random.SystemRandom()
        self._keeps_encryption = encryption == "keep"
        self._traits = Traits()
        address = self._region.address()
        self.bucket = bucket
        self.url = address.identity
        transport = Transport(
            address,
            Signer(self._region.name),
            credentials,
            self._options,
            self._clock,
            max_connections,
            ca_bundle or session_setting(session, "ca_bundle"),
            every=every_header(request_payer, expected_bucket_owner),
            relocated=self._relocated,
        )
        self._client = Client(
            transport, self._options, self._clock, self._rng, max_connections, address.host_header
        )
        self._failed = Teller(bucket, self._region.name, expected_bucket_owner)
        self._lookup = Lookup(self._client, self._traits, self._failed)
        self._acls = Acls(self._client, self._lookup, self._failed, keep=acl is not None)
        self._tagging = Tagging(self._client, self._traits, self._lookup, self._failed)
        self._deletion = Deletion(self._client, self._traits, self._lookup, self._failed)
        self._max_connections = max_connections
        self._marks: Sequence[str] = ()  # where the last scan could be split well
        # Two for each body that is read: one reads, one hashes.
        self._ahead = ThreadPoolExecutor(2 * max_connections, thread_name_prefix="s3gc-read")
        self._executor = ThreadPoolExecutor(max_connections, thread_name_prefix="s3gc-list")

    def __repr__(self) -> str:
        return f"S3Store({self.url!r}, region={self._region.name!r})"

    @staticmethod
    def _locate(bucket: str, endpoint_url: str | None, addressing: Addressing, region: str) -> Address:
        return locate(bucket, region=region, endpoint_url=endpoint_url, addressing=addressing)

    def _relocated(self, answer: Answer) -> tuple[Address, Signer] | None:
        if not self._region.learn(answer):
            return None
        return self._region.address(), Signer(self._region.name)

    def can_address(self, key: str) -> bool:
        """All keys but the empty one (which is the bucket itself), too long ones, and what isn't Unicode."""
        try:
            return 0 < len(key.encode("utf-8")) <= MAX_KEY_BYTES
        except UnicodeEncodeError:
            return False

    def _check(self, key: str) -> None:
        if not self.can_address(key):
            raise AmbiguousKey(
                f"{key!a} is not a key: 1 to {MAX_KEY_BYTES} bytes of UTF-8 are; nothing was done"
            )

    # ----------------------------------------------------------------- list

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Pages of up to 1,000 objects; the next page is fetched while the caller works on this one.

        Last-modified is cut to whole seconds, as HEAD and GET tell it. A key that isn't UTF-8, or that the
        server may have encoded without saying so, is ambiguous, and may stand out of order.
        """
        lister = Lister(
            self._client,
            self._executor,
            lambda answer: self._failed(answer, "list", "s3:ListBucket"),
            prefix=prefix,
            start_after=start_after,
            plus_is_space=self._traits.plus_is_space,
        )
        async for page in lister.pages():
            yield page

    async def scan(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        """All objects, by ``S3Options.listers`` at once; see :mod:`~s3gc.stores.s3._ranges`.

        The store remembers where the bucket could be split well, so the next scan is faster from its start.
        """
        listers = min(self._options.listers, self._max_connections)
        ranges = Ranges(listers=listers, page_size=self._options.page_size, marks=self._marks)
        scanner = Scanner(
            self._client,
            self._executor,
            lambda answer: self._failed(answer, "list", "s3:ListBucket"),
            ranges,
            listers=listers,
            plus_is_space=self._traits.plus_is_space,
        )
        async with aclosing(scanner.pages()) as pages:  # type: ignore[type-var]
            async for page in pages:
                yield page
        self._marks = ranges.marks

    # ----------------------------------------------------------------- read

    async def stat(self, key: str) -> ObjectInfo | None:
        """The object by a HEAD request, without its attributes."""
        self._check(key)
        answer = await self._lookup.head(key)
        return read_info(answer.headers, key) if answer else None

    async def head(self, key: str) -> ObjectHead | None:
        self._check(key)
        answer = await self._lookup.head(key)
        if answer is None:
            return None
        info = read_info(answer.headers, key)
        try:
            tags = await self._lookup.tags(key, answer.headers, self._traits.counts_tags_on_head)
            acl = await self._acls.read(key)
        except PreconditionFailed:
            return None
        return ObjectHead(info, evolve(read_attributes(answer.headers, key, tags), acl=acl))

    def get(self, key: str, *, if_match: str | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        return self._get(key, if_match)

    @asynccontextmanager
    async def _get(self, key: str, if_match: str | None) -> AsyncIterator[ObjectReader]:
        self._check(key)
        answer = (await self._client.request(self._read_call(key, if_match))).answer
        reader: S3Reader | None = None
        try:
            reader = await self._opened(answer, key, if_match)
            yield reader
        finally:
            if reader is not None:
                await reader.settle()
            if answer.rest is not None and answer.rest.left:
                answer.rest.close()

    def _read_call(self, key: str, if_match: str | None) -> Call:
        headers = dict(CHECKSUM_MODE)
        if if_match is not None:
            headers["if-match"] = quoted_etag(if_match)
        return Call("GET", key, headers=headers, most=self._options.first_read)

    async def _opened(self, answer: Answer, key: str, if_match: str | None) -> S3Reader:
        """What an answer to GET brings."""
        info, checks = self._told(answer, key, if_match)
        attributes = await self._attributes(answer, key)
        return S3Reader(self._client, answer, info, attributes, checks, self._ahead)

    def _told(self, answer: Answer, key: str, if_match: str | None) -> tuple[ObjectInfo, Checks]:
        """The object, and what its bytes must come to."""
        if answer.status != 200:
            if self._lookup.is_missing(answer):
                raise PreconditionFailed(f"there is no object {key!r} in bucket {self.bucket!r}")
            raise self._lookup.unreadable(answer, key)
        info = read_info(answer.headers, key)
        if if_match is not None and info.etag != bare_etag(if_match):
            raise PreconditionFailed(f"{key!r} has the ETag {info.etag!r} now, not {if_match!r}")
        verify = self._options.verify_md5 and self._traits.md5_etags
        return info, Checks(answer.headers, md5_of(answer.headers) if verify else None)

    async def _attributes(self, answer: Answer, key: str) -> ObjectAttributes:
        tags = await self._lookup.tags(key, answer.headers, self._traits.counts_tags_on_get)
        acl = await self._acls.read(key)
        return evolve(read_attributes(answer.headers, key, tags), acl=acl)

    def _complete(self, answer: Answer) -> bool:
        """Whether :meth:`_attributes` would ask for nothing, and find neither tags nor an ACL."""
        return not self._acls.kept and self._lookup.tells_no_tags(
            answer.headers, self._traits.counts_tags_on_get
        )

    async def get_small(self, objects: Sequence[ObjectInfo]) -> AsyncIterator[Sequence[WholeObject]]:
        """Over connections of their own, a multiple of ``max_connections``; see ``_lane.py``."""
        small = [one for one in objects if one.size <= MOST_BYTES and self.can_address(one.key)]
        reads = SmallReads(self._client, self._told, self._complete, self._attributes)
        async with aclosing(reads.read(small)) as groups:  # type: ignore[type-var]
            async for group in groups:
                yield group

    # ----------------------------------------------------------------- write

    async def put(
        self,
        key: str,
        body: bytes | AsyncIterable[bytes],
        *,
        size: int,
        attributes: ObjectAttributes,
        if_none_match: bool = False,
    ) -> ObjectInfo:
        """Write an object; a HEAD request reads back when that was, and whether it has its attributes.

        Where ``If-None-Match`` isn't known to be honoured, the store looks first: a writer in between is
        overwritten.

        Raises:
            StoreError: also when the store gave the object other attributes than these.
        """
        self._check(key)
        wanted = writable(attributes, encryption=self._keeps_encryption)
        headers = write_attributes(wanted)
        condition: dict[str, str] = {}
        proven = self._traits.conditional_put
        if if_none_match:
            # That a PUT honours the condition says nothing about a multipart upload, so there we look first.
            look = proven is not Condition.HONOURED or size > self._options.single_put_most
            if look and await self._lookup.head(key) is not None:
                raise PreconditionFailed(f"{key!r} exists already; nothing was written")
            if proven is not Condition.REFUSED:
                condition["if-none-match"] = "*"

        def failed(answer: Answer, unknown: bool) -> StoreError:
            if condition and size <= self._options.single_put_most:
                self._traits.weigh("If-None-Match on PUT", proven, answer.status)
            return self._lookup.unwritable(answer, key, wanted, unknown)

        sent = await Upload(self._client, failed, key, headers, condition).send(body, size)
        answer = await self._lookup.head(key)
        info = read_info(answer.headers, key) if answer else None
        if (
            answer is None
            or info is None
            or info.size != size
            or (sent and bare_etag(sent.headers.get("etag", "")) != info.etag)
        ):
            raise StoreError(
                f"{key!r} was written, and is another object or gone now: someone else writes there",
                outcome_unknown=True,
            )
        if attributes.tags and (sent is None or answer.headers.get("x-amz-tagging-count") is not None):
            await self._tagging.ensure(info, attributes.tags)
        if unlike := evolve(wanted, tags={}, acl=None).otherwise_in(read_attributes(answer.headers, key, {})):
            raise StoreError(
                f"{key!r} was written, and the store gave it another {' and '.join(unlike)} "
                "than it was told: compare the two, and look at the bucket's settings",
                outcome_unknown=True,
            )
        if attributes.acl is not None:
            await self._acls.ensure(key, attributes.acl)
        return info

    async def delete(self, key: str, *, if_match: str) -> DeleteOutcome:
        """Delete the object if its ETag is ``if_match``; see :class:`~s3gc.stores.s3._delete.Deletion`."""
        self._check(key)
        return await self._deletion.delete(key, if_match)

    @property
    def delete_most(self) -> int:
        return self._options.bulk_delete if self._deletion.proven_in_bulk else 1

    async def delete_many(self, wanted: Mapping[str, str]) -> Mapping[str, DeleteOutcome | StoreError]:
        """In one DeleteObjects request if a probe has proven that it honours each key's ETag.

        Keys that XML can't hold to the letter, and all keys where it isn't proven, are deleted one by one.
        """
        for key in wanted:
            self._check(key)
        many = {key: etag for key, etag in wanted.items() if in_bulk(key)}
        if len(many) < 2 or not self._deletion.proven_in_bulk:
            return await super().delete_many(wanted)
        ended = await self._deletion.delete_many(many)
        alone = {key: etag for key, etag in wanted.items() if key not in many}
        return ended | dict(await super().delete_many(alone))

    # ----------------------------------------------------------------- the store itself

    async def probe(self) -> StoreCapabilities:
        name = f"{self._rng.getrandbits(96):024x}"
        return await Probe(self._client, self._failed, self._traits, self._clock, name).run()

    def adopt(self, capabilities: StoreCapabilities) -> bool:
        return self._traits.adopt(capabilities.notes)

    def contradiction(self) -> str | None:
        return self._traits.contradiction

    async def now(self) -> datetime:
        doing = "reach it: tell the time"
        answer = (await self._client.request(Call("HEAD"))).answer
        if answer.status != 200:  # HEAD doesn't say why
            query = (("list-type", "2"), ("max-keys", "1"))
            answer = (await self._client.request(Call("GET", query=query))).answer
        if answer.status == 404 and not fault_of(answer).code:
            raise NoSuchBucket(f"there is no bucket {self.bucket!r} at this endpoint")
        if answer.status != 200:
            raise self._failed(answer, doing, "s3:ListBucket")
        return read_date(answer.headers, "date", doing)

    async def aclose(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._ahead.shutdown(wait=False)
        self._client.close()
