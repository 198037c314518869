"""Derivation against brute force; and registry and direct read protect the same keys by it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hypothesis import assume, given
from hypothesis import strategies as st

from s3gc import Reference
from s3gc.abc import folders_of
from s3gc.derivation import GENERATIONS, MOST_PARENTS, Derivation, TooManyParents
from s3gc.protection import Protection, Sought
from s3gc.registry._references import hash_of

NAMES = ["key", "n", "m"]
texts = st.text("a/_", max_size=2)
values = st.text("ab/_{}é", min_size=1, max_size=4)
keys = st.text("ab/_", max_size=9)


@st.composite
def rules(draw: st.DrawFn) -> tuple[str, str]:
    """A form and its parent. Some forms name a field twice."""
    fields = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    form = draw(texts) + "".join(f"{{{name}}}{draw(texts)}" for name in fields)
    parent = draw(texts) + "".join(
        f"{{{name}}}{draw(texts)}" for name in draw(st.lists(st.sampled_from(fields), max_size=2))
    )
    return form, parent


def derivation(some: dict[str, str]) -> Derivation:
    try:
        return Derivation(some)
    except ValueError:  # its own parent, or without an end
        assume(False)
        raise


def readings(pieces: list[str], key: str, known: dict[str, str]) -> Iterator[dict[str, str]]:
    """Every way to read a key, by trying all values of the first field."""
    text, *rest = pieces
    if not key.startswith(text):
        return
    key = key[len(text) :]
    if not rest:
        if not key:
            yield known
        return
    name, *rest = rest
    for end in range(1, len(key) + 1):
        value = key[:end]
        if (name == "key" or "/" not in value) and known.get(name, value) == value:
            yield from readings(rest, key[end:], {**known, name: value})


def parents_once(some: dict[str, str], key: str) -> set[str]:
    found = set()
    for form, parent in some.items():
        for reading in readings(re.split(r"\{(\w+)\}", form), key, {}):
            found.add(re.sub(r"\{(\w+)\}", lambda name, reading=reading: reading[name[1]], parent))  # type: ignore[misc]
    return found


@given(rules(), st.data())
def test_what_a_rule_makes_it_finds_again(one: tuple[str, str], data: st.DataObject) -> None:
    form, parent = one
    chosen = {name: data.draw(values, label=name) for name in NAMES}
    for name in ("n", "m"):
        chosen[name] = chosen[name].replace("/", "-")
    child, wanted = form.format_map(chosen), parent.format_map(chosen)
    try:
        found = derivation({form: parent}).parents(child)
    except TooManyParents:
        return  # kept
    assert wanted == child or wanted in found


@given(st.lists(rules(), min_size=1, max_size=2), keys)
def test_parents_are_all_that_brute_force_finds(some: list[tuple[str, str]], key: str) -> None:
    by_form = dict(some)
    rule = derivation(by_form)
    every: set[str] = set()
    newest = {key}
    generations = 0
    while newest and generations <= GENERATIONS:
        newest = {parent for one in newest for parent in parents_once(by_form, one)} - every - {key}
        every |= newest
        generations += 1
        assume(len(every) < 300)  # brute force is slow
    try:
        found = rule.parents(key)
    except TooManyParents:
        assert generations > GENERATIONS or len(every) > MOST_PARENTS
        return
    assert found == every
    assert key not in found


@given(
    st.lists(rules(), max_size=2),
    st.lists(keys, min_size=1, max_size=4),
    st.one_of(keys, st.sampled_from(["", "a/", "b/", "a/b/"])),
    st.booleans(),
)
def test_registry_and_direct_read_protect_the_same(
    some: list[tuple[str, str]], sought: list[str], named: str, prefix: bool
) -> None:
    """One row, known to the registry by its hash and to the direct read by itself."""
    protection = Protection(derivation(dict(some)))
    reference = Reference(named, prefix=prefix)
    by_registry = {key for key in sought if hash_of(reference) in protection.all_hashes(key)}
    asked = Sought(sought, protection)
    assert set(asked.protected_by(reference)) == by_registry
    for key in by_registry:
        reached = {named} if not prefix else {name for name in asked.names if named in folders_of(name)}
        assert reached & set(asked.names), "a source that is asked for these names tells the row"
        assert protection.unclear(key) or reached & ({key} | protection.parents(key))
