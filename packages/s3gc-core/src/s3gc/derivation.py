"""Derived objects: a thumbnail lives with its parent. Rules tie ``thumbs/{key}_200.jpg`` to ``{key}.jpg``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

GENERATIONS = 5
"""A parent may be derived itself. A key whose parents don't end before so many generations is kept."""

MOST_FIELDS = 3
"""Fields of one form; more could be read in too many ways to try them all."""

MOST_PARENTS = 1_000
"""Keys that one key may be derived from. A rule that gives more is refused for that key, and it is kept."""

MOST_TRIES = 20_000
"""Ways to cut one key that are tried for one rule. Three fields side by side can cut 1,023 letters in half a
million ways; who writes such a rule has that key kept, and no cycle waits for it."""


@frozen
class _Rule:
    """One form, taken apart: text, field, text, … and the parent that it leads to."""

    texts: Sequence[str]
    fields: Sequence[str]
    parent: str

    def parents(self, key: str) -> Iterator[str]:
        """Every parent that some way of reading the key gives."""
        tries = [0]
        for values in self._read(key, 0, {}, tries):
            yield self.parent.format_map(values)

    def _read(self, rest: str, at: int, values: dict[str, str], tries: list[int]) -> Iterator[dict[str, str]]:
        tries[0] += 1
        if tries[0] > MOST_TRIES:
            raise TooManyParents(rest)
        text = self.texts[at]
        if not rest.startswith(text):
            return
        rest = rest[len(text) :]
        if at == len(self.fields):
            if not rest:
                yield values
            return
        name, following = self.fields[at], self.texts[at + 1]
        last = at + 1 == len(self.fields)
        # `key` may hold slashes, all other fields are one part of a path. All readings count.
        most = len(rest) if name == "key" else (rest.find("/") if "/" in rest else len(rest))
        ends = [len(rest) - len(following)] if last else range(1, most + 1)
        for end in ends:
            if 1 <= end <= most and rest.startswith(following, end):
                value = rest[:end]
                if values.get(name, value) == value:
                    yield from self._read(rest[end:], at + 1, {**values, name: value}, tries)


@frozen
class Derivation:
    """The rules by which a key is derived from others.

    In a form, ``{key}`` stands for any text, also with slashes; every other ``{name}`` for a part of a path,
    without slashes. None may be empty. A key that a rule can read in several ways has all of these parents.

    Args:
        rules: form of the derived key → its parent's key.

    Raises:
        ValueError: a form has no field, a parent names a field that its form doesn't have, or a rule leads
            from parent to parent without an end.
    """

    rules: Mapping[str, str]
    _parsed: Sequence[_Rule] = field(init=False, repr=False, eq=False)

    @_parsed.default
    def _parse(self) -> Sequence[_Rule]:
        return [_rule(form, parent) for form, parent in self.rules.items()]

    def __attrs_post_init__(self) -> None:
        for form in self.rules:
            try:
                self.parents(_FIELD.sub("a", form))
            except TooManyParents:
                raise ValueError(
                    f"the rule of {form!r} never comes to an end: each parent has this form again"
                ) from None

    def parents(self, key: str) -> frozenset[str]:
        """Every key that this one may be derived from, parents of parents too; never the key itself.

        Raises:
            TooManyParents: the rules can read the key in more than MOST_PARENTS ways, or must try MOST_TRIES.
        """
        if not self._parsed:
            return frozenset()
        found: set[str] = set()
        newest = {key}
        for _ in range(GENERATIONS):
            newest = {parent for one in newest for rule in self._parsed for parent in _some(rule, one)}
            newest -= found
            newest.discard(key)
            if not newest:
                return frozenset(found)
            found |= newest
            if len(found) > MOST_PARENTS:
                raise TooManyParents(key)
        raise TooManyParents(key)  # generations that aren't followed are no reason to delete


class TooManyParents(Exception):
    """Nobody can say what a key is derived from: keep it."""


def _some(rule: _Rule, key: str) -> Iterator[str]:
    for count, parent in enumerate(rule.parents(key)):
        if count == MOST_PARENTS:
            raise TooManyParents(key)
        yield parent


def _rule(form: str, parent: str) -> _Rule:
    pieces = _FIELD.split(form)
    texts, fields = pieces[::2], pieces[1::2]
    if not fields:
        raise ValueError(f"{form!r} has no field such as {{key}}: it is the form of one key only")
    if len(fields) > MOST_FIELDS:
        raise ValueError(f"{form!r} has more than {MOST_FIELDS} fields: too many ways to read a key")
    around = "".join(_FIELD.split(parent)[::2])
    if "{" in around or "}" in around:
        raise ValueError(f"the parent {parent!r} has a brace without a field's name: write {{key}}")
    if "{" in "".join(texts) or "}" in "".join(texts):
        raise ValueError(f"{form!r} has a brace without a field's name: write {{key}} or {{size}}")
    unknown = [name for name in _FIELD.findall(parent) if name not in fields]
    if unknown:
        raise ValueError(f"the parent {parent!r} names {{{unknown[0]}}}, which {form!r} doesn't have")
    if parent == form:
        raise ValueError(f"{form!r} is its own parent")
    return _Rule(tuple(texts), tuple(fields), parent)
