"""What a little of the bucket's listing tells: its first folders, and rules by which objects are derived.

As :mod:`s3gc.discovery`, for a person who writes a configuration. A rule too many keeps too much, no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attrs import frozen

from s3gc._pool import each
from s3gc.abc import RESERVED_PREFIX, ObjectStore
from s3gc.errors import AmbiguousKey

MOST_FOLDERS = 40
"""Folders that are looked into, of the first two levels; each costs one page of a listing."""

SAMPLE = 300
"""Keys of one folder's page that are looked at."""

MOST_RULES = 20
"""Rules that are tried, those of the most keys first."""

TRIED = 20
"""Keys of one rule whose parents the store is asked for."""

FEWEST = 3
"""So many keys must have their parent before a rule is proposed, and half of those that were tried."""


@frozen
class Rule:
    """A rule that fits what was seen."""

    form: str
    parent: str
    tried: int  # keys of this form whose parent was looked for
    found: int  # of these, those whose parent exists
    example: str


@frozen
class Surroundings:
    """What the bucket's own names tell."""

    folders: Sequence[str]  # of the first two levels, each with a slash at its end
    rules: Sequence[Rule]


async def look_around(store: ObjectStore) -> Surroundings:
    """List a little, and ask for a few hundred objects.

    Raises:
        StoreError: the store doesn't answer.
    """
    folders: list[str] = []
    keys: dict[str, None] = {}
    await _look_into(store, "", folders, keys)
    for folder in list(folders):
        await _look_into(store, folder, folders, keys)
    return Surroundings(folders, await _rules(store, list(keys)))


async def _look_into(store: ObjectStore, above: str, folders: list[str], keys: dict[str, None]) -> None:
    """The folders right below one, each with the first keys of its page."""
    after = above
    while len(folders) < MOST_FOLDERS:
        page = await _page(store, above, after)
        if not page:
            return
        keys.update(dict.fromkeys(page[:SAMPLE]))
        inside = next((key for key in page if "/" in key[len(above) :]), None)
        if inside is None:
            after = page[-1]
            continue
        folder = above + inside[len(above) :].partition("/")[0] + "/"
        if folder != RESERVED_PREFIX and folder not in folders and folder != "/":
            folders.append(folder)
        after = folder[:-1] + chr(ord("/") + 1)  # past all that lies below it


async def _page(store: ObjectStore, prefix: str, after: str) -> list[str]:
    pages = store.list(prefix, after)
    try:
        async for page in pages:
            return [found.key for found in page if not found.ambiguous]
        return []
    finally:
        await pages.aclose()  # type: ignore[attr-defined]


# ------------------------------------------------------------------ rules

_SIZE = r"\d{1,5}x\d{1,5}|\d{2,5}(?:w|h|px)?|thumb(?:nail)?|small|medium|large|preview|mini?|tiny|[23]x"
_AFFIX = re.compile(rf"(.+?)([_\-.@](?:{_SIZE}))(\.[A-Za-z0-9]{{1,5}})")
_FOLDER = re.compile(rf"thumb(?:nail)?s?|previews?|cache|resized|derived|variants|{_SIZE}", re.IGNORECASE)


def guesses(key: str) -> Iterator[tuple[str, str, str]]:
    """Rules that this key could be derived by: (form, parent's form, the parent)."""
    folder, _, name = key.rpartition("/")
    parts = folder.split("/") if folder else []
    affixed = _AFFIX.fullmatch(name)
    for at in [number for number, part in enumerate(parts) if _FOLDER.fullmatch(part)]:
        before = "".join(part + "/" for part in parts[:at])
        rest = "".join(part + "/" for part in parts[at + 1 :])
        inside = f"{before}{parts[at]}/{{key}}"
        yield inside, f"{before}{{key}}", before + rest + name
        if affixed:
            stem, affix, suffix = affixed.groups()
            yield f"{inside}{affix}{suffix}", f"{before}{{key}}{suffix}", before + rest + stem + suffix
    if affixed:
        stem, affix, suffix = affixed.groups()
        path = folder + "/" if folder else ""
        yield f"{{key}}{affix}{suffix}", f"{{key}}{suffix}", path + stem + suffix


async def _rules(store: ObjectStore, keys: Sequence[str]) -> list[Rule]:
    by_rule: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for key in keys:
        if "{" not in key and "}" not in key:
            for form, parent, one in guesses(key):
                by_rule.setdefault((form, parent), []).append((key, one))
    often = sorted(by_rule.items(), key=lambda item: (-len(item[1]), item[0]))
    rules: list[Rule] = []
    for (form, parent), some in often[:MOST_RULES]:
        if len(some) < FEWEST:
            break
        step = max(1, len(some) // TRIED)
        tried = some[::step][:TRIED]
        there: set[str] = set()

        async def look(one: str, there: set[str] = there) -> None:
            try:
                if store.can_address(one) and await store.stat(one) is not None:
                    there.add(one)
            except AmbiguousKey:
                pass

        await each(sorted({one for _, one in tried}), look)
        with_parent = [key for key, one in tried if one in there]
        if len(with_parent) >= max(FEWEST, len(tried) / 2):
            rules.append(Rule(form, parent, len(tried), len(with_parent), with_parent[0]))
    return rules
