"""Which columns that nobody tracks name objects of the bucket? Sampled values, and the store's own word.

Nothing here protects anything: what a look finds is for a person, who writes it into the configuration.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing

import pluggy
from attrs import Factory, frozen

from s3gc._pool import each
from s3gc.abc import RESERVED_PREFIX, ObjectStore
from s3gc.clock import Clock, SystemClock
from s3gc.config import Config
from s3gc.errors import AmbiguousKey
from s3gc.hooks import plugin_manager
from s3gc.model import UntrackedColumn
from s3gc.opening import resolver_of, store_of
from s3gc.parts import Parts
from s3gc.reading import likely, untracked
from s3gc.surroundings import Surroundings, look_around

TRIED = 100
"""Values of one column that the store is asked for: 5 % that exist show in 99.4 % of such samples."""

TRIED_OF_WORDS = 20
"""The same for a column of which no value has a slash or a dot: names, states, languages."""

READINGS = 20
"""Keys of one value that the store is asked for; texts may have hundreds."""

TRIED_BELOW = 30
"""Keys that don't exist, of which the store is asked whether what follows their first folders does."""

TRIED_ABOVE = 10
"""Keys that don't exist, of which the store is asked whether they do below one of the bucket's folders."""

FEWEST_FOLDERS = 2
"""Values that must be folders before a column is taken for one of folders."""

FOLDERS_BELOW = 2
"""So many first folders may belong to the address and not to the key: ``/media/…``, ``/files/public/…``."""

SHOWN = 5
"""Examples of what a column names."""


@frozen
class Lead:
    """A column that isn't tracked, and what the store says of its values."""

    source: str
    table: str
    column: str
    type: str
    sampled: int  # values that were looked at
    tried: int  # of these, values that were held against the bucket
    found: int  # of these, values that name an object
    examples: Sequence[str] = ()  # keys that exist
    unknown: Sequence[str] = ()  # keys that don't, of a column that looks like keys
    below: Mapping[str, int] = Factory(dict)
    """Base path → keys that exist once it is taken away: `base_urls` lacks it."""
    above: Mapping[str, int] = Factory(dict)
    """Folder → keys that exist once it is put before: `key_prefixes` lacks it."""
    folders: int = 0  # values that are no object, and below which objects lie: a column of `folders`

    @property
    def names_objects(self) -> bool:
        """Whether a value names an object, or would with `base_urls`, `key_prefixes`, `folders`."""
        return self.found > 0 or bool(self.below) or bool(self.above) or self.names_folders

    @property
    def names_folders(self) -> bool:
        """Whether its values look like folders: two at least, and half of those that are no object."""
        return self.folders >= max(FEWEST_FOLDERS, (min(self.tried - self.found, TRIED_BELOW)) / 2)


async def leads(parts: Parts) -> AsyncIterator[Lead]:
    """Every untracked column of every source that has values, tried against the bucket.

    Costs a few hundred HEAD requests a column, and no listing.

    Raises:
        SourceError: a schema can't be looked through.
        StoreError: the store doesn't answer.
    """
    around: Surroundings | None = None
    async with aclosing(untracked(parts)) as columns:  # type: ignore[type-var]
        async for source, column in columns:
            if column.keys:
                around = around or await look_around(parts.store)
                yield await lead(parts.store, source, column, around.folders)


async def look_through(
    config: Config,
    database_url: str,
    *,
    plugins: pluggy.PluginManager | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Lead | Surroundings]:
    """What the bucket's own names tell, then every column with values of a database of which nothing is
    configured yet, tried against the bucket.

    Args:
        config: says which bucket; its tables don't count.
        database_url: as the option.
        plugins, clock: as for :meth:`s3gc.Collector.open`.

    Raises:
        ConfigError: a URL is malformed, or nothing opens it.
        SourceError: the database can't be reached or looked through.
        StoreError: the bucket can't be reached.
    """
    from s3gc.sources.schema import SchemaSource  # SQLAlchemy: only who looks needs it

    async with AsyncExitStack() as stack:
        store = store_of((plugins or plugin_manager()).hook, config, clock or SystemClock())
        stack.push_async_callback(store.aclose)
        source = SchemaSource(database_url, resolver_of(config, store.bucket))
        stack.push_async_callback(source.aclose)
        await store.now()  # before the database's long look: a wrong bucket shows at once
        await source.check()
        around = await look_around(store)
        yield around
        columns = source.untracked(config.safety.coverage_sample)
        async with aclosing(columns):  # type: ignore[type-var]
            async for column in columns:
                if column.keys:
                    yield await lead(store, source.name, column, around.folders)


