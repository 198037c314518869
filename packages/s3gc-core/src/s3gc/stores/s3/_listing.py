"""A bucket's listing: one page ahead of the caller, in key order, complete or an error."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import anyio
import anyio.to_thread

from s3gc.errors import StoreError
from s3gc.model import ObjectInfo
from s3gc.stores.s3._client import Client
from s3gc.stores.s3._errors import may_repeat
from s3gc.stores.s3._ranges import MAX_EMPTY_PAGES
from s3gc.stores.s3._transport import Answer, Call, Lost, NotSent
from s3gc.stores.s3._xml import Page, parse_page

_NOTHING = contextlib.nullcontext()


def fetch_page(
    client: Client,
    token: str | None,
    after: str,
    *,
    prefix: str = "",
    plus_is_space: bool,
    parsing: AbstractContextManager[object] = _NOTHING,
) -> Page | Answer:
    """One attempt at the page after ``after``, in the caller's thread.

    Args:
        parsing: is held while the answer is parsed.

    Returns:
        an answer that isn't a page as it is.
    """
    query: list[tuple[str, str | None]] = [
        ("encoding-type", "url"),
        ("list-type", "2"),
        ("max-keys", str(client.options.page_size)),
    ]
    if prefix:
        query.append(("prefix", prefix))
    if token is not None:
        query.append(("continuation-token", token))
    elif after:
        query.append(("start-after", after))
    answer = client.send(Call("GET", query=tuple(query)))
    if answer.status != 200:
        return answer
    with parsing:
        return parse_page(answer.body, after, prefix=prefix, plus_is_space=plus_is_space)


class Lister:
    """Pages of one listing, each fetched and parsed while the caller works on the one before."""

    def __init__(
        self,
        client: Client,
        executor: ThreadPoolExecutor,
        failed: Callable[[Answer], StoreError],
        *,
        prefix: str,
        start_after: str,
        plus_is_space: bool,
    ) -> None:
        self._client = client
        self._executor = executor
        self._failed = failed
        self._prefix = prefix
        self._after = start_after
        self._plus_is_space = plus_is_space

    def _fetch(self, token: str | None, after: str) -> Page | Answer:
        return fetch_page(self._client, token, after, prefix=self._prefix, plus_is_space=self._plus_is_space)

    async def _page(self, token: str | None, after: str, begun: Future[Page | Answer] | None) -> Page:
        backoff = self._client.backoff()
        while True:
            try:
                if begun is not None:
                    got = await anyio.to_thread.run_sync(begun.result, abandon_on_cancel=True)
                else:
                    got = await self._client.in_thread(lambda: self._fetch(token, after), abandon=True)
            except (NotSent, Lost) as error:
                if not backoff.again():
                    raise self._client.unreachable(backoff, error, False) from error
            else:
                if isinstance(got, Page):
                    return got
                if not may_repeat(got) or not backoff.again():
                    raise self._failed(got)
            begun = None
            await backoff.pause()

    async def pages(self) -> AsyncIterator[Sequence[ObjectInfo]]:
        """The pages; an empty bucket has none."""
        token: str | None = None
        after = self._after
        begun: Future[Page | Answer] | None = None
        empty = 0
        try:
            while True:
                page = await self._page(token, after, begun)
                token, begun = page.token, None
                after = next((o.key for o in reversed(page.objects) if not o.ambiguous), after)
                if token is not None:
                    # Strictly increasing keys come to an end by themselves, empty pages don't.
                    empty = 0 if page.objects else empty + 1
                    if empty > MAX_EMPTY_PAGES:
                        raise StoreError(f"could not list the bucket: {empty} pages in a row held no key")
                    with contextlib.suppress(RuntimeError):  # the executor is shut down: fetch it when needed
                        begun = self._executor.submit(self._fetch, token, after)
                if page.objects:
                    yield list(page.objects)
                if token is None:
                    return
        finally:
            if begun is not None:
                begun.cancel()
