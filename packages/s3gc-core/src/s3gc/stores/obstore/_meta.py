"""obstore's values as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from s3gc.errors import AmbiguousKey, StoreError
from s3gc.model import ObjectInfo

if TYPE_CHECKING:
    from obstore import ObjectMeta


def bare(etag: str | None) -> str:
    """An ETag without quotes."""
    return (etag or "").strip('"')


def info_of(meta: ObjectMeta, key: str) -> ObjectInfo:
    """An object as obstore tells of it.

    Raises:
        AmbiguousKey: obstore speaks of another key than the one asked for.
        StoreError: there is no ETag to recognise this version by.
    """
    if meta["path"] != key:
        raise AmbiguousKey(f"{key!r} is {meta['path']!r} to this store; nothing was done")
    etag = bare(meta["e_tag"])
    if not etag:
        raise StoreError(f"the store gives no ETag for {key!r}: its versions can't be told apart")
    return ObjectInfo(key, meta["size"], etag, meta["last_modified"].astimezone(UTC), meta["version"])


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn obstore's errors into ours; a missing or an existing object stays a built-in error."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(str(error)) from None
    except PreconditionError as error:
        raise FileNotFoundError(str(error)) from None
    except (FileNotFoundError, FileExistsError):
        raise
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StoreError(f"could not {doing}: {first}") from error


def safely(doing: str, work: Callable[[], object]) -> str:
    """Run ``work`` for a probe's clean-up; an empty text, or why it failed."""
    try:
        with told(doing):
            work()
    except (StoreError, FileNotFoundError) as error:
        return str(error)
    return ""