async def lead(store: ObjectStore, source: str, column: UntrackedColumn, folders: Sequence[str] = ()) -> Lead:
    """One column.

    Args:
        folders: of the bucket; values may be relative to one of them.

    Raises:
        StoreError: the store doesn't answer.
    """
    looks_like_keys = any("/" in key or "." in key for key in column.keys)
    values = _some(store, column, TRIED if looks_like_keys else TRIED_OF_WORDS)
    there: set[str] = set()

    async def look(key: str) -> None:
        if await _exists(store, key):
            there.add(key)

    await each(sorted({key for keys in values for key in keys}), look)
    missing = sorted(min(keys, key=likely) for keys in values if there.isdisjoint(keys))
    not_there = [keys for keys in values if there.isdisjoint(keys)]
    below = await _below(store, not_there[:TRIED_BELOW])
    above: Mapping[str, int] = {}
    if looks_like_keys and not below:
        above = await _above(store, not_there[:TRIED_ABOVE], folders)
    return Lead(
        source,
        column.table,
        column.column,
        column.type,
        column.sampled,
        len(values),
        len(values) - len(missing),
        sorted(there)[:SHOWN],
        missing[:SHOWN] if looks_like_keys else (),
        below,
        above,
        await _folders(store, not_there[:TRIED_BELOW]),
    )


def _some(store: ObjectStore, column: UntrackedColumn, most: int) -> list[Sequence[str]]:
    """Values by chance, the same at each call, each as the keys that it could mean; short ones first."""
    readings = column.readings or [(key,) for key in column.keys]
    values: list[Sequence[str]] = []
    for keys in sorted(readings, key=lambda keys: hashlib.sha256(min(keys).encode()).digest()):
        possible = [key for key in keys if _addressable(store, key)]
        if possible:
            values.append(sorted(possible, key=len)[:READINGS])
        if len(values) == most:
            break
    return values


def _addressable(store: ObjectStore, key: str) -> bool:
    return bool(key) and not key.startswith(RESERVED_PREFIX) and store.can_address(key)


async def _exists(store: ObjectStore, key: str) -> bool:
    try:
        return await store.stat(key) is not None
    except AmbiguousKey:  # such as a folder's name, in a bucket that is a folder
        return False


async def _above(
    store: ObjectStore, values: Sequence[Sequence[str]], folders: Sequence[str]
) -> Mapping[str, int]:
    """Below which of these folders keys of the values exist: by folder, how many values."""
    found: dict[str, set[int]] = {}

    async def look(pair: tuple[int, str, str]) -> None:
        number, folder, key = pair
        if _addressable(store, folder + key) and await _exists(store, folder + key):
            found.setdefault(folder, set()).add(number)

    # The shortest reading: the longer ones are the same with a query or an address.
    pairs = [
        (number, folder, keys[0].lstrip("/")) for number, keys in enumerate(values) for folder in folders
    ]
    await each(sorted(pairs), look)
    return {  # a copy further below (media/cache/…) says nothing that media/ doesn't
        folder: len(some)
        for folder, some in sorted(found.items())
        if not any(other != folder and folder.startswith(other) and some <= found[other] for other in found)
    }


async def _folders(store: ObjectStore, values: Sequence[Sequence[str]]) -> int:
    """How many of these values name a folder with objects below it."""
    found: set[int] = set()

    async def look(pair: tuple[int, str]) -> None:
        number, folder = pair
        pages = store.list(folder)
        try:
            async for page in pages:
                if page:
                    found.add(number)
                return
        finally:
            await pages.aclose()  # type: ignore[attr-defined]

    pairs = [(number, keys[0].strip("/") + "/") for number, keys in enumerate(values) if keys[0].strip("/.")]
    await each(sorted(pairs), look)
    return len(found)


_FOLDER = re.compile(r"[A-Za-z0-9_~%-]+")


async def _below(store: ObjectStore, values: Sequence[Sequence[str]]) -> Mapping[str, int]:
    """Which first folders, taken away, make keys of these that exist."""
    found: Counter[str] = Counter()
    shorter: set[tuple[str, str]] = set()
    for keys in values:
        for key in keys:
            parts = key.split("/")
            for count in range(1, min(FOLDERS_BELOW, len(parts) - 1) + 1):
                if all(map(_FOLDER.fullmatch, parts[:count])):
                    shorter.add(("/".join(parts[:count]) + "/", "/".join(parts[count:])))

    async def look(pair: tuple[str, str]) -> None:
        base, key = pair
        if _addressable(store, key) and await _exists(store, key):
            found[base] += 1

    await each(sorted(shorter), look)
    return dict(sorted(found.items()))
